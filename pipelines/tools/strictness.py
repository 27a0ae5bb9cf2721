"""Which schemas a provider can hold a model to, exactly as they stand.

A schema that is not held here is sent all the same, without `strict`: rewriting it until it fits would change what
the tool is called with. Where the vendor's words leave a doubt the answer is no.

Sources:
- OpenAI docs, "Structured model outputs", "Supported schemas": an object at the top; every property required;
  `additionalProperties: false`; a type for every property; no `allOf`, `not`, `if`, `dependent…`; at most 5,000
  properties, 10 levels, 1,000 enum values, 120,000 characters of names and values, and 15,000 of one enum's values
  where they are more than 250. The `openai` package
  (`lib/_pydantic.py`): a `$ref` stands alone, and there is no `default`
- Anthropic docs, "Structured outputs", "JSON Schema limitations": see `dialects.anthropic_messages.schemas`; besides,
  no objects or arrays in enums, no `$ref` in `allOf`, the listed formats, no look-around or back-reference in patterns

Above it: `portable`. Below it: the Anthropic dialect's rules, `formats`, `keywords`.
"""

import re
from collections.abc import Sequence

from pipelines.conversation import Json
from pipelines.dialects.anthropic_messages import schemas as anthropic_schemas
from pipelines.tools.formats import FORMATS
from pipelines.tools.keywords import LISTED, MAPPED, SINGLE

_OPENAI_KEYWORDS = frozenset((
    "type", "title", "description", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf",
    "$ref", "$defs", "definitions", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems",
))  # fmt: skip
_OPENAI_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)  # fmt: skip
_ANTHROPIC_FORMATS = _OPENAI_FORMATS | {"uri"}
_HARD_PATTERN = re.compile(r"\(\?(?!:)|\\[1-9bBk]")
_PROPERTIES, _LEVELS, _VALUES, _CHARACTERS = 5_000, 10, 1_000, 120_000
_LONG_ENUM, _LONG_ENUM_CHARACTERS = 250, 15_000


def holds_strictly(schema: Json, format_name: str) -> bool:
    """Whether strict mode of the dialect `format_name` takes `schema` (valid there) as it stands."""
    if not FORMATS[format_name].strict or not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    if format_name == "anthropic_messages":
        return anthropic_schemas.holds_strictly(schema) and _anthropic(schema)
    return _OpenAI().holds(schema)


def _inner(schema: dict[str, Json]) -> list[tuple[str, Json]]:
    """Every schema right below, with its keyword."""
    found: list[tuple[str, Json]] = []
    for key, value in schema.items():
        if key in SINGLE:
            found.append((key, value))
        elif key in LISTED and isinstance(value, list):
            found += [(key, entry) for entry in value]
        elif key in MAPPED and isinstance(value, dict):
            found += [(key, entry) for entry in value.values()]
    return found


def _said(schema: dict[str, Json], formats: frozenset[str]) -> bool:
    """Whether format and pattern are of the simple kind."""
    pattern = schema.get("pattern")
    return schema.get("format", "date") in formats and not (isinstance(pattern, str) and _HARD_PATTERN.search(pattern))


def _anthropic(schema: Json) -> bool:
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    if not _said(schema, _ANTHROPIC_FORMATS) or any(isinstance(entry, dict | list) for entry in schema.get("enum", ())):
        return False
    inner = _inner(schema)
    if any(key == "allOf" and isinstance(entry, dict) and "$ref" in entry for key, entry in inner):
        return False
    return all(_anthropic(entry) for _, entry in inner)


class _OpenAI:
    """Counts what is limited over the whole schema."""

    def __init__(self) -> None:
        self._properties = self._values = self._characters = 0

    def holds(self, schema: dict[str, Json]) -> bool:
        """Whether strict mode takes it."""
        root = {key: value for key, value in schema.items() if key != "$schema"}
        return "anyOf" not in root and self._node(root, 1) and self._fits()

    def _fits(self) -> bool:
        return self._properties <= _PROPERTIES and self._values <= _VALUES and self._characters <= _CHARACTERS

    def _node(self, schema: Json, level: int) -> bool:
        if not isinstance(schema, dict) or level > _LEVELS or not schema.keys() <= _OPENAI_KEYWORDS:
            return False
        if "$ref" in schema and level > 1:
            return len(schema) == 1
        if not (schema.get("type") or schema.get("anyOf")) or not _said(schema, _OPENAI_FORMATS):
            return False
        self._count(schema)
        if not self._closed(schema) or not _short(schema.get("enum", ())):
            return False
        for key, entry in _inner(schema):
            below = level if key in ("anyOf", "$defs", "definitions") else level + 1
            if key != "additionalProperties" and not self._node(entry, below):
                return False
        return True

    def _closed(self, schema: dict[str, Json]) -> bool:
        kind = schema.get("type")
        is_object = kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
        if not is_object:
            return "required" not in schema and "additionalProperties" not in schema
        properties = schema.get("properties")
        if not isinstance(properties, dict) or schema.get("additionalProperties") is not False:
            return False
        return set(schema.get("required", ())) == properties.keys()

    def _count(self, schema: dict[str, Json]) -> None:
        values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
        names = [name for key in ("properties", "$defs", "definitions") for name in schema.get(key) or ()]
        self._properties += len(schema.get("properties") or ())
        self._values += len(schema.get("enum", ()))
        self._characters += sum(len(text) for text in [*values, *names] if isinstance(text, str))


def _short(enum: Sequence[Json]) -> bool:
    """Whether the texts of one enum are not too long together."""
    characters = sum(len(entry) for entry in enum if isinstance(entry, str))
    return len(enum) <= _LONG_ENUM or characters <= _LONG_ENUM_CHARACTERS
