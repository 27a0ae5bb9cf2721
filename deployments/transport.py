"""HTTP to providers and between our own processes: httpx's requests and responses on its aiohttp transport.

The transport is called directly, without httpx's client in between: redirects, cookies and authentication flows
have no place here and cost 100 µs a request.

The aiohttp session underneath gives what the token path needs: a parser in C, one TCP window as the only buffer
(a reader that stops reading stops the sender), and cancellation by closing the connection.

Above it: the providers, `hop`. Below it: `pipelines`. Outside it: what the bytes mean, retries.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from pipelines.errors import ProtocolError, StreamBroken, TimedOut, UpstreamError
from pipelines.resilience import Timeouts

KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept. Shorter than the usual server's, which would close it on our request."""

MAX_INFLATED = 64 * 1024 * 1024
"""Bytes that a compressed answer may grow to; providers are asked not to compress at all."""


class HttpAnswer:
    """An answer over httpx. See `pipelines.ports.UpstreamAnswer`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, inflated where the provider compressed it against our wish."""
        try:
            encoding = self.headers.get("content-encoding", "")
            stream = self._response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            if encoding in ("", "identity"):
                async for chunk in stream:
                    yield chunk
            else:
                inflate = _Inflater(encoding)
                async for chunk in stream:
                    yield inflate(chunk)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise StreamBroken(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        """Give the connection back, or close it if its body was not read to its end."""
        await self._response.aclose()


class _Inflater:
    """gzip and deflate, bounded: a bomb is a ProtocolError before it fills the memory."""

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "deflate"):
            raise ProtocolError(f"the provider's answer has the encoding {encoding[:40]!r}")
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._inflated = 0

    def __call__(self, chunk: bytes) -> bytes:
        try:
            data = self._inflate.decompress(chunk, MAX_INFLATED - self._inflated + 1)
        except zlib.error as error:
            raise ProtocolError("the provider's answer does not decompress") from error
        self._inflated += len(data)
        if self._inflated > MAX_INFLATED:
            raise ProtocolError(f"the provider's answer grows beyond {MAX_INFLATED} bytes")
        return data


class HttpTransport:
    """One connection pool. See `pipelines.ports.Transport`."""

    def __init__(self, *, max_connections: int = 0, verify: ssl.SSLContext | bool = True) -> None:
        self._max_connections = max_connections
        self._transport = AiohttpTransport(verify=verify, client=self._session)

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncGenerator[bytes, None],
        timeouts: Timeouts,
    ) -> HttpAnswer:
        """Send one request and wait for the headers. See `pipelines.ports.Transport.send`."""
        request = httpx.Request(
            method,
            _url(url),
            headers={"accept-encoding": "identity", **headers},
            content=body,
            extensions={"timeout": {"connect": timeouts.connect, "pool": timeouts.connect}},
        )
        try:
            return HttpAnswer(await self._transport.handle_async_request(request))
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise _translated(error, timeouts) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._max_connections, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._transport.ssl_context
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent",),
            read_bufsize=2**16,
        )


@lru_cache(maxsize=1024)
def _url(url: str) -> httpx.URL:
    """The parsed address; the same few are asked again and again."""
    return httpx.URL(url)


def _translated(error: Exception, timeouts: Timeouts) -> UpstreamError:
    """What went wrong before the headers, in our words. httpx-aiohttp hides the real cause in `__cause__`."""
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ConnectionTimeoutError | asyncio.TimeoutError):
        return TimedOut(f"no connection within {timeouts.connect:g} s", phase="connect")
    if isinstance(cause, aiohttp.ClientConnectorError):
        return StreamBroken("the provider cannot be reached: connection refused or name unknown")
    return StreamBroken(f"the connection broke before an answer: {type(cause).__name__}")
