"""The time, as the actors' states take it.

Above it: `router`, `replays`, `ledger`. Below it: the standard library.
"""

import time


class SteadyClock:
    """Seconds since 1970 that never step: the wall clock at its start, and what has passed since."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """The time now."""
        return time.monotonic() + self._offset
