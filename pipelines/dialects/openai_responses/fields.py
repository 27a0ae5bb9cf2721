"""Typed access to the JSON of others: strict for callers (`BadRequest` names the path), lenient for providers.

Above it: the readers and the decoder of this package. Below it: `counts`, `errors`. Outside it: what the fields mean.
"""

from collections.abc import Mapping
from typing import TypeVar

from pipelines.conversation import Json
from pipelines.dialects.counts import count
from pipelines.errors import BadRequest

LARGEST = 2**63 - 1
"""The largest integer of a request: what comes after it (MessagePack, SQL) has 64 bits."""

_Kind = TypeVar("_Kind")

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
}


def fits(value: Json, kind: type) -> bool:
    """Whether a JSON value is of this kind. An integer is a number too; a boolean is neither."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def optional(source: Mapping[str, Json], key: str, kind: type[_Kind], path: str = "") -> _Kind | None:
    """Field `key`, or None where it is absent or null. Raises BadRequest where it is of another kind."""
    value = source.get(key)
    if value is None:
        return None
    if not fits(value, kind):
        raise BadRequest(f"`{path}{key}` must be {_NAMES[kind]}", param=path + key)
    if kind is int and abs(value) > LARGEST:
        raise BadRequest(f"`{path}{key}` is too large", param=path + key)
    checked: _Kind = value
    return checked


def required(source: Mapping[str, Json], key: str, kind: type[_Kind], path: str = "") -> _Kind:
    """Field `key`. Raises BadRequest where it is absent, null or of another kind."""
    value = optional(source, key, kind, path)
    if value is None:
        raise BadRequest(f"`{path}{key}` is missing: it must be {_NAMES[kind]}", param=path + key)
    return value


def an_object(value: Json, path: str) -> dict[str, Json]:
    """`value`, which must be an object. Raises BadRequest naming `path`."""
    if not isinstance(value, dict):
        raise BadRequest(f"`{path}` must be an object", param=path)
    return value


def text_of(source: Mapping[str, Json], key: str) -> str:
    """Field `key` of what a provider sent, "" where it is no string."""
    value = source.get(key)
    return value if isinstance(value, str) else ""


def count_of(source: Mapping[str, Json], key: str) -> int:
    """Field `key` of what a provider sent, as a whole number; 0 where it is none."""
    return count(source.get(key))


def object_of(source: Mapping[str, Json], key: str) -> dict[str, Json]:
    """Field `key` of what a provider sent, {} where it is no object."""
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def objects_of(source: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    """The objects of the array `key` of what a provider sent; anything else in it is passed over."""
    value = source.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def rest(source: Mapping[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """The fields outside `known` that say something: no nulls, no empty arrays or objects."""
    return {
        key: value for key, value in source.items() if key not in known and value is not None and value not in ([], {})
    }
