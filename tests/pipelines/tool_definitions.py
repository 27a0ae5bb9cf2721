"""The real tool definitions of `../shared/toolspecs`, and a judge of what each provider format takes."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from anthropic.types import ToolParam
from jsonschema import Draft202012Validator
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import TypeAdapter

from tests.recordings import SHARED

FOLDER = SHARED.parent / "toolspecs"
FORMATS = ("openai_chat", "openai_responses", "anthropic_messages")
SPOKEN = (*FORMATS, "ollama_chat")
"""The formats that callers write, and those that providers take."""

present = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/toolspecs is absent")

_TYPES: dict[str, TypeAdapter[Any]] = {
    "openai_chat": TypeAdapter(ChatCompletionFunctionToolParam),
    "openai_responses": TypeAdapter(FunctionToolParam),
    "anthropic_messages": TypeAdapter(ToolParam),
    # Ollama takes the form of a tool that OpenAI has for chat.
    "ollama_chat": TypeAdapter(ChatCompletionFunctionToolParam),
}
_REFUSED = {"anyOf", "oneOf", "allOf"}
_NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_KEY = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")


def toolsets() -> Iterator[list[dict[str, Any]]]:
    """The definitions that stand together, as they are."""
    for path in sorted(FOLDER.glob("*.json")):
        for line in path.read_text().splitlines():
            functions = json.loads(line).get("function")
            if functions:
                yield functions


def offered(definition: dict[str, Any], dialect: str) -> dict[str, Any]:
    """A definition as a caller of `dialect` writes it."""
    name, description, schema = definition["name"], definition["description"], definition["parameters"]
    match dialect:
        case "openai_chat":
            function = {"name": name, "description": description, "parameters": schema}
            return {"type": "function", "function": function}
        case "openai_responses":
            return {"type": "function", "name": name, "description": description, "parameters": schema}
    return {"name": name, "description": description, "input_schema": schema}


def name_and_schema(tool: dict[str, Any], dialect: str) -> tuple[str, dict[str, Any]]:
    """What was sent, after checking it strictly: the vendor's type, JSON Schema, and the format's own rules."""
    _TYPES[dialect].validate_python(tool, strict=True)
    inner = tool.get("function", tool)
    schema = inner["input_schema" if dialect == "anthropic_messages" else "parameters"]
    assert _NAME.match(inner["name"]), inner["name"]
    check_schema(schema, dialect)
    return inner["name"], schema


def check_schema(schema: dict[str, Any], dialect: str) -> None:
    """That `dialect` takes the schema."""
    _check_form(json.dumps(schema))
    assert schema["type"] == "object"
    assert not _REFUSED & schema.keys()
    if dialect == "anthropic_messages":
        assert all(map(_KEY.match, schema.get("properties", {})))
        return
    assert isinstance(schema["properties"], dict)
    assert not {"enum", "const", "not"} & schema.keys()
    for node in nodes(schema):
        assert isinstance(node, dict)
        if dialect == "ollama_chat":
            continue
        kind = node.get("type")
        assert "items" in node or not (kind == "array" or (isinstance(kind, list) and "array" in kind))


@cache
def _check_form(schema: str) -> None:
    """Once for each schema: the vocabulary's own schema is slow to apply."""
    Draft202012Validator.check_schema(json.loads(schema))


def nodes(schema: Any) -> Iterator[Any]:
    """Every schema in a schema, by the keywords that the rules speak of."""
    yield schema
    if not isinstance(schema, dict):
        return
    for key in ("properties", "$defs", "definitions"):
        for inner in schema.get(key, {}).values():
            yield from nodes(inner)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key, []):
            yield from nodes(inner)
    if "items" in schema:
        yield from nodes(schema["items"])


def words(value: Any) -> list[str]:
    """All descriptions, enums and defaults of a schema, whatever its form, as sorted JSON."""
    found: list[str] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("description", "enum", "default") and not (key == "description" and isinstance(inner, dict)):
                found.append(json.dumps([key, inner], sort_keys=True))
            found += words(inner) if key not in ("enum", "default") else []
    elif isinstance(value, list):
        found += [word for inner in value for word in words(inner)]
    return sorted(found)
