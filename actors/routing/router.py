"""The router actor: one mailbox around `pipelines.routing.state`.

Provider replicas announce themselves, gateway replicas report, both wait for the next table with a long poll.
No request waits for this actor. Values cross as msgspec-encoded bytes, so that two versions of the code
understand each other while one replaces the other: unknown fields are passed over, missing ones have defaults.

What gateways decided comes with their reports; the `learner` remembers it, learns from what callers say of the
answers, and publishes what was learned under a version of its own. So does what replicas counted: `meters` adds it up.

The actor is also the one place that holds the cluster's secret and the hashes of the callers' keys; they are in
the `Welcome` that answers every announcement.

Above it: `directory` (finding it), `client` (talking to it). Below it: `keyring`, `learner`, `meters`, `board`,
`pipelines.routing`. It imports no ray: it is wrapped where it is started.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from actors.board import Board
from actors.clock import SteadyClock
from actors.keyring import Keyring
from actors.routing.learner import Learner, Offload
from actors.routing.meters import Meters
from actors.shelf import ShelfConnector
from actors.version import code_of
from pipelines import metering, routing
from pipelines.errors import ConfigurationError
from pipelines.routing.state import RouterState
from pipelines.routing.table import Announcement, CallerKey, Report, Table, Welcome

TICK = 0.1
"""Seconds between two looks at the state: what changes within one tick is one new table."""

LEARNING = 1.0
"""Seconds between two looks at what was learned."""

_log = logging.getLogger("penstock.router")
_announcements = msgspec.msgpack.Decoder(Announcement)
_reports = msgspec.msgpack.Decoder(Report)


def code_version() -> str:
    """A name for the code that the actor runs: the hash of its source files, and of the weights that they read."""
    return code_of(__file__, metering, routing)


class Router:
    """The actor's class, undecorated: it runs on any event loop.

    state_directory: where the secret and the keys are (`keyring`), and what was counted (`meters`). shelf: finds where
    what was learned is kept (None: it is not).
    preceded: another router was there before, so the first tables are not settled (`RouterState`). clock gives
    seconds since 1970; offload calls what blocks.
    """

    def __init__(
        self,
        state_directory: str,
        preceded: bool = False,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        offload: Offload | None = None,
        shelf: ShelfConnector | None = None,
    ) -> None:
        self._clock = clock or SteadyClock()
        self._sleep = sleep
        self._version = code_version()
        self._state = RouterState(uuid.uuid4().hex[:12], self._clock(), preceded=preceded)
        self._keyring = Keyring(state_directory)
        self._secret = ""
        self._keys: tuple[CallerKey, ...] | None = None
        self._table = self._state.table(self._clock())
        self._board = Board(self._table.epoch, self._table.version, msgspec.msgpack.encode(self._table))
        self._learner = Learner(self._table.epoch, self._clock, offload, shelf)
        self._meters = Meters(state_directory, self._clock, offload)
        self._ticking: list[asyncio.Task[None]] = []

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def announce(self, announcement: bytes) -> bytes:
        """A provider's replica (an encoded Announcement) says that it is there. Returns an encoded Welcome."""
        self._start()
        self._state.announce(_announcements.decode(announcement), self._clock())
        return self._welcome()

    async def greet(self, reporter: str) -> bytes:
        """Somebody who provides nothing, a gateway, is there. Returns an encoded Welcome.

        Raises ConfigurationError if secret or keys could never be read.
        """
        self._start()
        self._state.hear(reporter, self._clock())
        return self._welcome()

    async def report(self, report: bytes) -> None:
        """A batch of outcomes and decisions, and what was counted (an encoded Report)."""
        self._start()
        said = _reports.decode(report)
        self._state.report(said, self._clock())
        self._learner.remember(said.decisions)
        if said.measured:
            self._meters.take(said.measured)

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        """The first encoded Table that is newer than the one named; None if there is none within LONG_POLL."""
        self._start()
        return await self._board.newer(after_version, epoch)

    async def view(self, after_version: int, epoch: str) -> bytes | None:
        """The first encoded Published that is newer than the one named; None if there is none within LONG_POLL."""
        self._start()
        return await self._learner.view(after_version, epoch)

    async def feedback(self, said: bytes) -> bytes:
        """What a caller says of an answer (an encoded Said). Returns an encoded Verdict."""
        self._start()
        return self._learner.feedback(said)

    async def standing(self) -> bytes:
        """How the models stand, as an encoded Standing."""
        return await self._learner.standing(self._state.snapshot(self._clock()))

    async def metrics(self) -> bytes:
        """What the whole cluster has counted, as an encoded `metering.cluster.Snapshot`."""
        return self._meters.snapshot()

    async def keep(self) -> None:
        """Write down what was learned, and counted."""
        await self._learner.save()
        await self._meters.save()

    async def close(self) -> None:
        """Write down what was learned, and counted: this router is going to be stopped."""
        for task in self._ticking:
            task.cancel()
        await self.keep()

    async def snapshot(self) -> bytes:
        """Everything as of now, as an encoded Table, without waiting for the next publication."""
        return msgspec.msgpack.encode(self._state.snapshot(self._clock()))

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
        if not self._ticking or any(task.done() for task in self._ticking):
            loop = asyncio.get_running_loop()
            for task in self._ticking:
                task.cancel()
            self._ticking = [loop.create_task(self._tick()), loop.create_task(self._tick_learner())]

    async def _tick(self) -> None:
        while True:
            self.publish()
            await self._sleep(TICK)

    async def _tick_learner(self) -> None:
        while True:
            try:
                await self._meters.step()
                await self._learner.step(self._table)
            except Exception:
                # Tables must go on being published, with what was learned or without.
                _log.exception("nothing is published of what was learned")
            await self._sleep(LEARNING)

    def publish(self) -> Table:
        """Let time pass in the state, and hand a new table to all who wait. Returns the latest one."""
        now = self._clock()
        self._state.expire(now)
        table = self._state.table(now)
        if table is not self._table:
            self._table = table
            self._board.post(table.version, msgspec.msgpack.encode(table))
        return table
