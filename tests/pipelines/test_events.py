"""The grammar: what is a stream, what is none, and what a stream folds into."""

import msgspec
import pytest
from hypothesis import given

from pipelines.conversation import Foreign, Reasoning, Refusal, Text, ToolCall, Usage
from pipelines.errors import ProtocolError, StreamBroken
from pipelines.events import (
    ChoiceEnd,
    Event,
    Finished,
    Grammar,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    assemble,
    merged,
)
from tests.strategies import event_streams

TEXT: list[Event] = [PartStarted(0, "text"), PartDelta(0, "Hel"), PartDelta(0, "lo"), PartEnded(0)]
END = Finished("stop", "stop", Usage(input=1, output=2))


def test_parts_fold_in_order_of_their_index_though_they_interleave() -> None:
    whole = assemble(
        [
            Started("p", "m", "1"),
            PartStarted(1, "tool_call", id="c", name="f"),
            PartStarted(0, "reasoning"),
            PartDelta(1, '{"a"'),
            PartDelta(0, "hm"),
            ToolStarted("c", "f"),
            ToolProgress("c", "half"),
            PartDelta(1, ":1}"),
            PartEnded(1, {"d": {"x": 1}}),
            PartEnded(0, {"d": {"signature": "s"}}),
            ToolEnded("c", "done"),
            PartStarted(2, "refusal"),
            PartDelta(2, "no"),
            PartEnded(2),
            PartStarted(3, "foreign", opaque={"d": {"block": [1]}}),
            PartEnded(3, {"d": {"block": [2]}}),
            END,
        ]
    )
    assert whole.message.parts == (
        Reasoning("hm", {"d": {"signature": "s"}}),
        ToolCall("c", "f", '{"a":1}', {"d": {"x": 1}}),
        Foreign({"penstock": {"run": {"call_id": "c", "name": "f", "text": "done"}}}),
        Refusal("no"),
        Foreign({"d": {"block": [1, 2]}}),
    )


def test_choices_are_messages_of_their_own() -> None:
    whole = assemble(
        [
            Started(),
            PartStarted(0, "text"),
            PartStarted(1, "text", choice=1),
            PartDelta(1, "b"),
            PartDelta(0, "a"),
            PartEnded(0),
            PartEnded(1),
            Finished("stop", choices=(ChoiceEnd(0, "stop"), ChoiceEnd(1, "stop"), ChoiceEnd(2, "length"))),
        ]
    )
    assert [message.parts for message in whole.messages] == [(Text("a"),), (Text("b"),), ()]


@pytest.mark.parametrize(
    "stream",
    [
        [],
        [END],
        [Started(), Started(), END],
        [Started(), PartDelta(0, "x"), END],
        [Started(), PartStarted(0, "text"), END],
        [Started(), *TEXT, PartStarted(0, "text"), PartEnded(0), END],
        [Started(), PartEnded(0), END],
        [Started(), ToolProgress("c", "x"), END],
        [Started(), END, PartStarted(1, "text")],
        [Started(), END, END],
    ],
)
def test_what_breaks_the_grammar_is_no_answer(stream: list[Event]) -> None:
    with pytest.raises((ProtocolError, StreamBroken)):
        assemble(stream)


@given(event_streams())
def test_a_stream_that_stops_early_is_never_an_answer(stream: list[Event]) -> None:
    assemble(stream)
    for end in range(len(stream)):
        grammar = Grammar()
        for event in stream[:end]:
            grammar.check(event)
        with pytest.raises(StreamBroken):
            grammar.close()


@given(event_streams())
def test_events_cross_as_bytes(stream: list[Event]) -> None:
    for codec in (msgspec.msgpack, msgspec.json):
        assert codec.decode(codec.encode(stream), type=list[Event]) == stream


def test_opaque_bags_merge_key_by_key() -> None:
    assert merged({"a": {"x": [1], "y": 1}}, {"a": {"x": [2], "y": 2}, "b": {}}) == {
        "a": {"x": [1, 2], "y": 2},
        "b": {},
    }
    assert merged(None, None) is None
