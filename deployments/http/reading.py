"""From an ASGI request to its parts: headers, body, JSON; everything bounded, every refusal a `PenstockError`.

Above it: `front`. Below it: `pipelines.errors`. Outside it: dialects, authentication.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from pipelines.conversation import Json
from pipelines.errors import BadRequest

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 20 * 1024 * 1024
"""Bytes of a request's body."""

MAX_DEPTH = 64
"""Levels of nesting of a request's JSON."""

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024

BODY_SECONDS = 30.0
"""How long a caller may take to send his body."""


SINGLE = frozenset(("authorization", "x-api-key", "api-key", "host", "content-length", "transfer-encoding"))
"""Headers that must not come twice: which one counts is what two programs in a row may see differently.

Source: RFC 9112, sections 3.2 and 6.3; RFC 9110, section 5.3.
"""


LISTS = frozenset(("anthropic-beta", "tracestate"))
"""Headers that hold a list, of which each line is a part.

Source: RFC 9110, section 5.3; W3C Trace Context, section 3.3.1.
"""


READ_HEADERS = "penstock.headers"
"""Of the scope of a call over the hop: its headers, which have been read, and cannot be read in two ways."""


class HungUp(Exception):
    """The caller went away while we read."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers, names in lower case; of a repeated one the first, of LISTS all lines as one.

    Raises BadRequest: 431 beyond the limits, 400 for a repeated one of SINGLE, for HTTP/1.1 without a host, and for a
    transfer coding other than chunked.
    """
    raw: list[tuple[bytes, bytes]] = scope["headers"]
    headers: dict[str, str] = {}
    size = 0
    for name, value in raw:
        size += len(name) + len(value)
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    if len(raw) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise BadRequest(
            f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them",
            status=431,
            code="headers_too_large",
        )
    if len(headers) < len(raw):
        lines: dict[str, list[str]] = {}
        for name, value in raw:
            lines.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if twice := sorted(name for name in SINGLE & lines.keys() if len(lines[name]) > 1):
            raise BadRequest(f"the header {twice[0]} comes more than once")
        headers.update((name, ",".join(lines[name])) for name in LISTS & lines.keys())
    if "host" not in headers and scope.get("http_version") == "1.1":
        raise BadRequest("HTTP/1.1 wants a host header")
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise BadRequest("the only transfer coding that is taken is chunked")
    return headers


async def body_of(receive: Receive, headers: dict[str, str], *, here: bool = False) -> bytes:
    """The whole body. here: it has come already, so that nobody waits for it.

    Raises BadRequest: 413 beyond MAX_BODY, 408 if it does not come in time; HungUp.
    """
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY:
        raise _too_large()
    message = _known(await receive()) if here else await _next(receive, BODY_SECONDS)
    if not message.get("more_body"):
        return bytes(message.get("body", b""))
    parts, size = [message.get("body", b"")], len(message.get("body", b""))
    until = asyncio.get_running_loop().time() + BODY_SECONDS
    while message.get("more_body"):
        message = await _next(receive, until - asyncio.get_running_loop().time())
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise _too_large()
    return b"".join(parts)


def json_object(body: bytes) -> dict[str, Json]:
    """The body as a JSON object. Raises BadRequest, saying where it goes wrong."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def _depth(value: Json) -> int:
    """Levels of nesting, level by level, so that no stack grows."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below += [v for v in item.values() if isinstance(v, dict | list)]
            elif isinstance(item, list):
                below += [v for v in item if isinstance(v, dict | list)]
        level = below
    return depth


async def _next(receive: Receive, seconds: float) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            message = await receive()
    except TimeoutError:
        raise BadRequest(
            f"the body did not come within {BODY_SECONDS:g} s", status=408, code="request_timeout"
        ) from None
    return _known(message)


def _known(message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if message["type"] == "http.disconnect":
        raise HungUp
    return message


def _too_large() -> BadRequest:
    return BadRequest(f"the body is larger than {MAX_BODY} bytes", status=413, code="request_too_large")


def _too_deep() -> BadRequest:
    return BadRequest(f"the JSON is nested more than {MAX_DEPTH} deep", code="invalid_json")
