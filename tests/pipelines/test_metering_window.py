"""The last seconds' figures, from two snapshots of the cluster's numbers."""

import msgspec
import pytest

from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.errors import Reason
from pipelines.ledger import RequestRow
from pipelines.metering.cluster import Cluster, Snapshot
from pipelines.metering.meter import Measured, Meter
from pipelines.metering.recorder import Recorder
from pipelines.metering.window import of_provider, percentile, whole
from pipelines.routing.table import Bill, Outcome

CALL = Call("c", "openai_chat", {}, Request("m", ()), Caller("k"), "routed")
EMPTY = Snapshot(True, (), ())
BOUNDS = (1.0, 2.0, 4.0)


def after(*ended: tuple[str, str]) -> Snapshot:
    """What the cluster knows after requests of (provider, outcome), each with a first token after 0.02 to 0.04 s."""
    meter = Meter("replica", "gateway")
    recorder = Recorder(meter, lambda *_: True)
    for provider, word in ended:
        recorder.request(
            RequestRow(id="r", lane="routed", dialect="openai_chat", provider=provider, model="m", outcome=word)
            if word != "ok"
            else RequestRow(
                id="r", lane="routed", dialect="openai_chat", provider=provider, model="m", first_output=0.03
            )
        )
        reason: Reason | None = None if word in ("ok", "cancelled") else "server_error"
        bill = Bill(input=10, output=5, cost=2_000_000, basis="computed")
        outcome = Outcome(provider, "m", 1.0, reason=reason, cancelled=word == "cancelled", bill=bill)
        recorder.attempt(CALL, outcome)
    cluster = Cluster(0.0)
    cluster.take(msgspec.msgpack.decode(meter.changes().encoded, type=Measured), 0.0)
    return cluster.snapshot(0.0)


def test_rates_are_of_what_came_between() -> None:
    before = after(("a", "ok"))
    later = after(("a", "ok"), ("a", "ok"), ("a", "server_error"), ("b", "cancelled"))
    figures = whole(before, later, 2.0)
    assert figures.requests_per_second == pytest.approx(1.5)
    assert figures.errors_per_second == pytest.approx(0.5)
    assert figures.error_ratio == pytest.approx(1 / 3)
    assert figures.tokens_per_second == pytest.approx(7.5)
    assert figures.dollars_per_hour == pytest.approx(3 * 0.002 / 2 * 3600)


def test_a_callers_leaving_is_no_error() -> None:
    assert whole(EMPTY, after(("a", "cancelled")), 1.0).error_ratio == 0.0


def test_a_provider_has_its_own() -> None:
    later = after(("a", "ok"), ("b", "server_error"))
    mine, other = of_provider("a", EMPTY, later, 1.0), of_provider("b", EMPTY, later, 1.0)
    assert (mine.requests_per_second, mine.error_ratio) == (1.0, 0.0)
    assert (other.requests_per_second, other.error_ratio) == (1.0, 1.0)
    assert mine.dollars_per_hour == pytest.approx(7.2)
    assert mine.first_output.p50 == pytest.approx(0.03)
    assert other.first_output.p50 is None


def test_nothing_is_unknown_and_not_zero() -> None:
    figures = whole(EMPTY, EMPTY, 1.0)
    assert figures.error_ratio is None
    assert figures.first_output.p95 is None
    assert figures.requests_per_second == 0.0


def test_after_a_fall_what_is_there_counts() -> None:
    assert whole(after(*[("a", "ok")] * 5), after(("a", "ok")), 1.0).requests_per_second == 1.0


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, (0, 0, 0, 0), None),
        (0.5, (2, 0, 0, 0), 0.5),
        (0.5, (1, 1, 0, 0), 1.0),
        (0.75, (1, 1, 0, 0), 1.5),
        (0.95, (0, 0, 0, 9), 4.0),
        (1.0, (0, 0, 4, 0), 4.0),
    ],
)
def test_percentiles_are_prometheus_own(share: float, counts: tuple[int, ...], expected: float | None) -> None:
    assert percentile(share, BOUNDS, counts) == expected
