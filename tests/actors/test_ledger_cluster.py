"""The real ledger actor on a real cluster, killed again and again under load: nothing lost, nothing doubled."""

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from actors.directory import LEDGER, connect
from actors.ledger_client import LedgerClient
from pipelines.ledger import Question
from tests.actors.ledger_rows import NOON, attempt, request

KILLS = 5

pytestmark = [
    pytest.mark.cluster,
]


async def test_a_ledger_that_is_killed_under_load_loses_and_doubles_nothing(state: Path) -> None:
    handle = await asyncio.to_thread(connect, str(state), LEDGER)
    client = LedgerClient("replica", str(state))
    client.start()
    numbers = iter(range(1_000_000))
    acknowledged: list[int] = []
    ending = asyncio.Event()

    async def caller() -> None:
        while not ending.is_set():
            number = next(numbers)
            assert await client.settle(attempt(number), request(number))
            acknowledged.append(number)

    callers = [asyncio.create_task(caller()) for _ in range(16)]
    for _ in range(KILLS):
        before = len(acknowledged)
        while len(acknowledged) < before + 200:
            await asyncio.sleep(0.01)
        os.kill(await handle.process.remote(), signal.SIGKILL)
        killed = time.monotonic()
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            await asyncio.sleep(0.01)
        assert time.monotonic() - killed < 20.0
    ending.set()
    await asyncio.gather(*callers)
    question = msgspec.msgpack.encode(Question(NOON, NOON + 1_000_000))
    (total,) = msgspec.msgpack.decode(await client.report(question))
    assert total["requests"] == total["attempts"] == len(acknowledged) == len(set(acknowledged))
    await client.close()
