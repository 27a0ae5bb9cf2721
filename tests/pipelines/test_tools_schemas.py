"""Schemas: whatever a definition holds becomes what a format takes, and what was right stays untouched."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError

from pipelines.tools import convert, holds_strictly
from pipelines.tools.formats import PLAIN
from pipelines.tools.type_words import read_type
from tests.pipelines.tool_definitions import SPOKEN, check_schema, present, toolsets, words

CHAT, ANTHROPIC = "openai_chat", "anthropic_messages"

_WORDS = ["string", "dict", "float", "any", "tuple", "HashMap", "List[int]", "Widget", "int|null", "object", "array"]
_KEYS = [
    "type", "properties", "required", "items", "enum", "anyOf", "oneOf", "allOf", "not", "description", "default",
    "minimum", "exclusiveMinimum", "minLength", "additionalProperties", "$ref", "$defs", "prefixItems",
    "uniqueItems", "title", "a", "const", "if", "dependencies", "dependentRequired", "$id", "$anchor", "multipleOf",
    "additionalItems", "dependentSchemas", "examples", "format", "patternProperties",
]  # fmt: skip
_leaves = st.one_of(
    st.sampled_from(_WORDS), st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2),
    st.sampled_from(["#", "#/$defs/a", "#/properties/a", "https://evil.example/s.json", "true", "3", "a"]),
)  # fmt: skip
anything = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=25,
)


def test_the_judge_finds_fault() -> None:
    for wrong in ({"type": "dict"}, {"type": "object", "properties": {"a": {"required": True}}}):
        with pytest.raises(SchemaError):
            Draft202012Validator.check_schema(wrong)


@settings(max_examples=400, deadline=None)
@given(anything, st.sampled_from(SPOKEN))
def test_anything_becomes_what_the_format_takes_and_then_stays(schema: Any, dialect: str) -> None:
    before = copy.deepcopy(schema)
    converted, _ = convert(schema, dialect)
    assert schema == before
    assert isinstance(converted, dict)
    if dialect == ANTHROPIC:
        Draft202012Validator.check_schema(converted)
        assert converted["type"] == "object"
    else:
        check_schema(converted, dialect)
    again = convert(converted, dialect)
    assert again.schema is converted
    assert again.dropped == ()
    assert "evil.example" not in str(_references(converted))


def _references(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for key, inner in value.items() if key not in ("default", "enum", "const", "examples", "a")
                      for ref in _references(inner)]  # fmt: skip
    return [ref for inner in value for ref in _references(inner)] if isinstance(value, list) else []


@present
@pytest.mark.parametrize("dialect", SPOKEN)
def test_every_real_schema_keeps_its_words(dialect: str) -> None:
    count = 0
    for toolset in toolsets():
        for definition in toolset:
            schema, dropped = convert(definition["parameters"], dialect)
            assert words(schema) == words(definition["parameters"])
            assert dropped == ()
            assert [*schema["properties"]] == [*definition["parameters"]["properties"]]
            count += 1
    assert count > 800


VALID: list[dict[str, Any]] = [
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {"type": ["string", "null"], "default": None, "x-n": [1]}}, "required": []},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "A"}}},
    {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {
        "N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}, "additionalProperties": False},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {
        "a": {"type": "array", "items": {"oneOf": [{"const": 1}, {"enum": ["x"]}]}, "minItems": 1}}},
    {"type": "object", "properties": {"type": {"type": "string"}, "required": {"type": "boolean"}, "$ref": {}}},
    {"type": "object", "properties": {"a": {"definitions": {}, "not": {"type": "null"}, "if": {}, "nullable": True}}},
]  # fmt: skip


@pytest.mark.parametrize("dialect", SPOKEN)
@pytest.mark.parametrize("schema", VALID)
def test_a_valid_schema_is_not_touched(schema: dict[str, Any], dialect: str) -> None:
    assert convert(schema, dialect).schema is schema


def prop(schema: Any, dialect: str = CHAT) -> Any:
    """What becomes of the property `a`."""
    return convert({"type": "object", "properties": {"a": schema}}, dialect).schema["properties"]["a"]


@pytest.mark.parametrize(
    ("given_schema", "expected"),
    [
        ({"type": "dict"}, {"type": "object"}),
        ({"type": "any", "default": 3}, {"default": 3}),
        ({"type": "tuple", "items": [{"type": "int"}, "str"]},
         {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {}}),
        ({"type": ["float", "None"]}, {"type": ["number", "null"]}),
        ({"type": "ArrayList", "items": {"type": "String"}}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "Map<String, List<Integer>>"},
         {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}),
        ({"type": {"type": "string", "description": "d"}}, {"type": "string", "description": "d"}),
        ({"type": "integer", "minimum": "3", "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 3}),
        ({"enum": ["a", "a", "b"]}, {"enum": ["a", "b"]}),
        (True, {}),
        (False, {"not": {}}),
        ("float", {"type": "number"}),
        ("how many", {"description": "how many"}),
    ],
)  # fmt: skip
def test_odd_schemas_mean_what_was_meant(given_schema: Any, expected: Any) -> None:
    assert prop(given_schema) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("java.util.List<String>", {"type": "array", "items": {"type": "string"}}),
        ("Optional[int]", {"type": ["integer", "null"]}),
        ("Union[str, List[float]]", {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]}),
        ("string[]", {"type": "array", "items": {"type": "string"}}),
        ("number | null", {"type": ["number", "null"]}),
        ("list | int or list", {"type": ["array", "integer"]}),
        ("Tuple[int, str]", {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        ("Literal['a', 'b']", {"enum": ["a", "b"]}),
        ("varchar(255)", {"type": "string"}),
        ("Date", {"type": "string", "format": "date"}),
        ("STRING", {"type": "string"}),
        ("str, optional", {"type": "string"}),
        (
            "List[List[str]], optional, default: [1, 2]",
            {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        ),
        ("int, default=100", {"type": "integer"}),
        ("float , Defaults to 1 or 2", {"type": "number"}),
        ("int or None, required", {"type": ["integer", "null"]}),
        ("Dict[str, int] (optional, 'a')", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("Optional[bool], optional", {"type": ["boolean", "null"]}),
        ("string (optional)", {"type": "string"}),
        ("optional", None),
        ("str, Widget", None),
        ("Widget, optional", None),
        ("Widget", None),
        ("List[" * 40, None),
    ],
)
def test_type_names_of_languages(word: str, expected: Any) -> None:
    assert read_type(word) == expected


def test_required_in_odd_places_is_found() -> None:
    schema, dropped = convert(
        {"type": "object", "required": "b", "properties": {
            "a": {"type": "string", "required": True}, "b": {"type": "string", "required": "false"}, "required": ["c"],
            "c": {}}},
        CHAT,
    )  # fmt: skip
    assert sorted(schema["required"]) == ["a", "b", "c"]
    assert [*schema["properties"]] == ["a", "b", "c"]
    assert dropped == ()


def test_a_reference_out_of_the_schema_is_taken_out_and_named() -> None:
    schema, dropped = convert(
        {"type": "object", "properties": {
            "a": {"$ref": "https://example.com/s.json", "description": "kept"}, "b": {"$ref": "#/$defs/none"}}},
        CHAT,
    )  # fmt: skip
    assert schema["properties"] == {"a": {"description": "kept"}, "b": {}}
    assert dropped == ("properties.a.$ref", "properties.b.$ref")


def test_a_reference_at_the_top_is_followed() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema, dropped = convert({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, CHAT)
    assert schema["properties"] == {"next": {"$ref": "#/$defs/Node"}}
    assert schema["$defs"]["Node"] == node
    assert dropped == ()


def test_a_union_at_the_top_becomes_one_object_and_is_named() -> None:
    by_name = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "n": {"const": 1}},
        "required": ["name", "n"],
    }
    by_id = {"properties": {"id": {"type": "integer"}, "n": {"const": 2}}, "required": ["id", "n"], "description": "Id"}
    for dialect in SPOKEN:
        schema, dropped = convert({"anyOf": [by_name, by_id, {"type": "null"}], "description": "Who"}, dialect)
        assert schema["properties"] == {
            "name": {"type": "string"}, "n": {"anyOf": [{"const": 1}, {"const": 2}]}, "id": {"type": "integer"}
        }  # fmt: skip
        assert schema["required"] == ["n"]
        assert schema["description"] == "Who\nId"
        assert dropped == ("anyOf",)
    both, dropped = convert({"allOf": [by_name, by_id]}, CHAT)
    assert sorted(both["required"]) == ["id", "n", "name"]
    assert dropped == ()


def test_what_branches_say_differently_is_named_and_no_condition_is_mixed() -> None:
    def condition(word: str, **more: Any) -> dict[str, Any]:
        return {"if": {"properties": {"k": {"const": word}}}, "then": {"required": [word]}, **more}

    first, second = condition("a"), condition("b", **{"else": {"required": ["c"]}})
    both, dropped = convert({"allOf": [first, second, {"minProperties": 2}, {"minProperties": 3}]}, CHAT)
    assert {key: both[key] for key in ("if", "then")} == first
    assert "else" not in both
    assert both["minProperties"] == 2
    assert dropped == ("if", "then", "else", "minProperties")
    assert convert({"allOf": [first, first]}, CHAT) == ({**first, "type": "object", "properties": {}}, ())


def test_what_is_no_object_becomes_an_argument() -> None:
    schema, dropped = convert({"type": "array", "items": {"$ref": "#/$defs/I"}, "$defs": {"I": {"type": "int"}}}, CHAT)
    assert schema["properties"] == {"value": {"type": "array", "items": {"$ref": "#/$defs/I"}}}
    assert schema["required"] == ["value"]
    assert schema["$defs"] == {"I": {"type": "integer"}}
    assert dropped == ("type",)
    for word in ("str", "string"):
        assert convert({"city": {"type": word}}, CHAT).schema["properties"] == {"city": {"type": "string"}}


@pytest.mark.parametrize("dialect", SPOKEN)
@pytest.mark.parametrize(
    "name", ["type", "title", "description", "items", "required", "enum", "properties", "not", "$ref", "const", "anyOf"]
)
def test_arguments_that_are_called_like_keywords_are_arguments(name: str, dialect: str) -> None:
    given = {name: {"type": "str, optional", "description": "d", "default": ""}, "q": {"type": "List[int]"}}
    schema, dropped = convert(given, dialect)
    assert (schema["type"], dropped) == ("object", ())
    text = {"type": "string", "description": "d", "default": ""}
    assert schema["properties"] == {name: text, "q": {"type": "array", "items": {"type": "integer"}}}
    assert "required" not in schema
    if name not in ("items", "not", "properties"):
        assert convert({name: {"type": "str"}}, dialect).schema["properties"] == {name: {"type": "string"}}


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"type": "string"}},
        {"not": {"type": "string"}},
        {"properties": {"type": "string"}},
        {"properties": {"type": "string", "q": "string"}, "additionalProperties": {"type": "integer"}},
        {"if": {"type": "object"}, "then": {"type": "object"}},
        {"type": {"type": "object"}, "properties": {"a": {"type": "string"}}},
    ],
)
def test_what_may_be_a_schema_is_one(schema: dict[str, Any]) -> None:
    found = convert(schema, PLAIN).schema
    assert schema.keys() - {"type"} <= found.keys() | found.get("properties", {}).get("value", {}).keys()


def test_a_schema_without_a_bottom_ends() -> None:
    schema: Any = {}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    converted, dropped = convert({"type": "object", "properties": {"a": schema}}, CHAT)
    assert converted["type"] == "object"
    assert len(dropped) == 1


STRICT = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}}, "required": ["a", "b"],
          "additionalProperties": False, "$defs": {"B": {"type": "integer"}}}  # fmt: skip


def changed(**more: Any) -> dict[str, Any]:
    return {**STRICT, **more}


def with_property(**more: Any) -> dict[str, Any]:
    return changed(properties={**STRICT["properties"], "a": {"type": "string", **more}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("schema", "openai", "anthropic"),
    [
        (STRICT, True, True),
        (changed(required=["a"]), False, True),
        (changed(additionalProperties=True), False, False),
        (with_property(default="x"), False, True),
        (with_property(minLength=1), False, False),
        (with_property(format="email", description="d"), True, True),
        (with_property(format="color"), False, False),
        (with_property(pattern="^a(?=b)"), False, False),
        (with_property(type="integer", minimum=1), True, False),
        (changed(properties={"a": {}, "b": {}}), False, True),
        (changed(properties={"a": {"type": "object", "properties": {}}, "b": {"type": "null"}}), False, False),
        (changed(properties={"a": {"$ref": "#/$defs/B", "description": "d"}, "b": {"type": "null"}}), False, True),
        (changed(properties={"a": {"enum": [{}]}, "b": {"type": "null"}}), False, False),
        (changed(properties={"a": {"allOf": [{"$ref": "#/$defs/B"}]}, "b": {"type": "null"}}), False, False),
        (with_property(enum=[str(number) for number in range(1001)]), False, True),
        (with_property(enum=[f"{number:060}" for number in range(250)]), True, True),
        (with_property(enum=[f"{number:060}" for number in range(251)]), False, True),
        (with_property(enum=[f"{number:059}" for number in range(251)]), True, True),
        ({"type": "array", "items": {}}, False, False),
    ],
)
def test_what_each_vendor_holds_strictly(schema: dict[str, Any], openai: bool, anthropic: bool) -> None:
    assert holds_strictly(schema, "openai_chat") is openai
    assert holds_strictly(schema, "openai_responses") is openai
    assert holds_strictly(schema, "anthropic_messages") is anthropic
    assert not holds_strictly(schema, "ollama_chat")
