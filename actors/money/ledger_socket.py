"""Batches over a connection of one's own: a tenth of what an actor call costs the two processes.

The first frame of a connection (`frames`) holds the endpoint's token, which only the actor itself tells (`directory`
finds it): each incarnation makes a new one. Without it the connection ends. An answer has the number of its call. As on
the hop between replicas nothing is encrypted: the ports are for the cluster's own network.

Above it: `directory`, `ledger_link`. Below it: `frames`, asyncio. Outside it: what the payloads mean.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from actors.frames import MOST_BYTES, TOKEN, Endpoint, Frames, Visited
from pipelines.errors import Overloaded

__all__ = ["KEYS", "MOST_BYTES", "REPORT", "SETTLE", "Endpoint", "LedgerConnection", "connect", "listen"]

CONNECT_SECONDS = 2.0

SETTLE, REPORT, DONE, FAILED, KEYS = range(1, 6)
"""Kinds of frames; DONE and FAILED are answers."""

Method = Callable[[bytes], Awaitable[bytes | None]]


class _Served(Visited):
    """A connection to the listener."""

    def __init__(self, token: bytes, methods: Mapping[int, Method]) -> None:
        super().__init__(partial(hmac.compare_digest, token))
        self._methods = methods
        self._tasks: set[asyncio.Task[None]] = set()

    def told(self, number: int, kind: int, payload: bytes) -> None:
        """Calls."""
        if (method := self._methods.get(kind)) is not None:
            task = asyncio.get_running_loop().create_task(self._answer(number, method, payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, method: Method, payload: bytes) -> None:
        try:
            self.send(number, DONE, await method(payload) or b"")
        except Exception as error:
            self.send(number, FAILED, str(error).encode()[:1000])


async def listen(host: str, methods: Mapping[int, Method]) -> tuple[Endpoint, asyncio.Server]:
    """Listen on a free port of `host` for calls of these methods, by their kinds of frame."""
    token = secrets.token_bytes(32)
    server = await asyncio.get_running_loop().create_server(lambda: _Served(token, methods), host, 0)
    return Endpoint(host, server.sockets[0].getsockname()[1], token), server


class LedgerConnection(Frames):
    """A client's end; it has the methods of `ledger_link.LedgerLink`. They raise ConnectionError where it is lost."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0
        self._lost = False

    async def settle(self, batch: bytes) -> None:
        """`Ledger.settle`. Raises Overloaded with what the ledger says is wrong."""
        await self._call(SETTLE, batch)

    async def report(self, question: bytes) -> bytes:
        """`Ledger.report`. Raises Overloaded with what the ledger says is wrong."""
        return await self._call(REPORT, question)

    async def keys(self, inquiry: bytes) -> bytes:
        """`Ledger.keys`. Raises Overloaded with what the ledger says is wrong."""
        return await self._call(KEYS, inquiry)

    async def _call(self, kind: int, payload: bytes) -> bytes:
        if self._lost:
            raise ConnectionError("the connection to the ledger is lost")
        self._number = number = (self._number + 1) % 2**32
        self._calls[number] = asyncio.get_running_loop().create_future()
        self.send(number, kind, payload)
        try:
            return await self._calls[number]
        finally:
            self._calls.pop(number, None)

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """An answer."""
        call = self._calls.get(number)
        if call is None or call.done():
            return
        if kind == DONE:
            call.set_result(payload)
        else:
            call.set_exception(Overloaded(payload.decode(errors="replace"), status=503, retry_after=1.0))

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        for call in self._calls.values():
            if not call.done():
                call.set_exception(ConnectionError("the connection to the ledger is lost"))


async def connect(endpoint: Endpoint) -> LedgerConnection:
    """A connection to a listener. Raises OSError or TimeoutError where it cannot be reached."""
    async with asyncio.timeout(CONNECT_SECONDS):
        _, made = await asyncio.get_running_loop().create_connection(LedgerConnection, endpoint.host, endpoint.port)
    made.send(0, TOKEN, endpoint.token)
    return made
