"""A provider replica's end of the hop: a port of its own on the node's address, for the cluster's own processes.

What comes over it is served by the same ASGI application as everything else. Until a connection has said the cluster's
secret it may say nothing else, and not much; one that is silent while calls are under way is closed, which cancels
them: a gateway that is there speaks once a second.

Above it: `deployments.replica`. Below it: `wire`, `actors.frames`, `deployments.http`. Outside it: what is served.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from actors.frames import Visited, framed
from deployments.guard import Guard
from deployments.hop.wire import (
    ASK,
    BROKEN,
    CANCEL,
    CREDIT,
    CREDITS,
    DATA,
    END,
    HEAD,
    MORE,
    MOST,
    PING,
    PONG,
    SECONDS_OF_SILENCE,
    WELCOME,
    WINDOW,
    Asked,
    Head,
    encode,
    pieces_of,
    requests,
)
from deployments.http.line import EXTENSION, Headers
from deployments.http.reading import MAX_BODY, READ_HEADERS
from pipelines.errors import ConfigurationError

PACE = 0.002
"""Seconds from one write to the next, at least, of pieces that are not the first of their answer."""

TOKEN_SECONDS = 5.0
"""How long a connection may take to say the secret."""

LOOK_SECONDS = 5.0
"""Seconds between two looks at whether the other end is still there."""

FAREWELL_SECONDS = 1.0
"""How long a gateway has to take the last words of a door that closes."""

STOP_SECONDS = 5.0
"""How long what is under way may take when the door closes."""

_TICK = 0.005

Application = Callable[..., Awaitable[None]]

_logger = logging.getLogger("penstock")


class _Call:
    """One call: a `line.Line` to its visit, ASGI's `receive` and `send` to any other application."""

    __slots__ = (
        "_begun",
        "_body",
        "_caller",
        "_number",
        "_room",
        "_sent",
        "ended",
        "gone",
        "lost",
        "scope",
        "size",
        "task",
    )

    def __init__(self, caller: "_Caller", number: int, asked: Asked) -> None:
        self.gone: set[Callable[[], None]] = set()
        self.lost = False
        self.ended = False
        self.size = asked.size
        self.task: asyncio.Task[None] | None = None
        self.scope = {
            "type": "http",
            "http_version": "2",
            "method": "POST",
            "path": asked.path,
            "query_string": asked.query,
            READ_HEADERS: asked.headers,
            "extensions": {EXTENSION: {"line": self}},
        }
        self._body: bytes | bytearray = asked.body if len(asked.body) == asked.size else bytearray(asked.body)
        self._caller = caller
        self._number = number
        self._sent = 0
        self._begun = False
        self._room: asyncio.Future[None] | None = None

    # See `line.Line`.

    whole = True
    """An application is told of a call when its body is here."""

    def watch(self, gone: Callable[[], None]) -> None:
        """See `line.Line`."""
        self.gone.add(gone)
        if self.lost:
            asyncio.get_running_loop().call_soon(gone)

    async def begin(self, status: int, headers: Headers, *, hold: bool = False) -> None:
        """See `line.Outgoing`: what is sent in one turn of the loop goes out together."""
        if not self.lost:
            self._caller.send(self._number, HEAD, encode(Head(status, headers)))

    async def more(self, data: bytes) -> None:
        """See `line.Outgoing`."""
        for piece in pieces_of(data):
            await self._piece(piece)

    async def end(self, data: bytes = b"") -> None:
        """See `line.Outgoing`."""
        await self.more(data)
        if not self.lost:
            self.ended = True
            self._caller.send(self._number, END, b"")

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """See `line.Outgoing`."""
        await self.begin(status, headers)
        await self.end(body)

    @property
    def free(self) -> bool:
        """See `line.Outgoing`."""
        return self._begun and self._sent < WINDOW and not self.lost and self._caller.writable.is_set()

    def put(self, data: bytes) -> None:
        """See `line.Outgoing`."""
        self._sent += len(data)
        for piece in pieces_of(data):
            self._caller.pass_on(self._number, piece)

    # ASGI, for whoever knows no line.

    async def receive(self) -> MutableMapping[str, Any]:
        """The body, once."""
        body, self._body = self._body, b""
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """The answer's head or a piece of its body; returns when there is room for the next."""
        if message["type"] == "http.response.start":
            await self.begin(message["status"], message["headers"])
        elif message["more_body"]:
            await self.more(message["body"])
        else:
            await self.end(message["body"])

    async def _piece(self, piece: bytes) -> None:
        if self.lost:
            return
        if self._begun:
            self._caller.pass_on(self._number, piece)
        else:
            self._begun = True
            self._caller.send(self._number, DATA, piece)
        self._sent += len(piece)
        while self._sent > WINDOW and not self.lost:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        await self._caller.writable.wait()

    # What the other end says.

    def add(self, body: bytes) -> bool:
        """More of the body; whether it is whole now. Raises ValueError where it is too much."""
        if self.task is not None:
            return False  # it was refused by its head
        self._body += body
        if len(self._body) > self.size:
            raise ValueError("a body is longer than was said")
        return len(self._body) == self.size

    def credit(self, size: int) -> None:
        """So much was read."""
        self._sent -= size
        self._wake()

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self.lost = True
        self._wake()
        for gone in tuple(self.gone):
            gone()

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


class _Caller(Visited):
    """A connection to the door."""

    def __init__(self, guard: Guard, application: Application, others: "set[_Caller]") -> None:
        super().__init__(guard.knows, MOST)
        self.calls: dict[int, _Call] = {}
        self._application = application
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(TOKEN_SECONDS, self._look)
        self._flushed = 0.0
        self._later: asyncio.TimerHandle | None = None

    def pass_on(self, number: int, piece: bytes) -> None:
        """Send a further piece of a body, with the next frame of any call: soon, where the latest was just now."""
        self._unsent.append(framed(number, DATA, piece))
        if self._soon is None and self._later is None:
            due = self._flushed + PACE - self._loop.time()
            if due > 0.0:
                self._later = self._loop.call_later(due, self.flush)
            else:
                self._soon = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """See `Frames.flush`."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._flushed = self._loop.time()
        super().flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._others.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard = self._loop.time()
        super().data_received(data)

    def greeted(self) -> None:
        """Say that calls may come."""
        if self.known:
            self.send(0, WELCOME, b"")
        else:
            _logger.warning("a connection to the hop's port did not know the cluster's secret")

    def told(self, number: int, kind: int, payload: bytes) -> None:
        """Calls, and signs of life."""
        try:
            self._told(number, kind, payload)
        except (msgspec.MsgspecError, ValueError, struct.error):
            _logger.warning("a connection to the hop's port said what is no request")
            self.abort()

    def _told(self, number: int, kind: int, payload: bytes) -> None:
        if kind == ASK:
            self._asked(number, payload)
        elif kind == PING:
            self.send(0, PONG, b"")
        elif (call := self.calls.get(number)) is None:
            return
        elif kind == CREDIT:
            call.credit(*CREDITS.unpack(payload))
        elif kind == MORE:
            if call.add(payload):
                self._begin(number, call)
        elif kind == CANCEL:
            del self.calls[number]
            call.leave()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._timer.cancel()
        self._others.discard(self)
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.leave()
        self.writable.set()

    def _asked(self, number: int, payload: bytes) -> None:
        asked = requests.decode(payload)
        call = self.calls[number] = _Call(self, number, asked)
        if len(asked.body) == asked.size:
            self._begin(number, call)
        elif asked.size > MAX_BODY:
            # Whoever reads the head refuses it.
            asked.headers["content-length"] = str(asked.size)
            self._begin(number, call)

    def _begin(self, number: int, call: _Call) -> None:
        call.task = self._loop.create_task(self._serve(number, call))

    async def _serve(self, number: int, call: _Call) -> None:
        try:
            await self._application(call.scope, call.receive, call.send)
        except Exception:
            pass  # the application has logged it
        finally:
            # It leads back to the call: without it a call's objects go at once, and leave the collector nothing to do.
            call.scope.pop("extensions", None)
            if self.calls.pop(number, None) is not None and not call.ended:
                self.send(number, BROKEN, b"")

    def _look(self) -> None:
        silent = self._loop.time() - self._heard > SECONDS_OF_SILENCE
        if not self.known or (self.calls and silent):
            self.abort()
        else:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)


class Door:
    """The port."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._callers: set[_Caller] = set()
        self._server: asyncio.Server | None = None
        self.address: tuple[str, int] = ("", 0)

    async def start(self, host: str, guard: Guard) -> None:
        """Listen on a free port of `host`. Raises ConfigurationError where that cannot be."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: _Caller(guard, self._application, self._callers), host, 0)
        except OSError as error:
            raise ConfigurationError(f"no port on {host} can be used: {error.strerror}") from None
        self._server = server
        self.address = server.sockets[0].getsockname()[:2]

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._server is not None and self._server.is_serving()

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take no new connection, let what is under way end for `seconds`, cut off the rest."""
        if self._server is not None:
            self._server.close()
        await self._until(lambda: not any(caller.calls for caller in self._callers), seconds)
        for caller in tuple(self._callers):
            # What was said last may be on its way out still.
            caller.abort() if caller.calls else caller.close()
        await self._until(lambda: not self._callers, FAREWELL_SECONDS)
        for caller in tuple(self._callers):
            caller.abort()
        await asyncio.sleep(0)

    async def _until(self, over: Callable[[], bool], seconds: float) -> None:
        """Wait until it is over, for so many seconds at most; neither calls nor connections tell of their end."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not over() and loop.time() < until:  # noqa: ASYNC110 nobody sets an event
            await asyncio.sleep(_TICK)
