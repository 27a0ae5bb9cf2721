"""One replica's numbers: plain ints in fixed arrays, and what of them the router has not heard yet.

Values only grow. A replica tells the present value of each series that has changed, never a difference: a report that
arrives twice, or not at all, makes nothing wrong. Source: P. Almeida et al., "Delta State Replicated Data Types",
2018 (a grow-only counter of one entry a replica, of which deltas are shipped).

Above it: `recorder`, `actors.routing.client`. Below it: `instruments`. Outside it: what is counted.
"""

from bisect import bisect_left
from collections.abc import Callable

import msgspec

from pipelines.metering.instruments import Instrument

MOST_SERIES = 10_000
"""Series of one replica: a backstop, for labels are bounded. What comes beyond is counted nowhere."""


class Series(msgspec.Struct, frozen=True, array_like=True):
    """The present value of one series.

    values: of a counter its value; of a histogram the sum, then how many fell into each bucket, the last without bound.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one replica (its incarnation, by a name of its own) tells. gauges: all of them, every time."""

    source: str
    application: str = ""
    series: tuple[Series, ...] = ()
    gauges: tuple[Series, ...] = ()


class Counter:
    """A number that grows; told: what the router knows of it (-1: nothing, for a 0 is worth telling)."""

    __slots__ = ("told", "value")

    def __init__(self) -> None:
        self.value = 0
        self.told = -1

    @property
    def count(self) -> int:
        """What tells whether it has changed."""
        return self.value

    def values(self) -> tuple[float, ...]:
        """As `Series` has them."""
        return (self.value,)


class Histogram:
    """How many values fell into each bucket, and their sum; told: how many the router knows of (-1: nothing)."""

    __slots__ = ("bounds", "count", "counts", "sum", "told")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0
        self.told = -1

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.sum += value

    def values(self) -> tuple[float, ...]:
        """As `Series` has them."""
        return (self.sum, *self.counts)


class Changes:
    """What is to be told; `accept` once it has arrived."""

    def __init__(self, meter: "Meter", encoded: bytes, told: list[tuple[Counter | Histogram, int]]) -> None:
        self.encoded = encoded
        self._meter = meter
        self._router = meter.router
        self._told = told

    def accept(self) -> None:
        """The router knows it, unless that is another one by now."""
        if self._meter.router == self._router:
            for one, count in self._told:
                one.told = count


class Meter:
    """source: this incarnation's own name; application: "gateway", or the provider's name.

    router: how many routers there were before this one.
    """

    def __init__(self, source: str, application: str) -> None:
        self.source = source
        self.application = application
        self.router = 0
        self._series: dict[tuple[str, tuple[str, ...]], Counter | Histogram] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._watched: list[tuple[Counter, Callable[[], int]]] = []

    def counter(self, instrument: Instrument, *labels: str) -> Counter:
        """The counter of these labels."""
        found = self._find(instrument, labels, Counter)
        assert isinstance(found, Counter)
        return found

    def histogram(self, instrument: Instrument, *labels: str) -> Histogram:
        """The histogram of these labels."""
        found = self._find(instrument, labels, lambda: Histogram(instrument.buckets))
        assert isinstance(found, Histogram)
        return found

    def gauge(self, instrument: Instrument, read: Callable[[], float]) -> None:
        """Have `read` asked for the present value with every report."""
        self._gauges[instrument.name] = read

    def watch(self, instrument: Instrument, read: Callable[[], int]) -> None:
        """Have `read` asked for the present value of something that grows, and is counted elsewhere."""
        self._watched.append((self.counter(instrument), read))

    @property
    def changed(self) -> bool:
        """Whether there is anything that the router does not know."""
        self._look()
        return any(one.count != one.told for one in self._series.values())

    def changes(self) -> Changes:
        """Every series that has changed, and every gauge."""
        self._look()
        told: list[tuple[Counter | Histogram, int]] = []
        series: list[Series] = []
        for (name, labels), one in self._series.items():
            if one.count != one.told:
                told.append((one, one.count))
                series.append(Series(name, labels, one.values()))
        gauges = tuple(Series(name, (self.application,), (read(),)) for name, read in self._gauges.items())
        measured = Measured(self.source, self.application, tuple(series), gauges)
        return Changes(self, msgspec.msgpack.encode(measured), told)

    def forget(self) -> None:
        """The router knows nothing: it is another one."""
        self.router += 1
        for one in self._series.values():
            one.told = -1

    def _look(self) -> None:
        for counter, read in self._watched:
            counter.value = read()

    def _find(
        self, instrument: Instrument, labels: tuple[str, ...], make: Callable[[], Counter | Histogram]
    ) -> Counter | Histogram:
        assert len(labels) == len(instrument.labels), instrument.name
        key = (instrument.name, labels)
        found = self._series.get(key)
        if found is None:
            found = make()
            if len(self._series) < MOST_SERIES:
                self._series[key] = found
        return found
