"""What a request and a chunk cost beside bare Ray Serve, in the same run: CPU of all processes, never a time.

The bounds are those of a slip that nobody would want to ship (a copy, a log line, a validation a chunk), not the goals:
those are for `make bench`, on a quiet machine.
"""

from collections.abc import Iterator, Mapping

import pytest

from bench import targets
from bench.__main__ import Scenario, measured

UNARY = Scenario("unary, 16 callers", "u-200", 1500, 16)
STREAMS = Scenario("200 streams of 64 chunks, 20 ms apart", "s-64-20", 400, 200, 1.3)

BOUNDS = {
    (UNARY, "direct lane, own listener"): ("bare Serve, one listener", 5.0),
    (UNARY, "routed lane, own listener"): ("bare Serve, two listeners", 4.2),
    (STREAMS, "direct lane, own listener"): ("bare Serve, one listener", 2.4),
    (STREAMS, "routed lane, own listener"): ("bare Serve, two listeners", 2.1),
}
"""How many times the CPU of what passes bytes and does nothing else."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, targets.Target]]:
    """Penstock's two lanes and bare Serve in one cluster, before one upstream."""
    with (
        targets.upstream() as floor,
        targets.penstock(tmp_path_factory.mktemp("costs"), floor.url.removesuffix(targets.CHAT)) as found,
    ):
        yield {target.name: target for target in found}


@pytest.mark.parametrize("scenario", [UNARY, STREAMS], ids=["unary", "streams"])
def test_a_request_and_a_chunk_cost_little_beside_bare_serve(
    every: Mapping[str, targets.Target], scenario: Scenario
) -> None:
    wanted = {name: bound for (of, name), bound in BOUNDS.items() if of == scenario}
    names = {*wanted, *(bare for bare, _ in wanted.values())}
    cost = {row.target: row.cpu for row in measured(scenario, [every[name] for name in sorted(names)], 3)}
    for name, (bare, most) in wanted.items():
        assert cost[name] / cost[bare] < most, {name: round(value, 1) for name, value in cost.items()}
