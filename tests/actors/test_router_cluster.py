"""The real actor on a real cluster: two processes, one router, and a SIGKILL."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import ray

from actors.directory import LEDGER, NAMESPACE, ROUTER, connect
from actors.money.ledger_place import DEFAULT_PLACE
from actors.routing.client import RouterClient
from pipelines.routing.learning.evidence import Rated
from pipelines.routing.standing import Standing
from pipelines.routing.table import Announcement, Decided, Outcome, Table

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.cluster,
]

SECOND_PROCESS = """
import sys, ray
from actors.directory import connect
ray.init(address=sys.argv[1], logging_level="ERROR")
print(connect(sys.argv[2])._actor_id.hex())
"""


class OldRouter:
    """A router of another code version."""

    async def version(self) -> str:
        return "old"


async def until(what: str, condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def _performance(table: Table) -> int:
    entry = table.provider("p")
    return entry.performance["m"].attempts if entry is not None and "m" in entry.performance else 0


async def test_one_router_for_all_old_code_goes_and_a_kill_is_not_noticed(state: Path) -> None:
    old = ray.remote(OldRouter).options(name=ROUTER, namespace=NAMESPACE, lifetime="detached").remote()
    assert await old.version.remote() == "old"
    kept = await asyncio.to_thread(connect, str(state), replace=False, patience=120.0)
    assert kept._actor_id == old._actor_id

    mine = await asyncio.to_thread(connect, str(state), patience=120.0)
    assert mine._actor_id != old._actor_id
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SECOND_PROCESS, os.environ["RAY_TEST_ADDRESS"], str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert second.stdout.strip() == mine._actor_id.hex(), second.stderr

    sizes: list[int] = []
    replica = Announcement("p", "r1", "http://h:1")
    provider = RouterClient("r1", str(state), lambda: replica)
    gateway = RouterClient(
        "g1", str(state), on_table=lambda _, after: sizes.append(sum(len(e.replicas) for e in after.providers))
    )
    try:
        await provider.start(120.0)
        await gateway.start(120.0)
        await provider.announce()
        await until("the provider is listed", lambda: gateway.table.provider("p") is not None)
        assert gateway.welcome is not None
        assert gateway.welcome.secret == (state / "cluster.secret").read_text().strip()
        gateway.record(Outcome("p", "m", 1.0))
        await until("an outcome has gone round", lambda: _performance(gateway.table) == 1)

        before, known = gateway.table, len(sizes)
        killed = await mine.process.remote()
        os.kill(killed, signal.SIGKILL)
        gateway.record(Outcome("p", "m", 1.0))
        gateway.record(Outcome("p", "m", 1.0))
        await until("another epoch", lambda: gateway.table.epoch != before.epoch)
        assert set(sizes[known:]) == {1}
        await until("outcomes flow again", lambda: _performance(gateway.table) >= 2)
        again = await asyncio.to_thread(ray.get_actor, ROUTER, NAMESPACE)
        assert again._actor_id.hex() == mine._actor_id.hex()
        assert await again.process.remote() != killed
    finally:
        await gateway.close()
        await provider.close()


async def test_what_was_learned_is_in_the_ledger_and_outlives_a_kill(state: Path) -> None:
    await asyncio.to_thread(connect, str(state), LEDGER, DEFAULT_PLACE, patience=120.0)
    router = await asyncio.to_thread(connect, str(state), patience=120.0)
    gateway = RouterClient("g1", str(state))
    evidence = msgspec.msgpack.encode(Rated("p/m", "code", 1.0))

    async def learned() -> bool:
        try:
            told = msgspec.msgpack.decode(await gateway.standing(), type=Standing)
        except Exception:
            return False
        return [rate.model for rate in told.win_rates] == ["p/m"]

    async def until_learned() -> None:
        async with asyncio.timeout(120.0):
            while not await learned():
                await asyncio.sleep(0.1)

    try:
        await gateway.start(120.0)
        gateway.decided(Decided("k", "r", b"", evidence))
        await until_learned()
        await gateway.keep()
        assert not list(state.glob("learning*"))
        os.kill(await router.process.remote(), signal.SIGKILL)
        await until_learned()
    finally:
        await gateway.close()
