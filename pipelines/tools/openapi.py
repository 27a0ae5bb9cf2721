"""An OpenAPI 3.0 or 3.1 document as tools: one for each operation.

    paths -> method -> Operation(name, description, schema of the arguments, where each argument goes)

An argument is named as its parameter is, and `body` is what is sent as the body; of two parameters of one name the
later one has its place behind it (`id_query`). An operation that cannot be asked by JSON, a form or plain text, or
whose parameters are written in a way that is not known here, is left out with a reason.

Source: https://spec.openapis.org/oas/v3.1.1.html (and v3.0.4).

Above it: `openapi_requests`, `actors.tools.openapi_source`. Below it: `openapi_schemas`. Outside it: reading the
document, asking the service.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from pipelines.conversation import Json
from pipelines.tools.openapi_schemas import Nodes, Schemas, Unusable
from pipelines.tools.references import resolve

MOST_OPERATIONS = 1_000
"""Operations that are taken, and ones that are left out with a reason."""

_UNDERLINED = 16
"""Operations of one name that are told apart by underlines; further ones have numbers."""

Place = Literal["path", "query", "header", "cookie"]
Style = Literal["form", "simple", "deepObject", "spaceDelimited", "pipeDelimited", "json"]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_STYLES: Mapping[Place, tuple[Style, ...]] = {
    "path": ("simple",),
    "query": ("form", "deepObject", "spaceDelimited", "pipeDelimited"),
    "header": ("simple",),
    "cookie": ("form",),
}
"""Of each place, the usual one first."""

_NOT_PARAMETERS = {"accept", "content-type", "authorization"}
"""Headers that a document's parameters do not set (Parameter Object, `name`)."""

_FORM, _TEXT = "application/x-www-form-urlencoded", "text/plain"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Parameter(NamedTuple):
    """argument: its name among the tool's arguments; name: at the service. explode: lists and objects written out."""

    argument: str
    name: str
    place: Place
    style: Style
    explode: bool


class Operation(NamedTuple):
    """One operation. method: in upper case; path: with `{name}` for parameters. body: its media type, "" for none.

    encoding: how members of a form are written, by their names, where the document says so. given: its `operationId` as
    the document has it, "" where it has none.
    """

    name: str
    description: str
    schema: dict[str, Json]
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: str
    encoding: Mapping[str, Parameter] = MappingProxyType({})
    given: str = ""


class Left(NamedTuple):
    """An operation that is no tool, and why. given: as of `Operation`."""

    name: str
    why: str
    given: str = ""


class _Reading(NamedTuple):
    """One document. presented: see `operations_of`."""

    document: Json
    presented: frozenset[tuple[Place, str]]


def operations_of(
    document: Json, only: Iterable[str] = (), presented: Iterable[tuple[Place, str]] = ()
) -> tuple[tuple[Operation, ...], tuple[Left, ...]]:
    """The document's operations, and those that are left out. Raises Unusable for what is no such document.

    only: names, or `operationId`s, of those that are wanted, all where it is empty; nothing is read of others.
    presented: where credentials are sent, and the names that they have there: no argument can be one of these.
    """
    if not isinstance(document, dict) or not re.match(r"3\.[01](\.|$)", str(document.get("openapi", ""))):
        raise Unusable("this is no OpenAPI document of version 3.0 or 3.1")
    made: dict[str, Operation] = {}
    left: list[Left] = []
    nodes = Nodes()
    names: dict[str, int] = {}
    wanted = frozenset(only)
    reading = _Reading(document, frozenset(_of_place(place, name) for place, name in presented))
    for path, item, method, operation in _listed(document):
        given = _given(operation)
        name = _free(_name(given or method + path) or method, names)
        if wanted and wanted.isdisjoint((given, name)):
            continue
        try:
            one = _operation(Schemas(document, nodes), reading, name, path, item, method, operation)
            made[name] = one._replace(given=given)
        except Unusable as error:
            left.append(Left(name, str(error), given))
        except Exception as error:
            # A document may have anything anywhere: what is not as it should be loses the operation that has it.
            left.append(Left(name, f"it is not written as an operation is ({type(error).__name__})", given))
        if max(len(made), len(left)) > MOST_OPERATIONS:
            words = "more of them are named in `only`" if wanted else "name those that are wanted in `only`"
            raise Unusable(f"no more than {MOST_OPERATIONS} operations can be taken: {words}")
    return tuple(made.values()), tuple(left)


def _listed(document: dict[str, Json]) -> Iterable[tuple[str, dict[str, Json], str, dict[str, Json]]]:
    paths = document.get("paths")
    for path, given in paths.items() if isinstance(paths, dict) else ():
        item = _here(document, given)
        if item is None or not isinstance(path, str) or not path.startswith("/"):
            continue
        for method in _METHODS:
            operation = item.get(method)
            if isinstance(operation, dict):
                yield path, item, method, operation


def _here(document: Json, given: Json) -> dict[str, Json] | None:
    """The object, or the one in the document that it refers to."""
    for _ in range(8):
        if not isinstance(given, dict):
            return None
        if "$ref" not in given:
            return given
        given = resolve(document, given["$ref"])
    return None


def _given(operation: dict[str, Json]) -> str:
    given = operation.get("operationId")
    return given.strip() if isinstance(given, str) else ""


def _name(wanted: str) -> str:
    return _UNSAFE.sub("_", wanted).strip("_")


def _free(name: str, taken: dict[str, int]) -> str:
    """The name, with something behind it where it is taken; it is taken then. taken: how often one was wanted again."""
    found = name
    while found in taken:
        taken[name] += 1
        found = name + ("_" * taken[name] if taken[name] < _UNDERLINED else f"_{taken[name]}")
    taken[found] = 0
    return found


def _operation(
    schemas: Schemas,
    reading: _Reading,
    name: str,
    path: str,
    item: dict[str, Json],
    method: str,
    operation: dict[str, Json],
) -> Operation:
    properties: dict[str, Json] = {}
    required: list[str] = []
    parameters: list[Parameter] = []
    for given in _parameters(reading, item, operation):
        parameter = _parameter(given, properties)
        parameters.append(parameter)
        properties[parameter.argument] = _described(schemas.taken(_schema(given)), given)
        if given.get("required") is True or parameter.place == "path":
            required.append(parameter.argument)
    missing = set(re.findall(r"\{([^}]*)\}", path)) - {one.name for one in parameters if one.place == "path"}
    if missing:
        raise Unusable("its path has a parameter that is not described")
    body, encoding = "", dict[str, Parameter]()
    if (asked := operation.get("requestBody")) is not None:
        body, described, needed, encoding = _body(reading.document, asked, schemas)
        properties["body"] = described
        required += ["body"] if needed else []
    schema: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
    schema |= {"required": required} if required else {}
    schema |= {"$defs": schemas.definitions} if schemas.definitions else {}
    words = [operation.get("summary"), operation.get("description")]
    description = "\n\n".join(dict.fromkeys(word.strip() for word in words if isinstance(word, str) and word.strip()))
    return Operation(name, description, schema, method.upper(), path, tuple(parameters), body, encoding)


def _parameters(reading: _Reading, item: dict[str, Json], operation: dict[str, Json]) -> list[dict[str, Json]]:
    """Those of the path and those of the operation, which come before them where they are the same; no credentials."""
    found: dict[tuple[Json, Json], dict[str, Json]] = {}
    for holder in (item, operation):
        for given in holder.get("parameters") or ():
            one = _here(reading.document, given)
            if one is None or not isinstance(one.get("name"), str) or one.get("in") not in get_args(Place):
                raise Unusable("it has a parameter that is not in the document, or without name or place")
            place, name = _of_place(one["in"], one["name"])
            if (place, name) not in reading.presented and (place != "header" or name not in _NOT_PARAMETERS):
                found[one["name"], one["in"]] = one
    return list(found.values())


def _of_place(place: Place, name: str) -> tuple[Place, str]:
    """What tells a parameter from others: of a header's name not the case (RFC 9110, section 5.1)."""
    return place, name.lower() if place == "header" else name


def _parameter(given: dict[str, Json], taken: Mapping[str, Json]) -> Parameter:
    place: Place = given["in"]
    style = "json" if isinstance(given.get("content"), dict) else given.get("style", _STYLES[place][0])
    if style not in (*_STYLES[place], "json"):
        raise Unusable(f"its parameter {given['name']} has the style {style}, which is not known here")
    argument = given["name"]
    while argument in taken or argument == "body":
        argument += f"_{place}"
    explode = given.get("explode", style in ("form", "deepObject"))
    return Parameter(argument, given["name"], place, style, explode is True)


def _schema(given: dict[str, Json]) -> Json:
    """What a parameter, or a body of one media type, may be; anything where nothing is said."""
    content = given.get("content")
    if isinstance(content, dict) and content:
        given = next(iter(content.values()))
    return given.get("schema", {}) if isinstance(given, dict) else {}


def _described(schema: Json, given: dict[str, Json]) -> Json:
    description = given.get("description")
    if isinstance(schema, dict) and isinstance(description, str) and "description" not in schema:
        return {**schema, "description": description}
    return schema


def _body(document: Json, given: Json, schemas: Schemas) -> tuple[str, Json, bool, dict[str, Parameter]]:
    """The media type that is sent, its schema, whether it must be there, and how members of a form are written."""
    asked = _here(document, given)
    content = asked.get("content") if asked is not None else None
    if asked is None or not isinstance(content, dict):
        raise Unusable("its body is not described")
    for wanted in (_is_json, _FORM.__eq__, _TEXT.__eq__):
        for media_type, described in content.items():
            plain = str(media_type).partition(";")[0].strip().lower()
            if wanted(plain) and isinstance(described, dict):
                schema = schemas.taken(described.get("schema", {}))
                encoding = _encoding(described.get("encoding")) if plain == _FORM else {}
                return plain, _described(schema, asked), asked.get("required") is True, encoding
    raise Unusable("its body is neither JSON, a form nor plain text")


def _encoding(given: Json) -> dict[str, Parameter]:
    """Members of a form that are not written in the usual way (Encoding Object): as parameters of a query are."""
    found: dict[str, Parameter] = {}
    for name, one in given.items() if isinstance(given, dict) else ():
        if not isinstance(one, dict):
            continue
        said = {word: one[word] for word in ("style", "explode") if word in one}
        if said:
            found[name] = _parameter({"name": name, "in": "query", **said}, {})
        elif _is_json(str(one.get("contentType", "")).partition(";")[0].strip().lower()):
            found[name] = Parameter(name, name, "query", "json", explode=False)
    return found


def _is_json(media_type: str) -> bool:
    return media_type in ("application/json", "*/*", "application/*") or media_type.endswith("+json")
