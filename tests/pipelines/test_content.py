"""An answer that is cut off counts by what has come of it, whichever way it came."""

from typing import Any

import msgspec
import pytest

from pipelines.dialects import DIALECTS
from pipelines.dialects.content import bytes_of_content
from pipelines.dialects.sse import Framer
from pipelines.events import Event, PartDelta, PartKind, PartStarted, Started
from pipelines.exchange import exchange
from tests.pipelines.test_exchange import call

LINE = "Ein Satz mit „Umlauten“: schön, daß er länger ist als ein Zeichen.\n"
BYTES = len(LINE.encode())
PIECES = 40
SPOKEN = ("openai_chat", "openai_responses", "anthropic_messages")


def cut_off(kind: PartKind, dialect: str) -> bytes:
    """The frames of a stream of one part in `PIECES` pieces, without its end."""
    part = PartStarted(0, kind, id="call_1", name="write") if kind == "tool_call" else PartStarted(0, kind)
    events: list[Event] = [Started("p", "m", "1"), part, *[PartDelta(0, LINE)] * PIECES]
    encoder = DIALECTS[dialect].encoder(call(dialect).request)
    return b"".join(encoder.encode(event) for event in events)


@pytest.mark.parametrize("caller", SPOKEN)
@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize("kind", ["text", "reasoning", "tool_call"])
@pytest.mark.parametrize("at_once", [False, True], ids=["by frames", "at once"])
def test_long_pieces_count_by_their_length(kind: PartKind, spoken: str, caller: str, at_once: bool) -> None:
    way = exchange(call(caller), (spoken,), "m")
    data = cut_off(kind, spoken)
    for raw in [data] if at_once else Framer().cut(data):
        way.feed(raw)
    assert way.usage.estimated
    assert PIECES * BYTES // 4 <= way.usage.output <= (PIECES + 1) * BYTES // 4


@pytest.mark.parametrize("caller", SPOKEN)
def test_short_pieces_are_a_token_each(caller: str) -> None:
    way = exchange(call(caller), ("openai_chat",), "m")
    for _ in range(PIECES):
        way.feed(framed({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
    assert way.usage.output == PIECES


def framed(value: Any) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ({"choices": [{"delta": {"content": "añb"}}]}, 4),
        ({"choices": [{"delta": {"reasoning": "ab", "reasoning_details": [{"text": "ab"}]}}]}, 2),
        ({"choices": [{"delta": {"content": "", "reasoning_content": "abc"}}]}, 3),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}}]}, 3),
        ({"choices": [{"text": "ab"}, {"text": "c"}]}, 3),
        ({"choices": []}, 0),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "ab"}}, 2),
        ({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "ab"}}, 0),
        ({"type": "response.output_text.delta", "delta": "abcd", "obfuscation": "xxxxxxxx"}, 4),
        ({"choices": [{"delta": {"content": [{"type": "text"}]}}]}, -1),
        ([], -1),
    ],
)
def test_a_frame_says_so_much(frame: Any, size: int) -> None:
    assert bytes_of_content(framed(frame)) == size


@pytest.mark.parametrize("raw", [b": ping\n\n", b"data: {\n\n", b"data: [DONE]\n\n", b"\n\n"])
def test_what_is_no_frame_says_nothing(raw: bytes) -> None:
    assert bytes_of_content(raw) == -1
