"""The paper simulation of a million streams: its arithmetic, with costs that are given."""

from pathlib import Path

import msgspec
import pytest

from bench import million
from bench.__main__ import SCENARIOS, Measured
from bench.million import ACTOR_CALLS, FULL, Costs, Load, ceiling, parts, replicas, router_costs, row_cost

COSTS = Costs(
    gateway_chunk=20.0,
    provider_chunk=30.0,
    gateway_request=0.0,
    provider_request=0.0,
    source="here",
    announcement=4.0,
    outcome=5.0,
    replica=1.5,
    replica_bytes=60.0,
    models=200.0,
    models_bytes=10_000.0,
    row=15.0,
)
LOAD = Load(1e6, 20.0, 30.0)


def test_replicas_are_cores_of_which_a_share_is_used() -> None:
    gateways, providers = replicas(LOAD, COSTS)
    assert gateways == pytest.approx(1e6 * 20 * 20e-6 / FULL, abs=1)
    assert providers == pytest.approx(1e6 * 20 * 30e-6 / FULL, abs=1)


def test_at_the_ceiling_the_first_part_is_just_full_and_no_other_more() -> None:
    most, first = ceiling(LOAD, COSTS)
    assert 0.98 < first.share <= 1.0
    beyond = [part.name for part in parts(LOAD._replace(streams=most * 1.02), COSTS) if part.whole and part.share > 1]
    assert beyond == [first.name]


def test_what_is_dearer_fills_first() -> None:
    _, first = ceiling(LOAD, COSTS)
    assert (first.name, first.bears) == ("calls to the router actor", ACTOR_CALLS)
    _, other = ceiling(LOAD, COSTS._replace(row=500.0))
    assert other.name == "rows of the ledger"


def test_many_replicas_make_a_large_table_dear() -> None:
    _, first = ceiling(LOAD, COSTS._replace(replica_bytes=60_000.0))
    assert first.name == "the table's fan-out"


async def test_the_costs_are_measured() -> None:
    assert all(value > 0 for value in router_costs().values())
    assert await row_cost() > 0


def test_what_make_bench_has_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = (0.0, 0.0)
    rows = [
        Measured(scenario, f"{lane} lane, own listener", cpu, none, none, 0.0, 0.0)
        for scenario, lane, cpu in (
            (SCENARIOS[0], "direct", 1.0),
            (SCENARIOS[0], "routed", 2.0),
            (SCENARIOS[2], "direct", 3.0),
            (SCENARIOS[2], "routed", 4.0),
        )
    ]
    written = tmp_path / "bench.json"
    figures = [{**row._asdict(), "scenario": row.scenario.name} for row in rows]
    written.write_bytes(msgspec.json.encode({"about": {}, "figures": figures}))
    monkeypatch.setattr(million, "BENCH", written)
    assert million.token_path() == (
        {"direct request": 1.0, "request": 2.0, "direct chunk": 3.0, "chunk": 4.0},
        str(written),
    )
