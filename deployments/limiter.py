"""How many calls run at once, and how many may wait: the same limit for every lane.

Serve's own `max_ongoing_requests` sees only what comes through its ingress; this one sees all, and refuses in the
caller's dialect.

Above it: the replicas. Below it: asyncio. Outside it: what the calls do.
"""

import asyncio
from collections import deque

from pipelines.errors import Overloaded


class Limiter:
    """At most `concurrent` at once and `queued` waiting, first come, first served, for `patience` seconds."""

    def __init__(self, concurrent: int, queued: int, patience: float = 30.0) -> None:
        self.concurrent = concurrent
        self.queued = queued
        self.in_flight = 0
        self._patience = patience
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def acquire(self) -> None:
        """Take a place; `release` gives it back. Raises Overloaded at once if the queue is full."""
        if self.in_flight < self.concurrent:
            self.in_flight += 1
            self._idle.clear()
            return
        if len(self._waiting) >= self.queued:
            raise Overloaded(f"all {self.concurrent} places are taken and {self.queued} wait", retry_after=1.0)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.release()  # the place came in the moment in which we gave up
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Overloaded(f"no place came free within {self._patience:g} s", retry_after=1.0) from None
            raise

    def release(self) -> None:
        """Give the place to the one who waits longest, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()
