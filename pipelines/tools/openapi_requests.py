"""Arguments of an operation as an HTTP request: what goes into the path, the query, headers, cookies and the body.

Source: https://spec.openapis.org/oas/v3.1.1.html#style-values. Whatever an argument says, the request goes to the
base URL's origin and below its path: a value is one piece of the path, with everything in it encoded that could begin
another, and a piece that would climb (`..`) is refused.

Above it: `actors.tools.openapi_source`. Below it: `openapi`. Outside it: credentials, sending.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from pipelines.conversation import Json
from pipelines.errors import ToolFailed
from pipelines.tools.openapi import Operation, Parameter, Style

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BETWEEN = {"spaceDelimited": " ", "pipeDelimited": "|"}


class Asked(NamedTuple):
    """A request. url: whole; body: None for none."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


def request_of(
    operation: Operation, base_url: str, arguments: Mapping[str, Json], more: Mapping[str, str] = {}
) -> Asked:
    """The request that the arguments make. more: further members of the query, credentials: no argument sends one more.

    Raises ToolFailed for an argument that has no place in a path or a header, or that cannot be encoded.
    """
    try:
        return _asked(operation, base_url, arguments, more)
    except UnicodeEncodeError:
        raise ToolFailed("an argument has half of a surrogate pair, which cannot be encoded", status=400) from None


def _asked(operation: Operation, base_url: str, arguments: Mapping[str, Json], more: Mapping[str, str]) -> Asked:
    path, query = operation.path, [*more.items()]
    headers: dict[str, str] = {"accept": "application/json, text/*;q=0.9, */*;q=0.1"}
    cookies: list[str] = []
    for parameter in operation.parameters:
        value = arguments.get(parameter.argument)
        if value is None:
            continue
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", _simple(parameter, value, "path"))
        elif parameter.place == "query":
            query += [pair for pair in _pairs(parameter, value) if pair[0] not in more]
        elif parameter.place == "header":
            headers[parameter.name] = _simple(parameter, value, "header")
        else:
            cookies += [f"{name}={quote(text, safe='')}" for name, text in _pairs(parameter, value)]
    if cookies:
        headers["cookie"] = "; ".join(cookies)
    if any(piece in (".", "..") for piece in path.split("/")) or "{" in path:
        raise ToolFailed("the arguments make no path below the service's own", status=400)
    body = _body(operation, arguments.get("body"))
    if body is not None:
        headers["content-type"] = "application/json" if "*" in operation.body else operation.body
    url = base_url.rstrip("/") + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
    return Asked(operation.method, url, headers, body)


def _simple(parameter: Parameter, value: Json, place: str) -> str:
    """The value in the style `simple`: members separated by commas."""
    if parameter.style == "json":
        pieces = [json.dumps(value)]
    elif isinstance(value, dict):
        pairs = [(str(name), _text(one)) for name, one in value.items()]
        pieces = [f"{a}={b}" for a, b in pairs] if parameter.explode else [word for pair in pairs for word in pair]
    else:
        pieces = [_text(one) for one in value] if isinstance(value, list) else [_text(value)]
    if place == "path":
        text = ",".join(quote(piece, safe="") for piece in pieces)
        if not text:
            raise ToolFailed(f"the argument {parameter.argument!r} is empty", status=400)
        return text
    text = ",".join(pieces)
    if _CONTROL.search(text) or not text.isascii():
        raise ToolFailed(f"the argument {parameter.argument!r} has characters that no header can have", status=400)
    return text


def _pairs(parameter: Parameter, value: Json) -> list[tuple[str, str]]:
    """The value as members of a query, in the styles that these have."""
    name = parameter.name
    if parameter.style == "json":
        return [(name, json.dumps(value))]
    if parameter.style == "deepObject" and isinstance(value, dict | list):
        return _deep(name, value)
    if isinstance(value, dict):
        items = [(str(key), _text(one)) for key, one in value.items()]
        if parameter.explode:
            return items
        return [(name, ",".join(word for pair in items for word in pair))]
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if parameter.explode:
            return [(name, text) for text in texts]
        return [(name, _BETWEEN.get(parameter.style, ",").join(texts))]
    return [(name, _text(value))]


def _deep(name: str, value: Json) -> list[tuple[str, str]]:
    """`name[key]`, and `name[0]` for a list, however deep: beyond objects of plain values no standard says how.

    This is how Stripe's own clients write what their document calls `deepObject` (`stripe._encode`), and what PHP and
    `qs` read.
    """
    if not isinstance(value, dict | list):
        return [(name, _text(value))]
    members = value.items() if isinstance(value, dict) else enumerate(value)
    return [pair for key, one in members for pair in _deep(f"{name}[{key}]", one)]


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _member(operation: Operation, name: str, value: Json) -> list[tuple[str, str]]:
    """A member of a form. A list is written as often as it is long; an object as JSON, unless the document says how."""
    if value is None:
        return []
    style: Style = "json" if isinstance(value, dict) else "form"
    return _pairs(operation.encoding.get(name) or Parameter(name, name, "query", style, explode=True), value)


def _body(operation: Operation, value: Json) -> bytes | None:
    if not operation.body or value is None:
        return None
    if operation.body == "application/x-www-form-urlencoded":
        members = value.items() if isinstance(value, dict) else ()
        return urlencode([pair for name, one in members for pair in _member(operation, name, one)]).encode()
    if operation.body == "text/plain":
        return _text(value).encode()
    return json.dumps(value, ensure_ascii=False).encode()
