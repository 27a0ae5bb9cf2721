"""JSON that msgspec refuses and servers write: nothing of an answer is lost by it, and nothing else becomes of it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from pipelines.calls import Answer
from pipelines.conversation import Text, ToolCall
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.lenient import read
from pipelines.errors import ProtocolError, UpstreamError
from pipelines.events import Completion, Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.exchange import Relay, exchange
from pipelines.recovery.reading import Reading
from tests.pipelines import anthropic_wire, ollama_wire
from tests.pipelines.recovery_answers import call
from tests.pipelines.whole_stream import decoded_by

FIRST, SECOND = "\ud83d", "\ude00"
"""The halves of 😀."""


def frame(value: Any) -> bytes:
    """Escapes what is not ASCII, halves too, and writes NaN and Infinity, as Python does by itself."""
    return b"data: %b\n\n" % json.dumps(value).encode()


def chat(texts: list[str]) -> bytes:
    deltas = [({"content": text}, None) for text in texts]
    return b"".join(
        frame({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in [*deltas, ({}, "stop")]
    )


def messages(texts: list[str]) -> bytes:
    events = [anthropic_wire.start(), *anthropic_wire.words(0, *texts), *anthropic_wire.ending()]
    return b"".join(map(frame, events))


def responses(texts: list[str]) -> bytes:
    where = {"item_id": "i", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "i", "role": "assistant", "content": []}
    response = {"id": "r", "model": "m", "output": []}
    return b"".join(
        map(
            frame,
            [
                {"type": "response.created", "response": response},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                *({"type": "response.output_text.delta", "delta": text, **where} for text in texts),
                {"type": "response.completed", "response": {**response, "status": "completed"}},
            ],
        )
    )


def ollama(texts: list[str]) -> bytes:
    return b"".join([*(ollama_wire.line({"content": text}) for text in texts), ollama_wire.END])


STREAMS = {"openai_chat": chat, "anthropic_messages": messages, "openai_responses": responses, "ollama_chat": ollama}
every_wire = pytest.mark.parametrize("wire", sorted(STREAMS))


def writable(answer: Completion, events: list[Event]) -> None:
    """Every dialect can write it."""
    for dialect in DIALECTS.values():
        encoder = dialect.encoder(call(dialect.name).request)
        assert all(encoder.encode(event) is not None for event in events)
        msgspec.json.encode(dialect.write_answer(answer, call(dialect.name).request))


@every_wire
@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["Hi ", FIRST, SECOND, "!"], "Hi 😀!"),
        (["a" + FIRST, SECOND + FIRST, SECOND + "b"], "a😀😀b"),
        (["a" + FIRST, "b"], "a\ufffdb"),
        (["a" + FIRST], "a\ufffd"),
        ([SECOND + "a"], "\ufffda"),
        (["a" + FIRST + "b", SECOND, "é"], "a\ufffdb\ufffdé"),
        ([FIRST + FIRST, SECOND], "\ufffd😀"),
    ],
)
@pytest.mark.parametrize("size", [3, 10_000])
def test_halves_of_a_character_are_joined_and_one_alone_is_marked(
    wire: str, texts: list[str], whole: str, size: int
) -> None:
    data = STREAMS[wire](texts)
    events = decoded_by(WIRES[wire], [data[at : at + size] for at in range(0, len(data), size)])
    answer = assemble(events)
    assert answer.message.parts == (Text(whole),)
    writable(answer, events)


def test_each_part_has_halves_of_its_own() -> None:
    def said(index: int, text: str, **more: Any) -> bytes:
        entry = {"index": index, **more, "function": {**({"name": "f"} if more else {}), "arguments": text}}
        return frame({"choices": [{"index": 0, "delta": {"tool_calls": [entry]}}]})

    stop = frame({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    pieces = [
        said(0, '{"a":"' + FIRST, id="x"), said(1, '{"b":"' + FIRST, id="y"),
        said(1, SECOND + '"}'), said(0, 'é"}'), stop,
    ]  # fmt: skip
    parts = assemble(decoded_by(DIALECTS["openai_chat"], pieces)).message.parts
    assert parts == (ToolCall("x", "f", '{"a":"\ufffdé"}'), ToolCall("y", "f", '{"b":"😀"}'))


def test_a_call_in_halves_is_known_to_be_whole() -> None:
    said = [
        {"name": "f", "arguments": '{"a":"' + FIRST},
        {"arguments": SECOND + '"}'},
        {"name": "f", "arguments": "{}"},
    ]
    entries = [frame({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": one}]}}]}) for one in said]
    calls = assemble(decoded_by(DIALECTS["openai_chat"], [*entries, chat([])])).message.parts
    assert [part.arguments for part in calls if isinstance(part, ToolCall)] == ['{"a":"😀"}', "{}"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_costs_no_text(number: str) -> None:
    weight = b', "logprobs": {"content": [{"token": "\\ud83d", "logprob": %b}]}' % number.encode()
    data = chat(["Hel", "lo"]).replace(b'"Hel"}', b'"Hel"}' + weight)
    events = decoded_by(DIALECTS["openai_chat"], [data])
    (text,) = assemble(events).message.parts
    assert isinstance(text, Text)
    assert text.text == "Hello"
    assert text.opaque is not None
    assert text.opaque["openai_chat"]["logprobs"]["content"] == [{"token": "\ufffd", "logprob": None}]
    writable(assemble(events), events)


def test_what_stands_beside_the_text_has_no_halves_either() -> None:
    detail = {"type": "reasoning.text", "text": FIRST, "index": 0}
    deltas = [
        {"reasoning": "h" + FIRST, "reasoning_details": [detail]},
        {"reasoning": SECOND, "reasoning_details": [{**detail, "text": SECOND}]},
        {"content": "a", "annotations": [{"content": FIRST, FIRST: 1}]},
    ]
    frames = [frame({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    events = decoded_by(DIALECTS["openai_chat"], [*frames, chat(["b"])])
    answer = assemble(events)
    assert answer.message.parts[0].opaque is not None  # type: ignore[union-attr] # reasoning has it
    assert "😀" in json.dumps(msgspec.to_builtins(answer), ensure_ascii=False)
    writable(answer, events)


def test_a_tool_of_the_providers_own_may_be_asked_in_halves() -> None:
    tool = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in ('{"query":"' + FIRST, SECOND + '"}')]
    events = [anthropic_wire.start(), *anthropic_wire.block(0, tool, *deltas), *anthropic_wire.ending()]
    (part,) = assemble(decoded_by(DIALECTS["anthropic_messages"], map(frame, events))).message.parts
    assert "😀" in json.dumps(msgspec.to_builtins(part), ensure_ascii=False)


@every_wire
def test_real_garbage_is_skipped_and_counted_all_the_same(wire: str) -> None:
    decoder = WIRES[wire].decoder()
    head = b"" if wire == "ollama_chat" else b"data: "
    for garbage in (b'{"a":"\\ud83d"', b"{'a': NaN}", b"NaN", b'{"a":"\xff"}', b"[" * 100_000, b"[NaN]"):
        assert decoder.feed(head + garbage + b"\n\n") == []
    assert decoder.skipped == 6


@every_wire
def test_an_error_in_halves_can_be_told(wire: str) -> None:
    data = json.dumps({"type": "error", "error": {"message": "too hot " + FIRST}}).encode()
    with pytest.raises(UpstreamError) as raised:
        WIRES[wire].decoder().feed(data + b"\n" if wire == "ollama_chat" else b"data: " + data + b"\n\n")
    assert "too hot" in raised.value.message
    for dialect in DIALECTS.values():
        assert msgspec.json.encode(dialect.write_error(raised.value))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_relayed_stream_of_halves_passes_byte_for_byte(dialect: str) -> None:
    data = STREAMS[dialect](["Hi ", FIRST, SECOND, "!"])
    way = exchange(call(dialect), (dialect,), "m")
    assert isinstance(way, Relay)
    head, _, rest = data.partition(b"Hi ")
    cut = len(head) + 3 + rest.index(b"\n\n") + 2
    out = way.feed(data[:cut])
    pieces = way.pieces
    frames = [raw + b"\n\n" for raw in data[cut:].split(b"\n\n")[:-1]]
    out += b"".join(map(way.feed, frames)) + way.close()
    assert out.removesuffix(DIALECTS[dialect].sentinel) == data.removesuffix(DIALECTS[dialect].sentinel)
    assert (way.pieces - pieces >= 3, way.decoder.skipped, way.done) == (True, 0, True)


@every_wire
def test_a_whole_answer_may_have_a_half(wire: str) -> None:
    written: dict[str, Any] = {
        "openai_chat": {"choices": [{"message": {"content": "a" + FIRST}, "finish_reason": "stop"}], "x": 1e999},
        "anthropic_messages": {"content": [{"type": "text", "text": "a" + FIRST}], "stop_reason": "end_turn"},
        "openai_responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "a" + FIRST}]}],
        },
        "ollama_chat": {"message": {"content": "a" + FIRST}, "done": True},
    }
    body = json.dumps(written[wire]).encode()
    events = WIRES[wire].read_answer(body)
    assert assemble(events).message.parts == (Text("a\ufffd"),)
    writable(assemble(events), events)
    if wire in DIALECTS:
        way = Relay(call(wire, stream=False), DIALECTS[wire], "m")
        assert way.whole(body) == body
    with pytest.raises(ProtocolError):
        WIRES[wire].read_answer(body[:-1])


def test_any_other_json_is_read_as_ever() -> None:
    assert read(b' {"a": [1, 2.5, "\\u00e9", null]} ') == {"a": [1, 2.5, "é", None]}
    assert read(b'{"a": [NaN, 2.5, 1e999], "\\ud83d": "\\ud83d\\ude00"}') == {"a": [None, 2.5, None], "\ufffd": "😀"}
    for wrong in (b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000 + b"]"):
        with pytest.raises(ProtocolError):
            read(wrong)


def test_a_stream_that_may_be_gone_on_with_is_read_in_whole_characters() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        for text in ("a" + FIRST, SECOND + "b" + FIRST):
            yield frame({"choices": [{"index": 0, "delta": {"content": text}}]})
        yield chat([])

    async def heard() -> list[Event]:
        decoder = DIALECTS["openai_chat"].decoder()
        reading = Reading(Answer(), frames(), decoder, lambda event: [event])
        return [event async for events in reading.events() for event in events]

    told = asyncio.run(heard())
    assert "".join(event.text for event in told if isinstance(event, PartDelta)) == "a😀b\ufffd"
    assert [type(told[at]) for at in (0, 1, -2, -1)] == [Started, PartStarted, PartEnded, Finished]
