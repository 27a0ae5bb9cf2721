"""The router actor's mind: it remembers decisions, learns from evidence, publishes what gateways need, and keeps it.

Evidence is taken in at once. What takes long is begun from `step`, which is called about once a second: fitting a view
happens in a thread, and reading and writing what was learned in a task of its own. Nothing waits for that one, and
while the ledger is away learning goes on in memory; what is learned before the past was read is added to it then.

Above it: `router`. Below it: `board`, `learning_keeper`, `pipelines.routing.learning`. Outside it: who decides.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy

from actors.board import Board
from actors.routing.learning_keeper import LearningKeeper
from actors.shelf import ShelfConnector
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

SAVING = 5.0
"""Seconds between two writings at least, and between two attempts to read."""

EARLY = 10_000
"""Pieces of evidence that are remembered for a past that could not be read yet."""

Offload = Callable[..., Awaitable[Any]]
"""Calls a blocking function with arguments, off the loop."""

_log = logging.getLogger("penstock.router")
_said = msgspec.msgpack.Decoder(Said)
_evidence: msgspec.msgpack.Decoder[Evidence] = msgspec.msgpack.Decoder(Evidence)


class Learner:
    """epoch: the router's incarnation; clock gives seconds since 1970; shelf: where it is kept (None: nowhere)."""

    def __init__(
        self,
        epoch: str,
        clock: Callable[[], float],
        offload: Offload | None = None,
        shelf: ShelfConnector | None = None,
    ) -> None:
        self._clock = clock
        self._offload = offload or _in_a_thread()
        self.learning = Learning(width(len(SHIPPED.topics)))
        self._keeper = LearningKeeper(shelf, self.learning.width) if shelf is not None else None
        self._early: deque[tuple[Evidence, float]] | None = deque(maxlen=EARLY)
        self._keeping: asyncio.Task[None] | None = None
        self._failure = ""
        self.decisions = Decisions()
        self._priors: dict[str, float] = {}
        self._table = Table()
        self._normals = numpy.random.default_rng().standard_normal
        self._board = Board(epoch, 0, b"")
        self._published, self._kept_at = 0.0, -SAVING
        self._fitted, self._shown = self.learning, dict[str, float]()
        self._decided = False
        self._kept = self.learning

    def remember(self, decisions: Iterable[Decided]) -> None:
        """Decisions that were answered, and what the answers showed of themselves."""
        arrived = tuple(decisions)
        if not arrived:
            return
        self._decided = True
        now = self._clock()
        for one in self.decisions.remember(arrived, now):
            if one.evidence:
                self._learn(_evidence.decode(one.evidence))
            for evidence in self.decisions.repeated(one, now):
                self._learn(evidence)

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
        if self._early is not None or self.learning is not self._kept:
            resting = self._keeping is None or self._keeping.done()
            if self._keeper is not None and resting and now - self._kept_at >= SAVING:
                self._keeping = asyncio.get_running_loop().create_task(self._keep(self._keeper))

    async def save(self) -> None:
        """Write what was learned since the last time, now. A failure is logged: the next one tries again."""
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._keeper is not None and (self._early or self.learning is not self._kept):
            await self._keep(self._keeper)

    async def _keep(self, keeper: LearningKeeper) -> None:
        """Read what was kept, if that has not been done, and write what is new."""
        self._kept_at = self._clock()
        try:
            if self._early is not None:
                self._remembered(await keeper.load())
            learning = self.learning
            if learning is not self._kept:
                await keeper.save(learning)
                self._kept = learning
        except Exception as error:
            # Ray and databases raise many classes when they are away; each means the same here: later.
            words = str(error).strip().splitlines() or [type(error).__name__]
            if not self._failure:
                _log.warning("what was learned is in memory only, the ledger does not answer: %s", words[-1])
            self._failure = words[-1]
        else:
            self._failure = ""

    def _remembered(self, past: Learning) -> None:
        """The past was read: add what was learned since."""
        learning, early, self._early = past, self._early or (), None
        for evidence, at in early:
            learning = learning.update(evidence, at)
        self.learning, self._kept = learning, past

    def _learn(self, evidence: Evidence) -> None:
        now = self._clock()
        if self._early is not None and self._keeper is not None:
            self._early.append((evidence, now))
        self.learning = self.learning.update(evidence, now)

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
