"""The top level of a tool's schema: an object with properties, without what a format refuses there.

- a reference is followed, and what it names put in its place
- unions become one object that allows what any branch allows: the properties of all, required only what all
  require; that is looser, so the union is named as lost. `allOf` is joined; of what two of its branches say
  differently, beside properties, the first is kept and the other named
- what is no object (a string, an array) becomes the one required argument `value`, and is named
- an object of schemas without any keyword is taken for the properties themselves
- for a format that refuses nothing all this stays as it is

Above it: `schemas`. Below it: `references`, `formats`.
"""

from typing import Any

from pipelines.conversation import Json
from pipelines.tools.formats import Rules
from pipelines.tools.keywords import LISTED, MAPPED, SINGLE, Path
from pipelines.tools.references import Moved, resolve

Schema = dict[str, Json]

_DEPTH = 16
_WRAPPED = "value"
_UNIONS = ("allOf", "anyOf", "oneOf")
_STAY = ("$schema", "$id", "$defs", "definitions")
_OF_OBJECTS = ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties")
_OF_OTHERS = ("items", "prefixItems", "enum", "const", "minLength", "maxLength", "pattern", "minimum", "maximum")
_CONDITION = ("if", "then", "else")
_KEYWORDS = SINGLE | LISTED | MAPPED | {"type", "$ref", "required", "enum", "const", "description", "title", "$schema"}


def as_root(schema: Schema, rules: Rules, lost: list[Path]) -> tuple[Schema, Moved]:
    """`schema` (its inner parts valid already) as a top level, and where references to its parts lead now."""
    found = _dereferenced(schema, schema)
    if not _is_object(found, found, 0):
        lost.append(("type",))
        return _wrapped(found), _into_value
    if not rules.refused_at_root:
        # The very object: its references are settled later.
        schema["type"] = "object"
        return schema, _stay
    found = _flat(found, found, rules.refused_at_root, lost, 0)
    for key in rules.refused_at_root & found.keys():
        del found[key]
        lost.append((key,))
    if found.get("type") != "object":
        found["type"] = "object"
    if rules.properties:
        found.setdefault("properties", {})
    return found, _stay


def _stay(reference: str) -> str:
    return reference


def _into_value(reference: str) -> str:
    if reference.startswith(("#/$defs", "#/definitions")):
        return reference
    return f"#/properties/{_WRAPPED}{reference[1:]}" if reference == "#" or reference.startswith("#/") else reference


def is_properties(schema: Schema) -> bool:
    """Whether `schema` has no keyword, and nothing but schemas as members."""
    return bool(schema) and not _KEYWORDS & schema.keys() and all(_is_schema(entry) for entry in schema.values())


def _is_schema(entry: Json) -> bool:
    return isinstance(entry, dict) and "type" in entry


def _dereferenced(schema: Schema, root: Schema) -> Schema:
    """`schema` with what its references name in their place; its own keywords win."""
    seen = set()
    while isinstance(schema.get("$ref"), str) and schema["$ref"] not in seen:
        seen.add(schema["$ref"])
        target = resolve(root, schema["$ref"])
        if not isinstance(target, dict):
            break
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: value for key, value in schema.items() if key != "$ref"}


def _is_object(schema: Schema, root: Schema, depth: int) -> bool:
    """Whether it is meant for objects; one that says nothing is."""
    kind = schema.get("type")
    if kind is not None:
        return kind == "object" or (isinstance(kind, list) and "object" in kind)
    if any(key in schema for key in _OF_OBJECTS):
        return True
    entries = [entry for key in _UNIONS for entry in schema.get(key, ()) if isinstance(entry, dict)]
    branches = [_dereferenced(entry, root) for entry in entries]
    if branches and depth < _DEPTH:
        return any(_is_object(branch, root, depth + 1) for branch in branches)
    return not any(key in schema for key in _OF_OTHERS)


def _wrapped(schema: Schema) -> Schema:
    outer = {key: schema[key] for key in _STAY if key in schema}
    inner = {key: value for key, value in schema.items() if key not in _STAY}
    return {**outer, "type": "object", "properties": {_WRAPPED: inner}, "required": [_WRAPPED]}


def _flat(schema: Schema, root: Schema, refused: frozenset[str], lost: list[Path], depth: int) -> Schema:
    """`schema` without unions at its top level."""
    found = dict(schema)
    for key in _UNIONS:
        if key not in refused or key not in found or depth > _DEPTH:
            continue
        entries = found.pop(key)
        given = [_dereferenced(entry, root) for entry in entries if isinstance(entry, dict)]
        branches = [_flat(entry, root, refused, lost, depth + 1) for entry in given if _is_object(entry, root, 0)]
        if key != "allOf":
            lost.append((key,))
        _join(found, branches, lost, every=key == "allOf")
    return found


def _join(found: Schema, branches: list[Schema], lost: list[Path], *, every: bool) -> None:
    """Take the branches into `found`. every: all of them hold, not any."""
    given: dict[str, list[Json]] = {}
    for branch in branches:
        for name, schema in (branch.get("properties") or {}).items():
            if schema not in given.setdefault(name, []):
                given[name].append(schema)
    union = "allOf" if every else "anyOf"
    own = found.get("properties") or {}
    joined = {name: entries[0] if len(entries) == 1 else {union: entries} for name, entries in given.items()}
    both = {name: _both(own[name], schema) for name, schema in joined.items() if name in own}
    if own or joined:
        found["properties"] = {**own, **joined, **both}
    needs = [branch.get("required") or [] for branch in branches]
    needed = [name for need in needs for name in need if every or all(name in other for other in needs)]
    if needed or "required" in found:
        found["required"] = list(dict.fromkeys([*found.get("required", []), *needed]))
    if branches and not every and all(branch.get("additionalProperties") is False for branch in branches):
        found.setdefault("additionalProperties", False)
    _keep(found, branches, every, lost)


def _keep(found: Schema, branches: list[Schema], every: bool, lost: list[Path]) -> None:
    """What is no part of an object's form: words about the branches, and definitions."""
    said = [entry["description"] for entry in (found, *branches) if entry.get("description")]
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
                lost.append((key,))


def _condition(schema: Schema) -> Schema:
    return {key: schema[key] for key in _CONDITION if key in schema}


def _both(own: Any, other: Any) -> Json:
    """A schema for what fits both."""
    if own == other or not isinstance(other, dict) or not isinstance(own, dict):
        return own
    if not (own.keys() & other.keys() or "$ref" in own or "$ref" in other):
        return {**own, **other}
    return {"allOf": [own, other]}
