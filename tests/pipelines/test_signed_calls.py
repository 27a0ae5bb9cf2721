"""Gemini's signatures of tool calls come back to it, whichever dialect the caller speaks, however its stream is cut."""

import json
from typing import Any

import pytest

from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.events import Completion, Event, PartDelta, PartStarted, assemble
from tests.pipelines.chat_wire import DONE, chunk

SCHEMA: dict[str, Json] = {"type": "object", "properties": {"a": {"type": "integer"}}}
QUESTIONS: dict[str, dict[str, Json]] = {
    "anthropic_messages": {
        "model": "m",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Add"}],
        "tools": [{"name": "add", "input_schema": SCHEMA}],
    },
    "openai_responses": {
        "model": "m",
        "input": [{"role": "user", "content": "Add"}],
        "tools": [{"type": "function", "name": "add", "parameters": SCHEMA}],
    },
    "openai_chat": {
        "model": "m",
        "messages": [{"role": "user", "content": "Add"}],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}],
    },
}


def signed(number: int, signature: str | None) -> dict[str, Any]:
    made = {"id": f"call_{number}", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    return {"extra_content": {"google": {"thought_signature": signature}}, **made} if signature else made


def streamed(calls: list[dict[str, Any]]) -> list[Event]:
    """The events of a stream in which each call comes in a chunk of its own."""
    decoder = OPENAI_CHAT.decoder()
    frames = [
        chunk({"index": 0, "delta": {"tool_calls": [{**call, "index": number}]}}) for number, call in enumerate(calls)
    ]
    end = chunk({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    return [event for frame in (*frames, end, DONE) for event in decoder.feed(frame)]


def whole(calls: list[dict[str, Any]]) -> list[Event]:
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {"id": "x", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
    return OPENAI_CHAT.read_answer(json.dumps(body).encode())


def next_question(dialect: str, answer: Completion) -> dict[str, Json]:
    """The caller's next body: the answer as it is, and what the tools said."""
    question = QUESTIONS[dialect]
    said = DIALECTS[dialect].write_answer(answer, DIALECTS[dialect].read_request(question))
    ids = [call.id for call in answer.message.tool_calls]
    if dialect == "openai_responses":
        results = [{"type": "function_call_output", "call_id": identity, "output": "2"} for identity in ids]
        return {**question, "input": [*question["input"], *said["output"], *results]}
    if dialect == "anthropic_messages":
        results = [{"type": "tool_result", "tool_use_id": identity, "content": "2"} for identity in ids]
        turns = [{"role": "assistant", "content": said["content"]}, {"role": "user", "content": results}]
        return {**question, "messages": [*question["messages"], *turns]}
    results = [{"role": "tool", "tool_call_id": identity, "content": "2"} for identity in ids]
    return {**question, "messages": [*question["messages"], said["choices"][0]["message"], *results]}


@pytest.mark.parametrize("dialect", QUESTIONS)
@pytest.mark.parametrize("read", [streamed, whole])
@pytest.mark.parametrize("signatures", [["a"], ["a", None], ["a", "b"], [None, "b"]])
def test_a_signature_comes_back_with_its_call(dialect: str, read: Any, signatures: list[str | None]) -> None:
    calls = [signed(number, signature) for number, signature in enumerate(signatures)]
    body = next_question(dialect, assemble(read(calls)))
    sent = OPENAI_CHAT.write_request(DIALECTS[dialect].read_request(body)).body["messages"]
    back = [{**call, "function": {**call["function"], "arguments": '{"a":1}'}} for call in sent[1]["tool_calls"]]
    assert back == calls
    assert not {"reasoning", "reasoning_content"} & sent[1].keys()


@pytest.mark.parametrize("dialect", ["anthropic_messages", "openai_responses"])
def test_the_signature_reaches_a_streaming_caller_sealed(dialect: str) -> None:
    encoder = DIALECTS[dialect].encoder(DIALECTS[dialect].read_request({**QUESTIONS[dialect], "stream": True}))
    told = b"".join(encoder.encode(event) for event in streamed([signed(0, "EjQK")]))
    assert b"penstock.1." in told
    assert b"EjQK" not in told


def test_a_call_without_one_is_told_without_a_thought() -> None:
    events = streamed([signed(0, None)])
    assert [event.kind for event in events if isinstance(event, PartStarted)] == ["tool_call"]
    assert [event.text for event in events if isinstance(event, PartDelta)] == ['{"a":1}']
