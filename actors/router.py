"""The router actor: one mailbox around `pipelines.routing.state`.

Provider replicas announce themselves, gateway replicas report, both wait for the next table with a long poll.
No request waits for this actor. Values cross as msgspec-encoded bytes, so that two versions of the code
understand each other while one replaces the other: unknown fields are passed over, missing ones have defaults.

The actor is also the one place that holds the cluster's secret and the hashes of the callers' keys; they are in
the `Welcome` that answers every announcement.

Above it: `directory` (finding it), `client` (talking to it). Below it: `keyring`, `pipelines.routing`. It imports
no ray: it is wrapped where it is started.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from actors.clock import SteadyClock
from actors.keyring import Keyring
from actors.version import version_of
from pipelines import routing
from pipelines.errors import ConfigurationError
from pipelines.routing.state import RouterState
from pipelines.routing.table import Announcement, CallerKey, Report, Table, Welcome

TICK = 0.1
"""Seconds between two looks at the state: what changes within one tick is one new table."""

LONG_POLL = 10.0
"""Seconds after which a long poll without news returns."""

_log = logging.getLogger("penstock.router")
_announcements = msgspec.msgpack.Decoder(Announcement)
_reports = msgspec.msgpack.Decoder(Report)


def code_version() -> str:
    """A name for the code that the actor runs: the hash of its source files."""
    here = Path(__file__).resolve()
    return version_of([here, here.with_name("keyring.py"), *sorted(Path(routing.__path__[0]).glob("*.py"))])


class Router:
    """The actor's class, undecorated: it runs on any event loop.

    state_directory: where the secret and the keys are (`keyring`). preceded: another router was there before, so
    the first tables are not settled (`RouterState`). clock gives seconds since 1970.
    """

    def __init__(
        self,
        state_directory: str,
        preceded: bool = False,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock or SteadyClock()
        self._sleep = sleep
        self._version = code_version()
        self._state = RouterState(uuid.uuid4().hex[:12], self._clock(), preceded=preceded)
        self._keyring = Keyring(state_directory)
        self._secret = ""
        self._keys: tuple[CallerKey, ...] | None = None
        self._table = self._state.table(self._clock())
        self._encoded = msgspec.msgpack.encode(self._table)
        self._news = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def announce(self, announcement: bytes) -> bytes:
        """A provider's replica (an encoded Announcement) says that it is there. Returns an encoded Welcome."""
        self._start()
        self._state.announce(_announcements.decode(announcement), self._clock())
        return self._welcome()

    async def greet(self) -> bytes:
        """Somebody who provides nothing, a gateway, comes in. Returns an encoded Welcome.

        Raises ConfigurationError if secret or keys could never be read.
        """
        self._start()
        return self._welcome()

    async def report(self, report: bytes) -> None:
        """A batch of outcomes (an encoded Report)."""
        self._start()
        self._state.report(_reports.decode(report), self._clock())

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        """The first encoded Table that is newer than the one named; None if there is none within LONG_POLL."""
        self._start()
        if not self._newer(after_version, epoch):
            news = self._news
            try:
                async with asyncio.timeout(LONG_POLL):
                    await news.wait()
            except TimeoutError:
                return None
        return self._encoded if self._newer(after_version, epoch) else None

    async def snapshot(self) -> bytes:
        """Everything as of now, as an encoded Table, without waiting for the next publication."""
        return msgspec.msgpack.encode(self._state.snapshot(self._clock()))

    def _newer(self, version: int, epoch: str) -> bool:
        return self._table.epoch != epoch or self._table.version > version

    def _welcome(self) -> bytes:
        try:
            self._secret = self._secret or self._keyring.secret()
            self._keys = self._keyring.keys()
        except ConfigurationError as error:
            _log.error("%s", error.message)
            if not self._secret or self._keys is None:
                raise
        return msgspec.msgpack.encode(Welcome(self._state.epoch, self._secret, self._keys or ()))

    def _start(self) -> None:
        """Begin to tick at the first call: Ray runs `__init__` before there is a loop to tick on."""
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.publish()
            await self._sleep(TICK)

    def publish(self) -> Table:
        """Let time pass in the state, and hand a new table to all who wait. Returns the latest one."""
        now = self._clock()
        self._state.expire(now)
        table = self._state.table(now)
        if table is not self._table:
            self._table = table
            self._encoded = msgspec.msgpack.encode(table)
            news, self._news = self._news, asyncio.Event()
            news.set()
        return table
