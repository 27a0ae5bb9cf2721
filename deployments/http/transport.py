"""HTTP to providers and between our own processes, on aiohttp.

It gives what the token path needs: a parser in C, one TCP window as the only buffer (a reader that stops reading
stops the sender), cancellation by closing the connection. Redirects, cookies and decompression are switched off.

A kept connection that its server closed meanwhile shows as a reset before any byte of the answer. A POST is not
sent again here: that is for the rules of whoever asks (`StreamBroken`). aiohttp itself repeats only what RFC 9110,
section 9.2.2, calls idempotent (GET, HEAD, PUT, DELETE), and only on a connection that it had kept.

Above it: the providers, `hop`. Below it: `outbound`, `pipelines`. Outside it: what the bytes mean, retries.
"""

import asyncio
import io
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache, partial
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from deployments.http.outbound import DIRECT, Outbound
from pipelines.errors import ProtocolError, StreamBroken, TimedOut, UpstreamError
from pipelines.resilience import Timeouts

KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept. Shorter than the usual server's, which would close it on our request."""

MAX_INFLATED = 64 * 1024 * 1024
"""Bytes that a compressed answer may grow to; providers are asked not to compress at all."""

MAX_HEADER = 64 * 1024
"""Bytes of one header of an answer."""

UNREACHABLE = "unreachable"
"""Code of a failure before anything was sent."""

_INFLATED_PIECE = 256 * 1024
_WHOLE_BODY = 1024 * 1024
"""Bytes of a request's body that are handed to the socket at once; a longer one goes piece by piece."""

_NEVER = float("inf")
"""From so many seconds on aiohttp would round a timeout up to a whole second."""


class HttpAnswer:
    """An answer over aiohttp. See `pipelines.ports.UpstreamAnswer`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        headers = {name.lower(): value for name, value in response.headers.items()}
        if "retry-after" in headers:
            # A wait until a date counts from the answer's own date; where it has none, from now.
            headers.setdefault("date", formatdate(usegmt=True))
        self.headers: Mapping[str, str] = headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, inflated where the provider compressed it against our wish."""
        encoding = self.headers.get("content-encoding", "")
        inflate = None if encoding in ("", "identity") else _Inflater(encoding)
        content = self._response.content
        try:
            while chunk := await content.readany():
                if inflate is None:
                    yield chunk
                else:
                    for piece in inflate(chunk):
                        yield piece
                        # A small chunk may hold many: others have their turn between them.
                        await asyncio.sleep(0)
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connection, unless the body was read to its end: then it has been given back already."""
        self._response.close()


class _Inflater:
    """gzip and deflate in pieces, bounded: a bomb is a ProtocolError before it fills the memory."""

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "deflate"):
            raise ProtocolError(f"the provider's answer has the encoding {encoding[:40]!r}")
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._inflated = 0

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            try:
                data = self._inflate.decompress(chunk, _INFLATED_PIECE)
            except zlib.error as error:
                raise ProtocolError("the provider's answer does not decompress") from error
            self._inflated += len(data)
            if self._inflated > MAX_INFLATED:
                raise ProtocolError(f"the provider's answer grows beyond {MAX_INFLATED} bytes")
            if data:
                yield data
            chunk = self._inflate.unconsumed_tail


class _Connection(ResponseHandler):
    """aiohttp's protocol, which does not tell a waiting reader that the bytes of the body are no HTTP: he would wait
    for ever, since the connection is closed without another word."""

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """The answer cannot be read on."""
        super().set_exception(exc, exc_cause or exc)
        body = self._payload
        if body is not None and body.exception() is None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError(type(exc).__name__))


class HttpTransport:
    """One connection pool. outbound: the way there. See `pipelines.ports.Transport`."""

    def __init__(self, outbound: Outbound = DIRECT) -> None:
        self._outbound = outbound
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncGenerator[bytes, None],
        timeouts: Timeouts,
    ) -> HttpAnswer:
        """Send one request and wait for the headers. See `pipelines.ports.Transport.send`."""
        session = self._session or self._open()
        address, proxy = _url(url), self._outbound.proxy
        sent = {"accept-encoding": "identity", **headers}
        if proxy is not None and address.scheme == "http":
            # Without a tunnel the proxy reads each request, and wants to know each time who asks.
            sent.update(self._outbound.proxy_headers)
        try:
            response = await session.request(
                method,
                address,
                headers=sent,
                data=_data(body),
                allow_redirects=False,
                timeout=_connect_only(timeouts.connect),
                proxy=proxy,
                proxy_headers=self._outbound.proxy_headers if proxy is not None else None,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, timeouts) from error
        return HttpAnswer(response)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEEPALIVE_SECONDS,
            ssl=self._outbound.trust,
            timeout_ceil_threshold=_NEVER,
        )
        factory = partial(_Connection, loop=asyncio.get_running_loop())
        connector._factory = cast(partial[ResponseHandler], factory)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent",),
            read_bufsize=2**16,
            max_field_size=MAX_HEADER,
            auto_decompress=False,
        )
        return self._session


@lru_cache(maxsize=1024)
def _url(url: str) -> URL:
    """The parsed address; the same few are asked again and again."""
    return URL(url)


@lru_cache(maxsize=1024)
def _connect_only(seconds: float) -> aiohttp.ClientTimeout:
    """All later phases have limits of their own, which know what an event is."""
    return aiohttp.ClientTimeout(connect=seconds, sock_connect=seconds, ceil_threshold=_NEVER)


def _data(body: bytes | AsyncGenerator[bytes, None]) -> bytes | io.BytesIO | AsyncGenerator[bytes, None] | None:
    if isinstance(body, bytes) and len(body) > _WHOLE_BODY:
        return io.BytesIO(body)
    return body if body != b"" else None


def _translated(error: Exception, timeouts: Timeouts) -> UpstreamError:
    """What went wrong before the headers, in our words. Never aiohttp's own: they may hold addresses."""
    if isinstance(error, asyncio.TimeoutError):
        return TimedOut(f"no connection within {timeouts.connect:g} s", phase="connect")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return StreamBroken("the proxy cannot be reached")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return StreamBroken(f"the proxy refuses the way to the provider with status {error.status}")
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return StreamBroken(f"no trusted connection to the provider: {type(error).__name__}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return StreamBroken("the provider cannot be reached: connection refused or name unknown", code=UNREACHABLE)
    return StreamBroken(f"the connection broke before an answer: {type(error).__name__}")
