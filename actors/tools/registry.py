"""The registry actor: one mailbox around `pipelines.tools.admission`.

A gateway that starts says which sources are configured; the registry has an executor started for each, hears from it
every second, and publishes what there is. What was allowed, and what is configured, is written down before anybody is
told (`tools.bin`), so that a registry that was killed goes on where it was. No call of a tool waits for this actor.

Above it: `directory` (finding it), `toolbox`, `executor` (talking to it). Below it: `board`, `checked_file`,
`pipelines.tools.admission`. It imports no ray: it is wrapped where it is started, and given what starts executors.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from actors.board import Board
from actors.checked_file import CheckedFile
from actors.clock import SteadyClock
from actors.frames import Endpoint
from actors.tools.tool_messages import Journal, Published, Registration, SourceState
from actors.tools.tool_source import SourceSpec
from actors.version import code_of
from pipelines import tools
from pipelines.tools.admission import Admission
from pipelines.tools.catalogue import Catalogue

SILENCE = 5.0
"""Seconds after which an executor that says nothing is away."""

PAUSE = 2.0
"""Seconds between two starts of the same executor."""

TICK = 0.1
"""Seconds between two looks at who is silent, and two publications."""

FILE = "tools.bin"

_log = logging.getLogger("penstock.tools")
_specs = msgspec.msgpack.Decoder(tuple[SourceSpec, ...])
_registrations = msgspec.msgpack.Decoder(Registration)


def code_version() -> str:
    """A name for the code that the actor runs."""
    return code_of(__file__, tools)


class Launcher(Protocol):
    """Who starts and stops executors."""

    async def start(self, spec: SourceSpec) -> None:
        """See that there is an executor of this source, and that it runs what the spec says."""

    async def stop(self, name: str) -> None:
        """End the executor of the source of that name, if there is one."""


class _Executor(msgspec.Struct):
    """What is known of one. heard, started: seconds; instance: "" before it has said anything."""

    spec: SourceSpec
    started: float = float("-inf")
    heard: float = float("-inf")
    instance: str = ""
    endpoint: Endpoint | None = None
    state: SourceState | None = None
    starting: asyncio.Task[None] | None = None


class Registry:
    """The actor's class, undecorated: it runs on any event loop.

    state_directory: where its journal is. preceded is of no use here. clock gives seconds since 1970.
    """

    def __init__(
        self,
        state_directory: str,
        preceded: bool = False,
        *,
        launcher: Launcher,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._launcher = launcher
        self._clock = clock or SteadyClock()
        self._sleep = sleep
        self._version = code_version()
        self._file = CheckedFile(state_directory, FILE, "what is known of tools")
        journal = self._file.read(msgspec.msgpack.Decoder(Journal).decode) or Journal()
        self._known = {tool.name: tool for tool in journal.known}
        self._admission = Admission(journal.known)
        self._executors: dict[str, _Executor] = {}
        self._board = Board(uuid.uuid4().hex[:12], 0, b"")
        self._changed = True
        self._ticking: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        for spec in journal.specs:
            self._expect(spec)

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def configure(self, specs: bytes) -> None:
        """These sources (an encoded tuple of SourceSpec) are configured, and no others."""
        wanted = {spec.name: spec for spec in _specs.decode(specs)}
        for name in self._executors.keys() - wanted.keys():
            del self._executors[name]
            self._admission.forget(name)
            task = asyncio.get_running_loop().create_task(self._stop(name))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        for spec in wanted.values():
            before = self._executors.get(spec.name)
            if before is None or before.spec != spec:
                self._expect(spec)
            # Also one that runs already: its code may be another than ours.
            self._launch(self._executors[spec.name])
        self._write()
        self._changed = True
        self._start()

    async def register(self, registration: bytes) -> bool:
        """An executor (an encoded Registration) is there. Returns whether its tools are wanted, all of them."""
        self._start()
        said = _registrations.decode(registration)
        executor = self._executors.get(said.source)
        if executor is None:
            return False
        executor.heard = self._clock()
        if said.tools is None and executor.instance != said.instance:
            return True
        state = SourceState(said.source, said.health, said.why)
        if (executor.instance, executor.endpoint, executor.state) != (said.instance, said.endpoint, state):
            executor.instance, executor.endpoint, executor.state = said.instance, said.endpoint, state
            self._changed = True
        if said.tools is not None:
            self._offer(said)
        return False

    async def missed(self, source: str) -> None:
        """Somebody could not reach the executor of a source: it may have died."""
        self._start()
        executor = self._executors.get(source)
        if executor is not None:
            self._launch(executor)

    async def published(self, after_version: int, epoch: str) -> bytes | None:
        """The first encoded Published that is newer than the one named; None if there is none within LONG_POLL."""
        self._start()
        return await self._board.newer(after_version, epoch)

    async def allow(self, name: str, fingerprint: str = "") -> bytes:
        """Let a tool be as it is now; see `Admission.allow`. Returns it encoded."""
        self._start()
        tool = self._admission.allow(name, fingerprint)
        self._known[name] = tool
        self._write()
        self._changed = True
        self.publish()
        return msgspec.msgpack.encode(tool)

    async def close(self) -> None:
        """Stop; the executors go on, and are known again by the next registry."""
        tasks = [self._ticking, *self._stopping, *(executor.starting for executor in self._executors.values())]
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        # Who waits for news need not wait any longer.
        self._board.post(self._board.version, b"")

    def publish(self) -> Published:
        """Hand what has changed to all who wait. Returns the latest."""
        self._changed = False
        states = tuple(one.state or SourceState(one.spec.name) for one in self._executors.values())
        latest = Published(
            Catalogue(self._board.epoch, self._board.version + 1, self._admission.tools),
            {name: one.endpoint for name, one in self._executors.items() if one.endpoint is not None},
            self._admission.refused,
            states,
        )
        self._board.post(latest.catalogue.version, msgspec.msgpack.encode(latest))
        return latest

    def _expect(self, spec: SourceSpec) -> None:
        self._executors[spec.name] = _Executor(spec)
        self._admission.expect(spec.name)

    def _offer(self, said: Registration) -> None:
        offered = self._admission.offer(said.source, said.tools or ())
        for tool in offered.learned:
            self._known[tool.name] = tool
        if offered.learned:
            self._write()
        for refused in offered.refused:
            _log.warning("a tool of %s is refused: %s", refused.source, refused.why)
        self._changed = True

    def _write(self) -> None:
        journal = Journal(tuple(self._known.values()), tuple(one.spec for one in self._executors.values()))
        try:
            self._file.write(msgspec.msgpack.encode(journal))
        except OSError as error:
            _log.error("what is known of tools cannot be written down: %s", error.strerror)

    def _start(self) -> None:
        """Begin to tick at the first call: Ray runs `__init__` before there is a loop."""
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.look()
            await self._sleep(TICK)

    def look(self) -> None:
        """Start executors that are silent, and publish what has changed."""
        now = self._clock()
        for name, executor in self._executors.items():
            if now - executor.heard <= SILENCE:
                continue
            self._launch(executor)
            if executor.endpoint is not None:
                executor.endpoint, executor.instance = None, ""
                executor.state = SourceState(name, "away", "its executor is silent")
                self._admission.mark(name, "away", "its executor is silent")
                self._changed = True
        if self._changed:
            self.publish()

    def _launch(self, executor: _Executor) -> None:
        now = self._clock()
        busy = executor.starting is not None and not executor.starting.done()
        if not busy and now - executor.started > PAUSE:
            executor.started = now
            executor.starting = asyncio.get_running_loop().create_task(self._launched(executor))

    async def _launched(self, executor: _Executor) -> None:
        try:
            await self._launcher.start(executor.spec)
        except Exception as error:  # whatever Ray raises; the next look tries again
            _log.warning("the executor of %s does not start: %s", executor.spec.name, type(error).__name__)
            if executor.endpoint is None:
                executor.state = SourceState(executor.spec.name, "away", "its executor does not start")
                self._changed = True

    async def _stop(self, name: str) -> None:
        try:
            await self._launcher.stop(name)
        except Exception as error:  # as above; it ends with the cluster
            _log.warning("the executor of %s does not stop: %s", name, type(error).__name__)
