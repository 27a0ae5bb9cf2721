"""How much is stored of answers, and which of them go: those whose time is over, and the oldest of what is too much.

Answers of two kinds stand here: those for an `Idempotency-Key`, which are promised for a day, and cached ones, which
are promised to nobody. Each kind has a bound of its own, so that no cache pushes the others out.

Above it: `idempotency`. Below it: the standard library. Outside it: what is in an answer; clocks.
"""

import heapq
from collections import OrderedDict
from typing import NamedTuple

CACHED = "cache:"
"""How the names of cached answers begin."""

OVERHEAD = 4096
"""Bytes that a stored answer counts beside its own: a page of the file, and its place in memory."""


class _Place(NamedTuple):
    size: int
    until: float


class AnswerShelf:
    """most, most_cached: bytes of either kind."""

    def __init__(self, most: int, most_cached: int) -> None:
        self._most = {False: most, True: most_cached}
        self._held = {False: 0, True: 0}
        # In the order in which they came; a dict would look past all that have gone for the first one.
        self._places: dict[bool, OrderedDict[str, _Place]] = {False: OrderedDict(), True: OrderedDict()}
        self._ends: list[tuple[float, str]] = []

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(self._held.values())

    def put(self, name: str, size: int, until: float) -> None:
        """An answer of `size` bytes stands here until then."""
        cached = name.startswith(CACHED)
        self._places[cached][name] = _Place(size + OVERHEAD, until)
        self._held[cached] += size + OVERHEAD
        heapq.heappush(self._ends, (until, name))

    def take(self, name: str) -> None:
        """It stands here no longer."""
        cached = name.startswith(CACHED)
        place = self._places[cached].pop(name, None)
        if place is not None:
            self._held[cached] -= place.size

    def leaving(self, now: float) -> str | None:
        """One that has to go now, to be taken; None where all may stay."""
        while self._ends and self._ends[0][0] < now:
            until, name = heapq.heappop(self._ends)
            place = self._places[name.startswith(CACHED)].get(name)
            if place is not None and place.until == until:
                return name
        for cached, held in self._held.items():
            if held > self._most[cached]:
                return next(iter(self._places[cached]))
        return None
