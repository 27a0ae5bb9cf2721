"""Hedging end to end: a slow provider, a quick one beside it, and what each of them and the router hears."""

from typing import Any

import pytest

from actors.routing.client import RouterClient
from deployments.replica import Replica
from pipelines.routing.statistics import LEAST_MEASUREMENTS
from pipelines.routing.table import Outcome
from tests.deployments.house import House, client_of
from tests.upstream import Fault, Upstream

BODY: dict[str, Any] = {
    "model": "flaky/m",
    "models": ["simulator/fast"],
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
}


async def chat(replica: Replica, **more: Any) -> tuple[str, str]:
    """Who answered, and the whole body."""
    async with client_of(replica) as client:
        answer = await client.post("/v1/chat/completions", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-penstock-provider"], answer.text


async def known(running: House, first_output: float = 0.05) -> None:
    """Let the router have measured often enough after how many seconds the flaky provider begins."""
    router: RouterClient = running.gateway.router
    for _ in range(int(LEAST_MEASUREMENTS) + 1):
        router.record(Outcome("flaky", "m", 2 * first_output, first_output=first_output, output_tokens=5))

    def measured() -> bool:
        entry = router.table.provider("flaky")
        performance = entry.performance.get("m") if entry is not None else None
        return performance is not None and performance.slow_first_output is not None

    await running.until(measured)


async def test_the_first_output_wins_and_the_loser_is_cancelled(running: House, upstream: Upstream) -> None:
    await known(running)
    upstream.plan("m", Fault.silence(3600.0))
    provider, text = await chat(running.gateway, penstock={"hedge": True, "timeouts": {"first_event": 60}})
    assert provider == "simulator"
    assert text.rstrip().endswith("[DONE]")
    assert text.count("You said: Hello") <= 1
    await upstream.wait_closed()
    entry = running.gateway.router.table.provider("flaky")
    assert entry is not None


async def test_a_provider_that_is_in_time_has_no_company(running: House, upstream: Upstream) -> None:
    await known(running, 30.0)
    provider, _ = await chat(running.gateway, penstock={"hedge": True})
    assert provider == "flaky"
    simulator = running.replicas[0]
    assert simulator.front.visits == 0


@pytest.mark.parametrize("options", [{}, {"hedge": False}])
async def test_it_is_off_unless_asked_for(running: House, upstream: Upstream, options: dict[str, Any]) -> None:
    await known(running)
    upstream.plan("m", Fault.silence(0.3))
    provider, _ = await chat(running.gateway, penstock=options)
    assert provider == "flaky"


async def test_who_wants_no_other_candidate_gets_no_hedge(running: House, upstream: Upstream) -> None:
    await known(running)
    upstream.plan("m", Fault.silence(0.5))
    provider, _ = await chat(running.gateway, penstock={"hedge": True, "fall_back": False})
    assert provider == "flaky"
