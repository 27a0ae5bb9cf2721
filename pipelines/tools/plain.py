"""A quick look that sees whether a schema is plainly valid: no keyword but the usual ones, all well-formed.

It runs in msgspec's C code, at a few millionths of a second a tool. What it does not recognise is not wrong: then
`schemas` looks closely.

Above it: `schemas`. Below it: msgspec.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipelines.conversation import Json

_Word = Literal["string", "number", "integer", "boolean", "array", "object", "null"]
_Count = Annotated[int, Meta(ge=0)] | UnsetType
_Number = int | float | UnsetType
_String = str | UnsetType


class _Usual(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "type", "schema": "$schema"}):
    """The usual keywords. The Python work of a node is in `__post_init__`, so it does little."""

    kind: _Word | Annotated[list[_Word], Meta(min_length=1)] | UnsetType = UNSET
    description: _String = UNSET
    properties: "dict[str, _Node] | UnsetType" = UNSET
    required: list[str] | UnsetType = UNSET
    items: "_Node | UnsetType" = UNSET
    enum: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET
    default: Any = None
    const: Any = None
    title: _String = UNSET
    format: _String = UNSET
    pattern: _String = UNSET
    minimum: _Number = UNSET
    maximum: _Number = UNSET
    minLength: _Count = UNSET  # noqa: N815 - the keyword
    maxLength: _Count = UNSET  # noqa: N815 - the keyword
    minItems: _Count = UNSET  # noqa: N815 - the keyword
    maxItems: _Count = UNSET  # noqa: N815 - the keyword
    uniqueItems: bool | UnsetType = UNSET  # noqa: N815 - the keyword
    examples: list[Any] | UnsetType = UNSET
    additionalProperties: "_Node | bool | UnsetType" = UNSET  # noqa: N815 - the keyword
    schema: _String = UNSET

    def __post_init__(self) -> None:
        if self.items is UNSET and (self.kind == "array" or (isinstance(self.kind, list) and "array" in self.kind)):
            raise ValueError("an array without items")
        for listed in (self.required, self.enum):
            if listed is not UNSET and len(listed) > 1 and len(set(listed)) < len(listed):
                raise ValueError("twice the same")
        if isinstance(self.kind, list) and len(set(self.kind)) < len(self.kind):
            raise ValueError("twice the same")


class _Node(_Usual, frozen=True, forbid_unknown_fields=True, rename={"kind": "type", "schema": "$schema"}):
    """A schema below the top level."""

    anyOf: "Annotated[list[_Node], Meta(min_length=1)] | UnsetType" = UNSET  # noqa: N815 - the keyword


class _Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "type", "schema": "$schema"}):
    """The top level: an object, with no keyword that a format refuses there."""

    kind: Literal["object"]
    properties: dict[str, _Node]
    required: list[str] | UnsetType = UNSET
    description: _String = UNSET
    title: _String = UNSET
    additionalProperties: _Node | bool | UnsetType = UNSET  # noqa: N815 - the keyword
    schema: _String = UNSET

    def __post_init__(self) -> None:
        if self.required is not UNSET and len(set(self.required)) < len(self.required):
            raise ValueError("twice the same")


def plainly_valid(schema: Json) -> bool:
    """Whether `schema` is plainly one that every format takes as it stands, whatever its arguments' names."""
    try:
        msgspec.convert(schema, _Root)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True
