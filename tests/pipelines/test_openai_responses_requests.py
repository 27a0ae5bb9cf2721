"""Requests of the Responses wire: read, written, refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningRequest,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.errors import BadRequest
from tests.strategies import JSON_VALUES, requests

NAME = "openai_responses"

ITEMS: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)

EXPRESSED = (
    "parallel_tool_calls",
    "max_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "service_tier",
    "user",
    "metadata",
    "stream",
)


def read(**fields: Any) -> Request:
    return OPENAI_RESPONSES.read_request({"model": "m", "input": "Hi", **fields})


def again(request: Request) -> Request:
    body = OPENAI_RESPONSES.write_request(request).body
    return OPENAI_RESPONSES.read_request(json.loads(json.dumps(body)))


def said_strictly(request: Request) -> Request:
    """The one thing that changes on the way: tools whose strictness was left open are not strict."""
    fields = {name: getattr(request, name) for name in Request.__struct_fields__}
    tools = tuple(ToolSpec(t.name, t.description, t.schema, bool(t.strict), t.opaque) for t in request.tools)
    return Request(**{**fields, "tools": tools})


@given(
    requests(
        settings=EXPRESSED,
        parts={"audio": False, "reasoning": False, "names": False, "result_errors": False},
    )
)
def test_what_this_wire_expresses_survives_it(request_: Request) -> None:
    assert OPENAI_RESPONSES.write_request(request_).dropped == ()
    assert again(request_) == said_strictly(request_)


def test_what_is_left_out_does_not_split_a_message() -> None:
    parts = (Text("a"), Audio(data="aGk=", format="wav"), Text("b"))
    written = OPENAI_RESPONSES.write_request(Request("m", (Message("user", (Text("x"),)), Message("user", parts))))
    assert [len(item["content"]) for item in written.body["input"]] == [1, 2]
    assert written.dropped == ("messages.audio",)


@given(requests())
def test_any_request_can_be_written_and_nothing_else_is_lost(request_: Request) -> None:
    result = OPENAI_RESPONSES.write_request(request_)
    body = json.loads(json.dumps(result.body))
    assert body["store"] is False
    read_back = OPENAI_RESPONSES.read_request(body)
    lost = set(result.dropped)
    for name in ("stop", "seed", "top_k", "frequency_penalty", "presence_penalty", "logit_bias", "n"):
        assert (name in lost) == (getattr(request_, name) not in (None, ()))
    texts = [m.text for m in request_.messages if m.text]
    assert [m.text for m in read_back.messages if m.text] == texts
    assert len([p for m in read_back.messages for p in m.parts if isinstance(p, ToolCall | ToolResult)]) == len(
        [p for m in request_.messages for p in m.parts if isinstance(p, ToolCall | ToolResult)]
    )


NOTE = {"type": "url_citation", "start_index": 0, "end_index": 1, "title": "t", "url": "u"}

ITEMS_OF_ALL_KINDS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Dev"},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "Look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
            {"type": "input_file", "file_url": "https://e.com/b.pdf"},
        ],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
    {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "phase": "commentary",
        "content": [
            {"type": "output_text", "text": "Hm", "annotations": [NOTE]},
            {"type": "refusal", "refusal": "No"},
        ],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"},
    {"type": "function_call_output", "call_id": "c1", "output": "ok"},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "a"}]},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
]


def test_a_conversation_of_every_item_is_read() -> None:
    request = read(instructions="Be brief.", input=ITEMS_OF_ALL_KINDS)
    system, developer, user, assistant, first, second, custom = request.messages
    assert system == Message("system", (Text("Be brief."),))
    assert developer == Message("developer", (Text("Dev"),))
    assert user.parts == (
        Text("Look"),
        Image(data="AAAA", media_type="image/png", detail="high"),
        Image(opaque={NAME: {"file_id": "file-1"}}),
        File(name="a.pdf", data="BBBB", media_type="application/pdf"),
        File(url="https://e.com/b.pdf"),
    )
    assert assistant.parts == (
        Reasoning(opaque={NAME: {"id": "rs_1", "encrypted_content": "gAAA"}}),
        Text("Hm", {NAME: {"phase": "commentary", "annotations": [NOTE]}}),
        Refusal("No"),
        ToolCall("c1", "f", "{}"),
        Foreign({NAME: {"type": "web_search_call", "id": "ws_1", "status": "completed"}}),
        Foreign({NAME: {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"}}),
    )
    assert first.parts == (ToolResult("c1", (Text("ok"),)),)
    assert second.parts == (ToolResult("c1", (Text("a"),)),)
    assert custom.role == "tool"
    assert again(request) == request


def test_settings_are_read() -> None:
    request = read(
        max_output_tokens=100,
        temperature=1,
        top_logprobs=3,
        include=["message.output_text.logprobs", "file_search_call.results", "reasoning.encrypted_content"],
        reasoning={"effort": "high", "summary": "auto", "context": "all_turns"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
        truncation="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        some_new_field={"a": 1},
        store=True,
        background=False,
        previous_response_id=None,
        models=["x"],
        penstock={"recovery": "continue"},
    )
    assert (request.max_tokens, request.temperature, request.logprobs, request.top_logprobs) == (100, 1, True, 3)
    assert request.reasoning == ReasoningRequest(effort="high", summary="auto")
    assert request.output_format == OutputFormat("json_schema", name="n", schema={"type": "object"})
    assert request.extra == {
        NAME: {
            "truncation": "auto",
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "some_new_field": {"a": 1},
            "text": {"verbosity": "low"},
            "reasoning": {"context": "all_turns"},
            "include": ["file_search_call.results"],
        }
    }
    assert again(request) == request


def test_kinds_of_content_that_are_new_pass_whole() -> None:
    smell = {"type": "input_smell", "smell": "rose"}
    text = {"type": "input_text", "text": "x"}
    items = [
        {"type": "message", "role": "user", "content": [text, smell]},
        {"type": "function_call_output", "call_id": "c", "output": [text, smell]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_smell"}]},
        {"type": "smell_call", "id": "s"},
        {"type": "smell_call_output", "id": "s"},
    ]
    request = read(input=items)
    assert OPENAI_RESPONSES.write_request(request).body["input"] == items
    assert again(request) == request
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert read(input=[{"role": "user", "content": [sound]}]).messages[0].parts == (Audio("AAAA", "wav"),)


def test_tools_and_choices_are_read() -> None:
    search = {"type": "web_search", "filters": {"allowed_domains": ["e.com"]}}
    patch = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
    function = {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object"},
        "strict": True,
        "defer_loading": True,
    }
    request = read(tools=[search, patch, function], tool_choice={"type": "function", "name": "f"})
    assert [tool.name for tool in request.tools] == ["web_search", "apply_patch", "f"]
    assert request.tools[0].opaque == {NAME: search}
    assert request.tools[2] == ToolSpec("f", "", {"type": "object"}, True, {NAME: {"defer_loading": True}})
    assert request.tool_choice == ToolChoice("named", "f")
    assert OPENAI_RESPONSES.write_request(request).body["tools"] == [search, patch, function]
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    assert read(tool_choice=allowed).tool_choice == ToolChoice("required", allowed=("f",))
    for only_here in ({"type": "web_search"}, {**allowed, "tools": [{"type": "mcp", "server_label": "s"}]}):
        request = read(tool_choice=only_here)
        assert request.tool_choice is None
        assert OPENAI_RESPONSES.write_request(request).body["tool_choice"] == only_here


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["x"]}, "input.0"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input.0.content.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input.0.content.0.text"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": 5}]}]},
            "input.0.content.1.type",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input.0.content.0.file_data"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"id": "msg_1"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input.0.output"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"text": ""}]}]},
            "input.0.output.0.type",
        ),
        ({"input": [{"type": "reasoning", "summary": [{}]}]}, "input.0.summary.0.text"),
        ({"instructions": 1}, "instructions"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": "yes"}, "store"),
        ({"stream": 1}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"include": [1]}, "include.0"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools.0.parameters"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": []}}, "tool_choice.mode"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400
    body = OPENAI_RESPONSES.write_error(caught.value)["error"]
    assert (body["param"], body["type"]) == (param, "invalid_request_error")


@given(st.dictionaries(st.sampled_from(["input", "tools", "text", "include", "reasoning"]), JSON_VALUES))
def test_no_body_at_all_makes_the_reader_fail_otherwise(fields: dict[str, Any]) -> None:
    try:
        OPENAI_RESPONSES.read_request({"model": "m", **fields})
    except BadRequest as error:
        assert error.param is not None


@given(st.lists(st.dictionaries(st.sampled_from(["type", "role", "content", "summary", "output"]), JSON_VALUES)))
def test_no_item_at_all_makes_the_reader_fail_otherwise(items: list[Any]) -> None:
    try:
        read(input=items)
    except BadRequest as error:
        assert str(error.param).startswith("input.")


@given(requests(parts={"refusals": False}))
def test_items_are_valid_for_the_vendor(request_: Request) -> None:
    for item in OPENAI_RESPONSES.write_request(request_).body["input"]:
        ITEMS.validate_python(item)
    with pytest.raises(ValueError, match="validation error"):
        ITEMS.validate_python({"type": "function_call", "name": "f"})


def test_relay_changes_only_the_model() -> None:
    body = {"model": "alias", "input": "x", "new": {"a": None}, "models": ["b"], "penstock": {}}
    assert OPENAI_RESPONSES.relay_request(body, "real") == {"model": "real", "input": "x", "new": {"a": None}}
    assert body["model"] == "alias"
    assert OPENAI_RESPONSES.relay_frame(b"data: {}\n\n", body) == b"data: {}\n\n"
