"""Texts as a guardrail is shown them, and other texts in their place, in every dialect."""

from typing import Any

import msgspec
import pytest

from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.dialects import DIALECTS
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.guarding import Said, Unredacted, answered, asked, redacted, rewritten

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "model": "m",
        "messages": [
            {"role": "system", "content": "user"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {
                "role": "assistant",
                "content": "three",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "four"},
        ],
        "tools": [TOOL],
        "unknown": {"content": "one"},
    },
    "anthropic_messages": {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "user"}],
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "four"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
    },
    "openai_responses": {
        "model": "m",
        "instructions": "user",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "four"},
        ],
    },
}


def call(dialect: str, body: dict[str, Any], operation: str = "") -> Call:
    request = Request("m", ()) if operation else DIALECTS[dialect].read_request(body)
    return Call("id", dialect, body, request, Caller("k"), "direct", operation=operation)


def test_documents_in_a_tools_result_are_shown_and_can_be_replaced() -> None:
    found = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "four"}]}
    body = {**BODIES["anthropic_messages"], "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "c", "content": [found]}, found]}]}  # fmt: skip
    before = call("anthropic_messages", body)
    assert asked(before) == [Said("system", "user"), Said("tool", "four"), Said("user", "four")]
    after = redacted(before, [one.text.upper() for one in asked(before)])
    assert asked(after) == [Said("system", "USER"), Said("tool", "FOUR"), Said("user", "FOUR")]
    assert "four" not in str(after.body)


@pytest.mark.parametrize("dialect", BODIES)
def test_every_text_is_shown_and_can_be_replaced(dialect: str) -> None:
    before = call(dialect, BODIES[dialect])
    said = asked(before)
    assert {"user", "one", "four"} <= {one.text for one in said}
    assert next(one.role for one in said if one.text == "four") == "tool"
    after = redacted(before, [one.text.upper() for one in said])
    assert [one.text for one in asked(after)] == [one.text.upper() for one in said]
    assert after.body["model"] == "m"
    assert after.body.get("unknown") == BODIES[dialect].get("unknown")
    assert [message.role for message in after.request.messages] == [message.role for message in before.request.messages]
    assert before.body == BODIES[dialect]


def test_what_only_one_dialect_has_is_shown_and_can_be_replaced() -> None:
    items = [
        {"type": "message", "role": "user", "content": "one"},
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "two"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "three"},
        {"type": "local_shell_call_output", "id": "l", "output": "four"},
        {"type": "mcp_call", "id": "m", "server_label": "s", "name": "g", "arguments": "{}", "output": "five"},
    ]
    before = call("openai_responses", {"model": "m", "input": items})
    said = [one.text for one in asked(before)]
    assert said == ["one", "two", "three", "four", "{}", "five"]
    after = redacted(before, ["ONE", "TWO", "THREE", "FOUR", "{}", "FIVE"])
    sent = str(after.body) + str(after.request)
    assert not any(word in sent for word in ("'one'", "'two'", "'three'", "'four'", "'five'"))


def test_a_plain_input_and_operations() -> None:
    plain = call("openai_responses", {"model": "m", "input": "one"})
    assert redacted(plain, ["two"]).body == {"model": "m", "input": "two"}
    many = call("openai_chat", {"model": "m", "input": ["one", "two"]}, "/embeddings")
    assert asked(many) == [Said("user", "one"), Said("user", "two")]
    assert redacted(many, ["x", "two"]).body["input"] == ["x", "two"]
    tokens = call("openai_chat", {"model": "m", "input": [[1, 2]]}, "/embeddings")
    assert asked(tokens) == []


def test_what_cannot_be_done_is_not_half_done() -> None:
    twice = call("openai_chat", {"model": "m", "messages": [{"role": "user", "content": text} for text in ("a", "a")]})
    assert [one.text for one in asked(redacted(twice, ["b", "b"]))] == ["b", "b"]
    for texts in (["b", "c"], ["b"], []):
        with pytest.raises(Unredacted):
            redacted(twice, texts)


EVENTS: list[Event] = [
    Started(model="m", id="i"),
    PartStarted(0, "reasoning"),
    PartDelta(0, "thin"),
    PartDelta(0, "king"),
    PartEnded(0, opaque={"anthropic_messages": {"signature": "s"}}),
    PartStarted(1, "text"),
    PartDelta(1, "some "),
    PartStarted(2, "tool_call", id="c", name="f"),
    PartDelta(2, '{"a":1}'),
    PartDelta(1, "words"),
    PartEnded(1),
    PartEnded(2),
    Finished("tool_calls"),
]


def test_an_answer_s_texts_are_shown_and_replaced_part_by_part() -> None:
    said = answered(EVENTS)
    assert said == [Said("reasoning", "thinking"), Said("assistant", "some words"), Said("tool_call", '{"a":1}')]
    assert rewritten(EVENTS, [one.text for one in said]) == EVENTS
    made = rewritten(EVENTS, ["hidden", "some words", '{"a":2}'])
    assert [one.text for one in answered(made)] == ["hidden", "some words", '{"a":2}']
    assert PartEnded(0) in made, "a signature of other words is none"
    assert assemble(made).message.tool_calls[0].arguments == '{"a":2}'
    with pytest.raises(Unredacted):
        rewritten(EVENTS, ["one"])


def test_a_count_of_tokens_is_a_conversation_too() -> None:
    body = {name: value for name, value in BODIES["anthropic_messages"].items() if name != "max_tokens"}
    before = call("anthropic_messages", body, "/messages/count_tokens")
    assert [one.text for one in asked(before)] == ["user", "one", "{}", "four"]
    after = redacted(before, ["USER", "ONE", "{}", "FOUR"])
    assert "one" not in str(after.body["messages"])
    completion = call("openai_chat", {"model": "m", "prompt": "one", "suffix": "two"}, "/completions")
    assert redacted(completion, ["a", "b"]).body == {"model": "m", "prompt": "a", "suffix": "b"}


@pytest.mark.parametrize("dialect", BODIES)
def test_a_call_s_arguments_are_shown_and_can_be_replaced(dialect: str) -> None:
    text = msgspec.json.encode(BODIES[dialect]).decode()
    body = msgspec.json.decode(
        text.replace('"arguments":"{}"', '"arguments":"{\\"a\\":1}"').replace('"input":{}', '"input":{"a":1}')
    )
    before = call(dialect, body)
    assert Said("tool_call", '{"a":1}') in asked(before)
    after = redacted(before, [one.text.replace("1", "2") for one in asked(before)])
    assert Said("tool_call", '{"a":2}') in asked(after)


def test_arguments_that_are_no_json_cannot_be_anthropics() -> None:
    body = BODIES["anthropic_messages"]
    with pytest.raises(Unredacted):
        redacted(call("anthropic_messages", body), ["user", "one", "no JSON", "four"])
