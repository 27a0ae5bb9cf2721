"""The time, as the actors' states take it.

Above it: `router`, `replays`, `ledger`, `registry`. Below it: the standard library.
"""

import time
from collections.abc import Callable
from functools import partial

LASTING = 60.0
"""Seconds for which a step of the wall clock must have stood before it is believed."""

TOLERANCE = 1.0
"""Seconds by which the wall clock may be corrected without that being a step."""

SLOWED = 0.5
"""The part of its speed that this clock gives up while it is ahead."""

since_boot: Callable[[], float] = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Seconds that go on while the machine sleeps, which those of `time.monotonic` do not (Linux: clock_gettime(2))."""


class SteadyClock:
    """Seconds since 1970 that never run back: what has passed since the boot, set by the wall clock.

    A machine that boots with a wrong time is corrected later (NTP), and this clock with it: a step of the wall clock
    that lasts is followed, forward at once and backward by going slower. One that does not last, as when a date is
    mistyped and put right, changes nothing: years ahead once would be years ahead for good.

    wall: the wall clock; passed: seconds since any moment.
    """

    def __init__(self, wall: Callable[[], float] = time.time, passed: Callable[[], float] = since_boot) -> None:
        self._wall = wall
        self._passed = passed
        self._last = self._stepped = passed()
        self._seen = self._offset = wall() - self._last

    def __call__(self) -> float:
        """The time now."""
        now = self._passed()
        seen = self._wall() - now
        if abs(seen - self._seen) > TOLERANCE:
            self._seen, self._stepped = seen, now
        if now - self._stepped >= LASTING or abs(seen - self._offset) <= TOLERANCE:
            self._offset = max(seen, self._offset - SLOWED * (now - self._last))
        self._last = now
        return now + self._offset
