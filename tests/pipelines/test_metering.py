"""Counters of many replicas, told over a way that loses and repeats, add up to what was counted."""

import random
import re
from functools import partial

import msgspec
import pytest

from pipelines.calls import Account, Call, Caller
from pipelines.conversation import Request
from pipelines.ledger import RequestRow
from pipelines.metering import instruments
from pipelines.metering.cluster import LIFETIME, MOST_SILENT, SETTLING, Cluster, Kept, Snapshot
from pipelines.metering.instruments import INSTRUMENTS
from pipelines.metering.meter import MOST_SERIES, Measured, Meter, Series
from pipelines.metering.recorder import LOOKING_AGAIN, MOST_WORDS, Recorder
from pipelines.routing.table import Bill, Outcome


def told(meter: Meter) -> Measured:
    return msgspec.msgpack.decode(meter.changes().encoded, type=Measured)


def value(snapshot: Snapshot, name: str, *labels: str) -> tuple[float, ...]:
    return next((one.values for one in snapshot.series if (one.name, one.labels) == (name, labels)), ())


def call(role: str = "first") -> Call:
    account = msgspec.convert({"role": role}, Account)
    return Call("1", "openai_chat", {}, Request("m", ()), Caller("me"), "routed", account=account)


def test_names_follow_prometheus() -> None:
    for one in INSTRUMENTS:
        assert re.fullmatch(r"(penstock|gen_ai)_[a-z_]+", one.name)
        assert one.name.endswith("_total") == (one.kind == "counter")
        assert bool(one.buckets) == (one.kind == "histogram")
        assert list(one.buckets) == sorted(set(one.buckets))
        assert not {"key", "caller", "request"} & set(one.labels)
    assert len({one.name for one in INSTRUMENTS}) == len(INSTRUMENTS)


def test_a_bucket_holds_its_upper_bound() -> None:
    """Prometheus' `le` is inclusive."""
    meter = Meter("a", "gateway")
    seconds = meter.histogram(instruments.TOOL_DURATION, "search", "")
    for observed in (0.01, 0.010001, 0.0, 1000.0):
        seconds.observe(observed)
    assert seconds.counts[:2] == [2, 1]
    assert seconds.counts[-1] == 1
    assert seconds.values()[0] == pytest.approx(1000.020001)


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_right_whatever_the_way_does(seed: int) -> None:
    """Reports are lost, repeated and late; routers die with and without what they wrote down; replicas come and go."""
    dice = random.Random(seed)
    cluster, now, truth = Cluster(0.0), 0.0, 0
    meters = [Meter(f"r{index}", "gateway") for index in range(3)]
    late: list[Measured] = []
    kept = Kept()
    for step in range(200):
        now += 0.25
        meter = dice.choice(meters)
        more = dice.randint(0, 5)
        truth += more
        meter.counter(instruments.RETRIES, "p", "m").value += more
        meter.histogram(instruments.LEDGER_WAIT).observe(0.25)
        changes = meter.changes()
        measured = msgspec.msgpack.decode(changes.encoded, type=Measured)
        fate = dice.random()
        if fate > 0.2:  # it arrives
            cluster.take(measured, now)
            if fate > 0.4:  # and so does the answer
                changes.accept()
        else:
            late.append(measured)
        if late and dice.random() < 0.3:
            cluster.take(late.pop(dice.randrange(len(late))), now)
        if dice.random() < 0.1:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(cluster.keep()), type=Kept)
        if dice.random() < 0.05:
            cluster = Cluster(now, kept)
            for one in meters:
                one.forget()
        if dice.random() < 0.05:  # a replica leaves: its last words arrive, and are written down
            gone = meters.pop(0)
            cluster.take(told(gone), now)
            kept = cluster.keep()
            meters.append(Meter(f"n{step}", "gateway"))
    for meter in meters:
        cluster.take(told(meter), now)
    after = cluster.snapshot(now)
    assert value(after, "penstock_retries_total", "p", "m") == (truth,)
    total, *counts = value(after, "penstock_ledger_wait_seconds")
    assert sum(counts) == 200
    assert total == pytest.approx(50.0)


def test_a_new_router_is_not_settled_before_everybody_has_spoken() -> None:
    kept = Kept((), ())
    assert Cluster(10.0).snapshot(10.0).settled
    assert not Cluster(10.0, kept).snapshot(10.0 + SETTLING - 0.1).settled
    assert Cluster(10.0, kept).snapshot(10.0 + SETTLING).settled


def test_what_was_told_to_the_last_router_is_told_to_the_next() -> None:
    meter = Meter("a", "gateway")
    meter.counter(instruments.RETRIES, "p", "m").value += 1
    changes = meter.changes()
    meter.forget()  # another router is there before the answer of the last one
    changes.accept()
    assert meter.changed
    meter.changes().accept()
    assert not meter.changed


def test_gauges_are_those_of_the_living() -> None:
    cluster = Cluster(0.0)
    for name, lag in (("a", 1.0), ("b", 3.0)):
        meter = Meter(name, "gateway")
        meter.gauge(instruments.IN_FLIGHT, lambda: 2.0)
        meter.gauge(instruments.LEDGER_LAG, partial(float, lag))
        cluster.take(told(meter), 0.0 if name == "b" else 4.0)
    gauges = {one.name: one.values[0] for one in cluster.snapshot(4.0).gauges}
    assert gauges == {
        "penstock_in_flight_requests": 4.0, "penstock_ledger_lag_seconds": 3.0, "penstock_replicas": 2.0,
    }  # fmt: skip
    gauges = {one.name: one.values[0] for one in cluster.snapshot(LIFETIME).gauges}
    assert gauges == {
        "penstock_in_flight_requests": 2.0, "penstock_ledger_lag_seconds": 1.0, "penstock_replicas": 1.0,
    }  # fmt: skip


def test_the_sums_outlive_the_memory_of_silent_replicas() -> None:
    cluster = Cluster(0.0)
    for index in range(2 * MOST_SILENT):
        meter = Meter(f"r{index}", "gateway")
        meter.counter(instruments.RETRIES, "p", "m").value += 1
        cluster.take(told(meter), 10.0 * index)
    assert value(cluster.snapshot(0.0), "penstock_retries_total", "p", "m") == (2 * MOST_SILENT,)
    assert len(cluster.keep().sources) <= MOST_SILENT + 2


def test_labels_are_bounded() -> None:
    meter = Meter("a", "gateway")
    recorder = Recorder(meter, lambda provider, model: model == "listed")
    for index in range(3 * MOST_WORDS):
        outcome = f"strange_{index}"
        row = RequestRow(id="1", provider="p", model=f"m{index}", outcome=outcome, lane="routed", operation=f"/{index}")
        recorder.request(row)
        recorder.attempt(call(), Outcome("p", f"m{index}", 1.0))
        recorder.tool(f"tool_{index}", 0.1, f"error_{index}")
        recorder.refused(f"reason_{index}")
    recorder.attempt(call(), Outcome("p", "listed", 1.0))
    assert {key[1][1] for key in meter._series if key[0] == "penstock_attempts_total"} == {"other", "listed"}
    for name in ("penstock_requests_total", "gen_ai_execute_tool_duration_seconds", "penstock_refused_requests_total"):
        assert sum(key[0] == name for key in meter._series) <= 2 * MOST_WORDS
    assert {key[4] for key in recorder._requests} == {"other"}
    assert len(recorder._requests) <= MOST_WORDS + 1
    assert len(recorder._labels) <= LOOKING_AGAIN
    for index in range(MOST_SERIES + 10):
        meter.counter(instruments.LOST_REPLICAS, str(index)).value += 1
    assert len(meter._series) == MOST_SERIES


def test_what_an_attempt_used_is_counted_by_kind() -> None:
    meter, cluster = Meter("a", "p"), Cluster(0.0)
    recorder = Recorder(meter, lambda provider, model: True)
    bill = Bill(input=10, cached_read=4, output=7, reasoning=2, cost=1_500_000, basis="computed")
    recorder.attempt(call("hedge"), Outcome("p", "m", 2.0, first_output=0.5, tries=3, bill=bill, pieces=4))
    recorder.attempt(call(), Outcome("p", "m", 1.0, reason="timeout", bill=Bill(input=3, cost=None)))
    recorder.attempt(call(), Outcome("p", "m", 1.0, cancelled=True))
    cluster.take(told(meter), 0.0)
    found = cluster.snapshot(0.0)
    assert value(found, "penstock_attempts_total", "p", "m", "hedge", "ok") == (1,)
    assert value(found, "penstock_attempts_total", "p", "m", "first", "timeout") == (1,)
    assert value(found, "penstock_attempts_total", "p", "m", "first", "cancelled") == (1,)
    assert value(found, "penstock_retries_total", "p", "m") == (2,)
    kinds = {
        kind: value(found, "penstock_tokens_total", "p", "m", kind)[0] for kind in ("input", "output", "reasoning")
    }
    assert kinds == {"input": 13, "output": 7, "reasoning": 2}
    assert value(found, "penstock_cost_dollars_total", "p", "m") == (1_500_000,)
    assert value(found, "penstock_unknown_cost_attempts_total", "p", "m") == (1,)
    # Three gaps between four pieces in 1.5 s.
    assert value(found, "gen_ai_server_time_per_output_token_seconds", "chat", "p", "m")[0] == pytest.approx(0.5)
    assert value(found, "gen_ai_client_operation_duration_seconds", "chat", "p", "m", "timeout")[0] == 1.0


def test_a_model_that_is_listed_later_gets_its_own_label() -> None:
    """Lists of models are read while requests come already."""
    meter, listed = Meter("a", "p"), set[str]()
    recorder = Recorder(meter, lambda provider, model: model in listed)
    recorder.attempt(call(), Outcome("p", "m", 1.0))
    listed.add("m")
    for _ in range(2 * LOOKING_AGAIN):
        recorder.attempt(call(), Outcome("p", "m", 1.0))
    labels = {key[1][1]: one.count for key, one in meter._series.items() if key[0] == "penstock_attempts_total"}
    assert labels["m"] > LOOKING_AGAIN
    assert sum(labels.values()) == 2 * LOOKING_AGAIN + 1


def test_a_router_that_restarts_forgets_no_replica_that_has_not_had_the_time_to_speak() -> None:
    def says(source: str, count: float) -> Measured:
        return Measured(source, "gateway", (Series("penstock_retries_total", ("p", "m"), (count,)),))

    before, now = Cluster(0.0), 0.0
    for index in range(2 * MOST_SILENT):
        now += LIFETIME / 2
        before.take(says(f"old-{index}", 1.0), now)
    before.take(says("alive", 1000.0), now)
    counted = value(before.snapshot(now), "penstock_retries_total", "p", "m")
    after = Cluster(now + 1.0, before.keep())
    after.take(says("new", 0.0), now + 1.5)
    after.take(says("alive", 1000.0), now + 2.0)
    assert value(after.snapshot(now + 2.0), "penstock_retries_total", "p", "m") == counted
