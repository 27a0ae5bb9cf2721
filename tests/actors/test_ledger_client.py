"""The client alone, in virtual time: what goes out when, and what its makers hear."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from actors.money.ledger_client import ANNOUNCING, BEAT, LEISURE, PACE, PATIENCE, SHORT_PATIENCE, LedgerClient
from pipelines.errors import Overloaded
from pipelines.ledger import LOST, Batch, RequestRow
from tests.actors.ledger_rows import answered, attempt, request
from tests.actors.virtual_time import run


class FakeLedger:
    """Takes what it gets after `seconds`; raises as long as it is `away`."""

    def __init__(self, seconds: float = 0.004) -> None:
        self.seconds = seconds
        self.away = False
        self.batches: list[tuple[float, Batch]] = []

    async def settle(self, batch: bytes) -> None:
        if self.away:
            raise ConnectionError("nobody there")
        self.batches.append((asyncio.get_running_loop().time(), msgspec.msgpack.decode(batch, type=Batch)))
        await asyncio.sleep(self.seconds)

    async def report(self, question: bytes) -> bytes:
        return question

    async def keys(self, inquiry: bytes) -> bytes:
        return inquiry

    @property
    def rows(self) -> list[str]:
        return [row.id for _, batch in self.batches for row in batch.rows]


def scene(work: Callable[[LedgerClient, FakeLedger], Awaitable[None]], **more: Any) -> None:
    async def played() -> None:
        ledger = FakeLedger()

        async def connect() -> FakeLedger:
            return ledger

        client = LedgerClient("me", connector=connect, **more)
        client.start()
        try:
            await work(client, ledger)
        finally:
            await client.close(0.0)

    run(played())


def ids(*numbers: int) -> list[str]:
    return [request(number).id for number in numbers]


def provisional(number: int) -> RequestRow:
    return request(number)


def test_who_comes_alone_does_not_wait_and_others_travel_together() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await client.settle(request(0))
        assert await client.settle(request(1000))
        assert loop.time() - began == pytest.approx(0.008)
        assert [at - began for at, _ in ledger.batches] == pytest.approx([0.0, 0.004])
        ledger.batches.clear()
        client.reserve("another", lambda: provisional(1001))
        await asyncio.sleep(PACE)
        began = loop.time()
        assert await client.settle(request(0))
        several = [asyncio.create_task(client.settle(request(n))) for n in range(1, 51)]
        await asyncio.sleep((PACE - 0.004) / 2)
        several += [asyncio.create_task(client.settle(request(n))) for n in range(51, 101)]
        await asyncio.sleep(PACE - 0.004)
        several += [asyncio.create_task(client.settle(request(n))) for n in range(101, 151)]
        assert all(await asyncio.gather(*several))
        assert [len(batch.rows) for _, batch in ledger.batches] == [1, 100, 50]
        assert [at - began for at, _ in ledger.batches] == pytest.approx([0.0, PACE, 2 * PACE])
        assert client.waiting == 0

    scene(work)


def test_rows_for_which_nobody_waits_go_along_or_a_little_later() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        await client.settle(request(0))
        client.add(request(1))
        await client.settle(request(2))
        assert [batch.rows[0].id for _, batch in ledger.batches] == ids(0, 1)
        spoke = ledger.batches[-1][0]
        client.add(request(3), request(4))
        await asyncio.sleep(2 * LEISURE)
        assert ledger.rows == ids(0, 1, 2, 3, 4)
        assert LEISURE <= ledger.batches[-1][0] - spoke <= LEISURE + ANNOUNCING

    scene(work)


def test_what_lasts_is_announced_kept_alive_and_ended_by_its_row() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        client.reserve(request(1).id, partial(provisional, 1))
        client.reserve(request(2).id, partial(provisional, 2))
        client.release(request(2).id)
        await asyncio.sleep(3 * ANNOUNCING)
        (_, told) = ledger.batches[-1]
        assert [(row.id, row.provisional, row.outcome) for row in told.opened] == [(request(1).id, True, LOST)]
        await asyncio.sleep(10 * BEAT)
        assert 9 <= len(ledger.batches) <= 11
        assert all(not batch.rows for _, batch in ledger.batches)
        await client.settle(request(1))
        assert ledger.batches[-1][1].closed == (request(1).id,)
        before = len(ledger.batches)
        await asyncio.sleep(10 * BEAT)
        assert len(ledger.batches) == before

    scene(work)


def test_a_row_ends_the_attempt_that_stands_in_it_too() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        row = answered(1)
        for identity in (row.id, attempt(1).id):
            client.reserve(identity, partial(provisional, 1))
        await asyncio.sleep(3 * ANNOUNCING)
        await client.settle(row)
        assert set(ledger.batches[-1][1].closed) == {row.id, attempt(1).id}
        client.reserve(attempt(2).id, partial(provisional, 2))
        client.add(answered(2))
        before = len(ledger.batches)
        await asyncio.sleep(10 * BEAT)
        assert [batch.opened for _, batch in ledger.batches[before:]] == [()]

    scene(work)


def test_what_ends_without_a_row_is_not_reserved_any_more() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        client.reserve(request(1).id, partial(provisional, 1))
        await asyncio.sleep(1.0)
        client.release(request(1).id)
        await asyncio.sleep(1.0)
        assert ledger.batches[-1][1].closed == (request(1).id,)

    scene(work)


def test_a_ledger_that_is_away_gets_everything_when_it_is_back() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        ledger.away = True
        held = [asyncio.create_task(client.settle(request(n))) for n in range(20)]
        client.add(request(20))
        await asyncio.sleep(PATIENCE - 5)
        assert not any(task.done() for task in held)
        assert client.waiting == 21
        ledger.away = False
        assert all(await asyncio.gather(*held))
        await asyncio.sleep(1.0)
        assert sorted(ledger.rows) == ids(*range(21))

    scene(work)


def test_a_full_buffer_refuses_and_patience_has_an_end_but_no_row_is_forgotten() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        ledger.away = True
        loop = asyncio.get_running_loop()
        held = [asyncio.create_task(client.settle(request(n))) for n in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded) as caught:
            client.check()
        assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        ended = await asyncio.gather(*held, return_exceptions=True)
        assert [type(end) for end in ended] == [Overloaded] * 3
        assert loop.time() == pytest.approx(PATIENCE, abs=0.3)
        ledger.away = False
        await asyncio.sleep(3.0)
        client.check()
        assert ledger.rows == ids(0, 1, 2)

    scene(work, most_waiting=3)


def test_whoever_may_go_on_goes_on_and_hears_that_it_is_without() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        assert await client.settle(request(0))
        ledger.away = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert not await client.settle(request(1))
        assert SHORT_PATIENCE <= loop.time() - began <= SHORT_PATIENCE + 2 * ANNOUNCING
        assert client.behind
        began = loop.time()
        for number in range(2, 9):
            client.check()
            assert not await client.settle(request(number))
        assert loop.time() == began
        assert (client.waiting, client.lost) == (5, 3)
        ledger.away = False
        await asyncio.sleep(3.0)
        assert not client.behind
        assert sorted(ledger.rows) == ids(0, 1, 2, 3, 4, 5)
        assert await client.settle(request(9))

    scene(work, when_away="continue", most_waiting=5)


def test_a_caller_who_does_not_wait_any_more_changes_nothing() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        gone, other = (asyncio.create_task(client.settle(request(n))) for n in (1, 2))
        await asyncio.sleep(0.001)
        gone.cancel()
        assert await other
        assert ledger.rows == ids(1, 2)

    scene(work)


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        await asyncio.sleep(3600.0)
        assert ledger.batches == []

    scene(work)


def test_what_is_left_goes_out_before_the_end() -> None:
    async def work(client: LedgerClient, ledger: FakeLedger) -> None:
        client.add(request(1))
        await client.close()
        assert ledger.rows == ids(1)
        assert not client._batches

    scene(work)
