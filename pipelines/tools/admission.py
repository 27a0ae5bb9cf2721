"""Which tools there are: what sources offer, made usable, and held where it is not what it was when it was allowed.

    a definition ──unusable──> refused, with a reason
         │
         ├── a name that is new                      offered, and known by its fingerprint from now on
         ├── known, of the same fingerprint          offered
         └── known, of another one                   held until `allow`

A tool that changes what it says of itself after it was looked at is a known way to attack a model ("rug pull",
Invariant Labs, "MCP Security Notification: Tool Poisoning Attacks", 2025), so the fingerprint is of the definition as
the source gives it, before anything is made usable.

Above it: `actors.tools.registry`. Below it: `catalogue`, `schemas`. Outside it: where it is written down, and time.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError

from pipelines.conversation import Json
from pipelines.errors import BadRequest
from pipelines.tools.catalogue import Health, Tool
from pipelines.tools.formats import PLAIN
from pipelines.tools.schemas import convert

MOST_NAME = 256
MOST_DESCRIPTION = 32_768
"""Characters."""

MOST_SCHEMA = 256 * 1024
"""Bytes of a schema in JSON."""


class Refused(msgspec.Struct, frozen=True):
    """A definition that cannot be used, and why."""

    name: str
    source: str
    why: str


class Unusable(Exception):
    """A definition cannot be used; the words say why."""


class Offered(NamedTuple):
    """What became of a source's tools: known ones that are new here, to be written down, and those refused."""

    learned: tuple[Tool, ...]
    refused: tuple[Refused, ...]


def usable(tool: Tool) -> Tool:
    """The tool with a valid JSON Schema (2020-12) of an object, and its fingerprint. Raises Unusable."""
    name = tool.name
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise Unusable("its name is empty, or cannot be printed")
    if len(name) > MOST_NAME:
        raise Unusable(f"its name has more than {MOST_NAME} characters")
    if len(tool.description) > MOST_DESCRIPTION:
        raise Unusable(f"its description has more than {MOST_DESCRIPTION} characters")
    try:
        given = msgspec.json.encode([name, tool.description, tool.schema], order="deterministic")
    except (TypeError, ValueError, RecursionError):
        raise Unusable("its schema is no JSON") from None
    if len(given) > MOST_SCHEMA:
        raise Unusable(f"its schema has more than {MOST_SCHEMA} bytes")
    schema = convert(tool.schema, PLAIN).schema
    try:
        # Patterns are ECMA-262's. Python has to run our own tools' only, and does not know all of what those can be.
        checked = FormatChecker(formats=()) if tool.is_foreign else Draft202012Validator.FORMAT_CHECKER
        Draft202012Validator.check_schema(schema, format_checker=checked)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path)) or "the top level"
        raise Unusable(f"its schema is not valid at {place}") from None
    return msgspec.structs.replace(tool, schema=schema, fingerprint=hashlib.sha256(given).hexdigest()[:32], held="")


class Admission:
    """All that is offered. known: the tools as they were allowed, from the last run's journal.

    tools are the catalogue's, in the order of their names; refused, by source, what could not be used.
    """

    def __init__(self, known: Iterable[Tool] = ()) -> None:
        self._known = {tool.name: tool for tool in known}
        self._offered: dict[str, dict[str, Tool]] = {}
        self._refused: dict[str, tuple[Refused, ...]] = {}

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What there is: as offered now, or, of a source that was not heard yet, as it was allowed."""
        now = {name: tool for tools in self._offered.values() for name, tool in tools.items()}
        return tuple(tool for _, tool in sorted(now.items()))

    @property
    def refused(self) -> tuple[Refused, ...]:
        """What could not be used."""
        return tuple(one for many in self._refused.values() for one in many)

    def expect(self, source: str) -> None:
        """A source is configured: until it says otherwise it has the tools that it had."""
        had = {name: tool for name, tool in self._known.items() if tool.source == source}
        waiting = {n: msgspec.structs.replace(t, health="starting", why="its source starts") for n, t in had.items()}
        self._offered.setdefault(source, waiting)

    def forget(self, source: str) -> None:
        """A source is configured no longer. What is known of its tools stays known."""
        self._offered.pop(source, None)
        self._refused.pop(source, None)

    def offer(self, source: str, tools: Sequence[Tool]) -> Offered:
        """A source has these tools now, and no others."""
        taken: dict[str, Tool] = {}
        refused: list[Refused] = []
        learned: list[Tool] = []
        for tool in tools:
            try:
                self._refuse_taken(tool.name, source, taken)
                found = usable(msgspec.structs.replace(tool, source=source))
            except Unusable as error:
                refused.append(Refused(str(tool.name)[:MOST_NAME], source, str(error)))
                continue
            except Exception as error:
                # Whatever a source has written, it loses no more than the tool that says it.
                why = f"it cannot be read ({type(error).__name__})"
                refused.append(Refused(str(tool.name)[:MOST_NAME], source, why))
                continue
            known = self._known.get(found.name)
            if known is None:
                self._known[found.name] = known = found
                learned.append(found)
            taken[found.name] = msgspec.structs.replace(found, held=_difference(known, found))
        self._offered[source], self._refused[source] = taken, tuple(refused)
        return Offered(tuple(learned), tuple(refused))

    def mark(self, source: str, health: Health, why: str) -> None:
        """All tools of a source are in this health, whatever it said of them."""
        tools = self._offered.get(source, {})
        for name, tool in tools.items():
            tools[name] = msgspec.structs.replace(tool, health=health, why=why)

    def allow(self, name: str, fingerprint: str = "") -> Tool:
        """Let a tool be as it is now. fingerprint: of what was looked at; "" for whatever it is.

        Raises BadRequest for a tool that is not there (404), or that has changed since (409).
        """
        found = next((tools[name] for tools in self._offered.values() if name in tools), None)
        if found is None:
            raise BadRequest(f"there is no tool {name!r}", status=404, code="tool_not_found")
        if fingerprint and fingerprint != found.fingerprint:
            raise BadRequest(f"the tool {name!r} has changed again", status=409, code="tool_changed")
        allowed = msgspec.structs.replace(found, held="")
        self._known[name] = self._offered[found.source][name] = allowed
        return allowed

    def _refuse_taken(self, name: str, source: str, own: dict[str, Tool]) -> None:
        if name in own:
            raise Unusable("the source has two tools of this name")
        other = next((place for place, tools in self._offered.items() if name in tools and place != source), None)
        if other is not None:
            raise Unusable(f"{other} has a tool of this name")


def _difference(known: Tool, found: Tool) -> str:
    """What is not as it was allowed, in words; "" where all is.

    A known tool's schema may have been made usable by another version of Penstock: its fingerprint says what it was.
    """
    if known.fingerprint == found.fingerprint and known.source == found.source:
        return ""
    changed: dict[str, tuple[Json, Json]] = {
        "source": (known.source, found.source),
        "description": (known.description, found.description),
        "schema": (known.schema, found.schema),
    }
    words = [word for word, (before, after) in changed.items() if before != after]
    return f"changed since it was allowed{': ' if words else ''}{', '.join(words)}"
