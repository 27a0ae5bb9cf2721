"""Schemas of an OpenAPI document as JSON Schemas that stand alone: what they refer to comes along in `$defs`.

OpenAPI 3.1 has JSON Schema 2020-12 as it is; 3.0 has words of its own (https://spec.openapis.org/oas/v3.0.4.html#schema-object):
`nullable`, `exclusiveMinimum` as a yes or no. What is `readOnly` is not for requests. Only references within the
document are followed; a reference to another one cannot be used, and is never fetched.

Above it: `openapi`. Below it: `references`. Outside it: everything of the document that is no schema.
"""

from typing import cast

from pipelines.conversation import Json
from pipelines.tools.references import resolve

MOST_NODES = 50_000
"""Objects and lists of one operation's schema, written out."""

_ELSEWHERE = {"nullable", "discriminator", "xml", "externalDocs", "example"}
_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_PLAIN = {"enum", "const", "default", "examples", "required"}


class Unusable(Exception):
    """An operation cannot be a tool; the words say why."""


class Schemas:
    """Rewrites schemas of one document for one tool. definitions: what they refer to, by its name there."""

    def __init__(self, document: Json) -> None:
        self.definitions: dict[str, Json] = {}
        self._document = document
        self._names: dict[str, str] = {}
        self._nodes = 0

    def taken(self, schema: Json) -> Json:
        """The schema by itself. Raises Unusable for one that refers to nothing here, or is too large."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise Unusable("its schema is too large")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Unusable("it has a schema that is none")
        made: dict[str, Json] = {}
        for word, value in schema.items():
            if word == "$ref":
                made[word] = self._reference(value)
            elif word in _BY_NAME and isinstance(value, dict):
                made[word] = {name: self.taken(one) for name, one in value.items()}
            elif word in _PLAIN or not isinstance(value, dict | list):
                made[word] = value
            elif isinstance(value, dict):
                made[word] = value if word in _ELSEWHERE or word.startswith("x-") else self.taken(value)
            else:
                made[word] = [self.taken(one) if isinstance(one, dict | bool) else one for one in value]
        return _modern(made)

    def _reference(self, reference: Json) -> str:
        if reference not in self._names:
            found = resolve(self._document, reference)
            if found is None:
                raise Unusable("it refers to a schema that is not in the document")
            wanted = str(reference).rpartition("/")[2] or "schema"
            name = wanted
            while name in self.definitions:
                name += "_"
            self._names[reference] = name
            self.definitions[name] = True
            self.definitions[name] = self.taken(found)
        name = self._names[cast(str, reference)]
        return "#/$defs/" + name.replace("~", "~0").replace("/", "~1")


def _modern(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema without the words of OpenAPI 3.0, and without what is for answers only."""
    for exclusive, bound in _BOUNDS:
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        answers = {name for name, one in properties.items() if isinstance(one, dict) and one.get("readOnly") is True}
        schema["properties"] = {name: one for name, one in properties.items() if name not in answers}
        if answers and isinstance(schema.get("required"), list):
            schema["required"] = [name for name in schema["required"] if name not in answers]
    nullable = schema.get("nullable") is True
    plain = {word: value for word, value in schema.items() if word not in _ELSEWHERE and not word.startswith("x-")}
    if not nullable:
        return plain
    if isinstance(plain.get("type"), str) and "enum" not in plain:
        return {**plain, "type": [plain["type"], "null"]}
    return {"anyOf": [plain, {"type": "null"}]}
