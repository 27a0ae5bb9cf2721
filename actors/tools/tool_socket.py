"""Calls of tools over a connection of one's own: what a tool yields crosses as it comes, and closing ends it.

    gateway --TOKEN, RUN(encoded ToolRun), CANCEL--> executor --WELCOME, STEP(encoded Progress or Ran)--> gateway

A stream over a Ray handle costs several times as much, and is cancelled with the request that Ray saw it begin in.
The number of a frame is that of its call. A connection that ends cancels what runs for it. It counts only once it is
welcomed: the kernel still takes connections for a process that is being killed, and a call must not be sent twice.

Above it: `executor`, `toolbox`. Below it: `frames`. Outside it: what runs.
"""

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import NamedTuple

import msgspec

from actors.frames import TOKEN, Endpoint, Frames, Visited
from pipelines.tools.catalogue import Progress, Ran, ToolRun

CONNECT_SECONDS = 2.0

WELCOME, RUN, CANCEL, STEP = range(1, 5)
"""Kinds of frames."""

Execute = Callable[[ToolRun], AsyncGenerator[Progress | Ran, None]]
"""Runs a tool: see `pipelines.tools.catalogue.Toolbox.run`."""

LOST = Ran(error="its executor has died", exit="crash")
"""The end of a call whose connection is lost."""

_runs = msgspec.msgpack.Decoder(ToolRun)
_steps: msgspec.msgpack.Decoder[Progress | Ran] = msgspec.msgpack.Decoder(Progress | Ran)


class _Served(Visited):
    """A connection to the listener."""

    def __init__(self, token: bytes, execute: Execute, others: "set[_Served]") -> None:
        super().__init__(partial(hmac.compare_digest, token))
        self._execute = execute
        self._others = others
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def greeted(self) -> None:
        """Say that calls may come."""
        if self.known:
            self.send(0, WELCOME, b"")

    def told(self, number: int, kind: int, payload: bytes) -> None:
        """Calls."""
        if kind == RUN and number not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._run(number, payload))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number, None))
        elif kind == CANCEL and number in self._tasks:
            self._tasks[number].cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._others.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._others.discard(self)
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, number: int, payload: bytes) -> None:
        async with contextlib.aclosing(self._execute(_runs.decode(payload))) as steps:
            async for step in steps:
                self.send(number, STEP, msgspec.msgpack.encode(step))


class Listener(NamedTuple):
    """Where calls are listened for."""

    endpoint: Endpoint
    server: asyncio.Server
    connections: set[_Served]

    def close(self) -> None:
        """Listen no more, and cancel what runs for whom."""
        self.server.close()
        for connection in list(self.connections):
            connection.close()


async def listen(host: str, execute: Execute) -> Listener:
    """Listen on a free port of `host` for calls."""
    token, connections = secrets.token_bytes(32), set[_Served]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Served(token, execute, connections), host, 0)
    return Listener(Endpoint(host, server.sockets[0].getsockname()[1], token), server, connections)


class ToolConnection(Frames):
    """A gateway's end. welcomed: done when calls may be sent, or a ConnectionError; lost: whether it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, asyncio.Queue[Progress | Ran]] = {}
        self._number = 0
        self.welcomed = asyncio.get_running_loop().create_future()
        self.lost = False

    async def run(self, run: ToolRun, patience: float) -> AsyncGenerator[Progress | Ran, None]:
        """Run it there: Progress, then one Ran. patience: seconds of silence after which the executor hangs."""
        self._number = number = (self._number + 1) % 2**32
        come = self._calls[number] = asyncio.Queue()
        step: Progress | Ran | None = None
        if self.lost:
            come.put_nowait(LOST)
        self.send(number, RUN, msgspec.msgpack.encode(run))
        try:
            while not isinstance(step, Ran):
                try:
                    async with asyncio.timeout(patience):
                        step = await come.get()
                except TimeoutError:
                    step = Ran(error="its executor does not answer", exit="crash")
                    self.close()
                yield step
        finally:
            del self._calls[number]
            if not isinstance(step, Ran):
                self.send(number, CANCEL, b"")

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """A step of a call that is still wanted."""
        if kind == WELCOME and not self.welcomed.done():
            self.welcomed.set_result(None)
        if kind == STEP and number in self._calls:
            self._calls[number].put_nowait(_steps.decode(payload))

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.lost = True
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError("there is nobody, or we are not let in"))
        for come in self._calls.values():
            come.put_nowait(LOST)


async def connect(endpoint: Endpoint) -> ToolConnection:
    """A connection to a listener. Raises OSError or TimeoutError where it cannot be reached."""
    async with asyncio.timeout(CONNECT_SECONDS):
        _, made = await asyncio.get_running_loop().create_connection(ToolConnection, endpoint.host, endpoint.port)
        try:
            made.send(0, TOKEN, endpoint.token)
            await made.welcomed
        except BaseException:
            made.close()
            raise
    return made
