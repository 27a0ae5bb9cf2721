"""Requests of the Anthropic dialect: reading a caller's, writing a provider's, and the two versions."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
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
from pipelines.dialects import WIRES
from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES, BEARER, CLASSIC, for_version
from pipelines.errors import BadRequest
from tests import strategies

NAME = "anthropic_messages"
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming | MessageCreateParamsStreaming)
USER = Message("user", (Text("hi"),))
SAID = strategies.requests(
    settings=("max_tokens", "parallel_tool_calls", "temperature", "top_p", "top_k", "stop", "user", "stream"),
    strict_tools=False,
    allowed_tools=False,
    output_format=False,
    reasoning_request=False,
    parts={
        "leading": ("system",), "audio": False, "reasoning": False, "refusals": False, "names": False,
        "grouped_results": True,
    },
)  # fmt: skip


def read(body: dict[str, Any]) -> Request:
    return ANTHROPIC_MESSAGES.read_request(body)


def write(request: Request) -> dict[str, Any]:
    return ANTHROPIC_MESSAGES.write_request(request).body


def body(*content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": list(content)}], **more}


def normal_part(part: Part) -> Part:
    if isinstance(part, ToolCall):
        same = msgspec.json.encode(msgspec.json.decode(part.arguments)).decode()
        return msgspec.structs.replace(part, arguments=same)
    if isinstance(part, ToolResult):
        said = tuple(inner for inner in part.parts if not isinstance(inner, Text) or inner.text.strip())
        return msgspec.structs.replace(part, parts=said)
    return part


def normal(request: Request) -> Request:
    """What this wire keeps: no text of white space, neighbours of one role as one, a limit, choices only with tools."""
    turns: list[Message] = []
    for message in request.messages:
        parts = tuple(normal_part(part) for part in message.parts if not isinstance(part, Text) or part.text.strip())
        if parts and turns and turns[-1].role == message.role:
            turns[-1] = Message(message.role, turns[-1].parts + parts)
        elif parts:
            turns.append(Message(message.role, parts))
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if not request.tools:
        choice = parallel = None
    elif choice is None:
        choice, parallel = (ToolChoice(), False) if parallel is False else (None, None)
    elif choice.mode == "none":
        parallel = None
    return msgspec.structs.replace(
        request,
        messages=tuple(turns),
        max_tokens=4096 if request.max_tokens is None else request.max_tokens,
        stop=tuple(stop for stop in request.stop if stop.strip()),
        tool_choice=choice,
        parallel_tool_calls=parallel,
    )


@given(SAID)
def test_what_is_written_reads_to_the_same(request: Request) -> None:
    expected = normal(request)
    assume("claude" not in request.model.lower())
    assume(any(message.role != "system" for message in expected.messages))
    assert read(write(request)) == expected


@given(strategies.requests())
def test_every_request_is_valid_by_the_vendors_types_and_alternates(request: Request) -> None:
    try:
        written = write(request)
    except BadRequest:
        assume(False)
    classic = {"temperature", "top_p", "top_k"}
    PARAMS.validate_python({key: value for key, value in written.items() if key not in classic}, strict=True)
    roles = [message["role"] for message in written["messages"]]
    assert all(before != after for before, after in pairwise(roles))
    for message in written["messages"]:
        kinds = [block["type"] for block in message["content"] if isinstance(block, dict)]
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result")


def test_the_check_of_requests_can_fail() -> None:
    good = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    PARAMS.validate_python(good, strict=True)
    for bad in ({**good, "max_tokens": "1"}, {"model": "m", "messages": []}):
        with pytest.raises(ValueError, match="validation error"):
            PARAMS.validate_python(bad, strict=True)


CITED = {"enabled": True}
CLOSED: dict[str, Any] = {"type": "object", "additionalProperties": False}
CACHE = {"cache_control": {"type": "ephemeral"}}
FOUND: dict[str, Any] = {
    "type": "search_result", "source": "https://x/y", "title": "t", "citations": CITED, **CACHE,
    "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
}  # fmt: skip

BLOCKS: list[tuple[dict[str, Any], Part]] = [
    ({"type": "text", "text": "a", **CACHE}, Text("a", {NAME: CACHE})),
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        Image(data="aGk=", media_type="image/png"),
    ),
    ({"type": "image", "source": {"type": "url", "url": "https://x/y"}}, Image(url="https://x/y")),
    (
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        Foreign({NAME: {"type": "image", "source": {"type": "file", "file_id": "file_1"}}}),
    ),
    (
        {
            "type": "document", "title": "t", "context": "c", "citations": CITED,
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
        },
        File("t", data="aGk=", media_type="application/pdf", opaque={NAME: {"context": "c", "citations": CITED}}),
    ),
    (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        File(text="words", media_type="text/plain"),
    ),
    ({"type": "document", "source": {"type": "url", "url": "https://x/y"}}, File(url="https://x/y")),
    ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, File(file_id="file_1")),
    (
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "w"}]}},
        File(text="w", opaque={NAME: {"source": {"type": "content", "content": [{"type": "text", "text": "w"}]}}}),
    ),
    (FOUND, File("t", text="one\ntwo", opaque={NAME: FOUND})),
    ({**FOUND, "content": []}, Foreign({NAME: {**FOUND, "content": []}})),
    ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning("hm", {NAME: {"signature": "s"}})),
    ({"type": "redacted_thinking", "data": "xx"}, Reasoning("", {NAME: {"data": "xx"}})),
    ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}, **CACHE},
        ToolCall("t", "f", '{"a":1}', {NAME: CACHE}),
    ),
    ({"type": "tool_use", "id": "t", "name": "f", "input": {}}, ToolCall("t", "f", "{}")),
    *(
        (block, Foreign({NAME: block}))
        for block in (
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"type": "code_execution_result"}},
            {"type": "mcp_tool_use", "id": "s", "name": "n", "server_name": "x", "input": {}},
            {"type": "container_upload", "file_id": "f"},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("block", "part"), BLOCKS, ids=[str(block["type"]) for block, _ in BLOCKS])
def test_every_kind_of_block_comes_and_goes(block: dict[str, Any], part: Part) -> None:
    first = {"role": "user", "content": "x"}
    asked = {**body(), "messages": [first, {"role": "assistant", "content": [block, {"type": "text", "text": "z"}]}]}
    request = read(asked)
    assert request.messages[1].parts == (part, Text("z"))
    assert write(request)["messages"] == asked["messages"]


RESULTS: list[tuple[Any, tuple[Part, ...]]] = [
    ("x", (Text("x"),)),
    ([{"type": "text", "text": "x"}, BLOCKS[1][0]], (Text("x"), Image(data="aGk=", media_type="image/png"))),
    ([FOUND], (File("t", text="one\ntwo", opaque={NAME: FOUND}),)),
    (None, ()),
]


@pytest.mark.parametrize(("content", "parts"), RESULTS)
def test_tool_results_become_messages_of_their_own_and_go_back(content: Any, parts: tuple[Any, ...]) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "is_error": True, **({"content": content} if content else {})}
    more = {"type": "tool_result", "tool_use_id": "u", "content": "y", **CACHE}
    asked = body(result, more, {"type": "text", "text": "and?"})
    request = read(asked)
    assert [message.role for message in request.messages] == ["tool", "user"]
    assert request.messages[0].parts == (
        ToolResult("t", parts, is_error=True),
        ToolResult("u", (Text("y"),), opaque={NAME: CACHE}),
    )
    assert write(request)["messages"] == asked["messages"]


def test_the_text_of_a_search_result_reaches_other_dialects() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [FOUND]}
    request = read(body(result, FOUND, {"type": "text", "text": "and?"}))
    texts = [{"type": "text", "text": "one\ntwo"}, {"type": "text", "text": "and?"}]
    chat = WIRES["openai_chat"].write_request(request)
    assert chat.body["messages"] == [
        {"role": "tool", "tool_call_id": "t", "content": "one\ntwo"},
        {"role": "user", "content": texts},
    ]
    assert chat.dropped == ("file.anthropic_messages",)
    responses = WIRES["openai_responses"].write_request(request).body["input"]
    assert responses[0]["output"] == "one\ntwo"
    assert responses[1]["content"] == [{**text, "type": "input_text"} for text in texts]
    ollama = WIRES["ollama_chat"].write_request(request).body["messages"]
    assert [message["content"] for message in ollama] == ["one\ntwo", "one\ntwo\nand?"]


def test_a_result_with_blocks_that_no_part_stands_for_is_kept_whole() -> None:
    content = [{"type": "text", "text": "x"}, {"type": "tool_reference", "tool_name": "f"}]
    asked = body({"type": "tool_result", "tool_use_id": "t", "content": content})
    assert read(asked).messages[0].parts[0] == ToolResult("t", (Text("x"),), opaque={NAME: {"content": content}})
    assert write(read(asked))["messages"] == asked["messages"]


def test_settings_come_and_go() -> None:
    asked = body(
        {"type": "text", "text": "hi", **CACHE},
        system=[{"type": "text", "text": "be kind", **CACHE}],
        tools=[
            {"name": "f", "description": "d", "input_schema": CLOSED, "strict": True, **CACHE},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": CLOSED}},
        stop_sequences=["a"], metadata={"user_id": "u"}, service_tier="standard_only", stream=True,
        container="c", mcp_servers=[{"type": "url"}],
    )  # fmt: skip
    request = read(asked)
    assert request.tools[1] == ToolSpec("web_search", opaque={NAME: asked["tools"][1]})
    assert request.tool_choice == ToolChoice("named", "f")
    assert request.parallel_tool_calls is False
    assert request.reasoning == ReasoningRequest(effort="low")
    assert request.service_tier == "default"
    assert request.extra is not None
    assert request.extra[NAME]["container"] == "c"
    written = ANTHROPIC_MESSAGES.write_request(request)
    assert written.dropped == ("reasoning",), "a forced tool choice and thinking do not go together"
    del asked["thinking"]
    assert written.body == asked


def test_thinking_on_and_off_comes_and_goes() -> None:
    for thinking, reasoning in (
        ({"type": "enabled", "budget_tokens": 1500}, ReasoningRequest(budget=1500)),
        ({"type": "disabled"}, ReasoningRequest(enabled=False)),
        ({"type": "between_tools"}, ReasoningRequest(enabled=False)),
    ):
        asked = body({"type": "text", "text": "x"}, thinking=thinking, max_tokens=3000)
        assert read(asked).reasoning == reasoning
        assert write(read(asked))["thinking"] == thinking


def test_the_beta_name_of_the_output_format_is_read() -> None:
    form = {"type": "json_schema", "schema": CLOSED}
    request = read(body(output_format=form))
    assert request.output_format == OutputFormat("json_schema", schema=CLOSED, strict=True)
    assert write(msgspec.structs.replace(request, messages=(USER,)))["output_config"] == {"format": form}


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": 1}, "model"),
    ({"model": "m", "messages": [{"role": "user", "content": "x"}]}, "max_tokens"),
    ({"model": "m", "max_tokens": 1}, "messages"),
    ({"model": "m", "max_tokens": 1, "messages": []}, "messages"),
    ({"model": "m", "max_tokens": 1, "messages": ["x"]}, "messages.0"),
    ({"model": "m", "max_tokens": 1, "messages": [{"content": "x"}]}, "messages.0.role"),
    (body("x", role="robot"), "messages.0.role"),
    ({"model": "m", "max_tokens": 1, "messages": [{"role": "user"}]}, "messages.0.content"),
    (body("x"), "messages.0.content.0"),
    (body({"text": "x"}), "messages.0.content.0.type"),
    (body({"type": "text"}), "messages.0.content.0.text"),
    (body({"type": "text", "text": "x"}, {"type": "image"}), "messages.0.content.1.source"),
    (body({"type": "image", "source": {"type": "base64", "data": "x"}}), "messages.0.content.0.source.media_type"),
    (body({"type": "image", "source": {"type": "carrier pigeon"}}), "messages.0.content.0.source.type"),
    (body({"type": "document", "source": {"type": "content"}}), "messages.0.content.0.source.content"),
    (body({"type": "tool_use", "id": "t", "name": "f", "input": "x"}), "messages.0.content.0.input"),
    (body({"type": "tool_result"}), "messages.0.content.0.tool_use_id"),
    (body({"type": "tool_result", "tool_use_id": "t", "content": [{}]}), "messages.0.content.0.content.0.type"),
    (body({"type": "thinking"}), "messages.0.content.0.thinking"),
    (body({"type": "redacted_thinking"}), "messages.0.content.0.data"),
    (body(system=1), "system"),
    (body(system=[{"type": "image", "source": {"type": "url", "url": "u"}}]), "system.0.type"),
    (body(max_tokens=-1), "max_tokens"),
    (body(max_tokens="1"), "max_tokens"),
    (body(temperature="hot"), "temperature"),
    (body(stop_sequences=[1]), "stop_sequences.0"),
    (body(stream="yes"), "stream"),
    (body(tools={}), "tools"),
    (body(tools=[{"input_schema": {}}]), "tools.0.name"),
    (body(tools=[{"name": "f"}]), "tools.0.input_schema"),
    (body(tool_choice={"type": "perhaps"}), "tool_choice.type"),
    (body(tool_choice={"type": "tool"}), "tool_choice.name"),
    (body(thinking={"type": "enabled"}), "thinking.budget_tokens"),
    (body(thinking={"type": "deep"}), "thinking.type"),
    (body(output_config={"format": {"type": "xml"}}), "output_config.format.type"),
    (body(output_format={"type": "json_schema"}), "output_format.schema"),
    (body(output_config={"effort": 3}), "output_config.effort"),
    (body(metadata={"user_id": 3}), "metadata.user_id"),
]


@pytest.mark.parametrize(("asked", "param"), BAD, ids=[param for _, param in BAD])
def test_bad_requests_name_the_field(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(asked)
    assert caught.value.param == param
    assert param in json.dumps(ANTHROPIC_MESSAGES.write_error(caught.value))


@given(st.dictionaries(st.sampled_from([*body(), "system", "tools", "thinking", "x"]), strategies.JSON_VALUES))
def test_reading_junk_says_so(junk: dict[str, Any]) -> None:
    try:
        read({**body({"type": "text", "text": "x"}), **junk})
    except BadRequest as error:
        blamed = error.param
    else:
        blamed = "nothing"
    assert blamed


def dropped(**values: Any) -> tuple[str, ...]:
    return ANTHROPIC_MESSAGES.write_request(Request("m", (USER,), **values)).dropped


def test_what_this_wire_does_not_have_is_named() -> None:
    assert dropped(
        n=2, seed=1, logprobs=True, top_logprobs=1, frequency_penalty=1.0, presence_penalty=1.0, logit_bias={"1": 1.0},
        metadata={"a": "b"}, service_tier="flex", extra={"openai_chat": {"x": 1}}, temperature=1.5, stop=(" ",),
    ) == (
        "extra.openai_chat", "seed", "n", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs",
        "logit_bias", "metadata", "temperature", "stop", "service_tier",
    )  # fmt: skip
    assert dropped(n=1) == ()
    parts = (Text("a"), Audio(data="x", format="wav"), File(file_id="file-openai"), Foreign({"openai_responses": {}}))
    assistant = Message("assistant", (Reasoning("hm"), Refusal("no")))
    request = Request("m", (Message("user", parts, name="n"), assistant))
    written = ANTHROPIC_MESSAGES.write_request(request)
    assert written.dropped == ("messages.name", "audio", "file", "foreign", "reasoning", "refusal")
    assert written.body["messages"] == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "no"}]


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses", "ollama_chat"])
@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"output_config": {"effort": "low"}}, False),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "adaptive"}}, False),
        ({"output_config": {"effort": "low", "novelty": 1}}, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, True),
        ({"container": "c"}, True),
        ({"container": {}}, True),
    ],
)
def test_an_effort_that_is_used_is_not_named_as_lost(wire: str, more: dict[str, Any], named: bool) -> None:
    request = read(body({"type": "text", "text": "x"}, **more))
    lost = WIRES[wire].write_request(request).dropped
    assert any(NAME in name for name in lost) == named
    assert {name: value for name, value in write(request).items() if name in more} == more


def test_nothing_to_say_is_refused() -> None:
    with pytest.raises(BadRequest):
        write(Request("m", (Message("system", (Text("x"),)), Message("user", (Text(" "),)))))


def test_a_system_message_alone_is_the_users() -> None:
    messages = (Message("system", (Text("a"),)), Message("developer", (Text("b"),)))
    written = ANTHROPIC_MESSAGES.write_request(Request("m", messages))
    assert written.body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    assert written.dropped == ("messages.role",)
    assert "system" not in written.body
    assert write(Request("m", messages[:1]))["messages"] == [{"role": "user", "content": "a"}]
    with pytest.raises(BadRequest):
        write(Request("m", (Message("system", (Text(" "),)),)))


def test_system_messages_wherever_they_stand() -> None:
    late = Message("developer", (Text("c"),))
    messages = (Message("system", (Text("a"),)), Message("developer", (Text("b"),)), USER, late)
    written = ANTHROPIC_MESSAGES.write_request(Request("m", messages))
    assert written.body["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert written.body["messages"][0]["content"][1]["text"] == "<system>\nc\n</system>"
    assert written.dropped == ("messages.role",)


def test_efforts_and_budgets() -> None:
    def asked(limit: int | None, **values: Any) -> dict[str, Any]:
        return write(Request("m", (USER,), max_tokens=limit, reasoning=ReasoningRequest(**values)))

    assert asked(None, effort="low")["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert asked(None, effort="low")["max_tokens"] == 4096 + 2048
    assert asked(100_000, effort="high")["thinking"]["budget_tokens"] == 16384
    assert asked(4000, effort="high")["thinking"]["budget_tokens"] == 2000
    assert asked(None, effort="none")["thinking"] == {"type": "disabled"}
    assert asked(5000, budget=5)["thinking"]["budget_tokens"] == 1024
    assert "thinking" not in asked(2000, effort="high")
    assert dropped(max_tokens=2000, reasoning=ReasoningRequest(effort="high")) == ("reasoning",)
    assert dropped(max_tokens=3000, reasoning=ReasoningRequest(budget=9000)) == ("reasoning.budget",)


def test_what_thinking_does_not_go_together_with() -> None:
    think = ReasoningRequest(effort="low")
    assert dropped(reasoning=think, temperature=0.5, top_k=3, top_p=0.5) == ("temperature", "top_k", "top_p")
    assert dropped(reasoning=think, temperature=1.0, top_p=0.95) == ()
    tools = (ToolSpec("f", schema={}),)
    assert dropped(reasoning=think, tools=tools, tool_choice=ToolChoice("required")) == ("reasoning",)
    assert dropped(reasoning=think, tools=tools, tool_choice=ToolChoice("auto")) == ()
    signed = Reasoning("hm", {NAME: {"signature": "s"}})
    for first, expected in ((signed, ()), (Text("ok"), ("reasoning",))):
        loop = (USER, Message("assistant", (first, ToolCall("t", "f"))), Message("tool", (ToolResult("t"),)))
        assert ANTHROPIC_MESSAGES.write_request(Request("m", loop, tools=tools, reasoning=think)).dropped == expected


STRICT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "holds"),
    [
        (STRICT, True),
        ({**STRICT, "additionalProperties": True}, False),
        ({**STRICT, "properties": {"a": {"type": "integer", "minimum": 1}}}, False),
        ({**STRICT, "properties": {"minimum": {"type": "integer"}}}, True),
        ({**STRICT, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}, False),
        ({**STRICT, "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}, True),
        ({**STRICT, "properties": {"a": {"$ref": "#"}}}, False),
        ({**STRICT, "properties": {"a": {"$ref": "#/properties/a"}}}, False),
        ({**STRICT, "properties": {"a": True}}, False),
        ({"type": "string"}, False),
    ],
)
def test_strictness_only_where_it_holds(schema: dict[str, Any], holds: bool) -> None:
    tool = ToolSpec("f", schema=schema, strict=True)
    written = ANTHROPIC_MESSAGES.write_request(Request("m", (USER,), tools=(tool,)))
    assert written.body["tools"][0].get("strict", False) is holds
    assert written.dropped == (() if holds else ("tools.strict",))
    form = OutputFormat("json_schema", "n", schema=schema, strict=True)
    written = ANTHROPIC_MESSAGES.write_request(Request("m", (USER,), output_format=form))
    assert ("output_config" in written.body) is holds
    assert ("system" in written.body) is not holds
    assert written.dropped == (() if holds else ("output_format",))


def test_allowed_tools_are_the_only_ones_offered() -> None:
    tools = (ToolSpec("f", schema={}), ToolSpec("g", schema={}))
    choice = ToolChoice("required", allowed=("g",))
    written = write(Request("m", (USER,), tools=tools, tool_choice=choice))
    assert [tool["name"] for tool in written["tools"]] == ["g"]
    assert written["tool_choice"] == {"type": "any"}


def test_tool_results_come_first_in_their_turn() -> None:
    messages = (USER, Message("assistant", (ToolCall("t", "f"),)), USER, Message("tool", (ToolResult("t"),)))
    last = write(Request("m", messages))["messages"][-1]
    assert [block["type"] for block in last["content"]] == ["tool_result", "text"]


def test_calls_are_made_fit_for_the_wire() -> None:
    messages = (USER, Message("assistant", (ToolCall("f:0", "f", "{oops"),)), Message("tool", (ToolResult("f:0"),)))
    told = write(Request("m", messages))["messages"]
    assert (
        told[1]["content"][0]["id"]
        == told[2]["content"][0]["tool_use_id"]
        == "call_ebff85250728f0de6847c8bfbac700e7e6a"
    )
    assert told[1]["content"][0]["input"] == {"unparsed_arguments": "{oops"}


def test_relay_takes_out_what_is_ours_and_nothing_else() -> None:
    asked = body({"type": "text", "text": "x"}, models=["a"], penstock={}, brand_new={"x": 1})
    assert ANTHROPIC_MESSAGES.relay_request(asked, "n") == {
        **body({"type": "text", "text": "x"}), "model": "n", "brand_new": {"x": 1},
    }  # fmt: skip
    assert "models" in asked
    assert ANTHROPIC_MESSAGES.relay_frame(b"data: x\n\n", asked) == b"data: x\n\n"


def test_the_classic_version_takes_everything() -> None:
    asked = body({"type": "text", "text": "x", "citations": [{"type": "x"}]}, temperature=0.5)
    assert for_version(asked, CLASSIC) == (asked, ())


def test_the_bearer_version_takes_less() -> None:
    cited = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}
    document = {"type": "document", "title": "t", "source": {"type": "url", "url": "u"}}
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    asked = {
        **body(temperature=0.5, top_p=0.9, top_k=3),
        "messages": [
            {"role": "user", "content": [cited, document, {**cited, "citations": []}]},
            {"role": "assistant", "content": [cited, document, plain]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [cited, plain]}]},
            {"role": "user", "content": "x"},
        ],
    }
    before = json.dumps(asked)
    sent, names = for_version(asked, BEARER)
    assert json.dumps(asked) == before
    assert names == (
        "temperature", "top_p", "top_k", "messages.0.content.0.citations", "messages.1.content.1",
        "messages.1.content.2", "messages.2.content.0.content.0.citations",
    )  # fmt: skip
    assert not {"temperature", "top_p", "top_k"} & sent.keys()
    text = {"type": "text", "text": "x"}
    user, assistant, result, last = (message["content"] for message in sent["messages"])
    assert user == [text, document, {**text, "citations": []}]
    assert assistant == [cited, {"type": "text", "text": "[document: t]"}, {"type": "text", "text": "words"}]
    assert result[0]["content"] == [text, plain]
    assert last == "x"
