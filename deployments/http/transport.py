"""HTTP to providers, and to whoever holds a port of ours.

It gives what the token path needs: a parser in C, one TCP window as the only buffer (a reader that stops reading
stops the sender), cancellation by closing the connection. There are no redirects, no cookies, and no compression
that a provider does not force on us.

A kept connection that its server closed meanwhile shows as a reset before any byte of the answer. A POST is not
sent again here: that is for the rules of whoever asks (`StreamBroken`). Repeated, once, is only what RFC 9110,
section 9.2.2, calls idempotent, and only on a connection that had been kept.

Above it: the providers, `guardrails`, `listener`. Below it: `pool`, `client`, `pipelines`. Outside it: what the bytes
mean, retries.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from deployments.http.arriving import whole
from deployments.http.client import Incoming
from deployments.http.outbound import DIRECT, Outbound
from deployments.http.pool import Place, Pool
from pipelines.errors import ProtocolError, StreamBroken, TimedOut
from pipelines.resilience import Timeouts

MAX_INFLATED = 64 * 1024 * 1024
"""Bytes that a compressed answer may grow to; providers are asked not to compress at all."""

IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
"""Methods that may be asked twice (RFC 9110, section 9.2.2)."""

_BODILESS = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods of which no server expects a body; of the others an empty one is announced (RFC 9110, section 8.6)."""

_NO_CODING = frozenset(("", "identity", "none", "utf-8", "utf8", "chunked"))

_INFLATED_PIECE = 256 * 1024


class HttpAnswer:
    """An answer to `HttpTransport.send`. See `pipelines.ports.UpstreamAnswer`."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self.status = incoming.status
        headers = incoming.headers
        if "retry-after" in headers:
            # A wait until a date counts from the answer's own date; where it has none, from now.
            headers.setdefault("date", formatdate(usegmt=True))
        self.headers: Mapping[str, str] = headers

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, inflated where the provider compressed it against our wish."""
        pieces = self._incoming.pieces()
        return pieces if self._plain else self._inflated(pieces)

    async def whole(self, most: int) -> bytes:
        """See `pipelines.ports.UpstreamAnswer.whole`."""
        return await self._incoming.whole(most) if self._plain else await whole(self.chunks(), most)

    def pass_to(self, take: Callable[[bytes], bool]) -> None:
        """See `pipelines.ports.UpstreamAnswer.pass_to`."""
        if self._plain:
            self._incoming.pass_to(take)

    @property
    def _plain(self) -> bool:
        encoding = self.headers.get("content-encoding")
        return not encoding or not _codings(encoding)

    async def _inflated(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        inflate = _Inflater(_codings(self.headers["content-encoding"]))
        async with aclosing(pieces):
            async for piece in pieces:
                for data in inflate(piece):
                    yield data
                    # A small piece may hold many: others have their turn between them.
                    await asyncio.sleep(0)
        inflate.end()

    async def close(self, *, whole: bool = False) -> None:
        """See `pipelines.ports.UpstreamAnswer.close`."""
        self._incoming.close(whole=whole)


class _Inflater:
    """gzip and deflate in pieces, bounded: a bomb is a ProtocolError before it fills the memory."""

    def __init__(self, codings: tuple[str, ...]) -> None:
        self._gzip = codings in (("gzip",), ("x-gzip",))  # one and the same (RFC 9110, section 8.4.1.3)
        if not self._gzip and codings != ("deflate",):
            raise ProtocolError(f"the provider's answer has the encoding {', '.join(codings)[:40]!r}")
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._inflated = 0
        self._begun = False

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            data = self._decompressed(chunk)
            self._begun = True
            self._inflated += len(data)
            if self._inflated > MAX_INFLATED:
                raise ProtocolError(f"the provider's answer grows beyond {MAX_INFLATED} bytes")
            if data:
                yield data
            chunk = self._inflate.unconsumed_tail
            if self._inflate.eof:
                # gzip may have several members (RFC 1952, section 2.2), and zeros behind them.
                chunk = self._inflate.unused_data.lstrip(b"\0") if self._gzip else b""
                if chunk:
                    self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def _decompressed(self, chunk: bytes) -> bytes:
        try:
            return self._inflate.decompress(chunk, _INFLATED_PIECE)
        except zlib.error as error:
            if self._gzip or self._begun:
                raise ProtocolError("the provider's answer does not decompress") from error
        # Some servers call bare deflate so, without zlib's head.
        self._inflate, self._begun = zlib.decompressobj(-zlib.MAX_WBITS), True
        return self._decompressed(chunk)

    def end(self) -> None:
        """The body has ended. Raises StreamBroken where what was compressed has not."""
        if self._begun and not self._inflate.eof:
            raise StreamBroken("the provider's compressed answer ended before its end")


class _Address(NamedTuple):
    """Where a request goes. target: what it asks for there; absolute: the same for a proxy that reads it."""

    place: Place
    host: str
    target: str
    absolute: str


class HttpTransport:
    """Requests over one pool of connections. outbound: the way there. See `pipelines.ports.Transport`."""

    def __init__(self, outbound: Outbound = DIRECT) -> None:
        self._outbound = outbound
        self._pool: Pool | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncGenerator[bytes, None],
        timeouts: Timeouts,
    ) -> HttpAnswer:
        """Send one request and wait for the headers. See `pipelines.ports.Transport.send`."""
        pool = self._pool
        if pool is None:
            pool = self._pool = Pool(self._outbound)
        address = _address(url)
        sent = {"host": address.host, "accept": "*/*", "accept-encoding": "identity", **headers}
        target = address.target
        if self._outbound.proxy is not None and not address.place.tls:
            # Without a tunnel the proxy reads each request, and wants to know each time who asks.
            target = address.absolute
            sent.update(self._outbound.proxy_headers)
        chunked = False
        if isinstance(body, bytes):
            if body or method not in _BODILESS:
                sent["content-length"] = str(len(body))
        elif "content-length" not in sent:
            sent["transfer-encoding"] = "chunked"
            chunked = True
        head = _head(method, target, sent)
        how = {"chunked": chunked, "head_only": method == "HEAD"}
        connection = pool.kept(address.place)
        if connection is not None:
            try:
                return HttpAnswer(await connection.ask(head, body, **how))
            except StreamBroken:
                if connection.heard or method not in IDEMPOTENT or not isinstance(body, bytes):
                    raise
        try:
            async with asyncio.timeout(timeouts.connect):
                connection = await pool.connect(address.place)
        except TimeoutError:
            raise TimedOut(f"no connection within {timeouts.connect:g} s", phase="connect") from None
        return HttpAnswer(await connection.ask(head, body, **how))

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            self._pool.close()
            await asyncio.sleep(0)  # the loop closes their sockets when it turns


@lru_cache(maxsize=64)
def _codings(header: str) -> tuple[str, ...]:
    """The codings that a `content-encoding` names, in lower case (RFC 9110, section 8.4.1), without words that servers
    write where there is none: a charset, `none`."""
    names = (name.strip().lower() for name in header.split(","))
    return tuple(name for name in names if name not in _NO_CODING)


@lru_cache(maxsize=1024)
def _address(url: str) -> _Address:
    """The parsed address; the same few are asked again and again. Raises StreamBroken for what is none."""
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        host = port = None
    if not host or not port or parsed.scheme not in ("http", "https"):
        raise StreamBroken("the connection broke before an answer: there is no such address")
    place = Place(host, port, parsed.scheme == "https")
    named = f"[{host}]" if ":" in host else host
    authority = named if parsed.is_default_port() else f"{named}:{port}"
    return _Address(place, authority, parsed.raw_path_qs, f"{parsed.scheme}://{authority}{parsed.raw_path_qs}")


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's head. Raises ValueError for a header that would be more than one."""
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    text = "\r\n".join(lines)
    if text.count("\n") >= len(lines) or text.count("\r") >= len(lines) or "\0" in text:
        raise ValueError("a header holds a line break or a NUL")
    return text.encode() + b"\r\n\r\n"
