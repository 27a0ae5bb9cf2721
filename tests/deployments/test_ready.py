"""Alive and ready are two things: a replica that drains, or hears nothing, serves what it has and wants no more."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.replica import Replica
from tests.deployments.house import House, client_of, house, url_of
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"


async def said(replica: Replica, page: str) -> tuple[int, dict[str, Any]]:
    """What a page answers to somebody without a key."""
    async with httpx.AsyncClient(base_url=url_of(replica), trust_env=False, timeout=60.0) as client:
        answer = await client.get(page)
    return answer.status_code, answer.json()


async def ready(replica: Replica, wanted: str) -> None:
    """Until `/readyz` gives that reason ("": all is well); it is alive all the while."""
    async with asyncio.timeout(60.0):
        while True:
            status, body = await said(replica, "/readyz")
            assert await said(replica, "/healthz") == (200, {"status": "ok"})
            if body.get("why", "") == wanted:
                assert status == (503 if wanted else 200)
                return
            await asyncio.sleep(0.02)


async def lose_ledger(running: House) -> None:
    assert running.ledger is not None
    ledger, running.ledger = running.ledger, None
    await ledger.close()
    # Without Ray nobody tells those who wait that the actor is gone.
    for replica in running.replicas:
        replica._watcher._client._link = None
        with contextlib.suppress(asyncio.CancelledError):
            await replica._watcher.close()
        replica._watcher._task = None
        replica._watcher.start()


async def test_a_house_that_stands_is_ready(running: House) -> None:
    for replica in running.replicas:
        await ready(replica, "")


async def test_without_its_ledger_a_replica_that_would_refuse_is_not_ready(running: House) -> None:
    await ready(running.gateway, "")
    await lose_ledger(running)
    await ready(running.gateway, "the ledger is away")
    async with client_of(running.gateway) as client:
        assert (await client.get("/v1/models")).status_code == 200


async def test_one_that_goes_on_without_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch, ledger={"when_away": "continue"}) as running:
        await lose_ledger(running)
        async with asyncio.timeout(60.0):
            while running.gateway._watcher.hearing:
                await asyncio.sleep(0.01)
        await ready(running.gateway, "")


@pytest.mark.parametrize(
    ("page", "expected"),
    [("/readyz", (503, {"status": "unavailable", "why": "leaving"})), ("/healthz", (200, {"status": "ok"}))],
)
async def test_one_that_drains_is_alive_and_not_ready(
    running: House, upstream: Upstream, page: str, expected: tuple[int, dict[str, Any]]
) -> None:
    upstream.plan("m", Fault.answer(10, gap=0.3))
    gateway = running.gateway
    gateway._common = gateway._common.model_copy(update={"drain": 60.0})
    body = {"model": "flaky/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    await ready(gateway, "")
    async with client_of(gateway) as other, client_of(gateway) as client:
        assert (await other.get(page)).status_code == 200
        async with client.stream("POST", CHAT, json=body) as answer:
            leaving = asyncio.create_task(gateway.stop())
            await running.until(lambda: not gateway.healthy())
            late = await other.get(page)
            assert (late.status_code, late.json()) == expected
            assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        await leaving


async def test_one_that_has_heard_no_table_is_not_ready(running: House) -> None:
    running.gateway.router._ready.clear()
    assert await said(running.gateway, "/readyz") == (503, {"status": "unavailable", "why": "no routing table yet"})


async def test_one_whose_listener_has_stopped_is_not_ready(running: House) -> None:
    provider = running.replicas[0]
    await provider._ports[0].stop(0.1)
    assert (await said(provider, "/readyz"))[1]["why"] == "an own listener has stopped"
