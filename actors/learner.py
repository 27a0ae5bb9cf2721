"""The router actor's mind: it remembers decisions, learns from evidence, publishes what gateways need, and keeps it.

Evidence is taken in at once. What takes long - fitting a view, writing the file - happens in a thread, from `step`,
which is called about once a second.

Above it: `router`. Below it: `board`, `learning_file`, `pipelines.routing.learning`. Outside it: who decides.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy

from actors.board import Board
from actors.learning_file import LearningFile
from pipelines.routing.feedback import Said
from pipelines.routing.learning.decisions import Decisions
from pipelines.routing.learning.evidence import Evidence
from pipelines.routing.learning.features import width
from pipelines.routing.learning.state import DEFAULT_QUALITY, Learning
from pipelines.routing.learning.view import view
from pipelines.routing.learning.weights import SHIPPED
from pipelines.routing.standing import standing
from pipelines.routing.table import Decided, Published, Table

PUBLISHING = 5.0
"""Seconds between two views at least."""

REDRAWING = 30.0
"""Seconds after which requests that explore get another draw, while decisions are made."""

SAVING = 10.0
"""Seconds between two writings of the file at least."""

Offload = Callable[..., Awaitable[Any]]
"""Calls a blocking function with arguments, off the loop."""

_log = logging.getLogger("penstock.router")
_said = msgspec.msgpack.Decoder(Said)
_evidence: msgspec.msgpack.Decoder[Evidence] = msgspec.msgpack.Decoder(Evidence)


class Learner:
    """epoch: the router's incarnation; clock gives seconds since 1970."""

    def __init__(
        self, state_directory: str, epoch: str, clock: Callable[[], float], offload: Offload | None = None
    ) -> None:
        self._clock = clock
        self._offload = offload or _in_a_thread()
        self._file = LearningFile(state_directory)
        self.learning = self._file.read(width(len(SHIPPED.topics)))
        self.decisions = Decisions()
        self._priors: dict[str, float] = {}
        self._table = Table()
        self._normals = numpy.random.default_rng().standard_normal
        self._board = Board(epoch, 0, b"")
        self._published = self._saved = 0.0
        self._fitted, self._shown = self.learning, dict[str, float]()
        self._decided = False
        self._kept = self.learning

    def remember(self, decisions: Iterable[Decided]) -> None:
        """Decisions that were answered, and what the answers showed of themselves."""
        arrived = tuple(decisions)
        if not arrived:
            return
        self._decided = True
        for one in self.decisions.remember(arrived, self._clock()):
            if one.evidence:
                self._learn(_evidence.decode(one.evidence))

    def feedback(self, said: bytes) -> bytes:
        """What a caller says (an encoded Said). Returns an encoded Verdict."""
        verdict, evidence = self.decisions.judge(_said.decode(said), self._clock())
        if evidence is not None:
            self._learn(evidence)
        return msgspec.msgpack.encode(verdict)

    async def view(self, after_version: int, epoch: str) -> bytes | None:
        """The first encoded Published that is newer than the one named; None if there is none for a while."""
        return await self._board.newer(after_version, epoch)

    async def standing(self, table: Table) -> bytes:
        """How the models of `table` stand, as an encoded Standing."""
        encoded: bytes = await self._offload(_encoded_standing, self.learning, table, self._clock())
        return encoded

    async def step(self, table: Table) -> None:
        """Do what is due; table: the latest one."""
        if table is not self._table:
            self._table = table
            self._priors = _priors(table)
        now = self._clock()
        if self._priors and now - self._published >= PUBLISHING and self._outdated(now):
            await self._publish(now)
        if self.learning is not self._kept and now - self._saved >= SAVING:
            await self.save()

    async def save(self) -> None:
        """Write what was learned since the last time. A failure is logged: the next one tries again."""
        learning, self._saved = self.learning, self._clock()
        if learning is self._kept:
            return
        try:
            await self._offload(self._file.write, learning)
            self._kept = learning
        except OSError as error:
            _log.error("what was learned cannot be written: %s", error.strerror)

    def _learn(self, evidence: Evidence) -> None:
        self.learning = self.learning.update(evidence, self._clock())

    def _outdated(self, now: float) -> bool:
        redraw = self._decided and now - self._published >= REDRAWING
        return redraw or self.learning is not self._fitted or self._known() != self._shown

    def _known(self) -> dict[str, float]:
        """Every model that can be asked: those that are listed, and those that were seen."""
        return {**dict.fromkeys(self.learning.models, DEFAULT_QUALITY), **self._priors}

    async def _publish(self, now: float) -> None:
        learning, priors, version = self.learning, self._known(), self._board.version + 1
        self._published, self._decided = now, False
        made = await self._offload(view, learning, priors, self._normals, now, version)
        self._fitted, self._shown = learning, priors
        data = msgspec.msgpack.encode(made)
        self._board.post(version, msgspec.msgpack.encode(Published(self._board.epoch, version, data)))


def _priors(table: Table) -> dict[str, float]:
    return {f"{entry.name}/{card.name}": card.quality for entry in table.providers for card in entry.models}


def _encoded_standing(learning: Learning, table: Table, now: float) -> bytes:
    return msgspec.msgpack.encode(standing(learning, table, now))


def _in_a_thread() -> Offload:
    executor = ThreadPoolExecutor(1, thread_name_prefix="learning")

    async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)

    return offload
