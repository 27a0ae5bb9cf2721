"""Streams of the Responses wire: the encoder against the decoder, and each alone where they could err together."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Foreign, Reasoning, Refusal, Request, Text, ToolCall, Usage
from pipelines.dialects import sse
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.dialects.openai_responses.opaque import NAME
from pipelines.errors import (
    StreamBroken,
    UpstreamError,
)
from pipelines.events import (
    Event,
    Finished,
    FinishReason,
    Grammar,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    assemble,
)
from tests import recordings
from tests.pipelines.responses_wire import RESPONSES, decode, encode, payloads, validate_stream
from tests.strategies import event_streams

RAW: dict[FinishReason, str] = {
    "stop": "completed",
    "tool_calls": "completed",
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}

STREAMS = event_streams(raw_reasons=RAW, adjacent=True, empty=True)

OWN = {r.name.rpartition("/")[2].removesuffix(".json"): r for r in recordings.own() if r.path.endswith("/responses")}


def without_raw(usage: Usage | None) -> Usage | None:
    return usage and Usage(usage.input, usage.output, usage.cached_read, usage.cache_write, usage.reasoning, usage.cost)


def normal(events: list[Event]) -> list[Event]:
    """What this wire keeps: a refusal has no finish reason of its own, and usage is written anew."""
    end = events[-1]
    assert isinstance(end, Finished)
    refused = any(isinstance(event, PartStarted) and event.kind == "refusal" for event in events)
    reason: FinishReason = "refusal" if refused and end.reason == "stop" else end.reason
    return [*events[:-1], Finished(reason, end.raw_reason, usage=without_raw(end.usage))]


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(sse.frame(json.dumps(event).encode(), event["type"]) for event in events)


def answer_of(*events: dict[str, Any], **response: Any) -> Any:
    end = {"type": "response.completed", "response": {"id": "r", "output": [], **response}}
    return assemble(decode(frames({"type": "response.created", "response": {"id": "r"}}, *events, end)))


@given(STREAMS)
def test_decode_of_encode_is_the_same(events: list[Event]) -> None:
    assert normal(decode(encode(events))) == normal(events)


@given(STREAMS, st.booleans())
def test_what_is_encoded_is_strictly_valid(events: list[Event], streaming: bool) -> None:
    asked = Request("m", (), stream=streaming)
    wire = validate_stream(encode(events, asked))
    answer = OPENAI_RESPONSES.write_answer(assemble(events), asked)
    RESPONSES.validate_python(answer, strict=True)
    assert answer == wire[-1]["response"]
    read = OPENAI_RESPONSES.read_answer(json.dumps(answer).encode())
    assert assemble(normal(read)) == assemble(normal(events))


@st.composite
def overlapping(draw: st.DrawFn) -> list[Event]:
    """A stream whose parts overlap; each part keeps its own order."""
    first, *body, last = draw(STREAMS)
    queues: dict[int, list[Event]] = {}
    for event in body:
        assert isinstance(event, PartStarted | PartDelta | PartEnded)
        queues.setdefault(event.index, []).append(event)
    mixed: list[Event] = [first]
    while queues:
        index = draw(st.sampled_from(sorted(queues)))
        mixed.append(queues[index].pop(0))
        if not queues[index]:
            del queues[index]
    return [*mixed, last]


@given(overlapping())
def test_parts_may_overlap(events: list[Event]) -> None:
    """Parts are numbered anew, by their beginning; what each says is the same."""
    order = {e.index: n for n, e in enumerate(e for e in events if isinstance(e, PartStarted))}
    before = assemble(normal(events)).message.parts
    wire = encode(events)
    validate_stream(wire)
    after = assemble(normal(decode(wire)))
    assert after.message.parts == tuple(before[sorted(order).index(index)] for index in order)


@given(STREAMS, st.data())
def test_a_cut_stream_is_never_a_success(events: list[Event], data: st.DataObject) -> None:
    wire = encode(events)
    cut = data.draw(st.integers(0, len(wire) - 4))
    with pytest.raises(StreamBroken):
        decode(wire[:cut])


@given(st.binary() | st.lists(st.sampled_from([r.body for r in OWN.values()])).map(b"".join), st.data())
def test_no_bytes_make_the_decoder_fail_otherwise(body: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, max(len(body) - 1, 0)))
        body = (
            body[:place]
            + data.draw(st.binary(max_size=3) | st.sampled_from([b"null", b"[]", b"-1"]))
            + body[place + 1 :]
        )
    grammar = Grammar()
    try:
        for event in decode(body):
            grammar.check(event)
        grammar.close()
    except UpstreamError:
        pass


VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just({"type": "output_text"}),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "id", "text"]), inner),
    max_leaves=3,
)
TYPES = sorted({event["type"] for r in OWN.values() for event in payloads(r.body.replace(b"data: [DONE]\n\n", b""))})
FIELDS = ("item", "item_id", "output_index", "content_index", "summary_index", "delta", "text", "part", "response")
ODD = st.lists(st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS), VALUES)), max_size=6)


@given(ODD)
def test_no_odd_fields_make_the_decoder_fail_otherwise(odd: list[tuple[str, dict[str, Any]]]) -> None:
    grammar = Grammar()
    try:
        for event in decode(frames(*({"type": kind, **fields} for kind, fields in odd))):
            grammar.check(event)
        grammar.close()
    except UpstreamError:
        pass


def test_reasoning_with_pieces_and_a_citation_is_kept_and_rendered_again() -> None:
    completion = assemble(decode(OWN["reasoning-summary-and-citation"].body))
    reasoning, text = completion.message.parts
    assert reasoning == Reasoning(
        "Think about\n\nthe weather", {NAME: {"id": "rs_own1", "breaks": [11], "encrypted_content": "gAAAAlast"}}
    )
    assert isinstance(text, Text)
    assert text.opaque is not None
    assert text.opaque[NAME]["phase"] == "final_answer"
    assert [note["type"] for note in text.opaque[NAME]["annotations"]] == ["url_citation"]
    assert completion.finished.usage is not None
    assert without_raw(completion.finished.usage) == Usage(40, 30, 16, 8, 12)
    output = OPENAI_RESPONSES.write_answer(completion, Request("m", ()))["output"]
    assert [piece["text"] for piece in output[0]["summary"]] == ["Think about", "the weather"]
    assert (output[0]["id"], output[0]["encrypted_content"]) == ("rs_own1", "gAAAAlast")
    again = payloads(encode(decode(OWN["reasoning-summary-and-citation"].body)))
    summary = [event["summary_index"] for event in again if event["type"] == "response.reasoning_summary_text.done"]
    assert summary == [0, 1]
    assert "response.output_text.annotation.added" in [event["type"] for event in again]


def test_calls_that_share_an_index_are_told_apart_by_id() -> None:
    calls = assemble(decode(OWN["overlapping-calls-all-index-0"].body)).message.tool_calls
    assert calls == (
        ToolCall("call_a", "weather", '{"city":"Paris"}'),
        ToolCall("call_b", "time", '{"zone":"CET"}', {NAME: {"namespace": "clocks"}}),
    )


def test_ids_that_change_from_event_to_event_are_told_apart_by_index() -> None:
    completion = answer_of(
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "a"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "b", "delta": "x"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "message", "id": "c", "content": [{"type": "output_text", "text": "xy"}]},
        },
    )
    assert completion.message.parts == (Text("xy"),)


def test_items_that_were_never_announced_are_read() -> None:
    said = {"type": "response.output_text.delta", "item_id": "m", "delta": "x"}
    assert answer_of(said).message.parts == (Text("x"),)
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": "{}"}
    completion = answer_of(output=[item])
    assert completion.message.parts == (ToolCall("c", "n", "{}"),)
    assert completion.finished.reason == "tool_calls"


def test_a_cut_off_call_is_incomplete_on_the_wire() -> None:
    events: list[Event] = [
        Started(id="r"),
        PartStarted(0, "tool_call", "c0", "f"),
        PartDelta(0, "{}"),
        PartEnded(0),
        PartStarted(1, "tool_call", "c1", "f"),
        PartDelta(1, '{"a'),
        PartEnded(1),
        Finished("length"),
    ]
    wire = validate_stream(encode(events))
    done = [event["item"] for event in wire if event["type"] == "response.output_item.done"]
    assert [item["status"] for item in done] == ["completed", "incomplete"]
    assert wire[-1]["type"] == "response.incomplete"
    assert wire[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_call_without_arguments_has_the_empty_object() -> None:
    events: list[Event] = [Started(id="r"), PartStarted(0, "tool_call", "c", "f"), PartEnded(0), Finished("tool_calls")]
    wire = validate_stream(encode(events))
    deltas = [event["delta"] for event in wire if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == ["{}"]
    assert wire[-1]["response"]["output"][0]["arguments"] == "{}"


def test_foreign_items_stand_whole_and_a_custom_call_waits_for_the_caller() -> None:
    completion = assemble(decode(OWN["web-search-and-custom-call"].body))
    search, custom = completion.message.parts
    assert isinstance(search, Foreign)
    assert search.opaque[NAME]["action"] == {"type": "search", "query": "tides", "queries": ["tides"]}
    assert isinstance(custom, Foreign)
    assert custom.opaque[NAME]["input"] == "*** Begin\n*** End"
    progress = [e for e in decode(OWN["web-search-and-custom-call"].body) if isinstance(e, PartDelta)]
    assert [(e.index, e.text) for e in progress] == [(0, "")] * 3 + [(1, "")] * 3
    assert completion.finished.reason == "tool_calls"


def test_another_dialects_blocks_and_choices_have_no_place_here() -> None:
    events: list[Event] = [
        Started(id="r"),
        PartStarted(0, "foreign", opaque={"anthropic_messages": {"type": "server_tool_use"}}),
        PartEnded(0),
        PartStarted(1, "text"),
        PartDelta(1, "a"),
        PartEnded(1),
        PartStarted(2, "text", choice=1),
        PartDelta(2, "b"),
        PartEnded(2),
        Finished("stop"),
    ]
    wire = validate_stream(encode(events))
    assert [item["content"][0]["text"] for item in wire[-1]["response"]["output"]] == ["a"]


def test_a_signature_of_another_dialect_survives_the_wire() -> None:
    signed = {"anthropic_messages": {"signature": "EqQB", "redacted": ["x"]}}
    events: list[Event] = [
        Started(id="r"),
        PartStarted(0, "reasoning"),
        PartDelta(0, "thought"),
        PartEnded(0, signed),
        Finished("stop"),
    ]
    wire = encode(events)
    validate_stream(wire)
    assert assemble(decode(wire)).message.parts == (Reasoning("thought", signed),)
    item = payloads(wire)[-1]["response"]["output"][0]
    request = OPENAI_RESPONSES.read_request({"model": "m", "input": [item]})
    assert request.messages[0].parts == (Reasoning("thought", signed),)


def test_log_probabilities_and_citations_of_the_chat_dialect_are_put_into_this_form() -> None:
    entry = {"token": "a", "bytes": [97], "logprob": -0.25, "top_logprobs": []}
    citation = {"start_index": 0, "end_index": 1, "title": "t", "url": "https://e.com"}
    notes = {"annotations": [{"type": "url_citation", "url_citation": {**citation, "content": "x"}}]}
    events: list[Event] = [
        Started(id="r"),
        PartStarted(0, "text"),
        PartDelta(0, "a", {"openai_chat": {"logprobs": {"content": [entry]}}}),
        PartEnded(0, {"openai_chat": notes}),
        Finished("stop"),
    ]
    wire = encode(events)
    validate_stream(wire)
    own = {NAME: {"logprobs": [entry], "annotations": [{"type": "url_citation", **citation}]}}
    assert assemble(decode(wire)).message.parts == (Text("a", own),)


def test_a_refusal_after_text_is_two_parts() -> None:
    completion = assemble(decode(OWN["refusal-after-text-logprobs"].body))
    text, refusal = completion.message.parts
    assert isinstance(text, Text)
    assert text.text == "Well."
    assert text.opaque is not None
    assert [entry["token"] for entry in text.opaque[NAME]["logprobs"]] == ["Well", "."]
    assert refusal == Refusal("I cannot do that.")
    assert completion.finished.reason == "refusal"


def test_tool_events_of_our_executors_go_through() -> None:
    body: list[Event] = [ToolStarted("c", "f", '{"a":1}'), ToolProgress("c", "half"), ToolEnded("c", "all", "")]
    events: list[Event] = [Started(id="r", model="m"), *body, Finished("stop", "completed")]
    wire = encode(events)
    assert decode(wire) == events
    assert [e["type"].removeprefix("response.") for e in payloads(wire)][2:-1] == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "penstock.tool_progress",
        "mcp_call.completed",
        "output_item.done",
    ]


def test_the_response_echoes_what_was_asked() -> None:
    asked = OPENAI_RESPONSES.read_request(
        {
            "model": "m",
            "instructions": "Be brief.",
            "input": "x",
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "reasoning": {"effort": "low"},
            "metadata": {"a": "b"},
            "truncation": "auto",
            "store": True,
        }
    )
    response = payloads(OPENAI_RESPONSES.encoder(asked).encode(Started(id="r", model="real", created=5)))[0]["response"]
    RESPONSES.validate_python(response, strict=True)
    assert (response["model"], response["created_at"], response["store"]) == ("real", 5, False)
    assert response["instructions"] == "Be brief."
    assert response["tools"][0]["name"] == "f"
    assert response["tool_choice"] == {"type": "function", "name": "f"}
    assert response["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
    assert (response["reasoning"], response["truncation"]) == ({"effort": "low"}, "auto")


def test_arguments_that_come_before_their_call_wait_for_its_name() -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "calc", "arguments": '{"a":1}'}
    answer = answer_of(
        {"type": "response.created", "response": {"id": "r", "model": "m"}},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": '{"a":1}'},
        {"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 0, "arguments": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed", "output": [item]}},
    )
    (call,) = answer.message.tool_calls
    assert (call.id, call.name, call.arguments) == ("call_1", "calc", '{"a":1}')
