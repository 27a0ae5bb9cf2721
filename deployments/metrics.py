"""What Prometheus scrapes: the router's view of the whole cluster, whichever gateway replica is asked.

Counters start again when the router actor does; Prometheus knows how to read that (`rate`). No label has unbounded
values: providers are configured, and models that nobody listed are counted as `other`.

Above it: `gateway`. Below it: prometheus-client, `pipelines.routing`.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipelines.routing.learning.state import WinRate
from pipelines.routing.table import Performance, ProviderEntry, Table

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODEL = ("provider", "model")
_STATES = ("ready", "unconfigured", "unreachable", "draining")
_BREAKERS = ("closed", "half_open", "open")


class _Cluster(Collector):
    """One table, and what was learned of its models, as metric families."""

    def __init__(self, table: Table, rates: Iterable[WinRate]) -> None:
        self._table = table
        self._rates = rates

    def collect(self) -> Iterator[Metric]:
        """Families by Prometheus' naming rules: base units, `_total` on counters."""
        yield from self._providers()
        yield from self._models()
        yield from self._learned()

    def _providers(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("penstock_provider_state", "1 for the state it is in.", labels=("provider", "state"))
        load = GaugeMetricFamily("penstock_provider_in_flight", "Calls that its replicas serve.", labels=("provider",))
        queue = GaugeMetricFamily("penstock_provider_queued", "Calls that wait at its replicas.", labels=("provider",))
        replicas = GaugeMetricFamily("penstock_provider_replicas", "Replicas that can be asked.", labels=("provider",))
        for entry in self._table.providers:
            for name in _STATES:
                state.add_metric((entry.name, name), float(entry.state == name))
            load.add_metric((entry.name,), sum(replica.in_flight for replica in entry.replicas))
            queue.add_metric((entry.name,), sum(replica.queued for replica in entry.replicas))
            replicas.add_metric((entry.name,), len(entry.replicas))
        yield from (state, load, queue, replicas)

    def _models(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily("penstock_attempts", "Attempts that ended.", labels=_MODEL)
        failing = GaugeMetricFamily("penstock_error_ratio", "Share of attempts that fail, decaying.", labels=_MODEL)
        first = GaugeMetricFamily(
            "penstock_time_to_first_output_seconds", "Mean time to the first content, decaying.", labels=_MODEL
        )
        speed = GaugeMetricFamily("penstock_tokens_per_second", "Mean output speed, decaying.", labels=_MODEL)
        breaker = GaugeMetricFamily("penstock_breaker_state", "1 for the breaker's state.", labels=(*_MODEL, "state"))
        for entry in self._table.providers:
            counts: dict[str, int] = {}
            for model, performance in entry.performance.items():
                name = _label(entry, model)
                counts[name] = counts.get(name, 0) + performance.attempts
                if name == model:
                    _measured((entry.name, name), performance, failing, first, speed)
                    for word in _BREAKERS:
                        breaker.add_metric((entry.name, name, word), float(performance.breaker == word))
            for name, count in counts.items():
                attempts.add_metric((entry.name, name), count)
        yield from (attempts, failing, first, speed, breaker)

    def _learned(self) -> Iterator[Metric]:
        """Of listed models only, of which `state.MAXIMUM_MODELS` are known at most."""
        listed = {
            f"{entry.name}/{card.name}": (entry.name, card.name)
            for entry in self._table.providers
            for card in entry.models
        }
        ratio = GaugeMetricFamily("penstock_win_ratio", "Expected share of good answers.", labels=(*_MODEL, "task"))
        for rate in self._rates:
            if rate.model in listed:
                ratio.add_metric((*listed[rate.model], rate.task), rate.quality.share)
        yield ratio


def _label(entry: ProviderEntry, model: str) -> str:
    return model if entry.card(model) is not None else "other"


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


def exposition(table: Table, rates: Iterable[WinRate] = ()) -> bytes:
    """The table, and win rates, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Cluster(table, rates))
    return bytes(generate_latest(registry))
