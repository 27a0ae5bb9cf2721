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

from deployments.http.outbound import outbound

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
                raise httpx2.ReadError(f"the answer has more than {MOST_ANSWER} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """The usual one, with a bound on every answer but streams of events, whose reader bounds each of them."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.ReadError("the answer is compressed, which was not asked for")
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Bounded(response.stream)
        return response


@asynccontextmanager
async def connected(url: str, headers: Mapping[str, str], ca_file: str) -> AsyncGenerator[Any, None]:
    """A session's streams to the server at `url`. headers: with each request, to this origin alone.

    ca_file: authorities to trust beside the usual ones, "" for none. Raises ConfigurationError for one that cannot be
    read.
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
