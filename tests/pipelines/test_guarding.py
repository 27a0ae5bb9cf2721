"""Texts as a guardrail is shown them, and other texts in their place, in every dialect."""

import re
from typing import Any

import msgspec
import pytest

from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.dialects import DIALECTS
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.guarding import Said, Unredacted, answered, asked, redacted, rewritten, unreadable

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
    shown = [("system", "user"), *((role, text) for role in ("tool", "user") for text in ("t", "s", "four"))]
    assert asked(before) == [Said(role, text) for role, text in shown]
    after = redacted(before, [one.text.upper() for one in asked(before)])
    assert asked(after) == [Said(role, text.upper()) for role, text in shown]
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
    assert [unreadable(one) for one in (plain, many)] == ["", ""]


@pytest.mark.parametrize(
    ("operation", "body", "shown"),
    [
        ("/embeddings", {"messages": [{"role": "user", "content": "one"}]}, ["one"]),
        ("/embeddings", {"input": [{"content": [{"type": "text", "text": "one"}]}, {"text": "two"}]}, ["one", "two"]),
        ("/embeddings", {"input": {"text": "one", "id": "x"}}, ["one"]),
        ("/completions", {"prompt": ["one", "two"], "suffix": "three", "user": "u"}, ["one", "two", "three"]),
    ],
)
def test_an_operation_s_texts_are_shown_in_every_form(operation: str, body: dict[str, Any], shown: list[str]) -> None:
    before = call("openai_chat", {"model": "m", **body}, operation)
    assert [one.text for one in asked(before)] == shown
    assert unreadable(before) == ""
    after = redacted(before, [text.upper() for text in shown])
    assert [one.text for one in asked(after)] == [text.upper() for text in shown]
    assert after.body["model"] == "m"


@pytest.mark.parametrize(
    ("operation", "body", "member"),
    [
        ("/embeddings", {"input": [[1, 2]]}, "input"),
        ("/embeddings", {"input": ["one", [1, 2]]}, "input"),
        ("/embeddings", {"input": [{"prompt_token_ids": [1]}]}, "input"),
        ("/completions", {"prompt": [1, 2]}, "prompt"),
        ("/completions", {"prompt": "one", "prompt_embeds": "AAAA"}, "prompt_embeds"),
        ("/embeddings", {"input": "one", "dimensions": 8}, ""),
        ("", {"messages": [{"role": "user", "content": "one"}], "n": 1}, ""),
    ],
)
def test_tokens_and_embeddings_are_no_text(operation: str, body: dict[str, Any], member: str) -> None:
    assert unreadable(call("openai_chat", {"model": "m", **body}, operation)) == member


ITEMS: list[dict[str, Any]] = [
    {"type": "shell_call", "call_id": "c", "action": {"commands": ["t1"], "timeout_ms": 5}, "status": "completed"},
    {"type": "shell_call_output", "call_id": "c", "output": [
        {"stdout": "t2", "stderr": "t3", "outcome": {"type": "exit"}}]},
    {"type": "code_interpreter_call", "id": "ci", "code": "t4", "container_id": "k", "outputs": [
        {"type": "logs", "logs": "t5"}]},
    {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "t6"}},
    {"type": "file_search_call", "id": "f", "queries": ["t7"], "results": [
        {"file_id": "x", "filename": "t8", "text": "t9", "attributes": {"id": "t10"}}]},
    {"type": "apply_patch_call", "call_id": "p", "operation": {"type": "update_file", "path": "t11", "diff": "t12"}},
    {"type": "tool_search_call", "call_id": "s", "arguments": {"goal": "t13"}},
    {"type": "mcp_approval_response", "approval_request_id": "r", "approve": False, "reason": "t14"},
    {"type": "compaction", "id": "z", "encrypted_content": "none"},
    {"type": "image_generation_call", "id": "i", "result": "none", "revised_prompt": "t15"},
    {"type": "computer_call_output", "call_id": "o", "output": {
        "type": "s", "image_url": "data:image/png;base64,none"}},
    {"type": "function_call_output", "call_id": "c", "output": [
        {"type": "input_text", "text": "t16"}, {"type": "unknown", "words": "t17"}]},
    {"role": "user", "content": [
        {"type": "input_file", "file_id": "f", "filename": "t18"}, {"type": "unknown", "words": "t19"}]},
]  # fmt: skip

BLOCKS: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "document", "title": "t1", "context": "t2", "source": {
            "type": "text", "media_type": "text/plain", "data": "t3"}},
        {"type": "document", "source": {"type": "content", "content": [
            {"type": "text", "text": "t4"}, {"type": "text", "text": "t5"}]}},
        {"type": "document", "title": "t6", "source": {
            "type": "base64", "media_type": "application/pdf", "data": "none"}},
    ]},
    {"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": "t7"}},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {
            "type": "code_execution_result", "stdout": "t8", "stderr": "t9", "return_code": 0, "content": []}},
        {"type": "web_search_tool_result", "tool_use_id": "w", "content": [
            {"type": "web_search_result", "title": "t10", "url": "t11", "encrypted_content": "none"}]},
        {"type": "text", "text": "t12", "citations": [
            {"type": "char_location", "cited_text": "t13", "document_title": "t14"}]},
        {"type": "thinking", "thinking": "none", "signature": "none"},
        {"type": "tool_use", "id": "u", "name": "f", "input": {"type": "t15"}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "u", "content": [
            {"type": "text", "text": "t16"}, {"type": "unknown", "words": "t17"}, {"type": "text", "text": "t16"}]},
        {"type": "text", "text": "t18", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]},
]  # fmt: skip

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "unknown", "unknown": {"words": "t1", "url": "data:video/mp4;base64,none"}},
        {"type": "file", "file": {"file_id": "f", "filename": "t2"}},
        {"type": "input_audio", "input_audio": {"data": "none", "format": "wav"}}]},
    {"role": "assistant", "content": "t3", "annotations": [
        {"type": "file", "file": {"content": [{"type": "text", "text": "t4"}]}}]},
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "body", "count"),
    [
        ("openai_responses", {"model": "m", "input": ITEMS}, 19),
        ("openai_responses", {"model": "m", "input": "t1", "prompt": {"id": "none", "version": "none", "variables": {
            "id": "t2", "name": {"type": "input_text", "text": "t3"}}}}, 3),
        ("anthropic_messages", {"model": "m", "max_tokens": 5, "messages": BLOCKS}, 18),
        ("openai_chat", {"model": "m", "messages": CHAT, "documents": [{"title": "t5", "text": "t6"}]}, 6),
    ],
)  # fmt: skip
def test_what_no_attribute_stands_for_is_shown_and_can_be_replaced(
    dialect: str, body: dict[str, Any], count: int
) -> None:
    before = call(dialect, body)
    said = [one.text for one in asked(before)]
    for number in range(1, count + 1):
        assert re.search(rf"\bt{number}\b", " ".join(said)), number
    assert not any("none" in text for text in said)
    assert all(re.search(r"\bt\d+\b", text) for text in said), said
    after = redacted(before, [re.sub(r"\bt(\d+)\b", r"T\1", text) for text in said])
    wanted = re.sub(r"\bt(?=\d+\b)", "T", msgspec.json.encode(body).decode())
    assert after.body == msgspec.json.decode(wanted), "nothing else is changed"


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
