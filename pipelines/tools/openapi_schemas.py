"""Schemas of an OpenAPI document as JSON Schemas that stand alone: what they refer to comes along in `$defs`.

OpenAPI 3.1 has JSON Schema 2020-12 as it is; 3.0 has words of its own (https://spec.openapis.org/oas/v3.0.4.html#schema-object):
`nullable`, `exclusiveMinimum` as a yes or no. What is `readOnly` is not for requests, and is not required in them,
whichever branch of an `allOf` says so. Only references within the document are followed; a reference to another one
cannot be used, and is never fetched.

Above it: `openapi`. Below it: `references`. Outside it: everything of the document that is no schema.
"""

from pipelines.conversation import Json
from pipelines.tools.references import resolve, step_name

MOST_NODES, MOST_NODES_IN_ALL = 50_000, 1_000_000
"""Objects and lists of one operation's schema, written out, and of all operations of a document."""

_ELSEWHERE = {"nullable", "discriminator", "xml", "externalDocs", "example"}
_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_PLAIN = {"enum", "const", "default", "examples", "required"}


class Unusable(Exception):
    """An operation cannot be a tool; the words say why."""


class Nodes:
    """Counts what is written out for all operations of a document."""

    def __init__(self) -> None:
        self._all = 0

    def count(self) -> None:
        """One more. Raises Unusable where there are too many."""
        self._all += 1
        if self._all > MOST_NODES_IN_ALL:
            raise Unusable("the document's schemas are too large together")


class Schemas:
    """Rewrites schemas of one document for one tool. definitions: what they refer to, by its name there.

    nodes: those of the document.
    """

    def __init__(self, document: Json, nodes: Nodes) -> None:
        self.definitions: dict[str, Json] = {}
        self._document = document
        self._names: dict[str, str] = {}
        self._nodes = 0
        self._in_all = nodes

    def taken(self, schema: Json) -> Json:
        """The schema by itself. Raises Unusable for one that refers to nothing here, or is too large."""
        self._count()
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Unusable("it has a schema that is none")
        if isinstance(schema.get("allOf"), list) and (answers := self._answers(schema, set())):
            schema = self._asked(schema, answers, frozenset())
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
        if not isinstance(reference, str):
            raise Unusable("it has a reference that is none")
        if reference not in self._names:
            found = resolve(self._document, reference)
            if found is None:
                raise Unusable("it refers to a schema that is not in the document")
            wanted = step_name(reference.rpartition("/")[2]) or "schema"
            name = wanted
            while name in self.definitions:
                name += "_"
            self._names[reference] = name
            self.definitions[name] = True
            self.definitions[name] = self.taken(found)
        name = self._names[reference]
        return "#/$defs/" + name.replace("~", "~0").replace("/", "~1").replace("%", "%25")

    def _answers(self, schema: Json, seen: set[str]) -> set[str]:
        """Names of properties that are for answers only, over all branches of `allOf`. seen: references behind it."""
        self._count()
        if not isinstance(schema, dict):
            return set()
        found = _read_only(schema)
        for branch in _branches(schema):
            reference = branch.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                seen.add(reference)
                found |= self._answers(resolve(self._document, reference), seen)
            found |= self._answers(branch, seen)
        return found

    def _asked(self, schema: dict[str, Json], answers: set[str], above: frozenset[str]) -> dict[str, Json]:
        """The schema without the answers' names in what it and its branches require.

        A branch that refers to a schema which requires one is replaced by that schema: elsewhere it stays as it is.
        above: references on the way here.
        """
        self._count()
        made = dict(schema)
        if isinstance(schema.get("required"), list):
            made["required"] = [name for name in schema["required"] if name not in answers]
        if isinstance(schema.get("allOf"), list):
            made["allOf"] = [
                self._asked(one, answers, above) if isinstance(one, dict) else one for one in schema["allOf"]
            ]
        reference = schema.get("$ref")
        target = resolve(self._document, reference) if isinstance(reference, str) and reference not in above else None
        if isinstance(target, dict):
            free = self._asked(target, answers, above | {str(reference)})
            if free != target:
                del made["$ref"]
                made["allOf"] = [free, *made.get("allOf", ())]
        return made

    def _count(self) -> None:
        self._in_all.count()
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise Unusable("its schema is too large")


def _branches(schema: dict[str, Json]) -> list[dict[str, Json]]:
    branches = schema.get("allOf")
    return [one for one in branches if isinstance(one, dict)] if isinstance(branches, list) else []


def _read_only(schema: dict[str, Json]) -> set[str]:
    """Names of the schema's own properties that are for answers only."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return set()
    return {name for name, one in properties.items() if isinstance(one, dict) and one.get("readOnly") is True}


def _modern(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema without the words of OpenAPI 3.0, and without what is for answers only."""
    for exclusive, bound in _BOUNDS:
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        answers = _read_only(schema)
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
