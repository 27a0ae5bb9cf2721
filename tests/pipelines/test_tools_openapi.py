"""OpenAPI documents as tools, and arguments as requests."""

from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from yarl import URL

from pipelines.errors import ToolFailed
from pipelines.tools import openapi_schemas
from pipelines.tools.admission import usable
from pipelines.tools.catalogue import Tool
from pipelines.tools.openapi import Operation, operations_of
from pipelines.tools.openapi_requests import Asked, request_of
from pipelines.tools.openapi_schemas import Unusable

BASE = "https://api.example/v1"


def document(paths: dict[str, Any], version: str = "3.1.0", **components: Any) -> dict[str, Any]:
    return {"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths, "components": components}


def only(operation: dict[str, Any], path: str = "/things", version: str = "3.1.0", **components: Any) -> Operation:
    made, left = operations_of(document({path: {"get": operation}}, version, **components))
    assert not left
    Draft202012Validator.check_schema(made[0].schema)
    return made[0]


def parameter(name: str, place: str = "query", **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": {"type": "string"}, **more}


def asked(parameters: list[dict[str, Any]], arguments: dict[str, Any], path: str = "/things") -> Asked:
    return request_of(only({"parameters": parameters}, path), BASE, arguments)


def test_an_operation_is_a_tool_with_all_its_arguments() -> None:
    made, left = operations_of(
        document(
            {
                "/pets/{id}": {
                    "parameters": [parameter("id", "path", required=True, description="Which pet.")],
                    "put": {
                        "operationId": "pets.update",
                        "summary": "Change a pet.",
                        "description": "All of it.",
                        "parameters": [parameter("id"), parameter("body", "header"), parameter("Accept", "header")],
                        "requestBody": {
                            "required": True,
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                        },
                    },
                }
            },
            schemas={
                "Pet": {"type": "object", "properties": {"parent": {"$ref": "#/components/schemas/Pet"}}},
            },
        )
    )
    assert not left
    (pet,) = made
    assert (pet.name, pet.description) == ("pets_update", "Change a pet.\n\nAll of it.")
    assert (pet.method, pet.path, pet.body) == ("PUT", "/pets/{id}", "application/json")
    assert list(pet.schema["properties"]) == ["id", "id_query", "body_header", "body"]
    assert pet.schema["properties"]["id"] == {"type": "string", "description": "Which pet."}
    assert pet.schema["required"] == ["id", "body"]
    assert pet.schema["properties"]["body"] == {"$ref": "#/$defs/Pet"}
    assert pet.schema["$defs"]["Pet"]["properties"]["parent"] == {"$ref": "#/$defs/Pet"}
    request = request_of(pet, BASE, {"id": "a/b", "id_query": "q", "body_header": "h", "body": {"parent": {}}})
    assert (request.method, request.url) == ("PUT", f"{BASE}/pets/a%2Fb?id=q")
    assert request.headers["body"] == "h"
    assert request.headers["content-type"] == "application/json"
    assert request.body == b'{"parent": {}}'


def test_references_to_parameters_bodies_and_path_items_are_followed() -> None:
    made, left = operations_of(
        {
            **document({"/a": {"$ref": "#/components/pathItems/A"}}),
            "components": {
                "pathItems": {
                    "A": {
                        "post": {
                            "parameters": [{"$ref": "#/components/parameters/limit"}],
                            "requestBody": {"$ref": "#/components/requestBodies/Words"},
                        }
                    }
                },
                "parameters": {"limit": parameter("limit")},
                "requestBodies": {"Words": {"content": {"text/plain": {"schema": {"type": "string"}}}}},
            },
        }
    )
    assert not left
    assert (made[0].name, made[0].body) == ("post_a", "text/plain")
    assert request_of(made[0], BASE, {"limit": "2", "body": "wörter"})[1:] == (
        f"{BASE}/a?limit=2",
        {"accept": "application/json, text/*;q=0.9, */*;q=0.1", "content-type": "text/plain"},
        "wörter".encode(),
    )


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"parameters": [{"$ref": "other.json#/a"}]}, "not in the document"),
        ({"parameters": [{"$ref": "http://169.254.169.254/#/a"}]}, "not in the document"),
        ({"parameters": [parameter("a", schema={"$ref": "http://evil.example/schema"})]}, "not in the document"),
        ({"parameters": [parameter("a", schema={"$ref": "#/components/schemas/Missing"})]}, "not in the document"),
        ({"parameters": [parameter("a", "path", style="matrix", required=True)]}, "style matrix"),
        ({"parameters": [parameter("a", "body")]}, "without name or place"),
        ({"requestBody": {"content": {"multipart/form-data": {"schema": {}}}}}, "neither JSON"),
        ({"requestBody": {"$ref": "#/nowhere"}}, "not described"),
        ({"parameters": [parameter("a", schema="no schema")]}, "schema that is none"),
    ],
)
def test_what_cannot_be_asked_is_left_out_with_a_reason(operation: dict[str, Any], why: str) -> None:
    good = {"operationId": "good"}
    made, left = operations_of(document({"/a": {"get": {**operation, "operationId": "bad"}}, "/b": {"get": good}}))
    assert [one.name for one in made] == ["good"]
    assert [one.name for one in left] == ["bad"]
    assert why in left[0].why


@pytest.mark.parametrize("content", [None, [], "text", {}, {"openapi": "2.0"}, {"swagger": "2.0"}, {"openapi": "3.2"}])
def test_what_is_no_document_is_refused(content: Any) -> None:
    with pytest.raises(Unusable):
        operations_of(content)


def test_a_path_whose_parameter_is_not_described_is_left_out() -> None:
    made, left = operations_of(document({"/a/{id}": {"get": {}}}))
    assert not made
    assert "path" in left[0].why


def test_the_words_of_the_older_version_become_those_of_json_schema() -> None:
    schema = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {
            "id": {"type": "string", "readOnly": True},
            "name": {"type": "string", "nullable": True, "example": "Ada", "xml": {"name": "n"}},
            "kind": {"enum": ["a"], "type": "string", "nullable": True},
            "age": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False},
            "example": {"type": "string"},
            "link": {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Link"}]},
        },
    }
    made = only(
        {"requestBody": {"content": {"application/json": {"schema": schema}}}}, version="3.0.3", schemas={"Link": {}}
    )
    body = made.schema["properties"]["body"]
    assert body["required"] == ["name"]
    assert body["properties"] == {
        "name": {"type": ["string", "null"]},
        "kind": {"anyOf": [{"enum": ["a"], "type": "string"}, {"type": "null"}]},
        "age": {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
        "example": {"type": "string"},
        "link": {"anyOf": [{"allOf": [{"$ref": "#/$defs/Link"}]}, {"type": "null"}]},
    }


def test_what_an_answer_alone_has_is_not_required_whichever_branch_says_so() -> None:
    parts = {
        "Base": {"type": "object", "required": ["id", "name"], "properties": {"name": {"type": "string"}}},
        "Middle": {"allOf": [{"$ref": "#/components/schemas/Base"}], "description": "kept"},
        "Pet": {
            "allOf": [
                {"$ref": "#/components/schemas/Middle"},
                {"properties": {"id": {"type": "string", "readOnly": True}, "age": {"type": "integer"}}},
                {"required": ["age", "id"]},
            ],
            "required": ["id"],
        },
        "Other": {"allOf": [{"$ref": "#/components/schemas/Base"}]},
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
    other = parameter("other", schema={"$ref": "#/components/schemas/Other"})
    schema = only({"requestBody": body, "parameters": [other]}, schemas=parts).schema
    check = Draft202012Validator(schema).is_valid
    assert check({"body": {"name": "Ada", "age": 1}})
    assert not check({"body": {"name": "Ada"}})
    assert not check({"body": {"age": 1}})
    assert "kept" in str(schema)
    # Where nobody says that it is for answers only it is required as before.
    assert not check({"other": {"name": "Ada"}})


def test_a_branch_that_is_itself_is_left_out() -> None:
    reference = {"$ref": "#/components/schemas/L"}
    loop = {"allOf": [reference, {"properties": {"id": {"readOnly": True}}}], "required": ["id"]}
    given = {"parameters": [parameter("a", schema=reference)]}
    _, left = operations_of(document({"/a": {"get": given}}, schemas={"L": loop}))
    assert "too large" in left[0].why


@pytest.mark.parametrize("name", ["Response[User]", "a b", "50%", "%41", "a/b~c", "Größe"])
def test_a_reference_may_be_written_with_per_cent_signs(name: str) -> None:
    pointer = quote(name.replace("~", "~0").replace("/", "~1"), safe="")
    given = parameter("a", schema={"$ref": f"#/components/schemas/{pointer}"})
    schema = only({"parameters": [given]}, schemas={name: {"type": "integer"}}).schema
    check = Draft202012Validator(usable(Tool(name="t", description="", schema=schema, source="openapi:x")).schema)
    assert check.is_valid({"a": 1})
    assert not check.is_valid({"a": "q"})


def test_a_schema_that_grows_without_end_is_left_out() -> None:
    reference = "#/components/schemas/L"
    levels: dict[str, Any] = {
        f"L{level}": {"properties": {name: {"$ref": f"{reference}{level + 1}"} for name in "abc"}}
        for level in range(30)
    }
    made = only({"parameters": [parameter("a", schema={"$ref": f"{reference}0"})]}, schemas={**levels, "L30": {}})
    assert len(made.schema["$defs"]) == 31
    shared: Any = {"type": "string"}
    for _ in range(20):
        shared = {"anyOf": [shared, shared]}
    _, left = operations_of(document({"/a": {"get": {"parameters": [parameter("a", schema=shared)]}}}))
    assert "too large" in left[0].why


@pytest.mark.parametrize(
    ("more", "value", "query"),
    [
        ({}, ["a", "b&c"], "x=a&x=b%26c"),
        ({"explode": False}, ["a", "b"], "x=a%2Cb"),
        ({"style": "spaceDelimited"}, ["a", "b"], "x=a%20b"),
        ({"style": "pipeDelimited"}, ["a", "b"], "x=a%7Cb"),
        ({}, {"k": 1, "l": True}, "k=1&l=true"),
        ({"explode": False}, {"k": 1, "l": "v"}, "x=k%2C1%2Cl%2Cv"),
        ({"style": "deepObject"}, {"k": "v"}, "x%5Bk%5D=v"),
        ({"content": {"application/json": {"schema": {}}}}, {"k": [1]}, "x=%7B%22k%22%3A%20%5B1%5D%7D"),
        ({}, 1.5, "x=1.5"),
        ({}, "a b+c/ü?#", "x=a%20b%2Bc%2F%C3%BC%3F%23"),
    ],
)
def test_values_of_a_query_in_their_styles(more: dict[str, Any], value: Any, query: str) -> None:
    assert asked([parameter("x", **more)], {"x": value}).url == f"{BASE}/things?{query}"


def test_headers_and_cookies() -> None:
    parameters = [parameter("x", "header"), parameter("c", "cookie"), parameter("d", "cookie")]
    request = asked(parameters, {"x": ["1", "2"], "c": "a; b", "d": 2})
    assert request.headers["x"] == "1,2"
    assert request.headers["cookie"] == "c=a%3B%20b; d=2"


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\0", "ü"])
def test_a_header_carries_nothing_that_ends_it(value: str) -> None:
    with pytest.raises(ToolFailed):
        asked([parameter("x", "header")], {"x": value})


@pytest.mark.parametrize("value", ["..", ".", "", [], {}])
def test_a_path_does_not_climb(value: Any) -> None:
    with pytest.raises(ToolFailed):
        asked([parameter("id", "path", required=True)], {"id": value}, "/a/{id}/b")
    with pytest.raises(ToolFailed):
        asked(
            [parameter("id", "path", required=True), parameter("to", "path", required=True)],
            {"id": ".", "to": "."},
            "/a/{id}{to}",
        )


@pytest.mark.parametrize("place", ["path", "query", "header", "cookie", "body"])
def test_half_of_a_surrogate_pair_is_a_wrong_argument(place: str) -> None:
    operation: dict[str, Any] = {"parameters": [parameter("x", place)]}
    if place == "body":
        operation = {"requestBody": {"content": {"text/plain": {}}}}
    made, _ = operations_of(document({"/a/{x}" if place == "path" else "/a": {"post": operation}}))
    with pytest.raises(ToolFailed):
        request_of(made[0], BASE, {"x": "\ud800", "body": "\ud800"})


@given(st.text())
def test_whatever_a_path_is_told_the_request_stays_below_the_base_url(value: str) -> None:
    try:
        request = asked([parameter("id", "path", required=True)], {"id": value}, "/a/{id}")
    except ToolFailed:
        return
    url = URL(request.url)
    assert (url.host, url.port) == ("api.example", 443)
    assert url.raw_path.startswith("/v1/a/")
    assert len(url.raw_path.split("/")) == 4
    assert not url.query


def test_a_form_and_credentials_in_the_query() -> None:
    form = {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}
    made = only({"requestBody": {"content": form}, "parameters": [parameter("q")]})
    request = request_of(made, BASE + "/", {"q": "1", "body": {"a": "x y", "b": 2}}, {"key": "s&t"})
    assert parse_qsl(urlsplit(request.url).query) == [("key", "s&t"), ("q", "1")]
    assert request.body == b"a=x+y&b=2"


DEEP = {"style": "deepObject", "explode": True}


@pytest.mark.parametrize(
    ("encoding", "value", "pairs"),
    [
        ({}, {"expand": ["a", "b"]}, [("expand", "a"), ("expand", "b")]),
        ({}, {"metadata": {"k": "v"}}, [("metadata", '{"k": "v"}')]),
        ({}, {"a": None, "b": True}, [("b", "true")]),
        ({"metadata": DEEP}, {"metadata": {"k": "v", "n": 1}}, [("metadata[k]", "v"), ("metadata[n]", "1")]),
        (
            {"items": DEEP},
            {"items": [{"price": "p", "tags": ["x"]}, {"price": "q"}]},
            [("items[0][price]", "p"), ("items[0][tags][0]", "x"), ("items[1][price]", "q")],
        ),
        ({"a": {"style": "pipeDelimited", "explode": False}}, {"a": ["x", "y"]}, [("a", "x|y")]),
        ({"a": {"explode": False}}, {"a": ["x", "y"]}, [("a", "x,y")]),
        ({"a": {"style": "form"}}, {"a": {"k": "v"}}, [("k", "v")]),
        ({"a": {"contentType": "application/json"}}, {"a": ["x", "y"]}, [("a", '["x", "y"]')]),
    ],
)
def test_members_of_a_form_are_written_as_the_document_says(
    encoding: dict[str, Any], value: Any, pairs: list[tuple[str, str]]
) -> None:
    form = {"application/x-www-form-urlencoded": {"schema": {"type": "object"}, "encoding": encoding}}
    body = request_of(only({"requestBody": {"content": form}}), BASE, {"body": value}).body
    assert body is not None
    assert parse_qsl(body.decode()) == pairs


def test_a_form_in_a_style_that_is_not_known_is_left_out() -> None:
    form = {"application/x-www-form-urlencoded": {"schema": {}, "encoding": {"a": {"style": "matrix"}}}}
    _, left = operations_of(document({"/a": {"post": {"requestBody": {"content": form}}}}))
    assert "style matrix" in left[0].why


READ_ONLY = {"properties": {"id": {"readOnly": True}}}


@pytest.mark.parametrize(
    "operation",
    [
        {"requestBody": {"content": {"application/json": {"schema": {**READ_ONLY, "required": [["x"], "id"]}}}}},
        {"requestBody": {"content": {"text/plain": {"schema": {"allOf": [{**READ_ONLY, "required": [{}]}]}}}}},
        {"requestBody": {"content": {"application/json": {"schema": {"$ref": ["secret"]}}}}},
        {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/paths/" + "1" * 5_000}}}}},
        {"parameters": 5},
        {"parameters": [{"name": "x", "in": ["query"]}]},
    ],
)
def test_an_operation_that_cannot_be_read_takes_no_other_with_it(operation: dict[str, Any]) -> None:
    made, left = operations_of(document({"/odd": {"post": operation}, "/things": {"get": {}}}))
    assert [one.name for one in made] == ["get_things"]
    assert [one.name for one in left] == ["post_odd"]
    assert left[0].why
    assert "secret" not in left[0].why


def test_a_document_is_so_much_work_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi_schemas, "MOST_NODES_IN_ALL", 50)
    properties = {f"p{n}": {"type": "string"} for n in range(20)}
    body = {"requestBody": {"content": {"application/json": {"schema": {"properties": properties}}}}}
    made, left = operations_of(document({f"/{n}": {"post": body} for n in range(4)}))
    assert [one.name for one in made] == ["post_0", "post_1"]
    assert [one.why for one in left] == ["the document's schemas are too large together"] * 2


def test_of_a_document_with_too_many_operations_those_that_are_named_are_taken() -> None:
    paths: dict[str, Any] = {f"/{number}": {"get": {"operationId": f"a/{number}"}} for number in range(2_000)}
    with pytest.raises(Unusable, match="`only`"):
        operations_of(document(paths))
    made, left = operations_of(document(paths), ["a/1999", "a_7"])
    assert ([(one.name, one.given) for one in made], left) == ([("a_7", "a/7"), ("a_1999", "a/1999")], ())


def test_nothing_is_read_of_operations_that_are_not_wanted() -> None:
    broken = {"operationId": "broken", "parameters": [{"$ref": "elsewhere"}]}
    made, left = operations_of(document({"/a": {"get": {"operationId": "a"}, "put": broken}}), ["a"])
    assert ([one.name for one in made], left) == (["a"], ())


def test_an_operation_has_the_same_name_whatever_else_is_wanted() -> None:
    twice = document({"/a": {"get": {"operationId": "a/b"}, "put": {"operationId": "a.b"}}})
    assert [one.name for one in operations_of(twice)[0]] == ["a_b", "a_b_"]
    assert [one.name for one in operations_of(twice, ["a.b"])[0]] == ["a_b_"]
    alike = document({f"/{number}": {"get": {"operationId": "a"}} for number in range(20)})
    assert len({one.name for one in operations_of(alike)[0]}) == 20
    many = document({f"/{number}": {"get": {"operationId": "a"}} for number in range(100_000)})
    assert [one.name for one in operations_of(many, ["a_99999"])[0]] == ["a_99999"]
