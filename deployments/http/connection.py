"""One connection to an own listener: uvicorn's, with an end to everything that a caller may draw out.

uvicorn waits for ever for a request's headers, holds as much of them as comes, and goes on reading the body of a
request that it has answered. Here a connection is in one of these states, and each has an end:

    awaiting a head     until `_due`; then 408, or where no byte came an end without words; at most MAX_HEADER_BYTES
    in a body           its reader's own limit (`reading.BODY_SECONDS`); framing without content is bounded here
    answering           the answer's own limits
    idle                KEEP_ALIVE_SECONDS, LEAVING_SECONDS while the listener leaves
    lingering           answered with the body unread: what comes is thrown away for LINGER_SECONDS

An answer that overtakes its request's body ends the connection (RFC 9112, section 9.6: say `close`, half-close, read
on for a moment, so that the answer is not lost to a reset). Trailers are not merged into the headers (RFC 9110,
section 6.5.1). What cannot be answered at its place in a pipeline is not answered at all.

Each request has a line of its own (`Answering`), by which its answer goes without ASGI's messages: uvicorn's cycle is
told what has become of it, and goes on from there.

Above it: `listener`; `visit`, by `line`. Below it: uvicorn, httptools. Outside it: what is served.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from deployments.http.line import CONTROLS, EXTENSION, Headers
from deployments.http.reading import MAX_HEADER_BYTES
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest

HEAD_SECONDS = 10.0
"""How long a request's headers may take from their first byte, and the first byte from the connection's beginning."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection may stay without a request."""

LEAVING_SECONDS = 1.0
"""The same while the listener leaves: time for the caller's next request, which is told to close."""

LINGER_SECONDS = 2.0
"""How long the rest of an answered request is thrown away before the connection is closed all the same."""

MAX_PIPELINED = 64
"""Requests of one connection that may wait for their turn."""


class State(ServerState):
    """What the connections of one listener share. leaving: it takes its leave; each answer says `close`."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving = False


class Connection(HttpToolsProtocol):
    """One connection. See the module for its states.

    gone: called when the caller has gone; lost: he has.

    One timer, armed at most once in HEAD_SECONDS: moving `_due` writes a number, and the timer looks at it when it
    fires.
    """

    # Together with uvicorn's own they would be more than the 30 that Python keeps without a dict for each connection.
    __slots__ = (
        "_due", "_end", "_in_message", "_lingering", "_persistent", "_state", "_timer", "_unused", "gone", "lost",
    )  # fmt: skip

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._state = cast(State, self.server_state)
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._unused = 0
        self._in_message = False
        self._lingering = False
        self._persistent = True
        self._end: _End
        self.gone: set[Callable[[], None]] = set()
        self.lost = False

    @property
    def whole(self) -> bool:
        """Whether the latest request has come to its end."""
        return not self._in_message

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the caller goes away; at once, soon, if he has."""
        self.gone.add(gone)
        self.flow.resume_reading()  # who does not read hears of no end
        if self.lost:
            self.loop.call_soon(gone)

    # What the transport says.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has come."""
        super().connection_made(transport)
        self._end = _End(transport, self)
        self.transport = cast(asyncio.Transport, self._end)
        if self._state.leaving:
            self.timeout_keep_alive = cast(int, LEAVING_SECONDS)
        self._expect(LEAVING_SECONDS if self._state.leaving else HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone, or we have closed."""
        super().connection_lost(exc)
        self._arm(math.inf)
        self.lost = True
        for gone in tuple(self.gone):
            gone()

    def data_received(self, data: bytes) -> None:
        """The next bytes."""
        if self._lingering:
            return
        if not self._in_message and self._due == math.inf:
            self._due = self.loop.time() + HEAD_SECONDS
            if self._timer is None:
                self._arm(HEAD_SECONDS)
        self._unused += len(data)
        self._unset_keepalive_if_required()
        while data:
            data = self._parse(data)
        if self._unused > MAX_HEADER_BYTES:
            self._overfed()

    def _parse(self, data: bytes) -> bytes:
        """Feed the parser; what is to be fed after that."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            if self._wants_upgrade():
                return self._again() + data[upgrade.args[0] :]
        return b""

    def _wants_upgrade(self) -> bool:
        """Whether the head that has come asks for another protocol. We offer none (RFC 9110, section 7.8)."""
        return self.parser.should_upgrade() and b"upgrade" in dict(self.headers)

    def _again(self) -> bytes:
        """The head once more, wanting no upgrade, for a new parser: one that has seen an upgrade passes over the body,
        and each request of Java's own client wants one."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def _overfed(self) -> None:
        if self.transport.is_closing():
            return
        if not self._in_message:
            self._refuse(431, "headers_too_large", f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        else:
            self._refuse(400, "invalid_request", "the body has more framing than content")

    # What the parser says.

    def on_headers_complete(self) -> None:
        """A request's headers are whole; until its body is too, the connection ends with the answer."""
        if self._wants_upgrade():
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests in the pipeline")
        self._due = math.inf
        self._unused = 0
        self._in_message = True
        super().on_headers_complete()
        self.scope["extensions"] = {EXTENSION: {"line": Answering(self, self.cycle)}}
        self.headers = []  # trailers go here, and nowhere
        # After a CONNECT the parser passes over whatever comes.
        self._persistent = self.cycle.keep_alive and not self.parser.should_upgrade()
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Content has come: what was framing before it is forgiven."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._wants_upgrade():
            return
        self._unused = 0
        self._in_message = False
        super().on_message_complete()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._persistent and not self._state.leaving

    # How it ends.

    def leave(self) -> None:
        """The listener leaves: the next answer says so, and without one there is less patience."""
        self.timeout_keep_alive = cast(int, LEAVING_SECONDS)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(LEAVING_SECONDS, self.timeout_keep_alive_handler)
        elif self.cycle is None:
            self._expect(LEAVING_SECONDS)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "invalid_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer, where an answer has a place now, and close."""
        cycle = self.cycle
        free = cycle is None or cycle.response_complete
        if free or (self._in_message and not self.pipeline and not cycle.response_started):
            error = BadRequest(message, status=status, code=code)
            body = msgspec.json.encode(DIALECTS["openai_chat"].write_error(error))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
            self._in_message = True  # whatever follows is no request
            self.transport.close()
        else:
            self._end.abort()

    def _expect(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds
        if self._timer is None or self._due < self._timer.when():
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._look) if seconds < math.inf else None

    def _look(self) -> None:
        self._timer = None
        left = self._due - self.loop.time()
        if left > 0:
            self._arm(left)
        elif self._lingering:
            self._end.abort()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._expect(HEAD_SECONDS)  # a half request behind one that is being answered costs nothing yet
        elif self._unused:
            self._refuse(408, "request_timeout", f"the headers did not come within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def close(self) -> bool:
        """Whether the transport may close at once; else what comes is thrown away for a while first."""
        if self._in_message:
            self._lingering = True
            self.flow.resume_reading()
            self._expect(LINGER_SECONDS)
        return not self._in_message


class Answering:
    """The line of one request. See `line.Line`.

    A caller of HTTP/1.0 knows no chunks (RFC 9112, section 7): a body without a length ends with his connection.
    """

    __slots__ = ("_bare", "_connection", "_cycle", "_head", "_left", "gone")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self.gone = connection.gone
        self._connection = connection
        self._cycle = cycle
        self._head = b""
        self._bare = False
        self._left: int | None = None

    @property
    def whole(self) -> bool:
        """See `line.Line`."""
        return self._connection.whole

    def watch(self, gone: Callable[[], None]) -> None:
        """See `line.Line`."""
        self._connection.watch(gone)

    async def begin(self, status: int, headers: Headers, *, hold: bool = False) -> None:
        """See `line.Outgoing`. Raises ValueError for a header that HTTP does not allow."""
        self._begin(status, headers)
        if not hold:
            await self.more(b"")

    async def more(self, data: bytes) -> None:
        """See `line.Outgoing`."""
        await self._write(self._framed(data))

    async def end(self, data: bytes = b"") -> None:
        """See `line.Outgoing`."""
        framed = self._framed(data)
        await self._write(framed + b"0\r\n\r\n" if self._cycle.chunked_encoding else framed)
        self._ended()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """See `line.Outgoing`. Raises ValueError as `begin`."""
        self._begin(status, headers)
        await self._write(self._framed(body))
        self._ended()

    def _begin(self, status: int, headers: Headers) -> None:
        cycle = self._cycle
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._left = int(value)
        text = b"".join(lines)
        if len(text.translate(None, CONTROLS)) != len(text) - 2 * (len(headers) + 1):  # but for the lines' ends
            raise ValueError("a header holds a control character")
        self._bare = cycle.scope["method"] == "HEAD" or status in (204, 304)
        cycle.chunked_encoding = not self._bare and self._left is None and cycle.scope["http_version"] != "1.0"
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self._head = text + close + (b"transfer-encoding: chunked\r\n\r\n" if cycle.chunked_encoding else b"\r\n")

    def _ended(self) -> None:
        cycle = self._cycle
        if cycle.disconnected:
            return
        if self._left and not self._bare:
            raise RuntimeError("a body is shorter than its head says")
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        # It leads back to the cycle: without it a request's objects go at once, and leave the collector nothing to do.
        cycle.scope.pop("extensions", None)

    @property
    def free(self) -> bool:
        """See `line.Outgoing`."""
        cycle = self._cycle
        return bool(
            cycle.chunked_encoding and not self._head and not cycle.flow.write_paused and not cycle.disconnected
        )

    def put(self, data: bytes) -> None:
        """See `line.Outgoing`."""
        self._cycle.transport.write(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        """The head, if it was held back, and a piece of the body."""
        head, self._head = self._head, b""
        if not data or self._bare:
            return head
        if self._cycle.chunked_encoding:
            return b"%b%x\r\n%b\r\n" % (head, len(data), data)
        if self._left is not None:
            if len(data) > self._left:
                raise RuntimeError("a body is longer than its head says")
            self._left -= len(data)
        return head + data if head else data

    async def _write(self, data: bytes) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if data and not cycle.disconnected:
            cycle.transport.write(data)


class _End:
    """A transport as uvicorn uses it; `close` lingers where a request has not come wholly."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self.write: Callable[[Any], None] = transport.write
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.is_closing: Callable[[], bool] = transport.is_closing
        self._transport = transport
        self._connection = connection

    def close(self) -> None:
        """End, once what was written has gone out."""
        if self.is_closing():
            return
        if self._connection.close():
            self._transport.close()
        else:
            self.is_closing = lambda: True
            self._transport.write_eof()
