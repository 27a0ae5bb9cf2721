"""The last few seconds, from two of the cluster's snapshots: rates, shares, percentiles; in all, and by provider.

Above it: the dashboard's stream. Below it: `cluster`, `instruments`. Outside it: clocks, drawing.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import add, sub

import msgspec

from pipelines.metering import instruments
from pipelines.metering.cluster import Snapshot
from pipelines.metering.instruments import Instrument

_WELL = ("ok", "cancelled")
"""Outcomes that are nobody's failure."""

_REQUEST_OUTCOME = 4
_ATTEMPT_PROVIDER, _ATTEMPT_OUTCOME = 0, 3
_GEN_AI_PROVIDER = 1
_SECONDS_AN_HOUR = 3600.0

_Key = tuple[str, tuple[str, ...]]
_Of = Callable[[Sequence[str]], bool]


class Percentiles(msgspec.Struct, frozen=True):
    """In seconds; None where there was nothing."""

    p50: float | None = None
    p95: float | None = None


class Figures(msgspec.Struct, frozen=True):
    """errors: whatever ended neither well nor by the caller's leaving. error_ratio: of those that ended, None of none.

    first_output: to the first token of streams that went well; between_tokens: from one to the next.
    """

    requests_per_second: float
    errors_per_second: float
    error_ratio: float | None
    tokens_per_second: float
    dollars_per_hour: float
    first_output: Percentiles
    between_tokens: Percentiles


def whole(before: Snapshot, after: Snapshot, seconds: float) -> Figures:
    """The cluster's requests in the `seconds` between two snapshots."""
    new = _new(before, after)
    return _figures(new, seconds, instruments.REQUESTS, _REQUEST_OUTCOME, lambda _: True, lambda _: True)


def of_provider(name: str, before: Snapshot, after: Snapshot, seconds: float) -> Figures:
    """One provider's attempts, likewise."""
    new = _new(before, after)
    return _figures(
        new,
        seconds,
        instruments.ATTEMPTS,
        _ATTEMPT_OUTCOME,
        lambda labels: labels[_ATTEMPT_PROVIDER] == name,
        lambda labels: labels[_GEN_AI_PROVIDER] == name,
    )


def percentile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The value below which `share` of a histogram's values lie; None of an empty one.

    Within a bucket they are taken to lie evenly, as Prometheus' `histogram_quantile` does
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile); beyond the last bound it is
    that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0.0
    for index, bound in enumerate(bounds):
        if below + counts[index] >= rank and counts[index]:
            lower = bounds[index - 1] if index else 0.0
            return lower + (bound - lower) * (rank - below) / counts[index]
        below += counts[index]
    return bounds[-1]


def _figures(
    new: dict[_Key, tuple[float, ...]], seconds: float, ended: Instrument, outcome: int, of: _Of, of_gen_ai: _Of
) -> Figures:
    counts = [(labels[outcome], values[0]) for labels, values in _series(new, ended) if of(labels)]
    total = sum(count for _, count in counts)
    failed = sum(count for word, count in counts if word not in _WELL)
    money = _sum(new, instruments.COST, of if ended is instruments.ATTEMPTS else lambda _: True)
    tokens = sum(
        values[0]
        for labels, values in _series(new, instruments.TOKENS)
        if labels[-1] == "output" and (ended is instruments.REQUESTS or of(labels))
    )
    return Figures(
        requests_per_second=total / seconds,
        errors_per_second=failed / seconds,
        error_ratio=failed / total if total else None,
        tokens_per_second=tokens / seconds,
        dollars_per_hour=money * instruments.COST.unit / seconds * _SECONDS_AN_HOUR,
        first_output=_percentiles(new, instruments.FIRST_TOKEN, of_gen_ai),
        between_tokens=_percentiles(new, instruments.EACH_TOKEN, of_gen_ai),
    )


def _percentiles(new: dict[_Key, tuple[float, ...]], instrument: Instrument, of: _Of) -> Percentiles:
    counts: list[float] = [0.0] * (len(instrument.buckets) + 1)
    for labels, values in _series(new, instrument):
        if of(labels):
            counts = list(map(add, counts, values[1:]))
    return Percentiles(percentile(0.5, instrument.buckets, counts), percentile(0.95, instrument.buckets, counts))


def _sum(new: dict[_Key, tuple[float, ...]], instrument: Instrument, of: _Of) -> float:
    return sum(values[0] for labels, values in _series(new, instrument) if of(labels))


def _series(
    new: dict[_Key, tuple[float, ...]], instrument: Instrument
) -> Iterable[tuple[tuple[str, ...], tuple[float, ...]]]:
    return ((labels, values) for (name, labels), values in new.items() if name == instrument.name)


def _new(before: Snapshot, after: Snapshot) -> dict[_Key, tuple[float, ...]]:
    """What came between; of a series that fell (another router took over) all that it has now."""
    known = {(one.name, one.labels): one.values for one in before.series}
    new: dict[_Key, tuple[float, ...]] = {}
    for one in after.series:
        key = (one.name, one.labels)
        then = known.get(key)
        came = one.values if then is None else tuple(map(sub, one.values, then))
        new[key] = came if min(came) >= 0 else one.values
    return new
