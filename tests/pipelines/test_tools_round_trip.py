"""Every real definition through every pair of dialects: valid where it is offered, and called by its own name."""

import json
import re
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Dialect, Wire
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.exchange import Relay, Translation, exchange
from pipelines.tools import portable
from tests.pipelines.ollama_wire import lines
from tests.pipelines.tool_definitions import FORMATS, SPOKEN, name_and_schema, offered, present, toolsets

BEFORE: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "anthropic_messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"input": [{"role": "user", "content": "Hi"}]},
}


def call(dialect: str, tools: list[dict[str, Any]], **more: Any) -> Call:
    body = {"model": "m", "stream": True, **BEFORE[dialect], "tools": tools, **more}
    return Call("1", dialect, body, DIALECTS[dialect].read_request(body), Caller("me"), "direct")


def called(way: Relay | Translation, dialect: str, names: list[str], arguments: list[str]) -> list[tuple[str, str]]:
    """What the caller of `dialect` hears when the provider calls these tools, in pieces of nine characters."""
    events: list[Event] = [Started("p", "m", "i")]
    for index, (name, text) in enumerate(zip(names, arguments, strict=True)):
        events.append(PartStarted(index, "tool_call", f"call_{index}", name))
        events += [PartDelta(index, text[at : at + 9]) for at in range(0, len(text), 9)]
        events.append(PartEnded(index))
    events.append(Finished("tool_calls", "tool_calls"))
    asked = msgspec.structs.replace(DIALECTS[dialect].read_request({"model": "m", **BEFORE[dialect]}), stream=True)
    out = b"".join(map(way.feed, provided(way.dialect, asked, events))) + way.close()
    decoder = DIALECTS[dialect].decoder()
    told = decoder.feed(out) + ([] if decoder.done else decoder.close())
    return [(part.name, part.arguments) for part in assemble(told).message.tool_calls]


def provided(wire: Wire, asked: Request, events: list[Event]) -> list[bytes]:
    """What a provider that speaks `wire` sends."""
    if not isinstance(wire, Dialect):
        return lines(events)
    encoder = wire.encoder(msgspec.structs.replace(asked, include_usage=True))
    return [encoder.encode(event) for event in events]


@present
@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize("dialect", FORMATS)
def test_every_definition_is_valid_there_and_called_by_its_own_name(dialect: str, spoken: str) -> None:
    translated = 0
    for toolset in toolsets():
        way = exchange(call(dialect, [offered(tool, dialect) for tool in toolset]), (spoken,), "m")
        sent = [name_and_schema(tool, spoken) for tool in way.body["tools"]]
        assert len({name for name, _ in sent}) == len(toolset)
        said = [json.dumps(dict.fromkeys(schema["properties"], "x")) for _, schema in sent]
        heard = called(way, dialect, [name for name, _ in sent], said)
        assert [name for name, _ in heard] == [tool["name"] for tool in toolset]
        for (_, text), tool in zip(heard, toolset, strict=True):
            assert json.loads(text) == dict.fromkeys(tool["parameters"]["properties"], "x")
        translated += isinstance(way, Translation)
    assert translated > 500


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
ODD = {
    "name": "math.sin",
    "description": "d",
    "parameters": {"type": "dict", "properties": {"ángulo": {"type": "float"}}},
}
GOOD = {"name": "good", "description": "d", "parameters": SCHEMA}


@pytest.mark.parametrize("dialect", FORMATS)
def test_the_same_dialect_is_relayed_unless_a_tool_is_refused_there(dialect: str) -> None:
    relayed = exchange(call(dialect, [offered(GOOD, dialect)]), (dialect,), "m")
    assert isinstance(relayed, Relay)
    assert relayed.body["tools"] == [offered(GOOD, dialect)]
    odd_name = {**GOOD, "name": "a.b"}
    odd_type = {**GOOD, "parameters": {"type": "object", "properties": {"x": {"type": "float"}}}}
    for odd in (odd_name, odd_type):
        asked = call(dialect, [offered(GOOD, dialect), offered(odd, dialect)], brand_new={"field": 1})
        way = exchange(asked, ("openai_chat", dialect), "m")
        assert isinstance(way, Translation)
        assert way.dialect.name == dialect
        assert way.body["brand_new"] == {"field": 1}


def test_what_speaks_of_a_renamed_argument_is_renamed_too_or_taken_out_and_named() -> None:
    given = {
        "type": "object",
        "properties": {
            "foo bar": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "b": {"$ref": "#/properties/foo%20bar"},
            "c": {"type": "array", "items": {"$ref": "#/properties/foo bar/properties/x"}},
            "d": {"$ref": "#/then/properties/b"},
            "e": {"const": {"$ref": "#/properties/foo%20bar"}},
            "f": {"$ref": "#/properties/b"},
        },
        "required": ["foo bar"],
        "propertyNames": {"enum": ["foo bar", "b"]},
        "dependentRequired": {"foo bar": ["b"]},
        "dependentSchemas": {"foo bar": {"required": ["b"]}},
        "if": {"required": ["foo bar"]},
        "then": {"properties": {"b": {"type": "object"}}},
        "else": {"required": ["b"]},
        "not": {"required": ["foo bar", "c"]},
    }
    asked = call("openai_chat", [offered({"name": "t", "description": "d", "parameters": given}, "openai_chat")])
    way = exchange(asked, ("anthropic_messages",), "m")
    sent = way.body["tools"][0]["input_schema"]
    safe = next(iter(sent["properties"]))
    assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", safe)
    assert sent == {
        "type": "object",
        "properties": {
            safe: given["properties"]["foo bar"],  # type: ignore[index]
            "b": {"$ref": f"#/properties/{safe}"},
            "c": {"type": "array", "items": {"$ref": f"#/properties/{safe}/properties/x"}},
            "d": {},
            "e": {"const": {"$ref": "#/properties/foo%20bar"}},
            "f": {"$ref": "#/properties/b"},
        },
        "required": [safe],
    }
    words = ("propertyNames", "dependentRequired", "dependentSchemas", "if", "then", "else", "not", "properties.d.$ref")
    assert way.dropped == tuple(f"tools.t.{word}" for word in words)
    Draft202012Validator.check_schema(sent)


def test_choice_history_and_arguments_go_under_the_sent_names() -> None:
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "math.sin", "arguments": '{"ángulo": 1.50}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "0.99"},
    ]  # fmt: skip
    choice = {"type": "function", "function": {"name": "math.sin"}}
    asked = call("openai_chat", [offered(ODD, "openai_chat")], messages=history, tool_choice=choice)
    body = exchange(asked, ("anthropic_messages",), "m").body
    assert body["tools"][0]["name"] == "math_sin"
    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {"angulo": {"type": "number"}}}
    assert body["tool_choice"]["name"] == "math_sin"
    used = body["messages"][1]["content"][0]
    assert (used["name"], used["input"]) == ("math_sin", {"angulo": 1.5})
    chat = exchange(asked, ("openai_chat",), "m").body
    assert chat["messages"][1]["tool_calls"][0]["function"] == {"name": "math_sin", "arguments": '{"ángulo": 1.50}'}
    assert chat["tool_choice"]["function"]["name"] == "math_sin"


def test_a_whole_answer_has_the_own_names_too() -> None:
    asked = call("openai_chat", [offered(ODD, "openai_chat")], stream=False)
    way = exchange(asked, ("anthropic_messages",), "m")
    answer = {"id": "i", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
              "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
              "content": [{"type": "tool_use", "id": "t", "name": "math_sin", "input": {"angulo": 2}}]}  # fmt: skip
    told = msgspec.json.decode(way.whole(msgspec.json.encode(answer)))
    assert told["choices"][0]["message"]["tool_calls"][0]["function"] == {
        "name": "math.sin", "arguments": '{"ángulo":2}'
    }  # fmt: skip


def test_provider_side_tools_keep_their_names() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    way = exchange(call("anthropic_messages", [search, offered({**GOOD, "name": "web.search"}, "anthropic_messages")]),
                   ("anthropic_messages",), "m")  # fmt: skip
    assert way.body["tools"][0] == search
    assert way.body["tools"][1]["name"] != "web_search"
    assert isinstance(exchange(call("anthropic_messages", [search]), ("anthropic_messages",), "m"), Relay)


def test_a_choice_among_functions_and_the_providers_own_tools_names_what_is_sent() -> None:
    tools = [offered({**GOOD, "name": "a.b"}, "openai_responses"), {"type": "web_search"}]
    entries = [{"type": "function", "name": "a.b"}, {"type": "web_search"}]
    asked = call("openai_responses", tools, tool_choice={"type": "allowed_tools", "mode": "auto", "tools": entries})
    choice = exchange(asked, ("openai_responses",), "m").body["tool_choice"]
    assert choice["tools"] == [{"type": "function", "name": "a_b"}, {"type": "web_search"}]


def test_strict_is_taken_off_and_named_where_it_cannot_be_held() -> None:
    closed = {**SCHEMA, "additionalProperties": False}
    tools = [
        {"type": "function", "function": {"name": "held", "parameters": closed, "strict": True}},
        {"type": "function", "function": {"name": "loose", "parameters": SCHEMA, "strict": True}},
    ]
    for spoken in ("openai_responses", "anthropic_messages"):
        way = exchange(call("openai_chat", tools), (spoken,), "m")
        assert [bool(tool.get("strict")) for tool in way.body["tools"]] == [True, False]
        assert way.dropped == ("tools.loose.strict",)
        assert way.body["tools"][1].get("parameters", way.body["tools"][1].get("input_schema")) == SCHEMA


def test_anthropic_takes_twenty_strict_tools() -> None:
    closed = {**SCHEMA, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": f"t{number}", "parameters": closed, "strict": True}}
             for number in range(25)]  # fmt: skip
    request = call("openai_chat", tools).request
    assert sum(bool(tool.strict) for tool in portable(request, "anthropic_messages").request.tools) == 20
    assert sum(bool(tool.strict) for tool in portable(request, "openai_responses").request.tools) == 25


def test_a_tool_without_a_schema_takes_no_arguments() -> None:
    asked = call("openai_chat", [{"type": "function", "function": {"name": "now"}}])
    assert exchange(asked, ("anthropic_messages",), "m").body["tools"][0]["input_schema"]["type"] == "object"
    assert exchange(asked, ("openai_responses",), "m").body["tools"][0]["parameters"]["type"] == "object"


def test_a_request_without_tools_is_left_alone() -> None:
    request = DIALECTS["openai_chat"].read_request({"model": "m", **BEFORE["openai_chat"]})
    assert portable(request, "anthropic_messages").request is request
