"""How many calls run at once, and how many may wait: the same limit for every lane.

Serve's own `max_ongoing_requests` sees only what comes through its ingress; this one sees all, and refuses in the
caller's dialect.

Above it: the replicas. Below it: asyncio, `pipelines.concurrency`. Outside it: what the calls do, and what the limit
ought to be.
"""

import asyncio
import math
from collections import deque

from pipelines.concurrency import Pace
from pipelines.errors import Overloaded

Turn = asyncio.Future[bool]
"""What a waiter waits for: True is a place, False that a more important one took his place in the queue."""


class Queue:
    """Those who wait: the highest priority first, and within one the longest wait first."""

    def __init__(self) -> None:
        self._by_priority: dict[int, deque[Turn]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_priority.values()))

    def add(self, turn: Turn, priority: int) -> None:
        """One more, behind all of his priority."""
        self._by_priority.setdefault(priority, deque()).append(turn)

    def next(self) -> Turn | None:
        """Takes the first one out."""
        if not self._by_priority:
            return None
        priority = max(self._by_priority)
        turn = self._by_priority[priority].popleft()
        self._tidy(priority)
        return turn

    def last_below(self, priority: int) -> Turn | None:
        """Takes out the last one of the lowest priority, if that is below `priority`."""
        lowest = min(self._by_priority, default=priority)
        if lowest >= priority:
            return None
        turn = self._by_priority[lowest].pop()
        self._tidy(lowest)
        return turn

    def discard(self, turn: Turn, priority: int) -> None:
        """Takes this one out if he is still there."""
        waiting = self._by_priority.get(priority)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            self._tidy(priority)

    def _tidy(self, priority: int) -> None:
        if not self._by_priority[priority]:
            del self._by_priority[priority]


class Limiter:
    """At most `concurrent` at once and `queued` waiting, for `patience` seconds each.

    Higher priorities go first and push lower ones out of a full queue. So a low priority may get no place for as long
    as higher ones keep all of them; it is then refused when its patience ends, and never waits for ever.
    """

    def __init__(self, concurrent: int, queued: int, patience: float = 30.0) -> None:
        self.concurrent = concurrent
        self.queued = queued
        self.in_flight = 0
        self._patience = patience
        self._queue = Queue()
        self._pace = Pace()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    async def acquire(self, priority: int = 0, patience: float = math.inf) -> None:
        """Take a place; `release` gives it back. `patience` counts where it is shorter than the limiter's own.

        Raises Overloaded at once if the queue is full of waiters who are no less important, else when a more important
        one takes the place in the queue, or when patience ends.
        """
        if self.in_flight < self.concurrent:
            self._take()
            if self.in_flight >= self.concurrent:
                self._pace.filled(asyncio.get_running_loop().time())
            return
        self._make_room(priority)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._queue.add(turn, priority)
        patience = min(patience, self._patience)
        try:
            async with asyncio.timeout(patience):
                placed = await turn
        except BaseException as error:
            self._queue.discard(turn, priority)
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # the place came in the moment in which we gave up
            if isinstance(error, TimeoutError):
                raise self._refusal(f"no place came free within {patience:g} s") from None
            raise
        if not placed:
            raise self._refusal(f"all {self.concurrent} places are taken, and more important calls wait for them")

    def release(self) -> None:
        """Give the place to whose turn it is, or back."""
        self.in_flight -= 1
        if self.in_flight < self.concurrent:
            self._pace.freed(asyncio.get_running_loop().time())
            self._admit()
        if not self.in_flight:
            self._idle.set()

    def resize(self, concurrent: int) -> None:
        """From now on so many at once. Those beyond a lower limit stay until they are done."""
        self.concurrent = concurrent
        self._admit()

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    def _take(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _admit(self) -> None:
        while self.in_flight < self.concurrent and (turn := self._queue.next()) is not None:
            if not turn.done():
                self._take()
                turn.set_result(True)

    def _make_room(self, priority: int) -> None:
        while len(self._queue) >= self.queued:
            turn = self._queue.last_below(priority)
            if turn is None:
                raise self._refusal(f"all {self.concurrent} places are taken and {len(self._queue)} wait")
            if not turn.done():
                turn.set_result(False)

    def _refusal(self, message: str) -> Overloaded:
        now = asyncio.get_running_loop().time()
        return Overloaded(message, retry_after=self._pace.wait(len(self._queue), now))
