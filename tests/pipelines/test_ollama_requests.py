"""What Ollama is sent for a request, by its own documentation, and what is named as lost."""

import json
from typing import Any

import pytest
from hypothesis import given

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Json,
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
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Written
from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.errors import BadRequest
from pipelines.events import Event, assemble
from tests.pipelines.ollama_wire import END, call, decode, line, of_this_wire
from tests.strategies import requests

USER = Message("user", (Text("Hello"),))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PICTURE = Image(data="aGk=", media_type="image/png")


def write(*messages: Message, **settings: Any) -> Written:
    return OLLAMA_CHAT.write_request(Request(**{"model": "m", "messages": messages or (USER,), **settings}))


def sent(*parts: Part, role: Any = "user") -> list[Json]:
    messages: list[Json] = write(Message(role, parts)).body["messages"]
    return messages


def test_the_least_request_says_whether_to_stream() -> None:
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    assert write() == Written({**plain, "stream": False})
    assert write(stream=True) == Written({**plain, "stream": True})


def test_settings_are_options() -> None:
    written = write(
        temperature=0.0,
        top_p=0.5,
        top_k=3,
        seed=0,
        max_tokens=9,
        stop=("a", "b"),
        frequency_penalty=0.1,
        presence_penalty=0.2,
    )
    assert written.dropped == ()
    assert written.body["options"] == {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 0,
        "num_predict": 9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "stop": ["a", "b"],
    }


def test_settings_without_a_place_are_named_where_they_mean_something() -> None:
    lost = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"1": 1.0},
        "service_tier": "flex",
        "user": "ann",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
    }
    assert set(write(**lost).dropped) == set(lost)
    harmless = {"n": 1, "logprobs": False, "service_tier": "auto", "parallel_tool_calls": True}
    assert write(**harmless).dropped == ()
    assert write(extra={"openai_chat": {"logging": 1}}).dropped == ("extra.openai_chat",)


@pytest.mark.parametrize(
    ("asked", "think", "lost"),
    [
        (ReasoningRequest(), True, ()),
        (ReasoningRequest(enabled=False), False, ()),
        (ReasoningRequest(effort="none"), False, ()),
        (ReasoningRequest(effort="low"), "low", ()),
        (ReasoningRequest(effort="high"), "high", ()),
        (ReasoningRequest(effort="minimal"), "low", ("reasoning.effort",)),
        (ReasoningRequest(effort="xhigh"), "high", ("reasoning.effort",)),
        (ReasoningRequest(effort="enormous"), True, ("reasoning.effort",)),
        (ReasoningRequest(budget=5000), "medium", ("reasoning.budget",)),
        (ReasoningRequest(effort="low", summary="auto"), "low", ("reasoning.summary",)),
    ],
)
def test_thinking(asked: ReasoningRequest, think: Any, lost: tuple[str, ...]) -> None:
    written = write(reasoning=asked, model="gpt-oss:20b")
    assert written.body["think"] is think if isinstance(think, bool) else written.body["think"] == think
    assert written.dropped == lost
    # Other models refuse a word.
    plain = write(reasoning=asked, model="qwen3:8b")
    assert plain.body["think"] is (think is not False)
    effort = {"reasoning.effort"} if asked.nearest_effort and think is not False else set()
    assert set(plain.dropped) == effort | (set(lost) - {"reasoning.effort"})
    assert "think" not in write().body


def test_the_form_of_the_answer() -> None:
    assert write(output_format=OutputFormat("json_object")).body["format"] == "json"
    assert write(output_format=OutputFormat("json_schema", "n", schema=SCHEMA, strict=True)).body["format"] == SCHEMA
    assert write(output_format=OutputFormat("json_schema", "n")).body["format"] == "json"
    assert "format" not in write(output_format=OutputFormat("text")).body


def test_tools_and_the_choice_among_them() -> None:
    tools = (ToolSpec("look", "d", SCHEMA), ToolSpec("now"))
    look = {"type": "function", "function": {"name": "look", "description": "d", "parameters": SCHEMA}}

    def offered(choice: ToolChoice | None) -> tuple[list[str], tuple[str, ...]]:
        written = write(tools=tools, tool_choice=choice)
        return [tool["function"]["name"] for tool in written.body.get("tools", ())], written.dropped

    assert write(tools=tools).body["tools"][0] == look
    assert write(tools=tools).body["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert offered(None) == offered(ToolChoice("auto")) == (["look", "now"], ())
    assert offered(ToolChoice("none")) == ([], ())
    assert offered(ToolChoice("auto", allowed=("now",))) == (["now"], ())
    assert offered(ToolChoice("required")) == (["look", "now"], ("tool_choice",))
    assert offered(ToolChoice("named", "look")) == (["look"], ("tool_choice",))
    assert write(tools=(ToolSpec("s", schema=SCHEMA, strict=True),)).dropped == ("tools.strict",)
    search = ToolSpec("web", opaque={"anthropic_messages": {"type": "web_search_20250305"}})
    assert write(tools=(search,)) == Written(write().body, ("tools.web",))


def test_a_turn_with_tools_goes_back_whole() -> None:
    written = write(
        Message("developer", (Text("Be brief"),)),
        USER,
        Message("assistant", (Reasoning("Hm"), Text("I look"), ToolCall("c1", "look", '{"city":"Oslo"}'),
                              ToolCall("c2", "now"), ToolCall("c3", "odd", "{half"))),
        Message("tool", (ToolResult("c1", (Text("rain"), Text("wind")), is_error=True),)),
        Message("tool", (ToolResult("c2", (PICTURE, Text("noon"))), ToolResult("c9", (Text("?"),)))),
        Message("user", (Text("So?"), PICTURE)),
    )  # fmt: skip
    calls = [
        {"id": "c1", "function": {"name": "look", "arguments": {"city": "Oslo"}}},
        {"id": "c2", "function": {"name": "now", "arguments": {}}},
        {"id": "c3", "function": {"name": "odd", "arguments": {"unparsed_arguments": "{half"}}},
    ]
    assert written.body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "I look", "thinking": "Hm", "tool_calls": calls},
        {"role": "tool", "content": "rain\nwind", "tool_name": "look", "tool_call_id": "c1"},
        {"role": "tool", "content": "noon", "tool_name": "now", "tool_call_id": "c2"},
        {"role": "tool", "content": "?", "tool_call_id": "c9"},
        {"role": "user", "content": "", "images": ["aGk="]},
        {"role": "user", "content": "So?", "images": ["aGk="]},
    ]
    assert written.dropped == ("tool_result.is_error",)


def test_pictures_of_a_result_wait_for_the_other_results() -> None:
    results = (ToolResult("a", (PICTURE,)), ToolResult("b", (Text("x"),)))
    apart = write(USER, *(Message("tool", (result,)) for result in results)).body["messages"]
    assert [message["role"] for message in apart] == ["user", "tool", "tool", "user"]
    together = write(USER, Message("user", (*results, Text("Go on")))).body["messages"]
    assert together[1:] == [
        {"role": "tool", "content": "", "tool_call_id": "a"},
        {"role": "tool", "content": "x", "tool_call_id": "b"},
        {"role": "user", "content": "Go on", "images": ["aGk="]},
    ]


def test_parts_without_a_place_are_named() -> None:
    lost: list[tuple[Part, str]] = [
        (Image("https://example.com/a.png"), "image"),
        (File(data="aGk=", media_type="application/pdf"), "file"),
        (Audio("aGk=", "wav"), "audio"),
        (Foreign({"anthropic_messages": {}}), "foreign"),
        (ToolCall("a", "f"), "toolcall"),
        (Reasoning("r"), "reasoning"),
    ]
    for part, name in lost:
        written = write(USER, Message("user", (part,)))
        assert (written.body["messages"], written.dropped) == ([{"role": "user", "content": "Hello"}], (name,))
        with pytest.raises(BadRequest) as raised:
            write(Message("user", (part,)))
        assert raised.value.param == "messages"
    assert write(Message("user", (Text("a"),), name="ann")).dropped == ("messages.name",)
    assert sent(Text("a"), File(text="b")) == [{"role": "user", "content": "a\nb"}]
    assert write(USER, Message("assistant", (Refusal("no"), PICTURE, Reasoning()))).dropped == (
        "refusal", "image", "reasoning"
    )  # fmt: skip


def turn(dialect: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The next request of a caller who was given `answer`."""
    hello = {"role": "user", "content": "Hi"}
    match dialect:
        case "openai_chat":
            return {"model": "m", "messages": [hello, answer["choices"][0]["message"]]}
        case "openai_responses":
            return {"model": "m", "input": [hello, *answer["output"]]}
    said = {"role": "assistant", "content": answer["content"]}
    return {"model": "m", "max_tokens": 9, "messages": [hello, said]}


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_thinking_shown_to_a_caller_comes_back_in_the_next_turn(dialect: str) -> None:
    """Whatever a caller speaks: what he sends back of an answer of Ollama's is what Ollama said."""
    events: list[Event] = decode(line({"thinking": "Hm. 🎈"}), line({"tool_calls": [call("f", {"a": 1}, "c1")]}), END)
    caller = DIALECTS[dialect]
    answer = caller.write_answer(assemble(events), Request("m", ()))
    again = caller.read_request(turn(dialect, json.loads(json.dumps(answer))))
    assert OLLAMA_CHAT.write_request(again).body["messages"][1:] == [
        {"role": "assistant", "content": "", "thinking": "Hm. 🎈",
         "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]}
    ]  # fmt: skip


MEMBERS = {"model": str, "messages": list, "stream": bool, "tools": list, "format": (str, dict), "options": dict,
           "think": (bool, str)}  # fmt: skip
OPTIONS = {"temperature": float, "top_p": float, "top_k": int, "seed": int, "num_predict": int, "stop": list,
           "frequency_penalty": float, "presence_penalty": float}  # fmt: skip
MESSAGE = {"role": str, "content": str, "thinking": str, "images": list, "tool_calls": list, "tool_name": str,
           "tool_call_id": str}  # fmt: skip


def check(members: dict[str, Any], types: dict[str, Any]) -> None:
    for name, value in members.items():
        assert isinstance(value, types[name]), name


@given(requests(parts={"images": False, "files": False, "audio": False}))
def test_every_request_has_the_types_of_the_wire(request: Request) -> None:
    body = OLLAMA_CHAT.write_request(request).body
    check(body, MEMBERS)
    check(body.get("options", {}), OPTIONS)
    assert body.get("think", True) in (True, False, "low", "medium", "high")
    for message in body["messages"]:
        check(message, MESSAGE)
        assert message["role"] in ("system", "user", "assistant", "tool")
        for entry in message.get("tool_calls", ()):
            assert isinstance(entry["function"]["arguments"], dict)


def test_recorded_requests_have_the_same_types() -> None:
    """The judge above knows what real clients send."""
    found = [r.request for r in of_this_wire() if r.request]
    assert found
    for body in found:
        check({k: v for k, v in body.items() if k != "keep_alive"}, MEMBERS)
        for message in body["messages"]:
            check(message, MESSAGE)
