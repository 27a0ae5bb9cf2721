"""Answers that hold calls of tools that ran here, brought back as history; and turns in our own words."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from openai.types.responses.response_output_item import McpCall

from pipelines.calls import Call, Caller
from pipelines.conversation import Request, Text, ToolCall, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.dialects.own_words import OWN_WORDS, body_of
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
from pipelines.exchange import exchange
from tests.pipelines.whole_stream import decoded_by
from tests.strategies import event_streams, requests

RUNS: list[Event] = [
    Started("p", "m", "resp_1"),
    PartStarted(0, "text"),
    PartDelta(0, "let me see"),
    PartEnded(0),
    ToolStarted("a", "git.git_status", '{"x":1}'),
    ToolStarted("b", "echo", "{"),
    ToolProgress("a", "half"),
    ToolEnded("b", "Error: no", "no"),
    ToolEnded("a", "clean"),
    ToolStarted("c", "echo"),
    ToolEnded("c", "again"),
    PartStarted(1, "text"),
    PartDelta(1, "done"),
    PartEnded(1),
    Finished("stop"),
]


def answer(dialect: str) -> dict[str, Any]:
    return DIALECTS[dialect].write_answer(assemble(RUNS), Request("m", ()))


def history(dialect: str) -> dict[str, Any]:
    """A next request that brings the answer back."""
    if dialect == "openai_responses":
        return {"model": "m", "input": ["go", *answer(dialect)["output"], "on"] and [
            {"role": "user", "content": "go"}, *answer(dialect)["output"], {"role": "user", "content": "on"},
        ]}  # fmt: skip
    said = {"role": "assistant", "content": answer(dialect)["content"]}
    turns = [{"role": "user", "content": "go"}, said, {"role": "user", "content": "on"}]
    return {"model": "m", "max_tokens": 9, "messages": turns}


@pytest.mark.parametrize("dialect", ["openai_responses", "anthropic_messages"])
def test_a_history_of_ours_is_calls_and_results(dialect: str) -> None:
    request = DIALECTS[dialect].read_request(history(dialect))

    parts = [part for message in request.messages for part in message.parts]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    results = [part for part in parts if isinstance(part, ToolResult)]
    assert [(call.id, call.name) for call in calls] == [("a", "git.git_status"), ("b", "echo"), ("c", "echo")]
    assert [result.call_id for result in results] == ["a", "b", "c"]
    assert [result.parts[0].text for result in results if isinstance(result.parts[0], Text)] == [
        "clean", "Error: no", "again",
    ]  # fmt: skip
    roles = [message.role for message in request.messages]
    assert roles[0] == roles[-1] == "user"
    assert roles.index("tool") > roles.index("assistant")
    for other in DIALECTS.values():
        assert other.write_request(request).body


@pytest.mark.parametrize("dialect", ["openai_responses", "anthropic_messages"])
def test_a_relayed_history_holds_nothing_that_the_provider_does_not_know(dialect: str) -> None:
    body = history(dialect)
    call = Call("1", dialect, body, DIALECTS[dialect].read_request(body), Caller("k"), "direct")
    sent = str(exchange(call, (dialect,), "m").body)

    assert "mcp_" not in sent
    assert "git_git_status" in sent
    assert "git.git_status" not in sent
    assert call.body is body
    assert "mcp_" in str(body)


def test_somebody_elses_mcp_calls_stay_what_they_are() -> None:
    item = {"type": "mcp_call", "id": "m1", "server_label": "theirs", "name": "f", "arguments": "{}", "output": "x"}
    wire = DIALECTS["openai_responses"]
    body = {"model": "m", "input": [item]}
    assert wire.relay_request(body, "m")["input"] == [item]
    assert wire.read_request(body).messages[0].parts[0].opaque == {"openai_responses": item}  # type: ignore[union-attr]
    block = {"type": "mcp_tool_use", "id": "m1", "server_name": "theirs", "name": "f", "input": {}}
    asked = {"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": [block]}]}
    assert DIALECTS["anthropic_messages"].relay_request(asked, "m")["messages"][0]["content"] == [block]


def test_a_failed_run_is_what_openais_client_reads() -> None:
    failed = answer("openai_responses")["output"][2]
    read = McpCall.model_validate(failed)
    assert (read.name, read.status) == ("echo", "failed")
    assert read.error is not None
    assert read.error.type == "mcp_tool_execution_error"
    assert read.error.content == [{"type": "text", "text": "no"}]


@pytest.mark.parametrize(
    "error",
    [
        "no way",
        {"type": "http_error", "code": 500, "message": "no way"},
        {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no way"}, {"type": "image"}]},
    ],
)
def test_an_error_is_read_in_each_form_that_it_may_have(error: Any) -> None:
    wire = DIALECTS["openai_responses"]
    item = {"type": "mcp_call", "id": "a", "server_label": "penstock", "name": "f", "arguments": "{}", "error": error}
    whole = msgspec.json.encode({"id": "r", "status": "completed", "output": [item]})
    assert [event.error for event in wire.read_answer(whole) if isinstance(event, ToolEnded)] == ["no way"]

    (result,) = wire.read_request({"model": "m", "input": [item]}).messages[-1].parts
    assert isinstance(result, ToolResult)
    assert result.parts == (Text("Error: no way"),)


def test_results_join_those_that_the_caller_brings() -> None:
    block = {"type": "tool_use", "id": "h", "name": "his", "input": {}}
    run = answer("anthropic_messages")["content"][1:3]
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [block, *run]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "h", "content": "his"}]},
    ]
    relayed = DIALECTS["anthropic_messages"].relay_request({"model": "m", "max_tokens": 1, "messages": turns}, "m")

    roles = [message["role"] for message in relayed["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert [one["tool_use_id"] for one in relayed["messages"][2]["content"]] == ["a", "h"]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_broken_histories_are_no_crash(dialect: str) -> None:
    odd: list[Any] = [
        {"type": "mcp_call", "server_label": "penstock"},
        {"type": "mcp_approval_request", "server_label": "penstock"},
        {"type": "mcp_tool_use", "server_name": "penstock"},
        {"type": "mcp_tool_result"},
    ]
    for one in odd:
        for body in ({"input": [one]}, {"messages": [{"role": "assistant", "content": [one]}], "max_tokens": 1}):
            try:
                DIALECTS[dialect].read_request({"model": "m", **body})
            except BadRequest as refused:
                assert refused.param


@given(event_streams())
def test_events_in_our_own_words_are_the_same_events(events: list[Event]) -> None:
    encoder = OWN_WORDS.encoder(Request("m", ()))
    wire = b"".join(map(encoder.encode, events))
    assert decoded_by(OWN_WORDS, [wire[place : place + 7] for place in range(0, len(wire), 7)]) == events
    assert OWN_WORDS.last.search(wire)


@given(requests())
def test_a_request_in_our_own_words_is_the_same_request(request: Request) -> None:
    read = OWN_WORDS.read_request(body_of(request))
    assert read.messages == request.messages
    assert read.tools == request.tools
    assert read.stream


def test_what_goes_wrong_between_our_own_processes() -> None:
    encoder = OWN_WORDS.encoder(Request("m", ()))
    with pytest.raises(RateLimited):
        decoded_by(OWN_WORDS, [encoder.encode(Started()), encoder.error(RateLimited("slow down"))])
    with pytest.raises(StreamBroken):
        decoded_by(OWN_WORDS, [encoder.encode(Started())])
    with pytest.raises(ProtocolError):
        decoded_by(OWN_WORDS, [b'data: {"event":"unknown"}\n\n'])
    with pytest.raises(UpstreamError):
        decoded_by(OWN_WORDS, [b'data: {"error": {"message": "x"}}\n\n'])
    for wrong in ({}, {"model": "m"}, {"model": "m", "request": []}, {"model": "m", "request": {"messages": 1}}):
        with pytest.raises(BadRequest):
            OWN_WORDS.read_request(wrong)


def test_our_own_words_are_no_callers_dialect() -> None:
    assert "penstock" not in DIALECTS
    assert DIALECTS["penstock"] is OWN_WORDS
    with pytest.raises(KeyError):
        DIALECTS["other"]
