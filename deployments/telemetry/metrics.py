"""What Prometheus scrapes: the whole cluster's numbers, whichever gateway replica is asked.

What replicas counted comes from the router's sums (`pipelines.metering`), how providers and models do from its table,
win rates from what it learned. No label has unbounded values: providers are configured, models that nobody listed are
counted as `other`.

Above it: `metrics_page`. Below it: prometheus-client, `pipelines.metering`, `pipelines.routing`.
Outside it: where the numbers come from.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipelines.metering.cluster import Snapshot
from pipelines.metering.instruments import INSTRUMENTS, Instrument
from pipelines.metering.meter import Series
from pipelines.routing.learning.state import WinRate
from pipelines.routing.table import Performance, Table

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODEL = ("provider", "model")
_STATES = ("ready", "unconfigured", "unreachable", "draining")
_BREAKERS = ("closed", "half_open", "open")

GAUGES = (
    Instrument("penstock_router_reachable", "gauge", "1 where the router answers; 0: all else is what it said last."),
    Instrument("penstock_provider_state", "gauge", "1 for the state it is in.", ("provider", "state")),
    Instrument("penstock_provider_in_flight", "gauge", "Calls that its replicas serve.", ("provider",)),
    Instrument("penstock_provider_queued", "gauge", "Calls that wait at its replicas.", ("provider",)),
    Instrument("penstock_provider_replicas", "gauge", "Replicas that can be asked.", ("provider",)),
    Instrument(
        "penstock_error_ratio",
        "gauge",
        "Share of attempts that the router expects to fail: decaying, nearing 0 while idle.",
        _MODEL,
    ),
    Instrument(
        "penstock_time_to_first_output_seconds",
        "gauge",
        "Time to the first content that the router expects: a decaying mean, nearing 1 s while idle.",
        _MODEL,
    ),
    Instrument(
        "penstock_tokens_per_second",
        "gauge",
        "Output speed that the router expects: a decaying mean, nearing 50 while idle.",
        _MODEL,
    ),
    Instrument("penstock_breaker_state", "gauge", "1 for the breaker's state.", (*_MODEL, "state")),
    Instrument("penstock_win_ratio", "gauge", "Expected share of good answers.", (*_MODEL, "task")),
)
"""What is of the router's table and of what it learned."""


class _Cluster(Collector):
    """All there is, as metric families by Prometheus' naming rules: base units, `_total` on counters."""

    def __init__(self, table: Table, rates: Iterable[WinRate], snapshot: Snapshot, *, reachable: bool) -> None:
        self._table = table
        self._rates = rates
        self._snapshot = snapshot
        self._reachable = reachable

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        reachable = _gauge("penstock_router_reachable")
        reachable.add_metric((), float(self._reachable))
        yield reachable
        yield from self._providers()
        yield from self._models()
        yield self._learned()
        yield from counted(self._snapshot)

    def _providers(self) -> Iterator[Metric]:
        state = _gauge("penstock_provider_state")
        load = _gauge("penstock_provider_in_flight")
        queue = _gauge("penstock_provider_queued")
        replicas = _gauge("penstock_provider_replicas")
        for entry in self._table.providers:
            for name in _STATES:
                state.add_metric((entry.name, name), float(entry.state == name))
            load.add_metric((entry.name,), entry.in_flight)
            queue.add_metric((entry.name,), entry.queued)
            replicas.add_metric((entry.name,), len(entry.replicas))
        yield from (state, load, queue, replicas)

    def _models(self) -> Iterator[Metric]:
        failing = _gauge("penstock_error_ratio")
        first = _gauge("penstock_time_to_first_output_seconds")
        speed = _gauge("penstock_tokens_per_second")
        breaker = _gauge("penstock_breaker_state")
        for entry in self._table.providers:
            for card in entry.models:
                labels = (entry.name, card.name)
                performance = entry.performance.get(card.name)
                if performance is None:
                    continue
                _measured(labels, performance, failing, first, speed)
                for word in _BREAKERS:
                    breaker.add_metric((*labels, word), float(performance.breaker == word))
        yield from (failing, first, speed, breaker)

    def _learned(self) -> Metric:
        """Of listed models only, of which `state.MAXIMUM_MODELS` are known at most."""
        listed = {
            f"{entry.name}/{card.name}": (entry.name, card.name)
            for entry in self._table.providers
            for card in entry.models
        }
        ratio = _gauge("penstock_win_ratio")
        for rate in self._rates:
            if rate.model in listed:
                ratio.add_metric((*listed[rate.model], rate.task), rate.quality.share)
        return ratio


def counted(snapshot: Snapshot) -> Iterator[Metric]:
    """The counters and gauges of replicas, in the order of `INSTRUMENTS`. Those of another version are passed over."""
    by_name = _by_name((*snapshot.series, *snapshot.gauges))
    for instrument in INSTRUMENTS:
        family: CounterMetricFamily | GaugeMetricFamily
        if instrument.kind == "histogram":
            continue
        if instrument.kind == "counter":
            family = CounterMetricFamily(
                instrument.name.removesuffix("_total"), instrument.help, labels=instrument.labels
            )
        else:
            family = GaugeMetricFamily(instrument.name, instrument.help, labels=instrument.labels)
        for one in by_name.get(instrument.name, []):
            family.add_metric(one.labels, one.values[0] * instrument.unit)
        yield family


def histograms(snapshot: Snapshot) -> str:
    """The histograms of replicas as text. Buckets of another version are passed over.

    By hand, since prometheus-client writes a series' labels anew for each of its buckets: 10,000 lines take 65 ms, of
    which this saves four in five. Source: "Exposition formats", https://prometheus.io/docs/instrumenting/exposition_formats/.
    """
    by_name = _by_name(snapshot.series)
    lines: list[str] = []
    for instrument in INSTRUMENTS:
        if instrument.kind == "histogram":
            lines += (f"# HELP {instrument.name} {instrument.help}", f"# TYPE {instrument.name} histogram")
            bounds = (*map(floatToGoString, instrument.buckets), "+Inf")
            for one in by_name.get(instrument.name, []):
                if len(one.values) == len(bounds) + 1:
                    lines += _histogram(instrument, bounds, one)
    return "".join(f"{line}\n" for line in lines)


def _histogram(instrument: Instrument, bounds: tuple[str, ...], one: Series) -> Iterator[str]:
    name, total = instrument.name, one.values[0]
    labels = ",".join(
        f'{label}="{_escaped(value)}"' for label, value in zip(instrument.labels, one.labels, strict=True)
    )
    before, own = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    count = 0.0
    for bound, number in zip(bounds, one.values[1:], strict=True):
        count += number
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
    yield f"{name}_sum{own} {total}"
    yield f"{name}_count{own} {count}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _by_name(series: Iterable[Series]) -> dict[str, list[Series]]:
    by_name: dict[str, list[Series]] = {}
    for one in series:
        by_name.setdefault(one.name, []).append(one)
    return by_name


def _gauge(name: str) -> GaugeMetricFamily:
    one = next(one for one in GAUGES if one.name == name)
    return GaugeMetricFamily(name, one.help, labels=one.labels)


def _measured(
    labels: tuple[str, str],
    performance: Performance,
    failing: GaugeMetricFamily,
    first: GaugeMetricFamily,
    speed: GaugeMetricFamily,
) -> None:
    failing.add_metric(labels, performance.error_rate)
    if performance.first_output is not None:
        first.add_metric(labels, performance.first_output)
    if performance.tokens_per_second is not None:
        speed.add_metric(labels, performance.tokens_per_second)


def exposition(
    table: Table, rates: Iterable[WinRate] = (), snapshot: Snapshot | None = None, *, reachable: bool = True
) -> bytes:
    """Everything in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    snapshot = snapshot or Snapshot(True, (), ())
    registry.register(_Cluster(table, rates, snapshot, reachable=reachable))
    return bytes(generate_latest(registry)) + histograms(snapshot).encode()
