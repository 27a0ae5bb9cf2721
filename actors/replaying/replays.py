"""The replays actor: one mailbox around `pipelines.idempotency`, and the file of the answers.

Only requests with an `Idempotency-Key` come here. Their leaders push what they hand out, others read along with a
long poll. Values cross as msgspec-encoded bytes, as they do at the router. The disk is waited for in a thread; where
it fails, answers stay in memory (`MAX_HELD` in all) for as long as this process lives.

Above it: `directory` (finding it), `replay_client` (talking to it). Below it: `answer_file`, `pipelines.idempotency`.
It imports no ray: it is wrapped where it is started.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

import pipelines
from actors.clock import SteadyClock
from actors.replaying.answer_file import AnswerFile
from actors.version import code_of
from pipelines.idempotency import Opening, Piece, Push, Register

TICK = 0.5
"""Seconds between two looks at leases and ages."""

LONG_POLL = 2.0
"""Seconds after which a long poll without news returns."""

_log = logging.getLogger("penstock.replays")
_openings = msgspec.msgpack.Decoder(Opening)
_pushes = msgspec.msgpack.Decoder(Push)

Offload = Callable[..., Awaitable[Any]]
"""Calls a blocking function with arguments, off the loop, one at a time and in order."""


def code_version() -> str:
    """A name for the code that the actor runs: the hash of its source files."""
    return code_of(__file__, pipelines)


class Replays:
    """The actor's class, undecorated: it runs on any event loop.

    state_directory: where the file is (`answer_file`). preceded: another one was there before, whose leaders may
    still be at work. clock gives seconds since 1970.
    """

    def __init__(
        self,
        state_directory: str,
        preceded: bool = False,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        offload: Offload | None = None,
    ) -> None:
        self._clock = clock or SteadyClock()
        self._sleep = sleep
        self._version = code_version()
        self._register = Register(self._clock(), preceded=preceded)
        self._file = AnswerFile(state_directory)
        self._offload = offload or _one_thread()
        self._news: dict[str, asyncio.Event] = {}
        self._opening: asyncio.Future[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def begin(self, opening: bytes) -> bytes:
        """A request (an encoded Opening) begins. Returns an encoded Begun."""
        await self._start()
        return msgspec.msgpack.encode(self._register.begin(_openings.decode(opening), self._clock()))

    async def push(self, push: bytes) -> bytes:
        """A leader goes on (an encoded Push). Returns an encoded Progress."""
        await self._start()
        said = _pushes.decode(push)
        progress = self._register.push(said, self._clock())
        self._tell(said.opening.name)
        await self._obey()
        return msgspec.msgpack.encode(progress)

    async def abandon(self, opening: bytes) -> None:
        """A leader gives up (an encoded Opening)."""
        await self._start()
        given_up = _openings.decode(opening)
        self._register.abandon(given_up)
        self._tell(given_up.name)

    async def read(self, opening: bytes, offset: int) -> bytes | None:
        """The first encoded Piece of a run (an encoded Opening) from `offset` on; None after LONG_POLL without."""
        await self._start()
        asked = _openings.decode(opening)
        try:
            async with asyncio.timeout(LONG_POLL):
                while (piece := self._register.read(asked, offset, self._clock())) is None:
                    await self._news.setdefault(asked.name, asyncio.Event()).wait()
        except TimeoutError:
            return None
        if piece.state == "whole" and piece.head is None:
            piece = await self._from_file(asked, offset)
        return msgspec.msgpack.encode(piece)

    async def close(self) -> None:
        """Close the file, for whoever runs this in a process of his own."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._offload(self._file.close)

    async def sweep(self) -> None:
        """Let time pass: leaders that are silent are lost, answers that are old go."""
        for name in self._register.expire(self._clock()):
            self._tell(name)
        await self._obey()

    async def _from_file(self, asked: Opening, offset: int) -> Piece:
        try:
            piece: Piece | None = await self._offload(self._file.read, asked.name, asked.run, offset)
        except (OSError, sqlite3.Error) as error:
            _log.error("a stored answer cannot be read, it is asked for anew: %s", error)
            piece = None
        if piece is None:
            self._register.forget(asked.name)
            await self._obey()
        return piece or Piece("lost")

    async def _obey(self) -> None:
        """Have the file do what the register orders. What is dropped and stored anew is in both lists."""
        orders = self._register.orders()
        try:
            if orders.drop:
                await self._offload(self._file.drop, orders.drop)
            for name in orders.write:
                whole = self._register.whole(name)
                if whole is not None:
                    await self._offload(self._file.write, whole)
                    self._register.written(whole.kept)
        except (OSError, sqlite3.Error) as error:
            _log.error("stored answers cannot be written, those in memory stay there: %s", error)

    def _tell(self, name: str) -> None:
        news = self._news.pop(name, None)
        if news is not None:
            news.set()

    async def _start(self) -> None:
        """At the first call, open the file and begin to tick: Ray runs `__init__` before there is a loop."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        if not self._opening.done():
            await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            self._register.restore(await self._offload(self._file.open), self._clock())
        except (OSError, sqlite3.Error) as error:
            _log.error("%s cannot be opened, answers are kept in memory alone: %s", self._file.path, error)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await self.sweep()
            await self._sleep(TICK)


def _one_thread() -> Offload:
    threads = ThreadPoolExecutor(1, thread_name_prefix="replays")

    def offload(function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    return offload
