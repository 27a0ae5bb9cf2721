"""Schemas whose references lead from union to union in more ways than can be followed: little work, and a result."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.conversation import Request, ToolSpec
from pipelines.tools.formats import FORMATS, PLAIN
from pipelines.tools.portable import portable
from pipelines.tools.schemas import convert
from pipelines.tools.strictness import holds_strictly
from pipelines.tools.type_words import read_type

LEAVES = {"object": {"type": "object", "properties": {"z": {"type": "string"}}}, "string": {"type": "string"}}


def chain(levels: int, leaf: Any, union: str, width: int = 3, **top: Any) -> dict[str, Any]:
    """A schema of `levels` definitions, each of them `width` times the next one: width ** levels ways to the leaf."""
    definitions = {f"a{n}": {union: [{"$ref": f"#/$defs/a{n + 1}"}] * width} for n in range(levels)}
    return {**top, union: [{"$ref": "#/$defs/a0"}], "$defs": {**definitions, f"a{levels}": leaf}}


def seconds(act: Callable[[str], object]) -> float:
    """CPU time of `act`, the best of three. It is called with different words, as results are remembered."""
    taken = []
    for word in ("one", "two", "three"):
        began = time.process_time()
        act(word)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("union", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("top", [{}, {"type": "object"}])
def test_unions_are_followed_for_a_time_that_grows_with_the_schema(
    format_name: str, union: str, leaf: str, top: dict[str, Any]
) -> None:
    def follow(levels: int) -> float:
        return seconds(lambda word: convert(chain(levels, LEAVES[leaf], union, **top, title=word), format_name))

    assert follow(12) < 100 * max(follow(3), 0.0005)
    assert convert(chain(40, LEAVES[leaf], union, **top), format_name).schema["type"] == "object"


@pytest.mark.parametrize("union", ["allOf", "anyOf", "oneOf"])
def test_what_leads_back_to_itself_ends(union: str) -> None:
    back = [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]
    for schema in ({union: back}, {"type": "object", "properties": {"a": {"type": "string"}}, union: back}):
        found = convert(schema, "openai_chat")
        assert found.schema["type"] == "object"
        assert union in found.dropped


def test_what_cannot_be_followed_is_left_out_and_named_and_the_rest_stays() -> None:
    schema = chain(12, LEAVES["object"], "anyOf", type="object", properties={"own": {"type": "string"}})
    found = convert(schema, "openai_chat")
    assert found.dropped == ("anyOf",)
    assert found.schema == {key: value for key, value in schema.items() if key != "anyOf"}
    assert convert(schema, PLAIN) == (schema, ())


def test_what_is_joined_is_no_more_than_some_times_the_schema() -> None:
    """Each level's `z` holds the next one's twice: the whole of it would have 2 ** levels leaves."""
    definitions: dict[str, Any] = {
        f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, own]}]}
        for n in range(12)
        for own in [{"type": "object", "properties": {"z": {"description": f"{n}" * 400}}}]
    }
    definitions["a12"] = LEAVES["object"]
    schema = {"type": "object", "anyOf": [{"$ref": "#/$defs/a0"}], "$defs": definitions}
    assert len(str(convert(schema, "openai_chat").schema)) < 30 * len(str(schema))


def test_real_unions_are_still_joined() -> None:
    base = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(20)}}
    branches = [{"allOf": [{"$ref": "#/$defs/base"}, {"properties": {f"q{n}": {"type": "string"}}}]} for n in range(15)]
    found = convert({"type": "object", "oneOf": branches, "$defs": {"base": base}}, "openai_chat")
    assert found.dropped == ("oneOf",)
    assert len(found.schema["properties"]) == 35


def test_references_are_looked_at_once_for_what_strict_mode_holds() -> None:
    leaf = {"type": "object", "properties": {}, "additionalProperties": False}

    def look(levels: int) -> float:
        inner = chain(levels, leaf, "anyOf")
        schema = {**leaf, "properties": {"a": {"anyOf": inner["anyOf"]}}, "$defs": inner["$defs"]}
        assert holds_strictly(schema, "anthropic_messages")
        return seconds(lambda _: holds_strictly(schema, "anthropic_messages"))

    assert look(12) < 100 * max(look(3), 0.0005)


def test_strict_mode_holds_nothing_deeper_than_its_limit_by_whatever_way() -> None:
    leaf = {"type": "object", "properties": {}, "additionalProperties": False}
    inner = chain(14, leaf, "anyOf", width=1)
    deep: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/a0"}]}
    schema = {**leaf, "properties": {"a": {"$ref": "#/$defs/a0"}, "b": deep}, "$defs": inner["$defs"]}
    assert holds_strictly(schema, "anthropic_messages")
    for _ in range(4):
        deep = {"anyOf": [deep]}
    schema["properties"]["b"] = deep
    assert not holds_strictly(schema, "anthropic_messages")


@pytest.mark.parametrize(
    "word",
    [
        lambda length: "a" + " " * length + "b",
        lambda length: "a " * length + "b",
        lambda length: "|".join(f"literal[{n}]" for n in range(length)),
    ],
)
def test_the_name_of_a_type_is_read_for_a_time_that_grows_with_it(word: Callable[[int], str]) -> None:
    def read(length: int) -> float:
        return seconds(lambda _: read_type(word(length)))

    # 16 times the word: 256 times the time, where each place of it is looked at from every other one.
    assert read(6_400) < 64 * max(read(400), 0.0001)


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_is_no_schema_in_a_strict_tool_may_be_anything(format_name: str) -> None:
    nested: Any = 1
    for _ in range(900):
        nested = [nested]
    for odd in ({"required": [["x"]], "properties": {}}, {"required": 5, "properties": {"a": 1}}, nested):
        for schema in ({"default": odd}, {"x-more": odd}, {"properties": {"a": {"enum": [odd]}}}):
            tool = ToolSpec(name="t", schema={"type": "object", **schema}, strict=True)
            assert portable(Request(model="m", messages=(), tools=(tool,)), format_name).request.tools[0].name == "t"
