"""Keys and budgets with the real ledger actor on a real cluster, over its own port: they survive its death."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.directory import LEDGER, connect
from actors.money.allowance_client import AllowanceClient
from actors.money.key_watcher import KeyWatcher
from actors.money.ledger_client import LedgerClient
from pipelines.allowance import Need
from pipelines.errors import OverBudget, Overloaded
from pipelines.keys import Budget, Feed, KeyAnswer, Limits, MakeKey, RevokeKey, Settings
from pipelines.routing.table import Bill
from tests.actors.ledger_rows import attempt

pytestmark = [pytest.mark.cluster]


async def test_keys_and_budgets_survive_the_actor(state: Path) -> None:
    handle = await asyncio.to_thread(connect, str(state), LEDGER, patience=120.0)
    client = LedgerClient("replica", str(state))
    client.start()
    feeds: list[Feed] = []
    watcher = KeyWatcher(client, feeds.append)
    watcher.start()
    limits = Limits(budget=Budget(total=10_000))

    async def request(asked: Any) -> KeyAnswer:
        while True:
            try:
                return msgspec.msgpack.decode(await client.keys(msgspec.msgpack.encode(asked)), type=KeyAnswer)
            except Overloaded:
                await asyncio.sleep(0.1)

    async def heard(count: int) -> None:
        async with asyncio.timeout(120.0):
            while len(feeds) < count:
                await asyncio.sleep(0.01)

    await heard(1)
    assert feeds[0] == Feed(1, whole=True)
    await request(MakeKey("k", Settings("a", limits=limits), "hash"))
    await heard(2)
    assert [key.id for key in feeds[1].keys] == ["k"]
    await client.settle(attempt(1, bill=Bill(input=1, output=1, cost=9_000, basis="computed")))
    os.kill(await handle.process.remote(), signal.SIGKILL)
    # Another incarnation, which has the key and what it has spent from the database.
    allowances = AllowanceClient(client, asyncio.get_running_loop().time)
    async with asyncio.timeout(120.0):
        while True:
            try:
                assert await allowances.take(allowances.lease("k", limits), Need(money=900))
                break
            except Overloaded:
                await asyncio.sleep(0.1)
    with pytest.raises(OverBudget):
        await allowances.take(allowances.lease("k", limits), Need(money=200))
    await request(RevokeKey("k"))
    async with asyncio.timeout(120.0):
        while not any(key.revoked for feed in feeds for key in feed.keys):
            await asyncio.sleep(0.01)
    await allowances.close()
    await watcher.close()
    await client.close()
