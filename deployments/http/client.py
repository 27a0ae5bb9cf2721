"""One connection to a server, and the answers that come over it: HTTP/1.1 as a client, on httptools' parser.

    idle        kept by the pool; whatever comes now is a reason to close
    asked       a request is on its way, or its answer's headers are
    answering   the body comes; a reader that stops reading stops the sender, with READ_AHEAD bytes between them
    sparing     the reader has what he wants (a stream's sentinel): only the body's end may come, for SPARE_SECONDS
    ended       the answer is whole: idle again if both sides keep the connection, else closed

Why not a client library: here it is the token path. aiohttp's client took a fifth of a gateway replica's CPU, most of
it for what is switched off (cookies, redirects, tracing, timeouts of its own).

An answer without a length ends with the connection (RFC 9112, section 6.3), any other one that does so is broken.
Interim answers are passed over (RFC 9110, section 15.2). What comes behind an answer belongs to no request: the
connection is closed, so that it is not taken for the next one's. The parser is lenient where aiohttp's is.

Above it: `pool`, `transport`. Below it: `arriving`, httptools, asyncio. Outside it: where a connection leads to.
"""

import asyncio
import math
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast

import httptools

from deployments.http.arriving import Arriving
from pipelines.errors import StreamBroken

MAX_HEAD = 128 * 1024
"""Bytes of an answer's headers."""

READ_AHEAD = 64 * 1024
"""Bytes of a body that wait here for their reader before the sender is stopped."""

WRITTEN_AT_ONCE = 256 * 1024
"""Bytes of a request's body that are handed to the socket at once; a longer one goes piece by piece."""

SPARE_SECONDS = 1.0
SPARE_BYTES = 1024
"""How long a connection is spared, and what may come meanwhile. Servers send the end of a chunked body on its own,
behind the last event: who closed at that event would need a new connection, and a handshake, for each stream."""

_BODILESS = (204, 304)

_PATIENCE = re.compile(r"\btimeout=(\d{1,9})\b", re.IGNORECASE)
"""In the header `Keep-Alive` (RFC 2068, section 19.7.1.1)."""


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def freed(self, connection: "ClientConnection") -> None:
        """It may be used for the next request."""

    def lost(self, connection: "ClientConnection") -> None:
        """It is closed."""


class Incoming(Arriving):
    """An answer as it comes in over a connection that it has to itself."""

    __slots__ = ("_connection", "_spared")

    def __init__(self, connection: "ClientConnection", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._connection = connection
        self._spared = False

    def close(self, *, whole: bool = False) -> None:
        """Close the connection, unless the answer has come to its end: then others may use it already.

        whole: nothing but the end is missing; for that the connection waits a moment by itself.
        """
        if self.ended or self._spared:
            return
        if whole and not self.broken and self.size <= SPARE_BYTES:
            self._spared = True
            self._connection.spare()
        else:
            self._connection.abort()

    def taken(self, size: int) -> None:
        """See `Arriving`."""
        if self.size <= READ_AHEAD < self.size + size and not self.ended:
            self._connection.transport.resume_reading()

    # For the connection alone.

    def add(self, piece: bytes) -> bool:
        """More of the body; whether that is more than the reader takes."""
        before = self.size
        self.append(piece)
        if self._spared and self.size > SPARE_BYTES:
            self._connection.abort()
            return False
        return before <= READ_AHEAD < self.size

    @property
    def stopped(self) -> bool:
        """Whether the sender is stopped for the reader's sake."""
        return self.size > READ_AHEAD


class ClientConnection(asyncio.Protocol):
    """One connection. place: what it leads to, for its owner; heard: whether anything has come for this request.

    closed: it has ended, maybe before it was used. patience: seconds for which the server keeps it while it is idle, as
    far as it says so. kept_until: for its owner, in seconds of the loop's clock.
    """

    def __init__(self, owner: Owner, place: object) -> None:
        self.place = place
        self.heard = False
        self.closed = False
        self.patience = math.inf
        self.kept_until = 0.0
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._incoming: Incoming | None = None
        self._head_size = 0
        self._head_only = False
        self._interim = self._whole = self._spoilt = self._keep = self._until_close = False
        self._writer: asyncio.Task[None] | None = None
        self._sparing: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None

    async def ask(
        self,
        head: bytes,
        body: bytes | AsyncGenerator[bytes, None],
        *,
        chunked: bool = False,
        head_only: bool = False,
    ) -> Incoming:
        """Send a request, its head rendered, and wait for the answer's headers. chunked: so the body is to go.

        head_only: the answer has no body, whatever length it names (RFC 9112, section 6.3); that ends the connection,
        for the parser cannot be told.

        Raises StreamBroken where the connection breaks before they are there, and whatever `body` raises. A
        cancellation closes the connection.
        """
        incoming = Incoming(self, self.loop)
        if self.closed:
            raise _broken(incoming, ConnectionResetError())
        self._incoming = incoming
        self.heard = self._whole = False
        self._head_only = head_only
        self._head_size = 0
        if isinstance(body, bytes) and len(body) <= WRITTEN_AT_ONCE:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._writer = self.loop.create_task(self._write(body, chunked))
        try:
            await incoming.head
        except BaseException:
            self.abort()
            raise
        return incoming

    def abort(self) -> None:
        """Close now; an answer that is under way is nobody's any more."""
        self._incoming = None
        self._leave()
        self.transport.abort()

    def spare(self) -> None:
        """Nobody reads on; see `Incoming.close`."""
        self._sparing = self.loop.call_later(SPARE_SECONDS, self.abort)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        incoming = self._incoming
        if incoming is None:
            self.abort()
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._whole:
                self._break(error)
                return
            self._spoilt = True
        if self._whole:
            self._free(incoming)
        elif incoming.status:
            incoming.arrived()
        else:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._break(httptools.HttpParserInvalidStatusError("headers"))

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.closed = True
        self._leave()
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            if error is None and self._until_close and incoming.status:
                incoming.end()
            else:
                incoming.fail(_broken(incoming, error or ConnectionResetError()))
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # What the parser says.

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._spoilt = self._whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is not merged into them."""
        incoming = self._incoming
        if incoming is not None and not incoming.status:
            incoming.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The headers are there."""
        incoming = self._incoming
        if incoming is None or self._whole:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            incoming.headers.clear()
            return
        incoming.status = status
        self._keep = self._parser.should_keep_alive()
        if "keep-alive" in incoming.headers and (said := _PATIENCE.search(incoming.headers["keep-alive"])):
            self.patience = float(said[1])
        self._until_close = not self._keep and status not in _BODILESS and _has_no_length(incoming.headers)
        if self._head_only:
            self._keep, self._whole = False, True
        if not incoming.head.done():
            incoming.head.set_result(None)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._incoming is not None and not self._whole and self._incoming.add(body):
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """An answer has come to its end."""
        if self._interim:
            self._interim = False
        else:
            self._whole = True

    def _free(self, incoming: Incoming) -> None:
        """The answer is whole: the connection is another's, or nobody's."""
        self._incoming = None
        stopped = incoming.stopped
        incoming.end()
        early = self._writer is not None
        self._leave()
        if early or self._spoilt or not self._keep:
            self.transport.close()
            return
        if stopped:
            self.transport.resume_reading()
        self._owner.freed(self)

    def _break(self, error: Exception) -> None:
        incoming = self._incoming
        self.abort()
        if incoming is not None:
            incoming.fail(_broken(incoming, error))

    # The request's body.

    async def _write(self, body: bytes | AsyncGenerator[bytes, None], chunked: bool) -> None:
        try:
            async with aclosing(_cut(body) if isinstance(body, bytes) else body) as pieces:
                async for piece in pieces:
                    if piece:
                        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                        if self._room is not None:
                            await self._room
            if chunked:
                self.transport.write(b"0\r\n\r\n")
        except Exception as error:
            # Who asked hears why there is no more of it, if it is not too late.
            incoming = self._incoming
            self.abort()
            if incoming is not None:
                incoming.fail(error)
        else:
            self._writer = None

    def _leave(self) -> None:
        """Nothing is under way any more."""
        if self._sparing is not None:
            self._sparing.cancel()
            self._sparing = None
        writer, self._writer = self._writer, None
        if writer is not None and writer is not asyncio.current_task(self.loop):
            writer.cancel()


async def _cut(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), WRITTEN_AT_ONCE):
        yield body[start : start + WRITTEN_AT_ONCE]


def _has_no_length(headers: dict[str, str]) -> bool:
    """Whether the body's end is the connection's."""
    coding = headers.get("transfer-encoding")
    return "content-length" not in headers if coding is None else not coding.lower().endswith("chunked")


def _broken(incoming: Incoming, error: Exception) -> StreamBroken:
    """In our words: an error's own may hold addresses, or what the server sent."""
    when = "" if incoming.status else " before an answer"
    broken = StreamBroken(f"the connection broke{when}: {type(error).__name__}")
    broken.__cause__ = error
    return broken
