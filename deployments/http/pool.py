"""Connections: made, through a proxy where there is one, and kept for the next request.

A name is resolved once for all who ask within NAME_SECONDS; of several addresses the first that answers is taken
(RFC 8305, by aiohappyeyeballs).

Above it: `transport`. Below it: `client`, `outbound`, aiohappyeyeballs. Outside it: requests.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import aiohappyeyeballs
from yarl import URL

from deployments.http.client import ClientConnection
from deployments.http.outbound import Outbound
from pipelines.errors import StreamBroken

KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept, at most. Where its server would close it sooner, and says so, until then."""

MARGIN_SECONDS = 1.0
"""So much before a server closes a connection it is used no more: a request on its way would be lost with it."""

NAME_SECONDS = 10.0
"""How long a resolved name is good for."""

UNREACHABLE = "unreachable"
"""Code of a failure before anything was sent."""

_ATTEMPT_DELAY = 0.25
"""Seconds between two attempts at the addresses of one name (RFC 8305, section 5)."""

_MAX_REFUSAL = 16 * 1024
"""Bytes of a proxy's answer to CONNECT."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)\b")


class Place(NamedTuple):
    """What a connection leads to. host, port: by name or number; tls: whether it is encrypted."""

    host: str
    port: int
    tls: bool


class Pool:
    """Connections of one event loop. outbound: the way there."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._loop = asyncio.get_running_loop()
        self._idle: dict[object, dict[ClientConnection, None]] = {}
        self._all: set[ClientConnection] = set()
        self._names: dict[tuple[str, int], tuple[float, asyncio.Future[list[aiohappyeyeballs.AddrInfoType]]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def kept(self, place: Place) -> ClientConnection | None:
        """A connection that was kept, the latest first."""
        idle = self._idle.get(place)
        now = self._loop.time()
        while idle:
            connection, _ = idle.popitem()
            if connection.kept_until > now and not connection.transport.is_closing():
                return connection
            connection.abort()
        return None

    async def connect(self, place: Place) -> ClientConnection:
        """A new one. Raises StreamBroken where there is no way, or nobody to be trusted at its end."""
        made = ClientConnection(self, place)
        proxy = self._outbound.proxy
        if proxy is None:
            await self._open(made, place, "the provider")
        elif place.tls:
            await self._tunnelled(made, place, proxy)
        else:
            await self._enter(made, proxy)
        if not made.closed:
            self._all.add(made)
        if self._closed:
            made.abort()
        return made

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in tuple(self._all):
            connection.abort()

    def freed(self, connection: ClientConnection) -> None:
        """See `client.Owner`."""
        kept = min(KEEPALIVE_SECONDS, connection.patience - MARGIN_SECONDS)
        if self._closed or kept <= 0.0:
            connection.abort()
            return
        connection.kept_until = self._loop.time() + kept
        self._idle.setdefault(connection.place, {})[connection] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEPALIVE_SECONDS, self._sweep)

    def lost(self, connection: ClientConnection) -> None:
        """See `client.Owner`."""
        self._all.discard(connection)
        if idle := self._idle.get(connection.place):
            idle.pop(connection, None)

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        now = self._loop.time()
        for place, idle in list(self._idle.items()):
            for connection in [each for each in idle if each.kept_until <= now]:
                del idle[connection]
                connection.transport.close()
            if not idle:
                del self._idle[place]
        self._sweeping = self._loop.call_later(KEEPALIVE_SECONDS, self._sweep) if self._idle else None

    async def _open(self, protocol: asyncio.Protocol, place: Place, whom: str) -> asyncio.Transport:
        """A connection without anything between."""
        trust = self._outbound.context() if place.tls else None
        name = place.host if place.tls else None
        reached = await self._reach(place.host, place.port)
        with _trusting(whom):
            transport, _ = await self._loop.create_connection(
                lambda: protocol, sock=reached, ssl=trust, server_hostname=name
            )
        return transport

    async def _enter(self, protocol: asyncio.Protocol, proxy: URL) -> asyncio.Transport:
        """A connection to the proxy."""
        door = Place(proxy.raw_host or "", proxy.port or 80, proxy.scheme == "https")
        try:
            return await self._open(protocol, door, "the proxy")
        except StreamBroken as error:
            if error.code != UNREACHABLE:
                raise
            raise StreamBroken("the proxy cannot be reached") from error

    async def _tunnelled(self, made: ClientConnection, place: Place, proxy: URL) -> None:
        """Through the proxy (RFC 9110, section 9.3.6), then TLS with whoever is at the other end."""
        tunnel = _Tunnel(self._loop)
        transport = await self._enter(tunnel, proxy)
        try:
            authority = f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"
            lines = [f"CONNECT {authority} HTTP/1.1", f"host: {authority}"]
            lines += [f"{name}: {value}" for name, value in self._outbound.proxy_headers.items()]
            transport.write("\r\n".join([*lines, "", ""]).encode())
            await tunnel.opened
            with _trusting("the provider"):
                secure = await self._loop.start_tls(
                    transport, made, self._outbound.context(), server_hostname=place.host
                )
        except BaseException:
            transport.abort()
            raise
        assert secure is not None
        made.connection_made(secure)

    async def _reach(self, host: str, port: int) -> socket.socket:
        """A connected socket. Raises StreamBroken (UNREACHABLE)."""
        try:
            addresses = await self._resolved(host, port)
            return await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_ATTEMPT_DELAY, interleave=1, loop=self._loop
            )
        except (OSError, UnicodeError) as error:
            raise _unreachable() from error

    async def _resolved(self, host: str, port: int) -> list[aiohappyeyeballs.AddrInfoType]:
        now = self._loop.time()
        until, asked = self._names.get((host, port), (0.0, None))
        if asked is None or now >= until:
            for name in [name for name, (until, _) in self._names.items() if now >= until]:
                del self._names[name]
            asked = self._loop.create_task(self._resolve(host, port))
            self._names[host, port] = (now + NAME_SECONDS, asked)
        # Whoever asked first may give up; the others still want to know.
        return list(await asyncio.shield(asked))

    async def _resolve(self, host: str, port: int) -> list[aiohappyeyeballs.AddrInfoType]:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except BaseException:
            self._names.pop((host, port), None)
            raise
        return cast(list[aiohappyeyeballs.AddrInfoType], found)


class _Tunnel(asyncio.Protocol):
    """A proxy's answer to CONNECT. opened: done once it lets us through; StreamBroken where it does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard += data
        whole = b"\r\n\r\n" in self._heard
        if not self.opened.done() and (whole or len(self._heard) > _MAX_REFUSAL):
            found = _STATUS_LINE.match(self._heard)
            status = int(found[1]) if found and whole else 0
            if 200 <= status < 300:
                self.opened.set_result(None)
            else:
                self._refused(f"with status {status}" if status else "with what is no HTTP")

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self.opened.done():
            self._refused("without a word")

    def _refused(self, how: str) -> None:
        self.opened.set_exception(StreamBroken(f"the proxy refuses the way to the provider {how}"))


@contextmanager
def _trusting(whom: str) -> Iterator[None]:
    """Around a handshake with `whom`."""
    try:
        yield
    except ssl.SSLError as error:
        raise StreamBroken(f"no trusted connection to {whom}: {type(error).__name__}") from error
    except OSError as error:
        raise _unreachable() from error


def _unreachable() -> StreamBroken:
    return StreamBroken("the provider cannot be reached: connection refused or name unknown", code=UNREACHABLE)
