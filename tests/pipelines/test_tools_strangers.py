"""A stranger's schema runs no regular expression, takes no time, and refuses no call that he would take."""

from typing import Any

import msgspec
import pytest

from pipelines.tools.arguments import Checker, WrongArguments
from pipelines.tools.catalogue import Tool
from pipelines.tools.strangers import DEEPEST, STEPS, Strangers

NEWEST = "https://json-schema.org/draft/2020-12/schema"
EVIL = "^(a+)+$"
LONG = "a" * 60 + "!"
"""Takes EVIL longer than there has been time."""


def read(schema: dict[str, Any], arguments: Any, source: str = "mcp:stranger") -> Any:
    tool = Tool(name="t", description="", schema={"type": "object", **schema}, source=source)
    return Checker().read(tool, msgspec.json.encode(arguments).decode())


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"patternProperties": {EVIL: {}}, "unevaluatedProperties": False}, {LONG: 1}),
        ({"allOf": [{"patternProperties": {EVIL: {}}}], "unevaluatedProperties": False}, {LONG: 1}),
        (
            {
                "$schema": NEWEST,
                "properties": {"name": {"type": "string", "pattern": EVIL}, "child": {"$ref": "#"}},
            },
            {"child": {"name": LONG}},
        ),
        ({"properties": {"n": {"$schema": NEWEST, "type": "string", "pattern": EVIL}}}, {"n": LONG}),
        # What is data by its place is a schema for whoever refers to it.
        (
            {
                "properties": {
                    "a": {"enum": [{"$schema": NEWEST, "pattern": EVIL}]},
                    "b": {"$ref": "#/properties/a/enum/0"},
                }
            },
            {"b": LONG},
        ),
    ],
)
def test_no_way_leads_to_a_regular_expression(schema: dict[str, Any], arguments: Any) -> None:
    assert read(schema, arguments) == arguments


@pytest.mark.parametrize(
    ("schema", "good"),
    [
        ({"properties": {"a": {"not": {"pattern": "^-"}}}}, {"a": "x"}),
        ({"properties": {"a": {"oneOf": [{"pattern": "^x"}, {"pattern": "^y"}]}}}, {"a": "x"}),
        ({"properties": {"a": {"if": {"pattern": "^y"}, "then": {"minLength": 9}}}}, {"a": "x"}),
        ({"properties": {"a": {"contains": {"pattern": "^y"}, "maxContains": 1}}}, {"a": ["y", "x"]}),
        ({"patternProperties": {"^x": {}}, "additionalProperties": {"type": "null"}}, {"x": 1}),
    ],
)
def test_what_a_pattern_would_have_allowed_is_allowed(schema: dict[str, Any], good: Any) -> None:
    assert read(schema, good, "python") == read(schema, good) == good


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"properties": {"a": {"not": {"type": "string"}}}}, {"a": "x"}),
        ({"properties": {"a": {"oneOf": [{"minLength": 1}, {"maxLength": 5}]}}}, {"a": "x"}),
        ({"properties": {"a": {"$schema": NEWEST, "type": "integer"}}}, {"a": "x"}),
        ({"$schema": NEWEST, "properties": {"a": {"pattern": "^x", "type": "integer"}}}, {"a": "x"}),
        ({"properties": {"pattern": {"type": "string"}, "a": {"not": {"const": 1}}}}, {"pattern": "x", "a": 1}),
        ({"additionalProperties": False, "patternProperties": {}}, {"a": 1}),
    ],
)
def test_everything_else_is_checked(schema: dict[str, Any], wrong: Any) -> None:
    with pytest.raises(WrongArguments):
        read(schema, wrong)


def doubling(keyword: str, last: dict[str, Any]) -> dict[str, Any]:
    """Each definition refers to the next one twice: 2 ** 40 ways to the last."""
    steps = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(35)}
    return {"$ref": "#/$defs/d0", "$defs": {**steps, "d35": last}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_check_ends_and_what_was_not_looked_at_is_left_to_the_server(keyword: str) -> None:
    assert read(doubling(keyword, {}), {}) == {}
    with pytest.raises(WrongArguments, match="a: "):
        read({"properties": {"a": {"type": "string"}}, **doubling(keyword, {})}, {"a": 1})


def test_steps_are_those_of_one_check() -> None:
    strangers = Strangers()
    errors = strangers.errors({"type": "object", "properties": {"a": {"items": {"type": "integer"}}}})
    for _ in range(3):
        assert not errors({"a": [1] * (STEPS // 4)})
        assert errors({"a": ["x"]})
    assert not errors({"a": [*[1] * STEPS, "x"]})


@pytest.mark.parametrize("inner", ["not", "if", "allOf", "contains"])
def test_a_schema_without_end_is_left_to_the_server(inner: str) -> None:
    again: Any = {"$ref": "#/$defs/x"}
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {inner: [again, again] if inner == "allOf" else again}}}
    assert read(schema, {}) == {}


def test_deep_arguments_are_checked_as_deep_as_the_stack_allows() -> None:
    tree = {"properties": {"k": {"type": "array", "items": {"$ref": "#"}}}}
    deep: Any = {"k": 1}
    for _ in range(DEEPEST // 3 - 2):
        deep = {"k": [deep]}
    with pytest.raises(WrongArguments, match="k: 1 is not of type"):
        read(tree, deep)
    assert read(tree, {"k": [{"k": [deep]}]})


@pytest.mark.parametrize("source", ["python", "mcp:stranger"])
def test_whatever_a_schema_makes_of_the_check_is_an_answer(source: str) -> None:
    """From every depth of the stack: where it ends within Rust it is a panic, which is no Exception."""
    endless = {"$ref": "#/$defs/x", "$defs": {"x": {"not": {"$ref": "#/$defs/x"}}}}
    unknown = {"properties": {"a": {"enum": [{"type": "unheard"}]}, "b": {"$ref": "#/properties/a/enum/0"}}}

    def deeper(frames: int) -> None:
        if frames:
            return deeper(frames - 1)
        if source == "python":
            with pytest.raises(WrongArguments, match="cannot be called"):
                read(endless, {}, source)
        else:
            read(endless, {}, source)
        with pytest.raises(WrongArguments, match="cannot be followed"):
            read(unknown, {"b": 1}, source)
        return None

    for frames in range(40):
        deeper(frames)
