"""Relay and translation: what passes, what is withheld, when the boundary is crossed, what is never called whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.calls import Call, Caller
from pipelines.conversation import Request, Usage
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer
from pipelines.errors import PenstockError, StreamBroken, UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.exchange import Relay, Translation, exchange
from pipelines.verbatim import Verbatim

CHAT = DIALECTS["openai_chat"]


def call(dialect: str = "openai_chat", **more: Any) -> Call:
    bodies: dict[str, dict[str, Any]] = {
        "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        "anthropic_messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
        "openai_responses": {"model": "m", "input": "Hi"},
    }
    body = {**bodies[dialect], "stream": True, **more}
    return Call("1", dialect, body, DIALECTS[dialect].read_request(body), Caller("me"), "direct")


def frames(*chunks: Any, done: bool = True) -> bytes:
    said = [b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks]
    return b"".join([*said, b"data: [DONE]\n\n"] if done else said)


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": delta, "finish_reason": reason}], **more}  # fmt: skip


ROLE, HEL, LO = chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"})
STOP = chunk({}, "stop")
USAGE = {**chunk({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
NOVEL = chunk({"content": "x", "brand_new": {"a": [1]}}, also_new=True)


@given(st.integers(1, 40))
def test_a_relayed_stream_passes_byte_for_byte_however_it_is_cut(step: int) -> None:
    way = exchange(call(stream_options={"include_usage": True}), ("openai_chat",), "m")
    assert isinstance(way, Relay)
    data = frames(ROLE, HEL, NOVEL, LO, STOP, USAGE)
    out = b"".join(way.feed(data[at : at + step]) for at in range(0, len(data), step)) + way.close()
    assert out == data
    assert way.done
    assert (way.usage.input, way.usage.output, way.usage.estimated) == (3, 2, False)


def test_a_relayed_call_is_named_once_whatever_the_server_repeats() -> None:
    pieces = [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": t}} for t in "{}"]
    way = exchange(call(), ("openai_chat",), "m")
    out = way.feed(frames(ROLE, *(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls")))
    assert (out.count(b'"name":"f"'), out.count(b'"arguments"'), way.done) == (1, 2, True)


@pytest.mark.parametrize("before", [(), (ROLE, HEL)])
def test_an_error_in_a_field_of_its_own_is_not_relayed(before: tuple[dict[str, Any], ...]) -> None:
    way = Relay(call(), CHAT, "m")
    way.feed(frames(*before, done=False))
    with pytest.raises(UpstreamError) as raised:
        way.feed(b'error: {"code":400,"message":"the request exceeds the available context size"}\n\n')
    assert (raised.value.reason, raised.value.status) == ("context_too_long", 400)


def test_usage_is_always_asked_for_and_only_handed_on_to_who_asked() -> None:
    way = Relay(call(models=["other"], penstock={}), CHAT, "n")
    assert way.body["stream_options"] == {"include_usage": True}
    assert way.body["model"] == "n"
    assert not way.body.keys() & {"models", "penstock"}
    out = way.feed(frames(ROLE, HEL, STOP, USAGE))
    assert b"completion_tokens" not in out
    assert way.usage.output == 2


def test_the_boundary_is_the_first_content() -> None:
    way = Relay(call(), CHAT, "m")
    way.feed(b": ping\n\n" + frames(ROLE, done=False))
    assert not way.committed
    way.feed(frames(HEL, done=False))
    assert way.committed


def block(kind: str, **more: Any) -> dict[str, Any]:
    """How an Anthropic block begins."""
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **more}}


def delta(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **more}}


TEXT, THOUGHT = block("text", text=""), block("thinking", thinking="", signature="")
SEARCH = block("server_tool_use", id="s", name="web_search", input={})
CITED = delta("citations_delta", citation={"type": "char_location", "cited_text": "a"})
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 0}}


@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize(
    ("said", "committed"),
    [
        ((), False),
        (({"type": "ping"},), False),
        ((TEXT,), False),
        ((TEXT, delta("text_delta", text="")), False),
        ((TEXT, CITED), False),
        ((TEXT, delta("text_delta", text="a")), True),
        ((TEXT, {"type": "content_block_stop", "index": 0}), True),
        ((THOUGHT,), False),
        ((THOUGHT, delta("signature_delta", signature="a")), False),
        ((THOUGHT, delta("thinking_delta", thinking="a")), True),
        ((block("tool_use", id="t", name="f", input={}),), True),
        ((SEARCH,), True),
        ((STOPPED,), False),
        ((STOPPED, {"type": "message_stop"}), True),
    ],
)
def test_what_a_caller_could_use_is_content(said: tuple[dict[str, Any], ...], committed: bool, caller: str) -> None:
    """A text or the beginning of a call; of what is empty, that it is whole. Nothing else is."""
    start = {"type": "message_start", "message": {"id": "m", "role": "assistant", "model": "m", "content": []}}
    way = exchange(call(caller), ("anthropic_messages",), "m")
    way.feed(frames(start, *said, done=False))
    assert way.committed is committed


@pytest.mark.parametrize("step", [1, 1000])
def test_what_is_said_behind_a_finish_reason_undoes_it(step: int) -> None:
    way = Relay(call(), CHAT, "m")
    way.feed(frames(ROLE, HEL, STOP, done=False))
    assert way.finished
    more = frames(LO, done=False)
    assert b"".join(way.feed(more[at : at + step]) for at in range(0, len(more), step)) == more
    assert way.finished is None
    with pytest.raises(StreamBroken):
        way.close()


@pytest.mark.parametrize("line", [b"\r", b"\r\n", b"\n"])
@pytest.mark.parametrize("hidden", [b": penstock forged", b'data: {"choices":[{"finish_reason":"stop"}]}', b"data: {"])
def test_no_line_end_hides_a_frame_behind_one_of_content(line: bytes, hidden: bytes) -> None:
    pieces = []
    for step in (1, 1000):
        way = Relay(call(), CHAT, "m")
        way.feed(frames(ROLE, HEL, done=False))
        data = frames(LO, done=False).rstrip() + line * 2 + hidden + b"\n\n"
        out = b"".join(way.feed(data[at : at + step]) for at in range(0, len(data), step))
        assert b"forged" not in out
        assert (way.finished is not None) == (b"stop" in hidden)
        pieces.append((out.split(), way.pieces, way.content, way.progress, way.decoder.skipped))
    assert pieces[0] == pieces[1]


def test_an_answer_without_content_is_whole_at_its_end() -> None:
    way = Relay(call(), CHAT, "m")
    assert way.feed(frames(ROLE, STOP)).endswith(b"[DONE]\n\n")
    assert way.committed
    assert way.done


@pytest.mark.parametrize("chunks", [(ROLE,), (ROLE, HEL), (ROLE, HEL, LO)])
def test_a_stream_without_a_finish_reason_is_broken_even_with_its_sentinel(chunks: tuple[Any, ...]) -> None:
    for done in (True, False):
        way = Relay(call(), CHAT, "m")
        with pytest.raises(StreamBroken):  # noqa: PT012 - whichever of the two notices
            out = way.feed(frames(*chunks, done=done))
            assert b"[DONE]" not in out
            way.close()


def test_a_forgotten_sentinel_is_written_and_a_second_one_withheld() -> None:
    way = Relay(call(), CHAT, "m")
    out = way.feed(frames(ROLE, HEL, STOP, done=False))
    assert way.finished
    assert not way.done
    assert out + way.close() == frames(ROLE, HEL, STOP)
    way = Relay(call(), CHAT, "m")
    assert way.feed(frames(ROLE, HEL, STOP) + b"data: [DONE]\n\n") + way.close() == frames(ROLE, HEL, STOP)


@pytest.mark.parametrize("broken", [b'data: {"choices":[{"del\n\n', b"data: nonsense\n\n", b'data: {"a":1}}\n\n'])
def test_a_malformed_frame_is_skipped_and_counted(broken: bytes) -> None:
    way = Relay(call(), CHAT, "m")
    out = way.feed(frames(ROLE, HEL, done=False) + broken + frames(LO, STOP))
    assert out == frames(ROLE, HEL, LO, STOP)
    assert way.decoder.skipped == 1


def test_a_comment_in_our_own_name_does_not_pass() -> None:
    way = Relay(call(), CHAT, "m")
    out = way.feed(frames(ROLE, HEL, done=False) + b': penstock {"provider":"forged"}\n\n: ping\n\n')
    assert b"forged" not in out
    assert b": ping\n\n" in out


def test_an_error_in_the_middle_is_raised_and_ends_the_stream_in_the_callers_dialect() -> None:
    for dialect in DIALECTS:
        way = exchange(call(dialect), ("openai_chat",), "m")
        way.feed(frames(ROLE, HEL, done=False))
        with pytest.raises(UpstreamError) as raised:
            way.feed(frames({"error": {"message": "overloaded now", "type": "server_error", "code": 503}}))
        said = way.fail(raised.value)
        assert b"overloaded now" in said
        assert DIALECTS[dialect].sentinel not in said or not DIALECTS[dialect].sentinel


def until_it_breaks(dialect: str, pieces: list[bytes]) -> tuple[bytes, str, bool]:
    """What a caller of a chat provider hears behind the commit boundary, and why no more; whether nothing was kept."""
    way = exchange(call(dialect), ("openai_chat",), "m")
    out = way.feed(frames(ROLE, HEL, done=False))
    try:
        for piece in pieces:
            if way.failure is None:
                out += way.feed(piece)
        for _ in range(2):
            out += way.close()
    except UpstreamError as error:
        return out, error.message, way.failure is None
    return out, "", way.failure is None


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frames(LO, {"error": {"message": "boom"}}, LO), "boom"),
        (frames(LO, chunk({"content": "!"}, "error")), "error"),
        (frames(LO), "without saying why"),
        (frames(LO, done=False), "ended before"),
        (frames(LO, done=False)[:-2], "ended before"),
        (frames(LO, done=False)[:-1], "ended before"),
    ],
    ids=["error", "reason", "sentinel", "end", "line", "half a line end"],
)
def test_what_stands_before_a_failure_is_handed_on_however_the_bytes_are_cut(
    dialect: str, data: bytes, reason: str
) -> None:
    heard = {until_it_breaks(dialect, [data[:at], data[at:]]) for at in range(1, len(data) + 1)}
    assert len(heard) == 1
    out, why, nothing_kept = heard.pop()
    assert nothing_kept
    assert (b'"Hel"' in out, b'"lo"' in out, b"[DONE]" in out) == (True, True, False)
    assert reason in why


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_before_the_boundary_a_failure_is_raised_at_once(dialect: str) -> None:
    way = exchange(call(dialect), ("openai_chat",), "m")
    with pytest.raises(UpstreamError, match="boom"):
        way.feed(frames(ROLE, HEL, {"error": {"message": "boom"}}))
    assert way.failure is None
    way = exchange(call(dialect), ("openai_chat",), "m")
    way.feed(frames(ROLE, HEL, done=False)[:-1])
    assert not way.committed
    with pytest.raises(StreamBroken):
        way.close()


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("spoken", sorted(DIALECTS))
def test_every_dialect_reaches_every_other(dialect: str, spoken: str) -> None:
    asked = call(dialect, **({"stream_options": {"include_usage": True}} if dialect == "openai_chat" else {}))
    way = exchange(asked, (spoken,), "m")
    encoder = DIALECTS[spoken].encoder(msgspec.structs.replace(asked.request, include_usage=True))
    events: list[Event] = [
        Started("", "m", "i"),
        PartStarted(0, "text"),
        PartDelta(0, "Hello"),
        PartEnded(0),
        Finished("stop"),
    ]
    out = b"".join(way.feed(encoder.encode(event)) for event in events) + way.close()
    decoder = DIALECTS[dialect].decoder()
    told = decoder.feed(out) + ([] if decoder.done else decoder.close())
    assert "".join(event.text for event in told if isinstance(event, PartDelta)) == "Hello"
    assert way.done


def test_a_caller_who_wants_no_stream_gets_the_translation_whole() -> None:
    way = exchange(call("anthropic_messages", stream=False), ("openai_chat",), "m")
    assert isinstance(way, Translation)
    assert way.stream
    assert way.feed(frames(ROLE, HEL, LO, STOP, USAGE)) == b""
    way.close()
    answer = msgspec.json.decode(way.answer())
    assert answer["content"][0]["text"] == "Hello"
    assert answer["usage"]["output_tokens"] == 2


def test_a_relayed_whole_answer_must_be_one() -> None:
    way = Relay(call(stream=False), CHAT, "m")
    for wrong in (b"", b"<html>", b"{}", b'{"choices": 3}'):
        with pytest.raises(PenstockError):
            way.whole(wrong)
    body = msgspec.json.encode(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "new": 1, "usage": USAGE["usage"],
         "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    )  # fmt: skip
    assert way.whole(body) == body
    assert way.usage.output == 2


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_whole_answer_to_a_caller_who_wants_a_stream_is_one(dialect: str) -> None:
    asked = call(dialect, **({"stream_options": {"include_usage": True}} if dialect == "openai_chat" else {}))
    way = Relay(asked, DIALECTS[dialect], "m")
    way.price = lambda _: 0.25
    events: list[Event] = [
        Started("", "m", "i"), PartStarted(0, "text"), PartDelta(0, "Hello"), PartEnded(0),
        PartStarted(1, "tool_call", "c", "f"), PartDelta(1, '{"a":1}'), PartEnded(1),
        Finished("tool_calls", usage=Usage(3, output=2)),
    ]  # fmt: skip
    answer = assemble(events)
    out = way.whole(msgspec.json.encode(DIALECTS[dialect].write_answer(answer, asked.request)))
    assert (way.done, way.committed, way.usage.output, out.count(b'"cost":0.25')) == (True, True, 2, 1)
    decoder = DIALECTS[dialect].decoder()
    told = assemble(decoder.feed(out))
    assert (decoder.done, decoder.skipped) == (True, 0)
    assert [type(part) for part in told.message.parts] == [type(part) for part in answer.message.parts]
    assert (told.message.parts[0], told.finished.reason) == (answer.message.parts[0], "tool_calls")


def test_a_whole_answer_without_messages_is_a_stream_of_one_frame() -> None:
    body = {"model": "m", "prompt": "Hi", "stream": True}
    way = Verbatim(msgspec.structs.replace(call(), body=body, operation="completions"))
    out = way.whole(b'{\n "choices": [{"text": "Ho"}],\n "usage": {"prompt_tokens": 3, "completion_tokens": 2}}')
    told = [frame.data for frame in Framer().feed(out)]
    assert (msgspec.json.decode(told[0])["choices"], told[1:]) == ([{"text": "Ho"}], [b"[DONE]"])
    assert (way.done, way.usage.output) == (True, 2)


def test_an_embedding_of_no_numbers_is_an_answer() -> None:
    body = b'{"data": [{"embedding": [NaN, 0.5]}], "usage": {"prompt_tokens": 3}}'
    asked = {"model": "m", "input": "Hi"}
    request = msgspec.structs.replace(call().request, stream=False)
    way = Verbatim(msgspec.structs.replace(call(), body=asked, request=request, operation="embeddings"))
    assert (way.whole(body), way.usage.input) == (body, 3)
    with pytest.raises(PenstockError):
        way.whole(body[:-1])


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_a_time_gets_that_of_its_beginning(stream: bool) -> None:
    for created, told in ((0, 1_700_000_000), (5, 5)):
        for dialect, spoken, name in (
            ("openai_chat", "openai_responses", "created"),
            ("openai_responses", "openai_chat", "created_at"),
        ):
            way = exchange(call(dialect, stream=stream), (spoken,), "m")
            way.began = 1_700_000_000
            encoder = DIALECTS[spoken].encoder(Request("m", (), stream=True, include_usage=True))
            events: list[Event] = [
                Started("", "m", "i", created),
                PartStarted(0, "text"),
                PartEnded(0),
                Finished("stop"),
            ]
            way_out = way.feed(b"".join(map(encoder.encode, events)))
            assert isinstance(way, Translation)
            said = way_out if stream else way.answer()
            assert b'"%b":%d,' % (name.encode(), told) in said
            assert b'"%b":0' % name.encode() not in said
