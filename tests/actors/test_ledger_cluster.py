"""The real ledger actor on a real cluster, killed and stopped under load: nothing lost, nothing doubled."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from actors.directory import LEDGER, connect
from actors.money import ledger_client
from actors.money.ledger_client import LedgerClient
from pipelines.ledger import Question
from tests.actors.ledger_rows import NOON, attempt, request

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL, signal.SIGSTOP)

pytestmark = [
    pytest.mark.cluster,
]


async def test_a_ledger_that_dies_under_load_loses_and_doubles_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine it may be a while until the next one is up.
    monkeypatch.setattr(ledger_client, "PATIENCE", 300.0)
    handle = await asyncio.to_thread(connect, str(state), LEDGER, patience=120.0)
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
    for sent in SIGNALS:
        before = len(acknowledged)
        while len(acknowledged) < before + 200:
            await asyncio.sleep(0.01)
        os.kill(await handle.process.remote(), sent)
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            await asyncio.sleep(0.01)
    ending.set()
    await asyncio.gather(*callers)
    question = msgspec.msgpack.encode(Question(NOON, NOON + 1_000_000))
    (total,) = msgspec.msgpack.decode(await client.report(question))
    assert total["requests"] == total["attempts"] == len(acknowledged) == len(set(acknowledged))
    await client.close()
