"""Any schema that a real tool definition holds, as valid JSON Schema 2020-12 that a provider's format takes.

Descriptions, enums, defaults and keywords that are not known stay. A keyword whose value cannot be made sense of is
left out and named. Nothing is ever fetched: a reference out of the schema, or to nothing, becomes {} and is named.

Source: https://json-schema.org/draft/2020-12/json-schema-validation (and -core), and the older drafts and OpenAPI 3.0
where they differ (`items` as a list, `exclusiveMinimum: true`, `required: true` of a property).

A client sends the same definitions again in every turn, so the last thousand results are remembered, encoded.

Above it: `portable`. Below it: `keywords`, `root`, `references`, `type_words`, `formats`.
"""

from functools import lru_cache
from typing import NamedTuple

import msgspec

from pipelines.conversation import Json
from pipelines.tools.formats import FORMATS, Rules
from pipelines.tools.keywords import LISTED, MAPPED, SINGLE, Path, clean
from pipelines.tools.references import References
from pipelines.tools.root import as_root, is_properties
from pipelines.tools.type_words import LEGAL, Fragment, join, read_type

_REMEMBERED, _REMEMBERED_BYTES = 1024, 8192
"""How many results are remembered, and of how long a schema."""

_DEPTH = 128
"""How many steps into a schema are read; what lies deeper is {}, and named."""

_FLAGS = ("true", "True", "false", "False")


class Converted(NamedTuple):
    """A schema that a format takes (the same object where nothing had to change), and paths of what was lost."""

    schema: dict[str, Json]
    dropped: tuple[str, ...] = ()


def convert(schema: Json, format_name: str) -> Converted:
    """`schema` for the dialect `format_name`. KeyError for a dialect that is not known."""
    encoded = msgspec.json.encode(schema)
    look = _remembered if len(encoded) <= _REMEMBERED_BYTES else _converted
    changed, dropped = look(encoded, format_name)
    return Converted(schema if changed is None else msgspec.json.decode(changed), dropped)


def _converted(encoded: bytes, format_name: str) -> tuple[bytes | None, tuple[str, ...]]:
    """See `convert`; None where nothing had to change."""
    rules = FORMATS[format_name]
    reader = _Reader(rules)
    given = schema = msgspec.json.decode(encoded)
    if isinstance(given, dict) and is_properties(given):
        schema = {"type": "object", "properties": given}
    found, moved = as_root(reader.node(schema, ()), rules, reader.lost, len(encoded))
    reader.references.settle(found, moved, reader.lost)
    if found == given and not reader.lost:
        return None, ()
    if "2020-12" not in str(found.get("$schema", "2020-12")):
        del found["$schema"]
    return msgspec.json.encode(found), tuple(dict.fromkeys(".".join(path) for path in reader.lost))


_remembered = lru_cache(_REMEMBERED)(_converted)


class _Reader:
    """One schema. lost: where something was left out."""

    def __init__(self, rules: Rules) -> None:
        self.lost: list[Path] = []
        self.references = References()
        self._rules = rules

    def node(self, schema: Json, path: Path) -> dict[str, Json]:
        """What stands where a schema is expected, as one; a new object."""
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        if isinstance(schema, str):
            # A mere type's name, or words about the argument.
            known = read_type(schema)
            return {"description": schema} if known is None else self._complete(known)
        if not isinstance(schema, dict) or len(path) > _DEPTH:
            if schema is not None:
                self.lost.append(path)
            return {}
        found: dict[str, Json] = {}
        for key, value in schema.items():
            self._keyword(key, value, found, (*path, key))
        self._exclusive(schema, found)
        self._type(schema.get("type"), found, (*path, "type"))
        self._required(schema, found, path)
        self._tuple(schema, found)
        self.references.note(found, (*path, "$ref"))
        return self._complete(found)

    def _keyword(self, key: str, value: Json, found: dict[str, Json], path: Path) -> None:
        if key in ("type", "required"):
            # These depend on their neighbours; the place in the order is kept.
            found[key] = None
        elif key == "items" and isinstance(value, list):
            found["prefixItems"] = [self.node(entry, (*path, str(place))) for place, entry in enumerate(value)]
        elif key in SINGLE:
            if value is not None:
                found[key] = self._single(key, value, path)
        elif key in LISTED:
            self._listed(key, value, found, path)
        elif key in MAPPED:
            self._mapped(key, value, found, path)
        else:
            clean(key, value, found, path, self.lost)

    def _single(self, key: str, value: Json, path: Path) -> Json:
        plain = self._rules.booleans or key in ("additionalProperties", "unevaluatedItems", "unevaluatedProperties")
        return value if plain and isinstance(value, bool) else self.node(value, path)

    def _listed(self, key: str, value: Json, found: dict[str, Json], path: Path) -> None:
        entries = value if isinstance(value, list) else [] if value is None else [value]
        if entries:
            found[key] = [self._inner(entry, (*path, str(place))) for place, entry in enumerate(entries)]

    def _mapped(self, key: str, value: Json, found: dict[str, Json], path: Path) -> None:
        if isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value):
            value = {str(entry["name"]): {k: v for k, v in entry.items() if k != "name"} for entry in value}
        if isinstance(value, dict):
            odd = key == "properties" and _names(value.get("required"))
            entries = [(name, entry) for name, entry in value.items() if not (odd and name == "required")]
            found[key] = {
                name: entry if key == "dependencies" and _names(entry) else self._inner(entry, (*path, name))
                for name, entry in entries
            }
        elif value is not None:
            self.lost.append(path)

    def _inner(self, value: Json, path: Path) -> Json:
        return value if isinstance(value, bool) and self._rules.booleans else self.node(value, path)

    def _exclusive(self, schema: dict[str, Json], found: dict[str, Json]) -> None:
        """Draft 4: a boolean beside the bound."""
        for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if _is_true(schema.get(key)) and bound in found:
                found[key] = found.pop(bound)

    def _type(self, value: Json, found: dict[str, Json], path: Path) -> None:
        if "type" not in found:
            return
        fragment = self._read(value, path)
        if fragment is not None and isinstance(fragment.get("type"), str | list):
            found["type"] = fragment["type"]
        else:
            del found["type"]
        for key, inner in (fragment or {}).items():
            found.setdefault(key, inner)

    def _read(self, value: Json, path: Path) -> Fragment | None:
        """What `type` says. A list with nothing but legal words stays a list, however short."""
        if isinstance(value, str) and value in LEGAL:
            return {"type": value}
        fragment: Fragment | None = None
        if isinstance(value, list):
            words = [word for word in value if isinstance(word, str)]
            legal = list(dict.fromkeys(words))
            if legal and len(words) == len(value) and LEGAL.issuperset(legal):
                return {"type": legal}
            fragment = join([self._read("null" if word is None else word, path) for word in value])
        elif isinstance(value, dict):
            fragment = self.node(value, path)
        elif isinstance(value, str):
            fragment = read_type(value)
        if fragment is None and value is not None:
            self.lost.append(path)
        return fragment

    def _required(self, schema: dict[str, Json], found: dict[str, Json], path: Path) -> None:
        """The list, and what stands in odd places: a flag of a property, a member of `properties`, one name."""
        value, properties = schema.get("required"), schema.get("properties")
        names = [value] if isinstance(value, str) and value not in _FLAGS else value
        listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        if isinstance(names, list) and len(listed) < len(names):
            self.lost.append((*path, "required"))
        kept = found.get("properties")
        if isinstance(properties, dict) and isinstance(kept, dict):
            listed += properties["required"] if "required" in properties and "required" not in kept else []
            listed += [name for name, entry in properties.items() if _flagged(entry)]
        if listed or (isinstance(value, list) and not value):
            found["required"] = list(dict.fromkeys(listed))
        elif "required" in schema:
            del found["required"]

    def _tuple(self, schema: dict[str, Json], found: dict[str, Json]) -> None:
        """Drafts before 2020-12: `items` as a list, and `additionalItems` for the rest."""
        if isinstance(schema.get("items"), list) and "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
        if found.get("prefixItems") == []:
            del found["prefixItems"]

    def _complete(self, found: dict[str, Json]) -> dict[str, Json]:
        """`items` for whatever may be an array, where the format asks for them."""
        kind = found.get("type")
        is_array = kind == "array" or (isinstance(kind, list) and "array" in kind)
        if is_array and self._rules.items:
            found.setdefault("items", {})
        return found


def _names(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _flagged(entry: Json) -> bool:
    return isinstance(entry, dict) and _is_true(entry.get("required"))


def _is_true(flag: Json) -> bool:
    return flag is True or flag in ("true", "True")
