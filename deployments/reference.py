"""The configuration reference of the README, made from the models in `config`.

`python -m deployments.reference` (`make docs`) writes it between the two markers of `README.md`.

Above it: the Makefile, a test that the README is current. Below it: `config`. Outside it: all other words there.
"""

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.config import (
    AliasSettings,
    GatewaySettings,
    KeySettings,
    LedgerSettings,
    ListenSettings,
    ModelSettings,
    ModelTimeoutSettings,
    ProviderSettings,
    ReplicaSettings,
    RetrySettings,
    TimeoutSettings,
)

README = Path(__file__).resolve().parents[1] / "README.md"

BEGIN = "<!-- reference: begin (`make docs` writes what stands between the markers) -->"
END = "<!-- reference: end -->"

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Gateway", GatewaySettings),
    ("Provider", ProviderSettings),
    ("Gateway and provider", ReplicaSettings),
    ("`aliases`", AliasSettings),
    ("`ledger`", LedgerSettings),
    ("`listen`", ListenSettings),
    ("`keys`", KeySettings),
    ("`models`", ModelSettings),
    ("`timeouts`", TimeoutSettings),
    ("`timeouts` of a model", ModelTimeoutSettings),
    ("`retry`", RetrySettings),
)
"""The heading of each model's table, in order. A field that a model inherits stands in its parent's table."""

_WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "path", type(None): "null"}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def reference() -> str:
    """Every table, as Markdown."""
    return "\n".join("\n".join(_table(heading, model)) for heading, model in SECTIONS)


def inserted(text: str) -> str:
    """`text` (the README) with the reference between its markers. ValueError where a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the README lacks a marker of the reference")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def _table(heading: str, model: type[BaseModel]) -> Iterable[str]:
    yield f"#### {heading}\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name in model.__annotations__:
            yield f"| `{name}` | {_kind(field)} | {_default(field)} | {_meaning(field)} |"
    yield ""


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, word):g}"
        for bound in field.metadata
        if isinstance(bound, annotated_types.BaseMetadata)
        for word, sign in _SIGNS.items()
        if hasattr(bound, word)
    ]
    return " ".join([_name(field.annotation), ", ".join(bounds)]).strip()


def _name(kind: Any) -> str:
    """A type in words."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" if value else '`""`' for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_name, inside))
    if origin is tuple:
        return f"list of {_name(inside[0])}"
    if origin is dict:
        return f"map of {_name(inside[0])} to {_name(inside[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return next(heading for heading, model in SECTIONS if model is kind)
    return _WORDS[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see there"
    if value is None or value in ("", (), {}):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    if field.description:
        return field.description
    return str(field.annotation.__doc__).partition("\n")[0]


def main() -> None:
    """Write the reference into the README."""
    README.write_text(inserted(README.read_text()))


if __name__ == "__main__":
    main()
