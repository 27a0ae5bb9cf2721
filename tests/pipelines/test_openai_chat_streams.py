"""Streams as real servers send them, each habit by itself; and what callers get."""

import json
from typing import Any

import pytest

from pipelines.conversation import Reasoning, Request, Text, ToolCall, ToolSpec, Usage
from pipelines.dialects import sse
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.dialects.openai_chat.legacy import LEGACY
from pipelines.errors import BadRequest, ProtocolError, RateLimited, StreamBroken, UpstreamError
from pipelines.events import (
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    assemble,
)
from tests.pipelines.chat_wire import CHUNK, DONE, call, choice, chunk, completion, decode

CALLS = chunk(choice(reason="tool_calls")) + DONE


def calls(*deltas: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of the calls that these deltas make."""
    answer = completion(*[chunk(choice(delta)) for delta in deltas], CALLS)
    return [(made.id, made.name, made.arguments) for made in answer.message.tool_calls]


def test_index_0_for_all_calls() -> None:
    assert calls(call("f", "{}", 0, "a"), call("g", '{"x":1}', 0, "b")) == [("a", "f", "{}"), ("b", "g", '{"x":1}')]


def test_interleaved_calls_lose_nothing() -> None:
    made = calls(call("f", '{"a"', 0, "a"), call("g", '{"b"', 1, "b"), call(None, ":1}", 0), call(None, ":2}", 1))
    assert made == [("a", "f", '{"a":1}'), ("b", "g", '{"b":2}')]


def test_a_new_id_for_every_delta() -> None:
    assert calls(call("f", '{"a"', 0, "a"), call(None, ":1}", 0, "b")) == [("a", "f", '{"a":1}')]


def test_the_id_in_every_delta_and_no_index() -> None:
    made = calls(call("f", '{"a"', None, "a"), call(None, ":1}", None, "a"), call("g", "{}", None, "b"))
    assert made == [("a", "f", '{"a":1}'), ("b", "g", "{}")]


@pytest.mark.parametrize(
    "deltas",
    [
        (call("f", '{"a":1}', 0, "call_0"), call("g", '{"b":2}', 1, "call_0")),
        (call("f", '{"a":1}', 0, "call_0"), call("g", '{"b":2}', 0, "call_0")),
        (call("f", '{"a":1}', None, "call_0"), call("g", '{"b":2}', None, "call_0")),
        (call("f", '{"a"', 0, "call_0"), call("g", '{"b"', 1, "call_0"), call(None, ":1}", 0), call(None, ":2}", 1)),
        (
            call("f", '{"a"', 0, "call_0"),
            call("g", '{"b"', 1, "call_0"),
            call(None, ":1}", 0, "call_0"),
            call("g", ":2}", 1, "call_0"),
        ),
    ],
)
def test_calls_with_one_id_are_given_different_ones(deltas: tuple[dict[str, Any], ...]) -> None:
    assert calls(*deltas) == [("call_0", "f", '{"a":1}'), ("call_0_1", "g", '{"b":2}')]


def test_calls_of_one_function_with_one_id_are_several() -> None:
    made = calls(*[call("f", "{}", index, identity) for index, identity in enumerate(("x", "x_1", "x", "x"))])
    assert [identity for identity, _, _ in made] == ["x", "x_1", "x_2", "x_3"]
    taken = calls(*[call("f", "{}", index, identity) for index, identity in enumerate(("x", "x_2", "x"))])
    assert [identity for identity, _, _ in taken] == ["x", "x_2", "x_3"]


@pytest.mark.parametrize("index", [0, None])
def test_no_arguments_go_on_behind_their_end(index: int | None) -> None:
    made = calls(*[call("f", arguments, index, "x") for arguments in ('{"a":1}', '{"a":2}', " ", '{"a":2}')])
    assert made == [("x", "f", '{"a":1}'), ("x_1", "f", '{"a":2} ')]


def test_an_id_and_a_name_in_every_delta_are_one_call() -> None:
    pieces = [call("f", text, 0, "a") for text in ('{"a"', ":1}", "")]
    assert calls(*pieces) == [("a", "f", '{"a":1}')]


def test_calls_without_ids_are_given_different_ones() -> None:
    made = calls(call("f", "{}", 0), call("f", "{}", 0), call("g", "{}", 1))
    assert [(name, arguments) for _, name, arguments in made] == [("f", "{}"), ("f", "{}"), ("g", "{}")]
    assert len({identity for identity, _, _ in made}) == 3
    assert all(identity for identity, _, _ in made)


def test_the_name_after_the_id() -> None:
    assert calls(call(None, None, 0, "a"), call("f", None, 0), call(None, "{}", 0)) == [("a", "f", "{}")]


def test_null_and_object_arguments() -> None:
    entry = {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}}
    other = {"index": 1, "id": "b", "function": {"name": "g", "arguments": {"x": 1}}}
    assert calls({"tool_calls": [entry, other]}) == [("a", "f", ""), ("b", "g", '{"x":1}')]


def test_a_call_that_goes_on_after_its_end_is_a_fault() -> None:
    with pytest.raises(ProtocolError):
        calls(call("f", "{}", 0, "a"), call("g", "{}", 1, "b"), call(None, '{"x":1}', 0))


def test_members_beside_a_call_are_kept() -> None:
    entry = {"index": 0, "id": "a", "extra_content": {"google": {"thought_signature": "s"}}, "function": {"name": "f"}}
    answer = completion(chunk(choice({"tool_calls": [entry]})), CALLS)
    made = answer.message.tool_calls[0]
    assert made.opaque == {"openai_chat": {"extra_content": {"google": {"thought_signature": "s"}}}}
    body = OPENAI_CHAT.write_request(Request("m", (answer.message,))).body
    assert body["messages"][0]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}


def test_stop_with_tool_calls() -> None:
    finished = completion(chunk(choice(call("f", "{}", 0, "a"))), chunk(choice(reason="stop")), DONE).finished
    assert (finished.reason, finished.raw_reason) == ("tool_calls", "stop")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("eos", "stop"),
        ("COMPLETE", "stop"),
        ("eos_token", "stop"),
        ("FinishReason.STOP", "stop"),
        ("end-turn", "stop"),
        ("MAX_TOKENS", "length"),
        ("FINISH_REASON_MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("token_limit", "length"),
        ("time_limit", "length"),
        ("repetition", "length"),
        ("not_finished", "length"),
        ("sensitive", "content_filter"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("ERROR_TOXIC", "content_filter"),
        ("something_new", "other"),
    ],
)
def test_finish_reasons(raw: str, reason: str) -> None:
    finished = completion(chunk(choice({"content": "a"}, raw)), DONE).finished
    assert (finished.reason, finished.raw_reason) == (reason, raw)


def test_a_finish_reason_that_says_that_there_is_none_ends_nothing() -> None:
    going = chunk(choice({"content": "a"}, "null"))
    assert completion(going, chunk(choice({"content": "b"}, "stop")), DONE).finished.raw_reason == "stop"
    with pytest.raises(StreamBroken):
        completion(going)


def test_finish_reason_on_the_last_content_and_again() -> None:
    last = chunk(choice({"content": "b"}, "stop"))
    answer = completion(chunk(choice({"content": "a"})), last, chunk(choice(reason="stop")), DONE, DONE)
    assert answer.message.text == "ab"


def test_the_sentinel_may_be_missing() -> None:
    assert completion(chunk(choice({"content": "a"}, "stop"))).message.text == "a"
    assert completion(chunk(choice({"content": "a"}, "stop")).rstrip(b"\n")).message.text == "a"


def test_the_sentinel_alone_is_no_end() -> None:
    with pytest.raises(StreamBroken):
        completion(chunk(choice({"content": "a"})), DONE)
    with pytest.raises(StreamBroken):
        completion(DONE)


def test_content_after_a_finish_reason_undoes_it() -> None:
    with pytest.raises(StreamBroken):
        completion(chunk(choice({"content": "a"}, "stop")), chunk(choice({"content": "b"})))
    assert (
        completion(chunk(choice({"content": "a"}, "stop")), chunk(choice({"content": "b"})), DONE).message.text == "ab"
    )


def test_every_choice_must_end() -> None:
    both = chunk(choice({"content": "a"}), choice({"content": "b"}, index=1))
    with pytest.raises(StreamBroken):
        completion(both, chunk(choice(reason="stop")), DONE)
    answer = completion(both, chunk(choice(reason="stop")), chunk(choice(reason="length", index=1)), DONE)
    assert [message.text for message in answer.messages] == ["a", "b"]
    assert [end.reason for end in answer.finished.choices] == ["stop", "length"]


def test_finished_is_known_before_the_end() -> None:
    decoder = OPENAI_CHAT.decoder()
    counts = {"prompt_tokens": 3, "completion_tokens": 1}
    known = []
    for frame in (chunk(choice({"content": "a"})), chunk(choice(reason="stop")), chunk(usage=counts), DONE):
        decoder.feed(frame)
        known.append((decoder.finished, decoder.done))
    end = Finished("stop", "stop")
    counted = Finished("stop", "stop", Usage(input=3, output=1, raw=counts))
    assert known == [(None, False), (end, False), (counted, False), (counted, True)]


def test_reasoning_by_either_name_and_by_details() -> None:
    for field in ("reasoning_content", "reasoning"):
        answer = completion(
            chunk(choice({field: "hm", "content": None})), chunk(choice({"content": "a"}, "stop")), DONE
        )
        assert answer.message.parts == (Reasoning("hm", {"openai_chat": {"field": field}}), Text("a"))
    both = completion(chunk(choice({"reasoning": "hm", "reasoning_content": "hm"}, "stop")), DONE)
    assert [part.text for part in both.message.parts if isinstance(part, Reasoning)] == ["hm"]
    details = [{"type": "reasoning.text", "text": "h", "index": 0}]
    more = [{"type": "reasoning.text", "text": "m", "index": 0, "signature": "s"}]
    alone = completion(
        chunk(choice({"reasoning_details": details})), chunk(choice({"reasoning_details": more}, "stop")), DONE
    )
    whole = [{"type": "reasoning.text", "text": "hm", "index": 0, "signature": "s"}]
    share = {"field": "reasoning", "reasoning_details": whole}
    assert alone.message.parts == (Reasoning("hm", {"openai_chat": share}),)


def test_thoughts_as_parts_of_content() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    answer = completion(chunk(choice({"content": content}, "stop")), DONE)
    assert [getattr(part, "text", "") for part in answer.message.parts] == ["hm", "a"]


THOUGHTS: list[list[dict[str, Any]]] = [
    [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
    [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}],
    [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "s"}]}],
    [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "s"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so", "signature": "t"}]},
    ],
]


@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize("calling", [False, True])
def test_thoughts_as_parts_of_content_go_back_as_such(thoughts: list[dict[str, Any]], calling: bool) -> None:
    content = [*thoughts, {"type": "text", "text": "a"}]
    called = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}] if calling else []
    said = {"role": "assistant", "content": content, **({"tool_calls": called} if called else {})}
    body = {"choices": [{"index": 0, "finish_reason": "tool_calls" if called else "stop", "message": said}]}
    whole = assemble(OPENAI_CHAT.read_answer(json.dumps(body).encode())).message
    assert [part.text for part in whole.parts if isinstance(part, Reasoning)] == ["hm", "so"][: len(thoughts)]

    written = OPENAI_CHAT.write_request(Request("m", (whole,))).body["messages"]
    assert written == [{**said, "content": content}]
    seen = OPENAI_CHAT.write_answer(assemble(OPENAI_CHAT.read_answer(json.dumps(body).encode())), Request("m", ()))
    assert seen["choices"][0]["message"].keys() <= {"role", "content", "refusal", "reasoning_content", "tool_calls"}


def test_a_thought_in_content_that_comes_in_pieces_is_one() -> None:
    pieces = [{"text": "h", "signature": ""}, {"text": "m"}, {"text": "", "signature": "s"}]
    deltas = [
        chunk(choice({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", **piece}]}]}))
        for piece in pieces
    ]
    events = decode(*deltas, chunk(choice({"content": "a"}, "stop")), DONE)
    share = {"field": "content.reasoning", "signature": "s"}
    assert assemble(events).message.parts == (Reasoning("hm", {"openai_chat": share}), Text("a"))
    encoder = OPENAI_CHAT.encoder(Request("m", ()))
    told = b"".join(encoder.encode(event) for event in events)
    assert b"signature" not in told
    assert b"summary" not in told


def test_null_members_are_nothing() -> None:
    quiet = {"role": None, "content": None, "tool_calls": None, "refusal": None, "function_call": None}
    answer = completion(
        chunk(choice(quiet), usage=None), chunk(choice({"content": "a"})), chunk(choice(None, "stop")), DONE
    )
    assert answer.message.parts == (Text("a"),)


def test_usage_wherever_it_stands() -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 2}
    end = choice(reason="stop")
    streams = [
        chunk(end, usage=counts),
        chunk(end) + chunk(usage=counts),
        chunk(end, x_groq={"usage": counts}),
        chunk({**end, "usage": counts}),
    ]
    for stream in streams:
        usage = completion(chunk(choice({"content": "a"})), stream, DONE).finished.usage
        assert usage == Usage(input=7, output=2, raw=counts)
    assert completion(chunk(end), DONE).finished.usage is None


def test_arithmetic_of_usage() -> None:
    def usage(**raw: Any) -> Usage:
        counted = completion(chunk(choice(reason="stop"), usage=raw), DONE).finished.usage
        assert counted is not None
        return counted

    openrouter = usage(
        prompt_tokens=100,
        completion_tokens=20,
        prompt_tokens_details={"cached_tokens": 30, "cache_write_tokens": 40},
        completion_tokens_details={"reasoning_tokens": 5},
        cost=0.5,
    )
    assert (openrouter.input, openrouter.output, openrouter.cached_read, openrouter.cache_write) == (100, 20, 30, 40)
    assert (openrouter.reasoning, openrouter.cost) == (5, 0.5)
    xai = usage(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=22,
        completion_tokens_details={"reasoning_tokens": 7},
        cost_in_usd_ticks=20_000_000,
    )
    assert xai.output == 12
    assert xai.cost == pytest.approx(0.002)
    moonshot = usage(prompt_tokens=1800, completion_tokens=13, total_tokens=1813, cached_tokens=1792)
    assert (moonshot.input, moonshot.cached_read) == (1800, 1792)
    dashscope = usage(prompt_tokens=53, prompt_tokens_details={"cached_tokens": 20, "cache_creation_input_tokens": 17})
    assert (dashscope.input, dashscope.cached_read, dashscope.cache_write) == (53, 20, 17)
    beside = usage(prompt_tokens=10, completion_tokens=1, cache_read_input_tokens=50)
    assert (beside.input, beside.cached_read) == (60, 50)
    assert usage(prompt_tokens=None, completion_tokens="x").input == 0
    assert usage(prompt_tokens=2**70, completion_tokens=1e300).input == 0
    # What is no count is none, and the others stand.
    for odd in ({"cached_tokens": None, "audio_tokens": 3}, {"cached_tokens": -1, "audio_tokens": 3.0}):
        some = usage(prompt_tokens=7, completion_tokens=True, prompt_tokens_details=odd, completion_tokens_details=None)
        assert (some.input, some.output, some.cached_read, some.input_audio) == (7, 0, 0, 3)


def test_thinking_that_only_the_total_counts_is_output() -> None:
    counts = {"prompt_tokens": 20, "completion_tokens": 11, "total_tokens": 520}

    def usage(model: str, **more: Any) -> tuple[int, int, int]:
        usage = {**counts, **more}
        counted = completion(chunk(choice({"content": "a"}, "stop"), usage=usage, model=model), DONE).finished.usage
        said = {"content": "a", "role": "assistant"}
        body = {"model": model, "choices": [{"message": said, "finish_reason": "stop"}], "usage": usage}
        plain = OPENAI_CHAT.read_plain(json.dumps(body).encode())
        assert plain is not None
        assert counted == plain.finished.usage
        assert counted is not None
        return counted.input, counted.output, counted.reasoning

    assert usage("gemini-2.5-flash") == (20, 500, 489)
    assert usage("google/gemini-3-pro-preview") == (20, 500, 489)
    assert usage("m") == (20, 11, 0)
    assert usage("gemini-2.5-flash", total_tokens=31) == (20, 11, 0)
    assert usage("gemini-2.5-flash", total_tokens=None) == (20, 11, 0)
    named = {"completion_tokens_details": {"reasoning_tokens": 489}}
    assert usage("gemini-2.5-flash", **named) == (20, 500, 489)


def test_log_probabilities_stay_with_their_words() -> None:
    one, two = ({"content": [{"token": token, "logprob": -1.0}], "refusal": None} for token in "ab")
    frames = [chunk(choice({"content": "a"}, logprobs=one)), chunk(choice({"content": "b"}, logprobs=two))]
    answer = completion(*frames, chunk(choice(reason="stop", logprobs=None)), DONE)
    written = OPENAI_CHAT.write_answer(answer, Request("m", ()))["choices"][0]
    assert [entry["token"] for entry in written["logprobs"]["content"]] == ["a", "b"]


@pytest.mark.parametrize("index", [-1, 1024, 2**70])
def test_a_choice_beyond_all_numbers_is_a_fault(index: int) -> None:
    with pytest.raises(ProtocolError):
        decode(chunk({**choice({"content": "a"}, "stop"), "index": index}), DONE)


def test_malformed_frames_are_counted() -> None:
    decoder = OPENAI_CHAT.decoder()
    decoder.feed(b"data: {oops\n\n" + b"data: 7\n\n" + b": hello\n\n" + b"data: \n\n")
    assert decoder.skipped == 2
    assert decoder.feed(chunk(choice({"content": "a"})))


@pytest.mark.parametrize(
    "members",
    [
        {"content": 5},
        {"tool_calls": {"index": 0}},
        {"tool_calls": [1]},
        {"tool_calls": [{"index": [], "function": {"name": "f"}}]},
        {"refusal": 1},
    ],
)
def test_wrong_types_are_faults(members: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        completion(chunk(choice(members)))


FAILURES = [
    (sse.frame(b'{"error":{"message":"slow down","code":429}}'), RateLimited, "rate_limited"),
    (chunk(choice(reason="error"), error={"code": 502, "message": "gone"}), UpstreamError, "server_error"),
    (chunk(choice(reason="error")), UpstreamError, "server_error"),
    (chunk(choice(reason="abort")), UpstreamError, "broken"),
    (chunk(choice(reason="insufficient_system_resource")), UpstreamError, "overloaded"),
    (chunk(choice(reason="network_error")), UpstreamError, "server_error"),
    (chunk(choice(reason="ERROR")), UpstreamError, "server_error"),
    (chunk(choice(reason="cancelled")), UpstreamError, "broken"),
    (chunk(choice(reason="TIMEOUT")), UpstreamError, "timeout"),
    (chunk(choice(reason="malformed_model_output")), UpstreamError, "server_error"),
    (chunk(choice(reason="function_call_filter: MALFORMED_FUNCTION_CALL")), UpstreamError, "server_error"),
    (chunk({**choice(), "error": {"code": 503, "message": "no"}}), UpstreamError, "overloaded"),
    (sse.frame(b'{"message":"context length exceeded"}', "error"), UpstreamError, "context_too_long"),
    (sse.frame(b"out of order", "error"), UpstreamError, "server_error"),
    (b'error: {"code":400,"message":"exceeds the available context size"}\n\n', UpstreamError, "context_too_long"),
    (sse.frame(b'{"object":"error","message":"bad","code":400}'), UpstreamError, "invalid_request"),
    (sse.frame(b'{"error":"model requires more memory"}'), UpstreamError, "server_error"),
]


@pytest.mark.parametrize(("frame", "kind", "reason"), FAILURES)
def test_failures_in_mid_stream(frame: bytes, kind: type[UpstreamError], reason: str) -> None:
    assert OPENAI_CHAT.telling.search(frame)
    with pytest.raises(kind) as caught:
        decode(chunk(choice({"content": "a"})), frame, DONE)
    assert caught.value.reason == reason
    assert caught.value.message


TELLING = [
    (chunk(choice({"content": '"finish_reason":"stop"', "role": "assistant"}), usage=None), False),
    (chunk(choice({"content": '{"usage": {"error": {}}}: data: [DONE]'}), error=None), False),
    (chunk(choice({"content": "a"})).replace(b"\n", b"\r\n"), False),
    (chunk(choice({"content": "a"})).replace(b"data: ", b"data:"), False),
    (chunk(choice({"content": "a"}, "stop")), True),
    (chunk(choice({"content": "a"}), usage={"prompt_tokens": 1}), True),
    (chunk(choice({"content": "a"}, index=1)), True),
    (chunk(choice(reason="stop")).replace(b": ", b":").replace(b"data:", b"data: "), True),
    (DONE, True),
    (b": hello\n\n", True),
    (b"event: ping\ndata: {}\n\n", True),
    (b"data: oops\n\n", True),
    (b'data: {"a":1}\ndata: {"b":1}\n\n', True),
]


@pytest.mark.parametrize(("frame", "told"), TELLING)
def test_what_is_telling(frame: bytes, told: bool) -> None:
    assert bool(OPENAI_CHAT.telling.search(frame)) is told


def test_a_usage_frame_is_for_those_who_asked() -> None:
    asked = {"stream_options": {"include_usage": True}}
    usage, end = chunk(usage={"prompt_tokens": 1}), chunk(choice(reason="stop"), usage={"prompt_tokens": 1})
    assert OPENAI_CHAT.relay_frame(usage, asked) == usage
    assert OPENAI_CHAT.relay_frame(usage, {}) == b""
    assert OPENAI_CHAT.relay_frame(usage.replace(b"\n", b"\r\n"), {"stream_options": None}) == b""
    for raw in (end, chunk(choice({"content": '"usage"'})), chunk(prompt_filter_results=[], usage=None), DONE):
        assert OPENAI_CHAT.relay_frame(raw, {}) == raw


def frames(request: Request, *events: Event) -> list[dict[str, Any]]:
    """The chunks that a caller is sent, each valid to OpenAI's types."""
    encoder = OPENAI_CHAT.encoder(request)
    cut = sse.Framer().cut(b"".join(encoder.encode(event) for event in events))
    found = [sse.parse(raw).data for raw in cut if raw != DONE]
    for data in found:
        CHUNK.validate_json(data, strict=True)
    return [json.loads(data) for data in found]


def test_the_first_chunk_gives_the_role_and_usage_comes_if_asked() -> None:
    events = (Started(id="x"), Finished("stop", usage=Usage(input=1)))
    quiet = frames(Request("m", ()), *events)
    assert quiet[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [frame["choices"][0]["finish_reason"] for frame in quiet] == [None, "stop"]
    asked = frames(Request("m", (), include_usage=True), *events)
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["prompt_tokens"] == 1


def test_our_tool_events_are_in_our_own_member() -> None:
    told = frames(
        Request("m", ()), Started(), ToolStarted("c", "f"), ToolProgress("c", "half"), ToolEnded("c", error="no")
    )
    assert [frame["penstock"]["event"] for frame in told[1:]] == ["tool_started", "tool_progress", "tool_ended"]
    assert all(frame["choices"][0]["delta"] == {} for frame in told[1:])


def test_callers_of_the_old_time_get_function_calls() -> None:
    request = Request("m", (), tools=(ToolSpec("f", opaque=LEGACY),))
    call_events = (PartStarted(0, "tool_call", "a", "f"), PartDelta(0, "{}"), PartEnded(0))
    told = frames(request, Started(), *call_events, Finished("tool_calls"))
    deltas = [frame["choices"][0]["delta"] for frame in told]
    assert deltas[1:3] == [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}]
    assert told[-1]["choices"][0]["finish_reason"] == "function_call"
    answer = completion(*[sse.frame(json.dumps(frame).encode()) for frame in told], DONE)
    made = answer.message.tool_calls[0]
    assert isinstance(made, ToolCall)
    assert (made.name, made.arguments) == ("f", "{}")
    written = OPENAI_CHAT.write_answer(answer, request)["choices"][0]
    assert written["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert written["finish_reason"] == "function_call"


def test_callers_of_the_old_time_get_one_function_call() -> None:
    request = Request("m", (), tools=(ToolSpec("f", opaque=LEGACY),))
    first = (PartStarted(0, "tool_call", "a", "f"), PartDelta(0, "{}"), PartEnded(0))
    second = (PartStarted(1, "tool_call", "b", "g"), PartDelta(1, '{"a":1}'), PartEnded(1))
    other = (PartStarted(2, "tool_call", "c", "h", choice=1), PartDelta(2, "{}"), PartEnded(2))
    one = frames(request, Started(), *first, *other, Finished("tool_calls"))
    assert frames(request, Started(), *first, *second, *other, Finished("tool_calls")) == one
    answer = assemble((Started(), *first, *second, Finished("tool_calls")))
    written = OPENAI_CHAT.write_answer(answer, request)["choices"][0]
    assert written["message"]["function_call"] == {"name": "f", "arguments": "{}"}


def test_an_error_has_no_sentinel_after_it() -> None:
    written = OPENAI_CHAT.encoder(Request("m", ())).error(BadRequest("no", param="model"))
    assert DONE not in written
    body = {"message": "no", "type": "invalid_request_error", "param": "model", "code": "invalid_request"}
    assert json.loads(sse.parse(written).data) == {"error": body}


def test_foreign_parts_of_others_are_not_said() -> None:
    part = (PartStarted(0, "foreign", opaque={"anthropic_messages": {"type": "x"}}), PartEnded(0))
    assert len(frames(Request("m", ()), Started(), *part)) == 1


def test_sound_is_joined() -> None:
    pieces = [{"audio": {"id": "s", "data": "aa"}}, {"audio": {"data": "bb", "transcript": "hi"}}]
    answer = completion(*[chunk(choice(piece)) for piece in pieces], chunk(choice(reason="stop")), DONE)
    written = OPENAI_CHAT.write_answer(answer, Request("m", ()))["choices"][0]["message"]
    assert written["audio"] == {"id": "s", "data": "aabb", "transcript": "hi"}
    assert OPENAI_CHAT.write_request(Request("m", (answer.message,))).body["messages"][0]["audio"] == {"id": "s"}
