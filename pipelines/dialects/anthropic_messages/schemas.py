"""What Anthropic's strict mode can hold of a JSON Schema.

Source: Anthropic docs, "Structured outputs", "JSON Schema limitations": every object says
`additionalProperties: false`; no recursion, no references outside, no bounds on numbers, lengths or (beyond a
`minItems` of 0 or 1) arrays.

Above it: `request_writer`. Below it: nothing.
"""

from typing import NamedTuple

from pipelines.conversation import Json

_UNSUPPORTED = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "contains", "minContains", "maxContains", "prefixItems", "minProperties", "maxProperties",
    "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties",
    "unevaluatedItems", "if", "then", "else", "not", "oneOf", "$dynamicRef",
})  # fmt: skip
_LISTED = ("anyOf", "allOf")
_DEPTH = 32


def holds_strictly(schema: Json) -> bool:
    """Whether strict mode takes `schema` as it stands. Schemas nested deeper than 32 are not taken."""
    return isinstance(schema, dict) and schema.get("type") == "object" and _fits(schema, _Walk(schema, {}), (), 0)


class _Walk(NamedTuple):
    """One schema. held: references that were found to fit, and the greatest depth at which they did."""

    root: dict[str, Json]
    held: dict[str, int]


def _fits(schema: Json, walk: _Walk, above: tuple[str, ...], depth: int) -> bool:
    if not isinstance(schema, dict) or depth > _DEPTH or _UNSUPPORTED & schema.keys():
        return False
    if schema.get("minItems") not in (None, 0, 1):
        return False
    kind = schema.get("type")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
    if is_object and schema.get("additionalProperties") is not False:
        return False
    reference = schema.get("$ref")
    if reference is not None and not _reference_fits(reference, walk, above, depth):
        return False
    return all(_fits(inner, walk, above, depth + 1) for inner in _inner(schema))


def _inner(schema: dict[str, Json]) -> list[Json]:
    found: list[Json] = [schema["items"]] if "items" in schema else []
    properties = schema.get("properties")
    found += properties.values() if isinstance(properties, dict) else []
    for key in _LISTED:
        listed = schema.get(key)
        found += listed if isinstance(listed, list) else []
    return found


def _reference_fits(reference: Json, walk: _Walk, above: tuple[str, ...], depth: int) -> bool:
    if not isinstance(reference, str) or reference in above or not reference.startswith("#/"):
        return False
    if walk.held.get(reference, -1) >= depth:
        return True
    target: Json = walk.root
    for step in reference[2:].split("/"):
        target = target.get(step) if isinstance(target, dict) else None
    if not _fits(target, walk, (*above, reference), depth + 1):
        return False
    walk.held[reference] = depth
    return True
