"""A call's arguments, read and checked against the tool's schema before anything runs.

No reference to elsewhere is fetched: one that the schema itself does not hold makes the tool unusable. Of a schema
that a stranger wrote (an MCP server, an OpenAPI document) no regular expression is run: it could take for ever, and
whoever wrote it checks his own arguments.

Source: JSON Schema 2020-12 and its forerunners, as the package `jsonschema` has them.

Above it: `turns`. Below it: `catalogue`, jsonschema.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from pipelines.conversation import Json
from pipelines.tools.catalogue import Tool

LONGEST = 1024 * 1024
"""Characters of a call's arguments."""

SHORT = 300
"""Characters of an error that the model is told."""

_MOST_CACHED = 1_000
_STRANGERS = ("mcp:", "openapi:")
_NOWHERE: Registry[Any] = Registry()


class WrongArguments(Exception):
    """The arguments do not fit; its words are for the model."""


class _Known(NamedTuple):
    schema: dict[str, Json]
    validator: Validator


class Checker:
    """Checks arguments; it keeps the validators of the tools that it has seen last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def read(self, tool: Tool, arguments: str) -> dict[str, Json]:
        """The arguments of a call, as the model wrote them, as an object. Raises WrongArguments."""
        if len(arguments) > LONGEST:
            raise WrongArguments(f"the arguments are longer than {LONGEST} characters")
        try:
            given = msgspec.json.decode(arguments.strip() or "{}")
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise WrongArguments(f"the arguments are not valid JSON: {error}"[:SHORT]) from None
        if not isinstance(given, dict):
            raise WrongArguments("the arguments must be a JSON object")
        try:
            wrong = best_match(self._validator(tool).iter_errors(given))
        except (Unresolvable, RecursionError):
            raise WrongArguments("the tool cannot be called: its schema refers to what it does not hold") from None
        if wrong is not None:
            raise WrongArguments(_words(wrong))
        return given

    def _validator(self, tool: Tool) -> Validator:
        known = self._known.get(tool.name)
        if known is None or known.schema is not tool.schema:
            known = _Known(tool.schema, _made(tool))
            self._known[tool.name] = known
            if len(self._known) > _MOST_CACHED:
                self._known.popitem(last=False)
        self._known.move_to_end(tool.name)
        return known.validator


def fingerprint(name: str, arguments: dict[str, Json]) -> str:
    """A call's name for itself: SHA-256, in hexadecimal, of tool and arguments, whatever their order."""
    return hashlib.sha256(msgspec.json.encode([name, arguments], order="sorted")).hexdigest()


def _made(tool: Tool) -> Validator:
    kind: Any = validator_for(tool.schema, default=Draft202012Validator)
    if tool.source.startswith(_STRANGERS):
        kind = extend(kind, {"pattern": _pass, "patternProperties": _pass, "additionalProperties": _others(kind)})
    made: Validator = kind(tool.schema, registry=_NOWHERE)
    return made


def _pass(*_: Any) -> Iterator[ValidationError]:
    """A keyword that is not looked at."""
    return iter(())


def _others(kind: Any) -> Any:
    """`additionalProperties`, unless it needs the patterns to tell which ones are additional."""
    usual = kind.VALIDATORS["additionalProperties"]

    def check(validator: Any, value: Json, instance: Json, schema: dict[str, Json]) -> Iterator[ValidationError]:
        return iter(()) if schema.get("patternProperties") else usual(validator, value, instance, schema)

    return check


def _words(wrong: ValidationError) -> str:
    path = ".".join(map(str, wrong.absolute_path))
    return f"{path}: {wrong.message}"[:SHORT] if path else wrong.message[:SHORT]
