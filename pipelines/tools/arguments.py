"""A call's arguments, read and checked against the tool's schema before anything runs.

No reference to elsewhere is fetched: one that the schema itself does not hold makes the tool unusable. A schema that a
stranger wrote (an MCP server, an OpenAPI document) is followed within bounds only: see `strangers`.

Source: JSON Schema 2020-12 and its forerunners, as the package `jsonschema` has them.

Above it: `turns`. Below it: `catalogue`, `strangers`, jsonschema.
"""

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from referencing.exceptions import Unresolvable

from pipelines.conversation import Json
from pipelines.tools.catalogue import Tool
from pipelines.tools.strangers import NOWHERE, Errors, Strangers

LONGEST = 1024 * 1024
"""Characters of a call's arguments."""

SHORT = 300
"""Characters of an error that the model is told."""

_MOST_CACHED = 1_000


class WrongArguments(Exception):
    """The arguments do not fit; its words are for the model."""


class _Known(NamedTuple):
    schema: dict[str, Json]
    errors: Errors


class Checker:
    """Checks arguments; it keeps the validators of the tools that it has seen last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._strangers = Strangers()

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
        wrong = self._wrong(tool, given)
        if wrong is not None:
            raise WrongArguments(_words(wrong))
        return given

    def _wrong(self, tool: Tool, given: dict[str, Json]) -> ValidationError | None:
        try:
            return best_match(self._errors(tool)(given))
        except (Unresolvable, RecursionError):
            raise WrongArguments("the tool cannot be called: its schema refers to what it does not hold") from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # A schema leads jsonschema anywhere, and Rust's panics below it are no Exception. Nothing waits in here, so
            # nobody's cancellation is among them.
            raise WrongArguments("the tool cannot be called: its schema cannot be followed") from None

    def _errors(self, tool: Tool) -> Errors:
        known = self._known.get(tool.name)
        if known is None or known.schema is not tool.schema:
            known = _Known(tool.schema, (self._strangers.errors if tool.is_foreign else _made)(tool.schema))
            self._known[tool.name] = known
            if len(self._known) > _MOST_CACHED:
                self._known.popitem(last=False)
        self._known.move_to_end(tool.name)
        return known.errors


def fingerprint(name: str, arguments: dict[str, Json]) -> str:
    """A call's name for itself: SHA-256, in hexadecimal, of tool and arguments, whatever their order."""
    return hashlib.sha256(msgspec.json.encode([name, arguments], order="sorted")).hexdigest()


def _made(schema: dict[str, Json]) -> Errors:
    kind: Any = validator_for(schema, default=Draft202012Validator)
    errors: Errors = kind(schema, registry=NOWHERE).iter_errors
    return errors


def _words(wrong: ValidationError) -> str:
    path = ".".join(map(str, wrong.absolute_path))
    return f"{path}: {wrong.message}"[:SHORT] if path else wrong.message[:SHORT]
