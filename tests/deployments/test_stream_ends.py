"""One attempt at a provider whose stream pauses, fails or ends in odd places, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, ClassVar

import msgspec
import pytest

from deployments.http.arriving import whole
from deployments.providers import LocalProvider
from deployments.tools import turn_model
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Request, Text
from pipelines.dialects import DIALECTS
from pipelines.dialects.own_words import OWN_WORDS
from pipelines.errors import UpstreamError
from pipelines.events import Event, PartDelta, PartStarted, Started, assemble
from tests.actors.virtual_time import run

CHAT, MESSAGES = "openai_chat", "anthropic_messages"
EVENTS = "text/event-stream"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
    MESSAGES: {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
}
Pieces = list[bytes | float]

both_dialects = pytest.mark.parametrize("dialect", [CHAT, MESSAGES])


class Upstream:
    """Answers every request with the same pieces; a number is a pause. sent: how often it was asked."""

    status = 200
    last: ClassVar["Upstream"]

    def __init__(self, pieces: Pieces, kind: str) -> None:
        self.headers: Mapping[str, str] = {"content-type": kind} if kind else {}
        self.sent = 0
        self._pieces = pieces
        Upstream.last = self

    async def send(self, *_: Any, **__: Any) -> "Upstream":
        self.sent += 1
        return self

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)

    async def whole(self, most: int) -> bytes:
        return await whole(self.chunks(), most)

    def pass_to(self, take: Callable[[bytes], bool]) -> None:
        """Everything goes to the reader."""

    async def close(self, *, whole: bool = False) -> None:
        """Nothing is held."""


class Heard:
    """What a caller got. pieces: with the second at which each came."""

    def __init__(self, answer: Answer, upstream: Upstream) -> None:
        self.answer = answer
        self.upstream = upstream
        self.pieces: list[tuple[float, bytes]] = []

    @property
    def said(self) -> bytes:
        """All of it."""
        return b"".join(data for _, data in self.pieces)


def asked(dialect: str, *pieces: bytes | float, kind: str = EVENTS, stream: bool = True) -> Heard:
    """One call in `dialect` at a provider that speaks chat and answers with `pieces`."""

    async def work() -> Heard:
        body = {**BODIES[dialect], "stream": stream}
        call = Call("1", dialect, body, DIALECTS[dialect].read_request(body), Caller("me"), "direct")
        upstream = Upstream(list(pieces), kind)
        provider = LocalProvider(base_url="http://there/v1", transport=upstream)
        heard = Heard(await provider.answer(call), upstream)
        if heard.answer.frames is None:
            heard.pieces.append((0.0, heard.answer.body))
            return heard
        async for data in heard.answer.frames:
            heard.pieces.append((asyncio.get_running_loop().time(), data))
        return heard

    return run(work())


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return b"data: %b\n\n" % msgspec.json.encode({"id": "c", "model": "m", "choices": choices, **more})


def called(index: int, reason: str | None = None) -> bytes:
    function = {"name": f"f{index}", "arguments": "{}"}
    return chunk({"tool_calls": [{"index": index, "id": f"i{index}", "function": function}]}, reason)


DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'


@both_dialects
@pytest.mark.parametrize("finish", ["with its call", "by itself"])
def test_a_pause_between_calls_that_each_end_with_a_reason_loses_none(dialect: str, finish: str) -> None:
    first = [called(0, "tool_calls")] if finish == "with its call" else [called(0), chunk({}, "tool_calls")]
    heard = asked(dialect, *first, 20.0, called(1, "tool_calls"), 20.0, USAGE, DONE)
    assert heard.answer.error is None
    assert all(name in heard.said for name in (b'"f0"', b'"f1"'))
    assert heard.answer.outcome is not None
    assert (heard.answer.outcome.output_tokens, heard.pieces[-1][0]) == (2, 40.0)


@both_dialects
@pytest.mark.parametrize(
    "last",
    [chunk({}, "stop"), chunk({"content": "b"}, "length"), called(0, "tool_calls") + USAGE],
    ids=["bare", "with text", "calls with usage"],
)
def test_an_answer_that_is_over_is_not_waited_for_however_its_end_was_cut(dialect: str, last: bytes) -> None:
    for pieces in ([chunk({"content": "a"}), last], [chunk({"content": "a"}) + last]):
        heard = asked(dialect, *pieces, 1000.0)
        assert heard.answer.error is None
        assert heard.answer.outcome is not None
        assert heard.answer.outcome.reason is None
        assert heard.pieces[-1][0] == 2.0


@both_dialects
def test_content_after_a_finish_reason_undoes_it(dialect: str) -> None:
    early = [chunk({"content": "a"}), chunk({"content": "b"}, "stop"), chunk({"content": "c"})]
    heard = asked(dialect, *early, 20.0, chunk({"content": "rest"}), chunk({}, "stop"), DONE)
    assert heard.answer.error is None
    assert b'"rest"' in heard.said
    broken = asked(dialect, *early)
    assert broken.answer.outcome is not None
    assert broken.answer.outcome.reason == "broken"
    assert b"[DONE]" not in broken.said


ERROR = b'data: {"error":{"message":"boom","code":500}}\n\n'


@both_dialects
@pytest.mark.parametrize("end", [ERROR, chunk({"content": "."})[:-2]], ids=["error", "last line"])
def test_text_in_the_same_read_as_the_failure_comes_before_it_and_nothing_is_read_behind(
    dialect: str, end: bytes
) -> None:
    first, more = chunk({"content": "Hello"}), chunk({"content": " world"})
    apart, joined = (
        asked(dialect, first, *pieces, *([100.0] if end == ERROR else [])) for pieces in ([more, end], [more + end])
    )
    assert apart.said == joined.said
    assert b'" world"' in joined.said
    assert end == ERROR or b'"."' in joined.said
    assert joined.said.rstrip().endswith(b"}}")
    assert joined.answer.outcome is not None
    assert joined.answer.outcome.reason == ("server_error" if end == ERROR else "broken")
    assert joined.pieces[-1][0] == 0.0


@both_dialects
def test_a_failure_in_the_same_read_as_the_first_text_is_tried_again(dialect: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        asked(dialect, chunk({"content": "Hello"}) + ERROR)
    assert raised.value.message == "boom"
    assert Upstream.last.sent == 3


def test_a_turn_that_fails_behind_its_text_says_why() -> None:
    encoder = OWN_WORDS.encoder(Request("m", ()))
    said: list[Event] = [Started(), PartStarted(0, "text"), PartDelta(0, "Hello")]
    data = b"".join([*map(encoder.encode, said), encoder.error(UpstreamError("boom"))])

    async def once() -> AsyncGenerator[bytes, None]:
        yield data

    heard: list[Event] = []

    async def hear() -> None:
        async for event in turn_model._events(Answer(frames=once())):
            heard.append(event)  # noqa: PERF401 - a comprehension would lose what came before the failure

    with pytest.raises(UpstreamError, match="boom"):
        run(hear())
    assert heard == said


@both_dialects
def test_json_in_answer_to_a_stream_reaches_the_caller_as_a_stream(dialect: str) -> None:
    answer = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    heard = asked(dialect, b"\n", msgspec.json.encode(answer), kind="application/json; charset=utf-8")
    decoder = DIALECTS[dialect].decoder()
    told = assemble(decoder.feed(heard.said))
    assert (told.message.parts, decoder.done) == ((Text("Hello"),), True)


@pytest.mark.parametrize(("dialect", "stream"), [(CHAT, True), (MESSAGES, True), (MESSAGES, False)])
def test_a_stream_that_is_labelled_as_json_is_a_stream(dialect: str, stream: bool) -> None:
    pieces: Pieces = [chunk({"content": "Hel"}), 20.0, chunk({"content": "lo"}, "stop"), DONE]
    heard = asked(dialect, b"\n", *pieces, kind="application/json", stream=stream)
    assert b"lo" in heard.said
    assert (heard.answer.error, heard.upstream.sent) == (None, 1)
    assert not stream or heard.pieces[0][0] == 0.0
