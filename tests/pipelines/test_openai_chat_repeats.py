"""What servers say more than once of a tool call reaches a caller of the same dialect once."""

import json
from typing import Any

import pytest

from pipelines.dialects import sse
from pipelines.dialects.openai_chat.repeats import Repeats
from tests.pipelines.chat_wire import DONE, call, choice, chunk


def as_clients_join(frames: list[bytes]) -> dict[str, str]:
    """The first choice's call at index 0, its strings joined as openai-python's stream helper joins them."""
    joined: dict[str, str] = {}
    for frame in frames:
        delta: dict[str, Any] = json.loads(sse.parse(frame).data)["choices"][0]["delta"]
        for entry in delta.get("tool_calls", ()):
            for name, text in {"id": entry.get("id"), **entry["function"]}.items():
                joined[name] = joined.get(name, "") + (text or "")
    return joined


def mended(*frames: bytes) -> list[bytes]:
    mender = Repeats()
    return [mender(frame) for frame in frames]


def test_an_id_and_a_name_in_every_piece_are_said_once() -> None:
    pieces = [chunk(choice(call("get_weather", text, identity="call_1"))) for text in ('{"city"', ': "Os', 'lo"}')]

    told = mended(*pieces)
    assert told[0] == pieces[0]
    assert as_clients_join(told) == {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Oslo"}'}


def test_a_whole_call_that_is_said_over_is_said_once_and_another_one_passes() -> None:
    first, other = (chunk(choice(call("f", text, identity="a"))) for text in ('{"a":1}', '{"a":2}'))

    told = mended(first, first)
    assert as_clients_join(told) == {"id": "a", "name": "f", "arguments": '{"a":1}'}
    assert mended(first, other) == [first, other]


def test_a_call_said_over_as_function_call_is_said_once() -> None:
    delta = {**call("f", "{}", identity="call_1"), "function_call": {"name": "f", "arguments": "{}"}}

    (told,) = mended(chunk(choice(delta)))
    assert json.loads(sse.parse(told).data)["choices"][0]["delta"] == call("f", "{}", identity="call_1")


def test_what_else_is_in_a_mended_chunk_stays() -> None:
    piece = chunk({**choice(call("f", "{", identity="a")), "new": [1]}, timings={"ms": 2})

    told = json.loads(sse.parse(mended(piece, piece)[1]).data)
    assert (told["timings"], told["choices"][0]["new"], told["id"]) == ({"ms": 2}, [1], "chatcmpl-1")


@pytest.mark.parametrize(
    "frames",
    [
        [chunk(choice(call("f", "", identity="a"))), chunk(choice(call(None, "{}")))],
        [chunk(choice(call("f", "{}", identity="a"))), chunk(choice(call("f", "{}", identity="b")))],
        [chunk(choice(call("f", "{}", 0, "a"))), chunk(choice(call("f", "{}", 1, "b")))],
        [chunk(choice(call("f", "{}", identity="a"))), chunk(choice(call("f", "{}", identity="a"), index=1))],
        [chunk(choice(call("f", "{}"))), chunk(choice(call("f", "{}")))],
        [chunk(choice({"content": '"tool_calls" "name"'})), DONE, b": ping\n\n"],
        [b'data: {"tool_calls" "name"\n\n', b'data: ["tool_calls", "name"]\n\n'],
    ],
    ids=["once", "same index, other id", "other index", "other choice", "no ids", "other frames", "no chunk"],
)
def test_other_frames_pass_byte_for_byte(frames: list[bytes]) -> None:
    assert mended(*frames) == frames
