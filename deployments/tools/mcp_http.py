"""The way to an MCP server over streamable HTTP, for `actors.tools.mcp_source`.

The server is the operator's choice, so it may be anywhere; what it answers is bounded, it can send us to no other
origin, and the headers with its credentials go nowhere else. The environment's proxies are not asked.

Above it: `actors.tools.mcp_source`, which is given it by name. Below it: httpx2 (the client of the package `mcp`),
`outbound`. Outside it: what the messages mean.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import INTERNAL_ERROR, METHOD_NOT_FOUND, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from deployments.http.outbound import outbound
from pipelines.errors import ToolFailed

MOST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that is one JSON document, or of one event of a stream."""

_TIMEOUTS = httpx2.Timeout(30.0, connect=5.0, read=None)
"""A call has its own limit, and a stream of changes may be silent for ever."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it is too long."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_ANSWER
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise ToolFailed(f"the answer has more than {MOST_ANSWER} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """The usual one, with a bound on every answer but streams of events, whose reader bounds each of them.

    What fails says so in words for an administrator, which name no credential and no address.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
        except httpx2.TransportError as error:
            raise ToolFailed(_broken(error)) from error
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ToolFailed("the answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Bounded(response.stream)
        return await _explained(request, response)


def _broken(error: httpx2.TransportError) -> str:
    """Why there is no answer."""
    match error:
        case httpx2.ConnectTimeout():
            return "it cannot be connected to in time"
        case httpx2.ConnectError():
            return f"it cannot be connected to: {error}"
        case _:
            return f"its connection broke ({type(error).__name__})"


async def _explained(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """`response`; in place of a refusal, or a redirect that is not followed, a refusal that says so.

    The client of `mcp` hands on a JSON-RPC error in the body of a refusal; of any other it says nothing, and of a
    redirect all of its address. That a session has ended (404: Streamable HTTP, "Session Management") it says itself.
    """
    status = response.status_code
    if request.method != "POST" or (status == 404 and "mcp-session-id" in request.headers):
        return response
    why = _refusal(status) if status >= 400 else _redirect(request.url, response)
    if not why:
        return response
    is_json = response.headers.get("content-type", "").startswith("application/json")
    if status >= 400 and is_json and _is_error(await response.aread()):
        return response
    await response.aclose()
    # As the client has it: a server that does not know a method may say so in HTTP alone.
    error = {"code": METHOD_NOT_FOUND if status == 404 else INTERNAL_ERROR, "message": why}
    return httpx2.Response(max(status, 400), json={"jsonrpc": "2.0", "id": None, "error": error})


def _redirect(url: httpx2.URL, response: httpx2.Response) -> str:
    """Where an answer leads, if the client does not follow it: never all of the address, which may hold a key."""
    if not response.has_redirect_location:
        return ""
    try:
        there = url.join(response.headers["location"])
    except httpx2.InvalidURL:
        return "the server redirects to what is no address"
    upgraded = url.copy_with(scheme="https") if url.scheme == "http" and url.port is None else url
    origins = [(one.scheme, one.host, one.port) for one in (url, upgraded)]
    if (there.scheme, there.host, there.port) not in origins:
        where = f"{there.scheme}://{there.netloc.decode().rpartition('@')[2]}"
    elif response.status_code in (307, 308):
        return ""
    else:
        where = "another path"
    return f"the server redirects to {where}: is its `url` right?"


def _is_error(body: bytes) -> bool:
    try:
        return isinstance(jsonrpc_message_adapter.validate_json(body, by_name=False), JSONRPCError)
    except ValidationError:
        return False


def _refusal(status: int) -> str:
    """What an administrator may look at first."""
    if status in (401, 403):
        return f"the server answers {status}: are its `headers` right?"
    if status in (404, 405, 410):
        return f"the server answers {status}: is its `url` right?"
    return f"the server answers {status}"


@asynccontextmanager
async def connected(url: str, headers: Mapping[str, str], ca_file: str) -> AsyncGenerator[Any, None]:
    """A session's streams to the server at `url`. headers: with each request, to this origin alone.

    ca_file: authorities to trust beside the usual ones, "" for none. Raises ConfigurationError for one that cannot be
    read, ToolFailed where the connection fails.
    """
    trust = outbound(ca_file=Path(ca_file) if ca_file else None).context()
    client = httpx2.AsyncClient(
        transport=_Transport(verify=trust),
        headers={"accept-encoding": "identity", **headers},
        timeout=_TIMEOUTS,
        trust_env=False,
    )
    async with client, streamable_http_client(url, http_client=client, max_sse_event_size=MOST_ANSWER) as streams:
        yield streams
