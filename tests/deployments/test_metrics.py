"""`/metrics` says what happened: the same as the ledger and as the callers saw, whoever restarts meanwhile."""

import asyncio
import os
import random
from collections import Counter
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from actors.routing.router import Router
from deployments.telemetry.metrics import GAUGES, exposition
from pipelines.metering.cluster import Snapshot
from pipelines.metering.instruments import TOOL_DURATION
from pipelines.metering.meter import Series
from pipelines.routing.table import Table
from pipelines.routing.worth import UNMEASURED_FIRST_OUTPUT, UNMEASURED_SPEED
from tests.deployments.browser import browsing
from tests.deployments.house import KEY, House, client_of, url_of
from tests.deployments.scrape import Samples, by, parsed, scraped, total, until
from tests.deployments.test_ledger import HELLO, read
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"

FAULTS = {
    "good": (Fault.answer(5),),
    "tired": (Fault.server_error(), Fault.answer(3)),
    "limited": (Fault.rate_limited(0.01),),
    "cut": (Fault.cut_off(3, "reset"),),
    "wrong": (Fault.context_too_long(),),
    "endless": (Fault.without_end(gap=0.02),),
}
LOAD = int(os.environ.get("AGREEMENT_REQUESTS", "1000"))
CALLERS = 20


async def asked(client: httpx.AsyncClient, model: str, *, stream: bool) -> str:
    """One request as its caller saw it: ok, failed, cancelled, or refused before it was understood."""
    if model == "nonsense":
        answer = await client.post(CHAT, content=b"{")
        assert answer.status_code == 400
        return "refused"
    body: dict[str, Any] = {"model": model, "messages": HELLO, "stream": stream, "max_tokens": 100}
    if not stream:
        return "ok" if (await client.post(CHAT, json=body)).status_code == 200 else "failed"
    async with client.stream("POST", CHAT, json=body) as answer:
        heard = b""
        async for data in answer.aiter_bytes():
            heard += data
            if model.endswith("endless") and heard.count(b"\n\n") > 3:
                return "cancelled"
    return "ok" if answer.status_code == 200 and heard.rstrip().endswith(b"[DONE]") else "failed"


def told_of(found: Samples, requests: int, attempts: int) -> bool:
    """Whether every replica has reported: each does so by itself."""
    return (total(found, "penstock_requests_total"), total(found, "penstock_attempts_total")) == (requests, attempts)


async def shown(running: House) -> tuple[int, int]:
    """Requests and attempts of the last days, as the dashboard adds them up for a person."""
    async with browsing(f"{url_of(running.gateway)}/dashboard#/history") as watched:
        await watched.page.get_by_label("API key").fill(KEY)
        await watched.page.get_by_role("button", name="Sign in").click()
        rows = watched.page.get_by_role("region", name="Usage by model").locator("tbody tr")
        await rows.first.wait_for()
        cells = [await row.locator("td").all_inner_texts() for row in await rows.all()]
    counts = [[int(row[place].replace(",", "")) for row in cells] for place in (1, 3)]
    return sum(counts[0]), sum(counts[1])


async def test_metrics_ledger_and_callers_agree(running: House, upstream: Upstream) -> None:
    dice = random.Random(8)
    for model, faults in FAULTS.items():
        upstream.plan(model, *faults * (LOAD if len(faults) > 1 else 1), times=1 if len(faults) > 1 else None)
    seen: Counter[str] = Counter()
    direct = running.replicas[-1]

    async def caller(client: httpx.AsyncClient, prefix: str, count: int) -> None:
        for _ in range(count):
            model = dice.choices([*FAULTS, "nonsense"], [60, 8, 8, 8, 8, 3, 5])[0]
            named = model if model == "nonsense" else prefix + model
            stream = model == "endless" or dice.random() < 0.6
            seen[await asked(client, named, stream=stream)] += 1

    async with client_of(running.gateway) as routed, client_of(direct) as straight:
        ways = [(routed, "flaky/"), (straight, "")]
        await asyncio.gather(*(caller(*ways[index % 2], LOAD // CALLERS) for index in range(CALLERS)))
        # What was cut off is over when the last replica has noticed.
        await running.until(lambda: not any(replica.front.visits for replica in running.replicas), 60.0)
        requests, attempts = await read(running)
        told = await until(routed, lambda found: told_of(found, len(requests), len(attempts)))
        usage = (await routed.get("/v1/usage", params={"since": "1d", "by": "provider"})).json()["total"]
    assert sum(seen.values()) == LOAD
    assert (usage["requests"], usage["attempts"]) == (len(requests), len(attempts))
    assert usage["errors"] == sum(row.outcome not in ("ok", "cancelled") for row in requests)
    assert {row.outcome for row in requests if not row.provider} <= {"full"}, "of all others it is known who was asked"
    assert await shown(running) == (len(requests), len(attempts))
    assert min(seen.values()) > 10

    outcomes = by(told, "penstock_requests_total", "outcome")
    assert outcomes == Counter(row.outcome for row in requests)
    assert outcomes["ok"] == seen["ok"]
    assert outcomes["cancelled"] == seen["cancelled"]
    assert sum(outcomes.values()) == LOAD - seen["refused"]
    assert total(told, "penstock_refused_requests_total") == seen["refused"]
    assert by(told, "penstock_requests_total", "provider") == Counter(row.provider or "none" for row in requests)
    assert by(told, "penstock_requests_total", "lane") == Counter(row.lane for row in requests)
    assert total(told, "gen_ai_server_request_duration_seconds_count") == len(requests)
    assert total(told, "gen_ai_server_request_duration_seconds_sum") == pytest.approx(sum(r.seconds for r in requests))

    assert by(told, "penstock_attempts_total", "outcome") == Counter(row.outcome for row in attempts)
    assert by(told, "penstock_attempts_total", "role") == Counter(row.role for row in attempts)
    assert total(told, "penstock_retries_total") == sum(row.retries for row in attempts)
    for kind in ("input", "output", "cached_read"):
        assert total(told, "penstock_tokens_total", kind=kind) == sum(getattr(row.bill, kind) for row in attempts)
    assert total(told, "penstock_unknown_cost_attempts_total") == sum(row.bill.cost is None for row in attempts)
    assert by(told, "penstock_attempts_total", "model").keys() <= {*FAULTS, "other"}


async def test_a_known_cost_is_that_of_the_ledger(running: House) -> None:
    async with client_of(running.gateway) as client:
        for stream in (True, False, True):
            await asked(client, "simulator/fast", stream=stream)
        told = await until(client, lambda found: told_of(found, 3, 3))
    _, attempts = await read(running)
    cost = sum(row.bill.cost or 0 for row in attempts)
    assert cost > 0
    assert total(told, "penstock_cost_dollars_total", provider="simulator", model="fast") == pytest.approx(cost / 1e9)
    # Two streams, whose time to the first token and between tokens is told; our own time is told of all three.
    assert total(told, "gen_ai_server_time_to_first_token_seconds_count") == 2
    assert total(told, "gen_ai_server_time_per_output_token_seconds_count") == 2
    assert total(told, "penstock_overhead_seconds_count", lane="routed") == 3
    assert total(told, "penstock_ledger_wait_seconds_count") == 3
    assert total(told, "penstock_decision_seconds_count") == 3
    ours = total(told, "penstock_overhead_seconds_sum")
    assert 0 < ours < total(told, "gen_ai_server_request_duration_seconds_sum")


async def test_numbers_outlive_the_replica_that_counted(running: House) -> None:
    """A gateway and the provider go; the next gateway, which has counted nothing, tells what they had counted."""
    async with client_of(running.gateway) as client:
        for _ in range(4):
            await asked(client, "simulator/fast", stream=True)
    old, provider = running.gateway, running.replicas[0]
    for gone in (old, provider):
        await gone.stop()
        running.replicas.remove(gone)
    await running.open_gateway(drain=1.0)
    async with client_of(running.gateway) as client:
        told = await scraped(client)
        assert total(told, "penstock_requests_total", outcome="ok") == 4
        assert total(told, "penstock_attempts_total", provider="simulator") == 4
        assert total(await until(client, lambda found: total(found, "penstock_replicas", application="simulator") == 0),
                     "penstock_replicas", application="gateway") == 1  # fmt: skip


async def test_no_counter_falls_when_the_router_is_another_one(running: House) -> None:
    async with client_of(running.gateway) as client:
        await asked(client, "simulator/fast", stream=True)
        before = await until(client, lambda found: total(found, "penstock_attempts_total") == 1)
        await running.router.keep()
        await asked(client, "simulator/fast", stream=True)  # told to the old router, and not written down
        before = await until(client, lambda found: total(found, "penstock_attempts_total") == 2)
        old, running.router = running.router, Router(str(running.directory), preceded=True)
        for replica in running.replicas:
            replica.router._link = None
        await old.close()
        await asked(client, "simulator/fast", stream=True)

        def grown(found: Samples) -> bool:
            nonlocal before
            fallen = [key for key, value in before.items() if value > found.get(key, 0.0) and counts(key[0])]
            assert not fallen
            before = found
            return total(found, "penstock_attempts_total") == 3

        await until(client, grown)


def counts(name: str) -> bool:
    return name.endswith(("_total", "_count", "_bucket"))


async def test_metrics_can_be_switched_off(running: House) -> None:
    gateway = await running.open_gateway(drain=1.0, observability={"metrics": False})
    async with client_of(gateway) as client:
        assert await asked(client, "simulator/fast", stream=True) == "ok"
        told = await until(client, lambda found: total(found, "penstock_attempts_total") == 1)
    assert total(told, "penstock_requests_total") == 0
    assert total(told, "penstock_provider_state") == 2


def test_what_the_router_expects_is_not_called_measured() -> None:
    """An idle model's figures near an unmeasured one's: their help says so, and to which value."""
    said = {gauge.name: gauge.help for gauge in GAUGES}
    for name, value in (
        ("penstock_error_ratio", "0"),
        ("penstock_time_to_first_output_seconds", f"{UNMEASURED_FIRST_OUTPUT:g} s"),
        ("penstock_tokens_per_second", f"{UNMEASURED_SPEED:g}"),
    ):
        assert "the router expects" in said[name]
        assert said[name].endswith(f"nearing {value} while idle.")


def test_histograms_are_written_as_prometheus_client_writes_them() -> None:
    registry = CollectorRegistry()
    library = Histogram(
        TOOL_DURATION.name, TOOL_DURATION.help, TOOL_DURATION.labels, buckets=TOOL_DURATION.buckets, registry=registry
    )
    odd = 'a "b"\\\nc'
    for seconds in (0.005, 0.3, 0.3, 500.0):
        library.labels(odd, "").observe(seconds)
    counts = [1, 0, 0, 0, 0, 2, *[0] * 8, 1]
    series = Series(TOOL_DURATION.name, (odd, ""), (500.605, *counts))
    ours = exposition(Table(), (), Snapshot(True, (series,), ())).decode()
    theirs = generate_latest(registry).decode()
    expected = {key: value for key, value in parsed(theirs).items() if not key[0].endswith("_created")}
    assert {key: value for key, value in parsed(ours).items() if key[0].startswith(TOOL_DURATION.name)} == expected
    assert all(family.documentation for family in text_string_to_metric_families(ours))
