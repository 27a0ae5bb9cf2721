"""The ledger with its database and its client, in one process: nothing lost, nothing doubled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event, func, select

from actors.money import ledger as ledger_module
from actors.money.databases import FileDatabase, address
from actors.money.ledger import LEASE, Ledger, code_version
from actors.money.ledger_client import LedgerClient
from actors.money.ledger_place import Place
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, REQUESTS
from pipelines.errors import ConfigurationError, Overloaded
from pipelines.ledger import Batch, Question, Row
from tests.actors.ledger_rows import NOON, answered, attempt, request
from tests.actors.postgres import Postgres

WEEK = msgspec.msgpack.encode(Question(NOON - 604_800, NOON + 604_800))


class Time:
    """A clock that somebody else moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingStore(LedgerStore):
    """Counts its commits; `after` is raised once behind the next one, as if its process died before it could say so."""

    commits = 0
    after: Exception | None = None

    async def settle(self, batches: Sequence[Batch]) -> None:
        await super().settle(batches)
        self.commits += 1
        failure, self.after = self.after, None
        if failure is not None:
            raise failure


class World:
    """One database, and the ledger's latest incarnation."""

    def __init__(self, url: str, directory: Path) -> None:
        self.where = address(url, directory)
        self.directory = directory
        self.clock = Time()
        self.clients: list[LedgerClient] = []
        self.begin()

    def begin(self) -> None:
        """A new incarnation; the one before is left as it stands."""
        self.store = CountingStore(self.where)
        self.ledger = Ledger(str(self.directory), clock=self.clock, store=self.store)
        self.made = [*getattr(self, "made", []), self.ledger]

    def client(self, name: str = "me", **more: object) -> LedgerClient:
        made = LedgerClient(name, connector=self.connect, **more)  # type: ignore[arg-type]
        made.start()
        self.clients.append(made)
        return made

    async def connect(self) -> Ledger:
        return self.ledger

    async def totals(self) -> tuple[int, int, int]:
        """Requests, attempts and their cost, by the sums; they must be those of the rows."""
        (total,) = msgspec.msgpack.decode(await self.ledger.report(WEEK))
        counted = [select(func.count()).select_from(table) for table in (REQUESTS, ATTEMPTS)]
        rows = await self.store.read(lambda c: [int(c.execute(question).scalar_one()) for question in counted])
        assert rows == [total["requests"], total["attempts"]]
        return total["requests"], total["attempts"], total["cost"]

    async def close(self) -> None:
        for client in self.clients:
            await client.close(0.0)
        for ledger in self.made:
            await ledger.close()


@pytest.fixture
async def world(url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(url, tmp_path)
    try:
        yield made
    finally:
        await made.close()


async def until(condition: object, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_those_who_wait_together_are_committed_together(world: World) -> None:
    one, other = world.client("one"), world.client("other")
    both = [(client, n + 100 * k) for k, client in enumerate((one, other)) for n in range(100)]
    assert all(await asyncio.gather(*(client.settle(attempt(n), request(n)) for client, n in both)))
    assert await world.totals() == (200, 200, 200 * 7_500)
    assert world.store.commits <= 6


async def test_what_was_committed_but_not_acknowledged_is_not_doubled(world: World) -> None:
    client = world.client()
    await client.settle(request(0))
    for number in range(1, 6):
        world.store.after = ConnectionError("died")
        assert await client.settle(attempt(number), request(number))
    assert await world.totals() == (6, 5, 5 * 7_500)


async def test_an_attempt_counts_once_whether_its_copy_comes_before_or_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, provider = world.client("gateway"), world.client("provider")
    for remembered in (25_000, 1):
        monkeypatch.setattr(ledger_module, "REMEMBERED", remembered)
        for number in range(10):
            senders: list[tuple[LedgerClient, Row]] = [
                (gateway, answered(number + remembered)),
                (provider, attempt(number + remembered)),
            ]
            for client, row in senders if number % 2 else reversed(senders):
                await client.settle(row)
    assert await world.totals() == (20, 20, 20 * 7_500)


async def test_a_row_is_written_once_whether_it_is_remembered_or_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "REMEMBERED", 4)
    encode = msgspec.msgpack.encode
    batches = [encode(Batch("me", (attempt(number), request(number)), (), ())) for number in range(12)]
    for batch in batches:
        await world.ledger.settle(batch)
    remembered = world.ledger._known | world.ledger._known_before
    assert 4 <= len(remembered) <= 8
    commits = world.store.commits
    for batch in batches:
        await world.ledger.settle(batch)
    assert await world.totals() == (12, 12, 12 * 7_500)
    assert world.store.commits > commits


async def test_the_next_incarnation_takes_what_the_last_one_had_not_acknowledged(world: World) -> None:
    client = world.client()
    await client.settle(request(0))
    world.store.after = ConnectionError("died")
    held = asyncio.create_task(client.settle(request(1)))
    await until(lambda: world.store.commits == 2)
    world.begin()
    assert await held
    assert await client.settle(request(2))
    assert await world.totals() == (3, 0, 0)


async def test_who_dies_in_the_middle_leaves_an_estimate(world: World) -> None:
    client, alive = world.client(), world.client("alive")
    client.reserve(request(1).id, lambda: request(1))
    client.reserve(attempt(1).id, lambda: attempt(1))
    client.reserve(request(2).id, lambda: request(2))
    alive.reserve(request(3).id, lambda: request(3))
    await until(lambda: len(client._announced) == 3 and not client._batches and alive._announced and not alive._batches)
    await client.settle(request(2))
    assert await world.totals() == (1, 0, 0)
    # The ledger dies with it, and the next one still knows.
    client._sender.cancel()  # type: ignore[union-attr]
    world.begin()
    alive._link = None
    assert await alive.settle(request(4))
    world.clock.now += LEASE - 1
    await alive.settle(request(5))
    world.clock.now += 2
    await world.ledger.sweep()
    assert await world.totals() == (4, 1, 7_500)
    assert await alive.settle(request(3))
    assert await world.totals() == (5, 1, 7_500)


async def test_a_short_request_is_never_announced(world: World) -> None:
    client = world.client()
    for number in range(20):
        client.reserve(request(number).id, lambda: request(0))
        await client.settle(request(number))
    assert await world.store.reporters() == set()
    assert await world.totals() == (20, 0, 0)


async def test_a_server_that_is_away_loses_nothing(server: Postgres, tmp_path: Path) -> None:
    world = World(server.new_database("away"), tmp_path)
    try:
        client = world.client(most_waiting=5)
        await client.settle(request(0))
        server.kill()
        held = [asyncio.create_task(client.settle(request(n))) for n in range(1, 6)]
        await until(lambda: client.full)
        with pytest.raises(Overloaded) as caught:
            client.check()
        assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        server.start()
        assert all(await asyncio.gather(*held))
        client.check()
        assert await world.totals() == (6, 0, 0)
    finally:
        await world.close()


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    world = World("", tmp_path)
    assert isinstance(world.store._database, FileDatabase)
    pages = 200

    def limit(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    event.listen(world.store._database._engine, "connect", limit)
    try:
        client = world.client(most_waiting=100)
        number = 0
        waiting: list[asyncio.Task[bool]] = []
        while not client.full:
            waiting.append(
                asyncio.create_task(client.settle(*(request(number + n, route="w" * 900) for n in range(20))))
            )
            await asyncio.wait(waiting[-1:], timeout=0.2)
            number += 20
        assert "full" in client._failure
        with pytest.raises(Overloaded):
            client.check()
        acknowledged = 20 * sum(task.done() for task in waiting)
        assert 0 < acknowledged <= (await world.totals())[0] <= number
        pages = 1_000_000
        await world.store.change(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))
        assert all(await asyncio.gather(*waiting))
        assert (await world.totals())[0] == number
    finally:
        await world.close()


async def test_the_ledger_says_what_is_wrong_but_not_what_it_was_told(tmp_path: Path) -> None:
    place = tmp_path / "url"
    place.write_text("postgresql://me:hidden@127.0.0.1:1/none\n")
    ledger = Ledger(str(tmp_path), place=Place("", str(place)))
    with pytest.raises(Overloaded) as caught:
        await ledger.settle(msgspec.msgpack.encode(Batch("me", (request(1, tag="private"),))))
    assert "cannot be written" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "private" not in str(caught.value)
    await ledger.close()


async def test_the_address_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "sqlite:////x")
    assert Place("WHERE").url() == "sqlite:////x"
    assert Place("NOWHERE").url() == ""
    with pytest.raises(ConfigurationError):
        Place("NOWHERE", str(tmp_path / "missing")).url()
    assert code_version(Place("WHERE")) != code_version()


async def test_other_versions_of_the_code_are_understood(world: World) -> None:
    """In a rolling update either side may be older: what one does not know is passed over."""
    told = msgspec.to_builtins(Batch("me", (request(1),)))
    told["rows"][0]["invented"] = {"later": 1}
    del told["rows"][0]["provider"]
    await world.ledger.settle(msgspec.msgpack.encode(told))
    assert await world.totals() == (1, 0, 0)
