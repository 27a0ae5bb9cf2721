"""The whole cluster's numbers, as the router adds them up.

What each replica last said is kept beside the sums, so that a report adds what is new in it alone. A replica that goes
leaves its numbers in the sums. Sums and last words can be written down and read again: then counters go on where they
were when another router takes over, and replicas that are still there bring theirs up to date within `SETTLING`.

Above it: `actors.routing.meters`. Below it: `meter`. Outside it: clocks, files.
"""

from operator import sub

import msgspec

from pipelines.metering.instruments import BY_NAME, REPLICAS
from pipelines.metering.meter import Measured, Series

SETTLING = 3.0
"""Seconds in which every replica tells a new router all that it has counted."""

LIFETIME = 10.0
"""Seconds after which the gauges of a silent replica are forgotten."""

MOST_SILENT = 64
"""Silent replicas whose last words are kept, should they speak again; of others only the sums are."""

MOST_SERIES = 50_000

_Key = tuple[str, tuple[str, ...]]


class Snapshot(msgspec.Struct, frozen=True):
    """The cluster's numbers at one moment. settled: whether every replica's are in them."""

    settled: bool
    series: tuple[Series, ...]
    gauges: tuple[Series, ...]


class _Source(msgspec.Struct, array_like=True):
    """One replica: what it said last, by series, and when (seconds)."""

    application: str
    heard: float
    said: dict[_Key, tuple[float, ...]]
    gauges: tuple[Series, ...] = ()


class Kept(msgspec.Struct, array_like=True):
    """What is written down."""

    sums: tuple[Series, ...] = ()
    sources: tuple[tuple[str, tuple[Series, ...]], ...] = ()


class Cluster:
    """The sums. now: seconds, by one clock throughout; kept: what another router has written down."""

    def __init__(self, now: float, kept: Kept | None = None) -> None:
        self._sums: dict[_Key, list[float]] = {}
        self._sources: dict[str, _Source] = {}
        self._settled_at = now
        self.changed = False
        if kept is not None:
            self._settled_at = now + SETTLING
            self._sums = {(one.name, one.labels): list(one.values) for one in kept.sums}
            for name, said in kept.sources:
                known = {(one.name, one.labels): one.values for one in said}
                self._sources[name] = _Source("", now - LIFETIME, known)

    def take(self, measured: Measured, now: float) -> None:
        """A replica tells its numbers."""
        source = self._sources.get(measured.source)
        if source is None:
            source = self._sources[measured.source] = _Source(measured.application, now, {})
            self._forget_silent(now)
        source.application, source.heard, source.gauges = measured.application, now, measured.gauges
        for one in measured.series:
            self._add(source.said, one)
        self.changed |= bool(measured.series)

    def snapshot(self, now: float) -> Snapshot:
        """As of now."""
        present = [one for one in self._sources.values() if now - one.heard < LIFETIME]
        gauges: dict[_Key, list[float]] = {}
        for source in present:
            gauges.setdefault((REPLICAS.name, (source.application,)), []).append(1.0)
            for one in source.gauges:
                gauges.setdefault((one.name, one.labels), []).extend(one.values)
        return Snapshot(
            now >= self._settled_at,
            _series(self._sums),
            tuple(Series(name, labels, (_together(name, values),)) for (name, labels), values in gauges.items()),
        )

    def keep(self) -> Kept:
        """What is to be written down."""
        self.changed = False
        return Kept(
            _series(self._sums),
            tuple(
                (name, tuple(Series(*key, values) for key, values in source.said.items()))
                for name, source in self._sources.items()
            ),
        )

    def _add(self, said: dict[_Key, tuple[float, ...]], one: Series) -> None:
        """Add what is new. An older report that comes late tells less than what is known, and nothing new."""
        key = (one.name, one.labels)
        before, sums = said.get(key), self._sums.get(key)
        if sums is None:
            if len(self._sums) >= MOST_SERIES:
                return
            sums = self._sums[key] = [0.0] * len(one.values)
        if len(sums) != len(one.values):
            return  # another version's buckets
        new = one.values if before is None else tuple(map(sub, one.values, before))
        if min(new) < 0:
            return
        said[key] = one.values
        for index, value in enumerate(new):
            sums[index] += value

    def _forget_silent(self, now: float) -> None:
        if now < self._settled_at + LIFETIME:
            return  # those who were written down may not have had the time to speak
        silent = sorted((one.heard, name) for name, one in self._sources.items() if now - one.heard > LIFETIME)
        for _, name in silent[: max(0, len(silent) - MOST_SILENT)]:
            del self._sources[name]


def _series(sums: dict[_Key, list[float]]) -> tuple[Series, ...]:
    return tuple(Series(*key, tuple(values)) for key, values in sums.items())


def _together(name: str, values: list[float]) -> float:
    instrument = BY_NAME.get(name)
    return max(values) if instrument is not None and instrument.together == "max" else sum(values)
