"""One connection of the misbehaving upstream: requests in, the steps of their scripts out.

Above it: `server`. Below it: httptools, `script`. Outside it: what to do with a request.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol, cast

import httptools
import msgspec

from tests.upstream.script import End, Ending, Send, Step, Wait, whole

FLUSHED_WITHIN = 1.0
"""Seconds that a reset waits for the peer's kernel to take what was sent before it."""


class Link(msgspec.Struct):
    """One connection.

    closed: when the peer closed it, or we did (`by`); reset: by a RST. sent: bytes handed to the transport;
    accepted: those of them that the kernel has taken, which stops growing when the peer stops reading; paused:
    whether that is so now; busy: a request is being answered, so an open connection that is not waits for the next.
    """

    number: int
    opened: float
    requests: int = 0
    closed: float | None = None
    by: Literal["", "peer", "us"] = ""
    reset: bool = False
    sent: int = 0
    accepted: int = 0
    paused: bool = False
    control: bool = False
    busy: bool = False


class Received(NamedTuple):
    """One request; header names in lower case."""

    at: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


class Owner(Protocol):
    """What a connection needs of its server."""

    def opened(self, connection: "Connection") -> Link:
        """A connection was accepted."""

    def lost(self, connection: "Connection") -> None:
        """A connection is gone."""

    def changed(self) -> None:
        """Something happened that someone may wait for."""

    def steps(self, received: Received, link: Link) -> Iterable[Step]:
        """What to do with a request."""


class Connection(asyncio.Protocol):
    """Reads requests (pipelined ones too) and answers them one after another."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.parser = httptools.HttpRequestParser(self)
        self.queue: asyncio.Queue[Received] = asyncio.Queue()
        self.writable = asyncio.Event()
        self.writable.set()
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass.
        self.transport = cast(asyncio.Transport, transport)
        self.link = self.owner.opened(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        self.task.cancel()
        self._closed("us" if exc is None else "peer")
        self.link.reset = self.link.reset or isinstance(exc, ConnectionResetError)
        self.owner.lost(self)

    def eof_received(self) -> None:
        self._closed("peer")

    def pause_writing(self) -> None:
        self.writable.clear()
        self.link.paused = True
        self.owner.changed()

    def resume_writing(self) -> None:
        self.writable.set()
        self.link.paused = False
        self.owner.changed()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(whole(400, b'{"error": "no HTTP"}'))
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the target."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        """httptools: a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """httptools: a request is whole."""
        method = self.parser.get_method().decode()
        path = self._path.decode("latin-1")
        self.queue.put_nowait(Received(time.monotonic(), method, path, self._headers, b"".join(self._body)))
        self._begin()

    def measure(self) -> None:
        """Bring the link's count of accepted bytes up to date."""
        if self.link.closed is None:
            self.link.accepted = self.link.sent - self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def _begin(self) -> None:
        self._path = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def _closed(self, by: Literal["peer", "us"]) -> None:
        if self.link.closed is None:
            self.measure()
            self.link.closed, self.link.by = time.monotonic(), by
            self.owner.changed()

    async def _serve(self) -> None:
        while True:
            self.link.busy = False
            received = await self.queue.get()
            self.link.busy = True
            for step in self.owner.steps(received, self.link):
                match step:
                    case Send(data):
                        await self._send(data)
                    case Wait(seconds):
                        await asyncio.sleep(seconds)
                    case End(how):
                        await self._end(how)

    async def _send(self, data: bytes) -> None:
        """Write, and let the loop turn, so that what is sent apart can be read apart."""
        self.link.sent += len(data)
        self.transport.write(data)
        await asyncio.sleep(0)
        await self.writable.wait()

    async def _end(self, how: Ending) -> None:
        if how == "keep":
            return
        if how == "close":
            self.transport.close()
        elif how == "reset":
            await self._flushed()
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif how == "half_close":
            self.transport.write_eof()
        await asyncio.Event().wait()

    async def _flushed(self) -> None:
        """Until the peer's kernel has all: a reset throws away what is still on this side."""
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSHED_WITHIN):
                # The kernel tells nobody when its queue is empty: it has to be asked.
                while self.transport.get_write_buffer_size() or _unsent(sock.fileno()):
                    await asyncio.sleep(0.001)


def _unsent(descriptor: int) -> int:
    """Bytes in the socket's send queue (Linux: SIOCOUTQ, the same number as TIOCOUTQ)."""
    answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
