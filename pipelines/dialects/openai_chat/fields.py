"""Taking typed members out of a caller's JSON. Each function raises BadRequest that names the member's path.

A member that is null counts as absent, as it does at OpenAI.

Above it: the readers of requests in this package. Below it: `errors`.
"""

import math
from collections.abc import Mapping
from typing import NoReturn

from pipelines.conversation import Json
from pipelines.dialects.openai_responses.fields import LARGEST
from pipelines.errors import BadRequest

Object = Mapping[str, Json]
"""A JSON object."""


def wrong(path: str, what: str) -> NoReturn:
    """Raise BadRequest: the member at `path` is wrong; `what` ends the sentence that begins with its name."""
    raise BadRequest(f"{path} {what}", param=path)


def kind(value: Json) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "an array"


def text(holder: Object, name: str, path: str) -> str:
    """A string; "" where absent."""
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        wrong(_at(path, name), f"must be a string, not {kind(value)}")
    return value


def needed_text(holder: Object, name: str, path: str) -> str:
    """A string that is there and not empty."""
    value = text(holder, name, path)
    if not value:
        wrong(_at(path, name), "is missing" if holder.get(name) is None else "must not be empty")
    return value


def flag(holder: Object, name: str, path: str = "") -> bool | None:
    """A boolean; None where absent."""
    value = holder.get(name)
    if value is not None and not isinstance(value, bool):
        wrong(_at(path, name), f"must be a boolean, not {kind(value)}")
    return value


def whole(holder: Object, name: str, path: str = "", least: int | None = None) -> int | None:
    """An integer, not below `least`; None where absent."""
    value = holder.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        wrong(
            _at(path, name),
            "must be an integer" if isinstance(value, float) else f"must be an integer, not {kind(value)}",
        )
    if least is not None and value < least:
        wrong(_at(path, name), f"must be at least {least}")
    if abs(value) > LARGEST:
        wrong(_at(path, name), "is too large")
    return value


def number(holder: Object, name: str, path: str = "") -> float | None:
    """A finite number; None where absent."""
    value = holder.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        wrong(_at(path, name), f"must be a number, not {kind(value)}")
    if not math.isfinite(value):
        wrong(_at(path, name), "must be finite")
    return value


def mapping(holder: Object, name: str, path: str = "") -> dict[str, Json] | None:
    """An object; None where absent."""
    value = holder.get(name)
    if value is not None and not isinstance(value, dict):
        wrong(_at(path, name), f"must be an object, not {kind(value)}")
    return value


def needed_mapping(holder: Object, name: str, path: str) -> dict[str, Json]:
    """An object that is there."""
    value = mapping(holder, name, path)
    if value is None:
        wrong(_at(path, name), "is missing")
    return value


def items(holder: Object, name: str, path: str = "") -> list[Json]:
    """An array; [] where absent."""
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        wrong(_at(path, name), f"must be an array, not {kind(value)}")
    return value


def rest(holder: Object, known: frozenset[str]) -> dict[str, Json]:
    """The members that are not `known` and not null."""
    return {name: value for name, value in holder.items() if name not in known and value is not None}


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
