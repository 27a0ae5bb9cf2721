"""The Anthropic stream, both directions: decoder and encoder."""

import json
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Foreign, Reasoning, Refusal, Text, ToolCall, Usage
from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.dialects.anthropic_messages.encoder import SENTINEL
from pipelines.dialects.anthropic_messages.usage import read_usage
from pipelines.errors import BadRequest, PenstockError, ProtocolError, RateLimited, StreamBroken, UpstreamError
from pipelines.events import (
    Event,
    Finished,
    FinishReason,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolStarted,
    assemble,
)
from tests import strategies
from tests.pipelines.anthropic_wire import (
    EVENT,
    REQUEST,
    answered,
    block,
    decoded,
    encoded,
    ending,
    sequential,
    shown,
    start,
    wire,
    words,
)

NAME = "anthropic_messages"
REASONS: dict[FinishReason, str] = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal", "pause": "pause_turn",
}  # fmt: skip
STREAMS = strategies.event_streams(
    kinds=("text", "reasoning", "tool_call"), raw_reasons=REASONS, adjacent=True, empty=True, created=False
)


def without_raw(events: list[Event]) -> list[Event]:
    """What a round trip keeps: counts (none are zeros on this wire), not the provider's own object."""
    *others, last = events
    assert isinstance(last, Finished)
    usage = msgspec.structs.replace(last.usage or Usage(), raw=None)
    return [*others, msgspec.structs.replace(last, usage=usage)]


@given(STREAMS)
def test_what_is_encoded_decodes_to_the_same(events: list[Event]) -> None:
    assert without_raw(decoded(encoded(events))) == without_raw(events)


@given(STREAMS, st.randoms(use_true_random=False))
def test_parts_that_interleave_are_said_one_after_the_other(events: list[Event], random: Random) -> None:
    queues: dict[int, list[Event]] = {}
    for event in events[1:-1]:
        assert isinstance(event, PartStarted | PartDelta | PartEnded)
        queues.setdefault(event.index, []).append(event)
    mixed: list[Event] = []
    while queues:
        index = random.choice(sorted(queues))
        mixed.append(queues[index].pop(0))
        queues = {index: left for index, left in queues.items() if left}
    told = shown(encoded([events[0], *mixed, events[-1]]))
    assert sequential(told)
    again = assemble(decoded(wire(*told)))
    order = [event.index for event in mixed if isinstance(event, PartStarted)]
    parts = assemble(events).message.parts
    assert again.message.parts == tuple(parts[index] for index in order)


@given(strategies.event_streams(raw_reasons=REASONS, adjacent=True, empty=True))
def test_every_stream_is_valid_by_the_vendors_types(events: list[Event]) -> None:
    assert sequential(shown(encoded(events)))
    answered(events)


def test_the_check_against_the_vendors_types_can_fail() -> None:
    good = start()
    EVENT.validate_python(good, strict=True)
    with pytest.raises(ValueError, match="valid integer"):
        EVENT.validate_python(start(input_tokens="3"), strict=True)  # type: ignore[arg-type]
    del good["message"]["usage"]
    with pytest.raises(ValueError, match="Field required"):
        EVENT.validate_python(good, strict=True)
    with pytest.raises(ValueError, match="Input should be"):
        EVENT.validate_python(ending("bored")[0], strict=True)


def test_a_refusal_is_text_and_the_stop_reason_says_so() -> None:
    events: list[Event] = [
        Started(), PartStarted(0, "refusal"), PartDelta(0, "no"), PartEnded(0), Finished("stop", "stop"),
    ]  # fmt: skip
    told = assemble(decoded(encoded(events)))
    assert told.message.parts == (Text("no"),)
    assert (told.finished.reason, told.finished.raw_reason) == ("refusal", "refusal")
    assert assemble(events).message.parts == (Refusal("no"),)


def test_usage_is_converted_both_ways() -> None:
    data = wire(
        start(cache_read_input_tokens=100, cache_creation_input_tokens=20),
        *words(0, "x"),
        *ending(cache_read_input_tokens=100),
    )
    finished = assemble(decoded(data)).finished
    assert finished.usage is not None
    assert (finished.usage.input, finished.usage.cached_read, finished.usage.cache_write) == (123, 100, 20)
    assert finished.usage.output == 5
    usage = shown(encoded(decoded(data)))[-2]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (3, 100, 5)
    assert usage["cache_creation_input_tokens"] == 20


def test_what_compaction_and_an_advisor_used_is_counted() -> None:
    apart = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 7,
    }
    long = {"ephemeral_1h_input_tokens": 5, "ephemeral_5m_input_tokens": 2}
    none = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    iterations = [
        {**apart, "type": "compaction", "cache_creation": long},
        {**none, "type": "message", "input_tokens": 3, "output_tokens": 5},
        {**none, "type": "advisor_message", "model": "claude-fable-5", "input_tokens": 20_000, "output_tokens": 2000},
    ]
    both: list[dict[str, Any]] = [{"input_tokens": 3, "output_tokens": 5}, {"input_tokens": 0, "output_tokens": 0}]
    for counts in both:
        events = decoded(wire(start(), *words(0, "a"), *ending(**counts, iterations=iterations)))
        assert isinstance(events[-1], Finished)
        usage = events[-1].usage
        assert usage is not None
        assert usage.input == counts["input_tokens"] + 1000 + 10 + 7 + 20_000
        assert usage.output == counts["output_tokens"] + 100 + 2000
        assert (usage.cached_read, usage.cache_write, usage.cache_write_long) == (10, 7, 5)
        given = shown(encoded(events))[-2]["usage"]
        assert given["iterations"] == iterations
        assert {name: given[name] for name in counts} == counts, "counted twice by whoever reads both"
    odd = Usage(raw={"iterations": [{"type": "compaction", "input_tokens": 2**53, "output_tokens": -1}, 1] * 2000})
    assert read_usage(odd.raw or {}) == msgspec.structs.replace(odd, input=0)


def test_input_tokens_of_the_last_report_win() -> None:
    usage = assemble(decoded(wire(start(), *words(0, "x"), *ending(input_tokens=61)))).finished.usage
    assert usage is not None
    assert usage.input == 61


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"),
        ("model_context_window_exceeded", "length"), ("refusal", "refusal"), ("pause_turn", "pause"),
        ("compaction", "pause"), ("new", "other"),
    ],
)  # fmt: skip
def test_stop_reasons(raw: str, reason: str) -> None:
    events = decoded(wire(start(), *words(0, "x"), *ending(raw)))
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.raw_reason) == (reason, raw)
    assert shown(encoded(events))[-2]["delta"]["stop_reason"] == ("end_turn" if raw == "new" else raw)


def test_a_signature_comes_and_goes() -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    data = wire(start(), *thinking, *block(1, {"type": "redacted_thinking", "data": "xx"}), *ending())
    events = decoded(data)
    assert assemble(events).message.parts == (
        Reasoning("hm", {NAME: {"signature": "c2ln"}}),
        Reasoning("", {NAME: {"data": "xx"}}),
    )
    assert without_raw(decoded(encoded(events))) == without_raw(events)
    told = answered(events)["content"]
    assert told == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xx"},
    ]


def test_thinking_without_a_signature_gets_none() -> None:
    events: list[Event] = [
        Started(), PartStarted(0, "reasoning"), PartDelta(0, "hm"), PartEnded(0), Finished("stop"),
    ]  # fmt: skip
    assert b"signature_delta" not in encoded(events)


def test_reasoning_of_another_dialect_comes_back_from_the_caller() -> None:
    opaque = {"openai_responses": {"encrypted_content": "secret", "id": "rs_1"}}
    events: list[Event] = [
        Started(), PartStarted(0, "reasoning"), PartDelta(0, "hm"), PartEnded(0, opaque), Finished("stop"),
    ]  # fmt: skip
    assert assemble(decoded(encoded(events))).message.parts == (Reasoning("hm", opaque),)
    kept = answered(events)["content"]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": kept}]}
    assert ANTHROPIC_MESSAGES.read_request(body).messages[0].parts == (Reasoning("hm", opaque),)
    assert ANTHROPIC_MESSAGES.relay_request(body, "m")["messages"][0]["content"] == ""


def test_citations_and_unknown_deltas_are_kept() -> None:
    citation = {
        "type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None, "file_id": None,
        "start_char_index": 0, "end_char_index": 1,
    }  # fmt: skip
    deltas: list[dict[str, Any]] = [
        {"type": "text_delta", "text": "a"},
        {"type": "citations_delta", "citation": citation},
    ]
    events = decoded(wire(start(), *block(0, {"type": "text", "text": ""}, *deltas), *ending()))
    assert assemble(events).message.parts == (Text("a", {NAME: {"citations": [citation]}}),)
    told = shown(encoded(events))
    assert [event["delta"] for event in told if event["type"] == "content_block_delta"] == deltas
    assert answered(events)["content"][0]["citations"] == [citation]
    strange = {"type": "sparkle_delta", "sparkle": 1}
    events = decoded(wire(start(), *block(0, {"type": "text", "text": ""}, strange), *ending()))
    assert b'"delta":{"type":"sparkle_delta","sparkle":1}' in encoded(events)


def test_a_provider_side_tool_is_a_foreign_part() -> None:
    call = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"q":', '"x"}')]
    result = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}
    events = decoded(wire(start(), *block(0, call, *deltas), *block(1, result), *words(2, "x"), *ending()))
    parts = assemble(events).message.parts
    assert parts == (Foreign({NAME: {**call, "input": {"q": "x"}}}), Foreign({NAME: result}), Text("x"))
    assert assemble(decoded(encoded(events))).message.parts == parts
    assert sequential(shown(encoded(events)))
    answered(events)


def test_compaction_is_kept() -> None:
    compaction = {"type": "compaction", "content": None}
    data = wire(start(), *block(0, compaction, {"type": "compaction_delta", "content": "so far"}), *ending())
    part = assemble(decoded(data)).message.parts[0]
    assert part == Foreign({NAME: {"type": "compaction", "content": "so far"}})


def test_what_stands_beside_the_last_delta_comes_and_goes() -> None:
    edits = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 8, "cleared_input_tokens": 5}]}
    last, stop = ending("compaction")
    later = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 6}, "context_management": edits}
    for tail in ([{**last, "context_management": edits, "penstock": {"x": 1}}, stop], [last, later, stop]):
        events = decoded(wire(start(), *words(0, "a"), *tail))
        told = shown(encoded(events))[-2]
        assert told["context_management"] == edits
        assert told["delta"] == {"stop_reason": "compaction", "stop_sequence": None}
        assert "penstock" not in told
        answer = answered(events)
        assert (answer["context_management"], answer["stop_reason"]) == (edits, "compaction")
        again = ANTHROPIC_MESSAGES.read_answer(json.dumps(answer).encode())
        assert "context_management" not in shown(encoded(again))[0]["message"]
        assert shown(encoded(again))[-2]["context_management"] == edits


def test_parts_of_other_dialects_have_no_block() -> None:
    events: list[Event] = [
        Started(), PartStarted(0, "foreign", opaque={"openai_responses": {"x": 1}}), PartStarted(1, "text"),
        PartDelta(1, "a"), PartEnded(0), PartEnded(1), Finished("stop"),
    ]  # fmt: skip
    assert sequential(shown(encoded(events)))
    assert assemble(decoded(encoded(events))).message.parts == (Text("a"),)


@pytest.mark.parametrize("given_input", [{}, {"a": 1}])
def test_a_call_without_deltas_has_the_arguments_it_began_with(given_input: dict[str, int]) -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": given_input}
    for deltas in ([], [{"type": "input_json_delta", "partial_json": ""}]):
        events = decoded(wire(start(), *block(0, call, *deltas), *ending("tool_use")))
        arguments = msgspec.json.encode(given_input).decode()
        assert assemble(events).message.parts == (ToolCall("t", "f", arguments),)


def test_a_block_whose_index_is_used_again_is_another_part() -> None:
    data = wire(start(), *words(0, "a")[:-1], *words(0, "b"), *ending())
    assert assemble(decoded(data)).message.parts == (Text("a"), Text("b"))


def test_a_repeated_message_start_is_passed_over() -> None:
    assert assemble(decoded(wire(start(), start(), *words(0, "a"), *ending()))).message.text == "a"
    assert assemble(decoded(wire(start("x"), start("y"), *words(0, "a"), *ending()))).started.id == "x"


def test_two_messages_in_one_stream_are_none() -> None:
    with pytest.raises(StreamBroken):
        decoded(wire(start("x"), *words(0, "a"), start("y"), *words(0, "b"), *ending()))


def test_the_answer_is_whole_with_its_stop_reason_and_only_then() -> None:
    events = [start(), *words(0, "a", "b"), *ending()]
    decoder = ANTHROPIC_MESSAGES.decoder()
    decoder.feed(wire(*events[:-1]))
    assert decoder.finished is not None
    assert not decoder.done
    assert isinstance(decoder.close()[-1], Finished)
    for cut in range(len(events) - 1):
        with pytest.raises(StreamBroken):
            decoded(wire(*events[:cut]))
    with pytest.raises(StreamBroken):
        decoded(wire(*events[:-2], events[-1]))


def test_done_with_message_stop_and_deaf_afterwards() -> None:
    decoder = ANTHROPIC_MESSAGES.decoder()
    decoder.feed(wire(start(), *words(0, "a"), *ending()))
    assert decoder.done
    assert decoder.feed(wire(start("other"))) == []
    assert decoder.close() == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", "overloaded"), ("rate_limit_error", "rate_limited"), ("api_error", "server_error"),
        ("invalid_request_error", "invalid_request"), ("timeout_error", "timeout"),
    ],
)  # fmt: skip
def test_an_error_in_mid_stream(kind: str, reason: str) -> None:
    data = wire(start(), *words(0, "a"), {"type": "error", "error": {"type": kind, "message": "Sorry"}})
    with pytest.raises(UpstreamError, match="Sorry") as caught:
        decoded(data)
    assert caught.value.reason == reason
    assert caught.value.upstream_type == kind


@pytest.mark.parametrize(
    "events",
    [
        words(0, "a"), ending(), [{"type": "message_start"}], [start(), {"type": "content_block_start", "index": 0}],
        [start(), {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}],
    ],
)  # fmt: skip
def test_what_the_wire_does_not_allow(events: list[dict[str, object]]) -> None:
    with pytest.raises(ProtocolError):
        decoded(wire(*events))


def test_frames_that_are_no_json_are_counted() -> None:
    decoder = ANTHROPIC_MESSAGES.decoder()
    decoder.feed(b"data: {nonsense\n\ndata: [1]\n\n: comment\n\nevent: ping\n\n" + wire({"type": "ping"}))
    assert decoder.skipped == 2


JUNK = st.recursive(
    st.none() | st.integers() | st.sampled_from(["text", "tool_use", "thinking", "error", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "delta", "content_block", "index", "message", "usage"]), inner)
    ),
    max_leaves=6,
)
KINDS = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "ping",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(
    ["delta", "content_block", "index", "message", "usage"]), JUNK)), max_size=6))  # fmt: skip
def test_junk_never_crashes_and_never_succeeds(junk: list[tuple[str, dict[str, object]]]) -> None:
    with pytest.raises(PenstockError):
        decoded(wire(start(), *({**body, "type": kind} for kind, body in junk)))


def test_an_error_ends_the_callers_stream_without_a_sentinel() -> None:
    encoder = ANTHROPIC_MESSAGES.encoder(REQUEST)
    encoder.encode(Started())
    said = encoder.error(RateLimited("slow down"))
    expected = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    assert shown(said) == [expected]
    assert SENTINEL not in said
    said = encoder.error(BadRequest("must be a string", param="messages.0"))
    assert shown(said)[0]["error"] == {"type": "invalid_request_error", "message": "messages.0: must be a string"}


def test_events_of_our_executors_go_in_pings() -> None:
    events: list[Event] = [Started(), ToolStarted("c", "f"), Finished("stop")]
    told = shown(encoded(events))
    assert told[1]["type"] == "ping"
    assert told[1]["penstock"]["name"] == "f"


@given(STREAMS)
def test_only_content_passes_untold(events: list[Event]) -> None:
    framer_input = encoded(events)
    for event in shown(framer_input):
        frame = wire(event)
        told = ANTHROPIC_MESSAGES.telling.search(frame) is not None
        if event["type"] == "content_block_delta":
            assert not told
        elif event["type"] not in ("content_block_start", "content_block_stop"):
            assert told


@pytest.mark.parametrize(
    "chunk",
    [
        b": comment\n\n", b"event: ping\n\n", b"data: [DONE]\n\n", wire({"type": "ping"}), wire(*ending()[:1]),
        wire(*words(0, "a")) + b": x\n\n", wire(*words(0, "a"), *ending()), wire({"type": "brand_new"}),
        wire(*words(0, "a")[1:2]) + b": x\n\n", wire(*words(0, "a")[1:2]) + SENTINEL,
        b"event: error\n" + wire(*words(0, "a")[1:2]),
        b'data: {"error": {"message": "x"}}\n\n',
    ],
)  # fmt: skip
def test_whatever_is_not_content_is_told(chunk: bytes) -> None:
    assert ANTHROPIC_MESSAGES.telling.search(chunk)
