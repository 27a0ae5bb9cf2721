"""Arguments checked against a schema that a stranger wrote (an MCP server, an OpenAPI document), within bounds.

It is done on a gateway's event loop, so nothing in a schema may make it slow, and whoever wrote the schema checks his
own arguments anyway. What is left to him:

- keywords that run regular expressions (`pattern`, `patternProperties`, `additionalProperties` beside it) or compare
  everything with everything (`uniqueItems`, `unevaluatedItems`, `unevaluatedProperties`): none of them is looked at;
- what would refuse good arguments once those are not: `not`, `if`, `maxContains` and the "one only" of `oneOf`, in a
  schema that has any of them;
- what is not done after STEPS steps, or lies deeper than DEEPEST keywords.

What was found wrong till then is wrong. Arguments of which nothing is known to be wrong go to him: that loses no call
that he would take, and lets nobody in, since neither rights, approvals nor guards on arguments rest on his schema. A
`$schema` inside of a schema changes nothing: jsonschema would take it for leave to use its own keywords again.

Above it: `arguments`. Below it: jsonschema.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry

from pipelines.conversation import Json

STEPS = 100_000
"""Of one check: a keyword looked at is one, and one more for each member of what it goes through; an error takes one
on each floor that it rises through."""

DEEPEST = 120
"""Keywords inside of each other; each takes some frames of Python's stack."""

_REFERENCE = 10
"""Steps that looking up a reference takes: it is that much slower than other keywords."""

_MESSAGE = 100
"""Characters of an error's message that take a step: it has the value in it, however long."""

_PASSED_OVER = ("pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
_PLAIN = ("pattern", "uniqueItems")
"""Those of them whose value is no schema."""

_REFUSING = ("not", "if", "disallow")
"""Keywords that refuse, or ask for more, where something fits: more fits what is not looked at."""

NOWHERE: Registry[Any] = Registry()
"""Nothing that a schema could refer to outside of itself."""

Errors = Callable[[Json], Iterable[ValidationError]]
"""What is wrong with a value."""

_Keyword = Callable[[Any, Any, Json, dict[str, Json]], Iterator[ValidationError] | None]


class _Enough(Exception):
    """The check has taken as many steps as it may."""


class Strangers:
    """Checks against strangers' schemas, one after the other."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, bool], Any] = {}
        self._left = 0
        self._depth = 0

    def errors(self, schema: dict[str, Json]) -> Errors:
        """What finds errors by this schema; it may raise anything, of a schema that jsonschema cannot follow."""
        base: Any = validator_for(schema, default=Draft202012Validator)
        key = (base, _is_loosened(schema))
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._made(*key)
        return partial(self._errors, kind(schema, registry=NOWHERE))

    def _errors(self, validator: Any, given: Json) -> list[ValidationError]:
        self._left, self._depth = STEPS, 0
        found: list[ValidationError] = []
        with suppress(_Enough):
            # Not at once: what was found before the last step counts.
            for error in validator.iter_errors(given):
                found.append(error)  # noqa: PERF402
        return found

    def _made(self, base: Any, loose: bool) -> Any:
        usual: dict[str, _Keyword] = dict(base.VALIDATORS)
        ours: dict[str, _Keyword] = dict.fromkeys(_PASSED_OVER, _passed_over)
        ours["additionalProperties"] = _unless_beside("patternProperties", usual["additionalProperties"])
        if loose:
            ours |= dict.fromkeys(_REFUSING, _passed_over)
            ours["oneOf"] = usual.get("anyOf", _passed_over)
            ours["contains"] = _unless_beside("maxContains", usual.get("contains", _passed_over))
        keywords = {word: ours.get(word, keyword) for word, keyword in usual.items()}
        kind: Any = extend(base, {word: self._counted(word, keyword) for word, keyword in keywords.items()})
        fields = [(field.name, field.alias) for field in kind.__attrs_attrs__ if field.init]

        def evolve(validator: Any, **changes: Any) -> Any:
            """As jsonschema has it, but for becoming another kind wherever there is a `$schema`."""
            return kind(**{alias: getattr(validator, name) for name, alias in fields} | changes)

        kind.evolve = evolve
        return kind

    def _counted(self, word: str, keyword: _Keyword) -> _Keyword:
        size = _whole if word in ("const", "enum") else _members
        own = _REFERENCE if word.lower().endswith("ref") else 1

        def check(validator: Any, value: Any, instance: Json, schema: dict[str, Json]) -> Iterator[ValidationError]:
            self._take(own + size(value) + _members(instance))
            self._depth += 1
            try:
                for error in keyword(validator, value, instance, schema) or ():
                    self._take(1 + len(error.message) // _MESSAGE)
                    yield error
            finally:
                self._depth -= 1

        return check

    def _take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0 or self._depth >= DEEPEST:
            raise _Enough


def _passed_over(*_: Any) -> None:
    """A keyword that is not looked at."""


def _unless_beside(other: str, usual: _Keyword) -> _Keyword:
    """The keyword, where the other one is not: it would need that to tell what is its own."""

    def check(validator: Any, value: Any, instance: Json, schema: dict[str, Json]) -> Iterator[ValidationError] | None:
        return usual(validator, value, instance, schema) if schema.get(other) in (None, {}) else None

    return check


def _is_loosened(value: Json) -> bool:
    """Whether there is anything in it that is not looked at, or looks like it. A property may have the name of one."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if any(word in one and not (word in _PLAIN and isinstance(one[word], dict)) for word in _PASSED_OVER):
                return True
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


def _members(value: Json) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _whole(value: Json) -> int:
    """All that is in it, however deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_whole, inner))
