"""The top level of a tool's schema: an object with properties, without what a format refuses there.

- a reference is followed, and what it names put in its place
- unions become one object that allows what any branch allows: the properties of all, required only what all
  require; that is looser, so the union is named as lost. `allOf` is joined; of what two of its branches say
  differently, beside properties, the first is kept and the other named
- what is no object (a string, an array) becomes the one required argument `value`, and is named
- an object of schemas is taken for the properties themselves where it has no keyword, or where each of its members has
  a type and one of them stands where a schema has none (`type`, `title`, `required`)
- for a format that refuses nothing all this stays as it is
- references may lead from union to union in more ways than can be followed, whoever wrote the schema: there is so much
  work for each byte of it, and where that is not enough the unions are left out and named

Above it: `schemas`. Below it: `references`, `formats`.
"""

from typing import Any, NamedTuple

import msgspec

from pipelines.conversation import Json
from pipelines.tools.formats import Rules
from pipelines.tools.keywords import LISTED, MAPPED, SINGLE, Path
from pipelines.tools.references import Moved, resolve

Schema = dict[str, Json]

_DEPTH = 16
_LEAST_WORK, _WORK_OF_BYTE = 2_000, 2
_BYTES = 10
"""How many bytes that are written out, or of a reference, are as much work as one member that is looked at."""

_WRAPPED = "value"
_UNIONS = ("allOf", "anyOf", "oneOf")
_STAY = ("$schema", "$id", "$defs", "definitions")
_OF_OBJECTS = ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties")
_OF_OTHERS = ("items", "prefixItems", "enum", "const", "minLength", "maxLength", "pattern", "minimum", "maximum")
_CONDITION = ("if", "then", "else")
_KEYWORDS = SINGLE | LISTED | MAPPED | {"type", "$ref", "required", "enum", "const", "description", "title", "$schema"}


class _TooMuch(Exception):
    """There is more to follow than is worth the work."""


class _Work:
    """What may still be done for one schema."""

    def __init__(self, size: int) -> None:
        self._left = _LEAST_WORK + _WORK_OF_BYTE * size

    def take(self, amount: int) -> None:
        """Do `amount` of it. Raises _TooMuch where less is left."""
        self._left -= amount
        if self._left < 0:
            raise _TooMuch

    def look(self, schema: Schema) -> None:
        """Look at a schema, and at the names of what it holds. Raises _TooMuch."""
        self.take(1 + len(schema) + sum(len(held) for held in schema.values() if isinstance(held, dict | list)))


def as_root(schema: Schema, rules: Rules, lost: list[Path], size: int) -> tuple[Schema, Moved]:
    """`schema` (its inner parts valid already) as a top level, and where references to its parts lead now.

    size: of the schema, in bytes.
    """
    work = _Work(size)
    found, is_object = _meant(schema, work)
    if not is_object:
        lost.append(("type",))
        return _wrapped(found), _into_value
    if not rules.refused_at_root:
        # The very object: its references are settled later.
        schema["type"] = "object"
        return schema, _stay
    flat_lost: list[Path] = []
    try:
        found = _flat(found, _Flattening(found, rules.refused_at_root, flat_lost, work), 0)
        lost += flat_lost
    except _TooMuch:
        found = dict(found)  # its unions are among what is refused
    for key in rules.refused_at_root & found.keys():
        del found[key]
        lost.append((key,))
    if found.get("type") != "object":
        found["type"] = "object"
    if rules.properties:
        found.setdefault("properties", {})
    return found, _stay


def _meant(schema: Schema, work: _Work) -> tuple[Schema, bool]:
    """The schema without references at its top, and whether it is meant for objects: yes, where it cannot be known."""
    found = {key: value for key, value in schema.items() if key != "$ref"}
    try:
        found = _dereferenced(schema, schema, work)
        return found, _is_object(found, found, work, 0)
    except _TooMuch:
        return found, True


def _stay(reference: str) -> str:
    return reference


def _into_value(reference: str) -> str:
    if reference.startswith(("#/$defs", "#/definitions")):
        return reference
    return f"#/properties/{_WRAPPED}{reference[1:]}" if reference == "#" or reference.startswith("#/") else reference


def is_properties(schema: Schema) -> bool:
    """Whether `schema` has nothing but schemas as members, and cannot be one itself by their names."""
    if not schema or not all(isinstance(entry, dict) and "type" in entry for entry in schema.values()):
        return False
    typed = all(isinstance(entry["type"], str | list) for entry in schema.values())
    return not _KEYWORDS & schema.keys() or (typed and not schema.keys() <= SINGLE | MAPPED)


def _dereferenced(schema: Schema, root: Schema, work: _Work) -> Schema:
    """`schema` with what its references name in their place; its own keywords win. Raises _TooMuch."""
    work.look(schema)
    seen = set()
    while isinstance(schema.get("$ref"), str) and schema["$ref"] not in seen:
        seen.add(schema["$ref"])
        work.take(len(schema["$ref"]) // _BYTES)
        target = resolve(root, schema["$ref"])
        if not isinstance(target, dict):
            break
        work.look(target)
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: value for key, value in schema.items() if key != "$ref"}


def _is_object(schema: Schema, root: Schema, work: _Work, depth: int) -> bool:
    """Whether it is meant for objects; one that says nothing is. Raises _TooMuch."""
    kind = schema.get("type")
    if kind is not None:
        return kind == "object" or (isinstance(kind, list) and "object" in kind)
    if any(key in schema for key in _OF_OBJECTS):
        return True
    entries = [entry for key in _UNIONS for entry in schema.get(key, ()) if isinstance(entry, dict)]
    branches = [_dereferenced(entry, root, work) for entry in entries]
    if branches and depth < _DEPTH:
        return any(_is_object(branch, root, work, depth + 1) for branch in branches)
    return not any(key in schema for key in _OF_OTHERS)


def _wrapped(schema: Schema) -> Schema:
    outer = {key: schema[key] for key in _STAY if key in schema}
    inner = {key: value for key, value in schema.items() if key not in _STAY}
    return {**outer, "type": "object", "properties": {_WRAPPED: inner}, "required": [_WRAPPED]}


class _Flattening(NamedTuple):
    """One top level. refused: its keywords that must go; lost: where something was left out."""

    root: Schema
    refused: frozenset[str]
    lost: list[Path]
    work: _Work


def _flat(schema: Schema, task: _Flattening, depth: int) -> Schema:
    """`schema` without unions at its top level. Raises _TooMuch."""
    found = dict(schema)
    for key in _UNIONS:
        if key not in task.refused or key not in found or depth > _DEPTH:
            continue
        entries = found.pop(key)
        given = [_dereferenced(entry, task.root, task.work) for entry in entries if isinstance(entry, dict)]
        objects = [entry for entry in given if _is_object(entry, task.root, task.work, 0)]
        branches = [_flat(entry, task, depth + 1) for entry in objects]
        if key != "allOf":
            task.lost.append((key,))
        _join(found, branches, task, every=key == "allOf")
    return found


def _join(found: Schema, branches: list[Schema], task: _Flattening, *, every: bool) -> None:
    """Take the branches into `found`. every: all of them hold, not any. Raises _TooMuch."""
    given = _distinct(branches, task.work)
    union = "allOf" if every else "anyOf"
    own = found.get("properties") or {}
    joined = {name: entries[0] if len(entries) == 1 else {union: entries} for name, entries in given.items()}
    both = {name: _both(own[name], schema) for name, schema in joined.items() if name in own}
    if own or joined:
        found["properties"] = {**own, **joined, **both}
    needs = [branch.get("required") or [] for branch in branches]
    common = set(needs[0]).intersection(*needs) if needs else set()
    needed = [name for need in needs for name in need if every or name in common]
    if needed or "required" in found:
        found["required"] = list(dict.fromkeys([*found.get("required", []), *needed]))
    if branches and not every and all(branch.get("additionalProperties") is False for branch in branches):
        found.setdefault("additionalProperties", False)
    _keep(found, branches, every, task)


def _distinct(branches: list[Schema], work: _Work) -> dict[str, list[Json]]:
    """The different schemas that the branches have for each property. Raises _TooMuch."""
    given: dict[str, dict[bytes, Json]] = {}
    seen: set[tuple[str, int]] = set()
    for branch in branches:
        work.look(branch)
        for name, schema in (branch.get("properties") or {}).items():
            # Branches of one reference share the very objects. What is written out here is what may be sent in the end.
            if (name, id(schema)) not in seen:
                seen.add((name, id(schema)))
                written = msgspec.json.encode(schema, order="sorted")
                work.take(len(written) // _BYTES)
                given.setdefault(name, {}).setdefault(written, schema)
    return {name: list(schemas.values()) for name, schemas in given.items()}


def _keep(found: Schema, branches: list[Schema], every: bool, task: _Flattening) -> None:
    """What is no part of an object's form: words about the branches, and definitions."""
    said = [entry["description"] for entry in (found, *branches) if entry.get("description")]
    task.work.take(sum(map(len, said)) // _BYTES)
    if said:
        found["description"] = "\n".join(dict.fromkeys(said))
    for branch in branches:
        # A condition's three words stand together, or `then` would follow from another's `if`.
        whole = _condition(branch) == _condition(found) or not _condition(found)
        for key, value in branch.items():
            if key in ("$defs", "definitions") and isinstance(value, dict):
                found[key] = {**value, **found.get(key, {})}
            elif not every or key in (*_OF_OBJECTS[:3], "type", "description"):
                continue
            elif found.get(key, value) == value and (whole or key not in _CONDITION):
                found[key] = value
            else:
                task.lost.append((key,))


def _condition(schema: Schema) -> Schema:
    return {key: schema[key] for key in _CONDITION if key in schema}


def _both(own: Any, other: Any) -> Json:
    """A schema for what fits both."""
    if own == other or not isinstance(other, dict) or not isinstance(own, dict):
        return own
    if not (own.keys() & other.keys() or "$ref" in own or "$ref" in other):
        return {**own, **other}
    return {"allOf": [own, other]}
