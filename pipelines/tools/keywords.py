"""The keywords of JSON Schema by what their values are, and how a value of the wrong kind is put right.

Source: JSON Schema 2020-12, core (sections 8, 10) and validation (sections 6, 7, 9).

Above it: `schemas`. Below it: nothing.
"""

import math
import re
from collections.abc import Callable

import msgspec

from pipelines.conversation import Json

Path = tuple[str, ...]
"""The steps to a place in a schema."""

SINGLE = frozenset((
    "items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "not", "if",
    "then", "else", "contains", "propertyNames", "contentSchema",
))  # fmt: skip
"""Their value is a schema."""

LISTED = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
"""Their value is a list of schemas."""

MAPPED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"))
"""Their value is an object of schemas."""

_ABSENT = object()

_ANCHOR = re.compile(r"[A-Za-z_][-A-Za-z0-9._]*")
_IDENTIFIER = re.compile(r"[^#]*#?")


def _text(value: Json) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return msgspec.json.encode(value).decode() if isinstance(value, int | float | dict | list) else _ABSENT


def _word(value: Json) -> object:
    return value if isinstance(value, str) and value else _ABSENT


def _matched(value: Json, form: re.Pattern[str]) -> object:
    return value if isinstance(value, str) and form.fullmatch(value) else _ABSENT


def _number(value: Json) -> object:
    if isinstance(value, str):
        try:
            read = float(value)
        except ValueError:
            return _ABSENT
        if not math.isfinite(read):
            return _ABSENT
        return int(read) if read.is_integer() else read
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _ABSENT


def _positive(value: Json) -> object:
    read = _number(value)
    return read if isinstance(read, int | float) and read > 0 else _ABSENT


def _count(value: Json) -> object:
    read = _number(value)
    return read if isinstance(read, int | float) and read >= 0 and float(read).is_integer() else _ABSENT


def _flag(value: Json) -> object:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else _ABSENT


def _enum(value: Json) -> object:
    if isinstance(value, dict):
        value = list(value)
    entries = value if isinstance(value, list) else [value]
    distinct = {msgspec.json.encode(entry): entry for entry in entries}
    return list(distinct.values()) or _ABSENT


def _list(value: Json) -> object:
    return value if isinstance(value, list) else [value]


def _needs(value: Json) -> object:
    """`dependentRequired`."""
    if not isinstance(value, dict):
        return _ABSENT
    kept = {name: needed for name, needed in value.items() if isinstance(needed, list)}
    return {name: list(dict.fromkeys(n for n in needed if isinstance(n, str))) for name, needed in kept.items()}


def _vocabulary(value: Json) -> object:
    ours = isinstance(value, dict) and all(isinstance(flag, bool) for flag in value.values())
    return value if ours else _ABSENT


_CLEANERS: dict[str, Callable[[Json], object]] = {
    **dict.fromkeys(("title", "description", "$comment"), _text),
    **dict.fromkeys(("format", "pattern", "contentEncoding", "contentMediaType", "$schema"), _word),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains", "minProperties",
         "maxProperties"),
        _count,
    ),
    **dict.fromkeys(("uniqueItems", "readOnly", "writeOnly", "deprecated"), _flag),
    **dict.fromkeys(("$anchor", "$dynamicAnchor"), lambda value: _matched(value, _ANCHOR)),
    "$id": lambda value: _matched(value, _IDENTIFIER),
    "multipleOf": _positive,
    "enum": _enum,
    "examples": _list,
    "dependentRequired": _needs,
    "$vocabulary": _vocabulary,
}  # fmt: skip

_UNREAD = ("$dynamicRef", "$recursiveRef", "$recursiveAnchor")
"""Keywords of other drafts, or that no provider follows."""


def clean(key: str, value: Json, found: dict[str, Json], path: Path, lost: list[Path]) -> None:
    """Put `key` into `found` with a value of the right kind; where there is none, its path into `lost`."""
    if key in _UNREAD:
        lost.append(path)
        return
    cleaner = _CLEANERS.get(key)
    if cleaner is None:
        found[key] = value
        return
    if value is None:
        return
    cleaned = cleaner(value)
    if cleaned is not _ABSENT:
        found[key] = cleaned
    elif not (key.startswith("exclusive") and isinstance(value, bool)):
        lost.append(path)
