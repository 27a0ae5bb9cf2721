"""Timeouts for a stream, at the cost of one timer a stream and not one a chunk.

Above it: the providers, `hop`. Below it: asyncio. Outside it: which phase means what (`pipelines.resilience`).
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipelines.errors import Phase, TimedOut, UpstreamError


class Watchdog:
    """Cancels its task when a deadline passes, and turns that cancellation into `TimedOut`.

    Used as `with Watchdog() as dog` in one task, round everything that it guards. It watches from `expect` to
    `rest`; in between belongs an await of ours, outside may be anything (a `yield` to a slow caller). Moving a
    deadline later only writes a number: the timer looks at it when it fires, and sleeps again. loop: the task's, for
    whoever knows it: to ask asyncio is a system call each time (Python 3.11).
    """

    __slots__ = (
        "_cancelling",
        "_deadline",
        "_error",
        "_fired",
        "_loop",
        "_phase",
        "_provider",
        "_rests",
        "_seconds",
        "_task",
        "_timer",
        "_total",
        "_wakes",
        "_watching",
    )

    def __init__(self, provider: str = "", loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._provider = provider
        self._loop = loop or asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = float("inf")
        self._phase: Phase = "total"
        self._seconds = 0.0
        self._deadline = float("inf")
        self._total = float("inf")
        self._watching = False
        self._fired = False
        self._error: UpstreamError | None = None
        self._rests = 0

    def limit(self, seconds: float) -> None:
        """Everything must be over in so many seconds from now (phase "total")."""
        self._total = self._loop.time() + seconds

    def expect(self, phase: Phase, seconds: float) -> None:
        """Something must happen within so many seconds from now."""
        self._phase = phase
        self._seconds = seconds
        self._deadline = min(self._loop.time() + seconds, self._total)
        self._watching = True
        if self._deadline < self._wakes:
            self._arm()

    def rest(self) -> None:
        """Nothing is waited for until the next `expect`: what was has come."""
        self._watching = False
        self._rests += 1

    def resume(self) -> None:
        """Go on waiting for the same thing, with the time that is left of it. Raises what `bite` was given."""
        if self._error is not None:
            raise self._error
        self._watching = True
        if self._deadline < self._wakes:
            self._arm()

    def bite(self, error: UpstreamError) -> None:
        """Stop the guarded task with `error`: now if it waits, or else when it next means to."""
        self._error = error
        if self._watching and self._task is not None:
            self._fired = True
            self._task.cancel()

    def doubt(self, error: UpstreamError, seconds: float, doubted: Callable[[], bool]) -> None:
        """As `bite`, but only once nothing has come for so many seconds; dropped as soon as `doubted()` is false."""
        rests = self._rests

        def look() -> None:
            if self._task is None or not doubted():
                return
            if self._watching and self._rests == rests:
                self.bite(error)
            else:
                self.doubt(error, seconds, doubted)

        self._loop.call_later(seconds, look)

    def __enter__(self) -> Self:
        """Guard the current task."""
        self._task = asyncio.current_task(self._loop)
        self._cancelling = self._task.cancelling() if self._task else 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop guarding; raise TimedOut in place of the cancellation that a deadline caused."""
        self._watching = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if not self._fired or task is None:
            return
        ours = task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._error is not None:
                raise self._error from None
            phase: Phase = "total" if self._deadline >= self._total else self._phase
            raise TimedOut(_silence(phase, self._seconds), phase=phase, provider=self._provider) from None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        self._wakes = float("inf")
        if not self._watching or self._task is None:
            return
        if self._loop.time() < self._deadline:
            self._arm()
            return
        self._fired = True
        self._task.cancel()


def _silence(phase: Phase, seconds: float) -> str:
    if phase == "total":
        return "the answer took longer than its total time allows"
    what = {"connect": "no connection", "first_event": "no first output", "idle": "no more output"}[phase]
    return f"{what} within {seconds:g} s"
