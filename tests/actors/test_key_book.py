"""The keys in the ledger's database, on SQLite and PostgreSQL: kept, told, limited, and there after a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import Connection, select, text

from actors.money.databases import address
from actors.money.key_book import KeyBook
from actors.money.ledger import Ledger
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import KEYS
from pipelines.allowance import Ask, Asked, Granted, KeyInquiry, Wish
from pipelines.errors import Overloaded
from pipelines.keys import (
    Budget,
    ChangeKey,
    Feed,
    FindKey,
    Key,
    KeyAnswer,
    Limits,
    ListKeys,
    MakeKey,
    RevokeKey,
    RotateKey,
    Seen,
    Settings,
    Spent,
)
from pipelines.ledger import Batch, Row
from pipelines.routing.table import Bill
from tests.actors.ledger_rows import NOON, attempt, request
from tests.actors.postgres import Postgres

INJECTION = "x'); DROP TABLE keys; --"
Answer = TypeVar("Answer")
_numbers = count()


class Time:
    """A clock that somebody else moves."""

    now = NOON

    def __call__(self) -> float:
        return self.now


class World:
    """One database, and the ledger's latest incarnation."""

    def __init__(self, url: str, directory: Path) -> None:
        self.where = address(url, directory)
        self.directory = directory
        self.clock = Time()
        self.stores: list[LedgerStore] = []
        self.ledgers: list[Ledger] = []
        self.begin()

    def begin(self) -> None:
        """A new incarnation; the one before is left as it stands."""
        self.stores.append(LedgerStore(self.where))
        self.ledgers.append(Ledger(str(self.directory), clock=self.clock, store=self.stores[-1]))

    async def ask(self, inquiry: KeyInquiry, kind: type[Answer]) -> Answer:
        answer = await self.ledgers[-1].keys(msgspec.msgpack.encode(inquiry))
        return msgspec.msgpack.decode(answer, type=kind)

    async def request(self, inquiry: Any) -> KeyAnswer:
        return await self.ask(inquiry, KeyAnswer)

    async def key(self, inquiry: Any) -> Key:
        ((key, _),) = (await self.request(inquiry)).keys
        return key

    async def spent(self, identity: str) -> Spent:
        ((_, spent),) = (await self.request(FindKey(identity))).keys
        return spent

    async def settle(self, *rows: Row) -> None:
        await self.ledgers[-1].settle(msgspec.msgpack.encode(Batch("me", rows)))

    async def close(self) -> None:
        for ledger in self.ledgers:
            await ledger.close()


@pytest.fixture
async def world(url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(url, tmp_path)
    try:
        yield made
    finally:
        await made.close()


def settings(name: str = "a", **more: Any) -> Settings:
    return Settings(name, **more)


EVERYTHING = Settings(
    INJECTION,
    expires=NOON + 5.5,
    models=("openai/*", INJECTION),
    tools=(INJECTION,),
    lanes=("direct",),
    limits=Limits(1, 2, 3, Budget(4, 5, 10**18)),
    priority=-7,
    recovery="continue",
    explore=False,
    keep_alive=2.5,
    rights=("usage",),
    metadata={INJECTION: INJECTION, "nul": "a\0b", "snow": "☃"},
)


async def test_a_key_is_kept_as_it_was_made_and_after_a_restart(world: World) -> None:
    made = await world.key(MakeKey("key-1", EVERYTHING, "h1"))
    assert (made.settings, made.created, made.hash) == (EVERYTHING, NOON, "h1")
    world.begin()
    assert await world.key(FindKey("key-1")) == made
    assert (await world.request(FindKey(INJECTION))).problem == "missing"
    assert (
        await world.stores[-1].read(lambda connection: connection.execute(text("select count(*) from keys")).scalar())
        == 1
    )


async def test_changes_rotations_and_revocations(world: World) -> None:
    made = await world.key(MakeKey("key-1", settings(), "h1"))
    changed = await world.key(ChangeKey("key-1", settings("b"), made.changed))
    assert changed.settings.name == "b"
    assert (await world.request(ChangeKey("key-1", settings("c"), made.changed))).problem == "conflict"
    world.clock.now += 10
    turned = await world.key(RotateKey("key-1", "h2", 60.0))
    assert (turned.hash, turned.old_hash, turned.old_until) == ("h2", "h1", NOON + 70)
    revoked = await world.key(RevokeKey("key-1"))
    assert (revoked.revoked, revoked.old_hash) == (NOON + 10, "")
    assert await world.key(RevokeKey("key-1")) == revoked
    assert (await world.request(RotateKey("key-1", "h3", 0.0))).problem == "revoked"
    assert (await world.request(ChangeKey("key-1", settings("c"), revoked.changed))).problem == "revoked"
    for missing in (FindKey("x"), RevokeKey("x"), RotateKey("x", "h", 0.0), ChangeKey("x", settings(), 0)):
        assert (await world.request(missing)).problem == "missing"
    world.begin()
    assert await world.key(FindKey("key-1")) == revoked


async def test_pages_go_through_all_of_them_once(world: World) -> None:
    ids = [f"key-{number:02}" for number in range(7)]
    for number, identity in enumerate(ids):
        await world.request(MakeKey(identity, settings(identity), f"h{number}"))
    await world.request(RevokeKey("key-03"))
    found: list[str] = []
    more, after = True, ""
    while more:
        page = await world.request(ListKeys(after, 2))
        found += [key.id for key, _ in page.keys]
        more, after = page.more, found[-1]
    assert found == [identity for identity in ids if identity != "key-03"]
    everything = await world.request(ListKeys("", 100, revoked=True))
    assert ([key.id for key, _ in everything.keys], everything.more) == (ids, False)


async def test_replicas_hear_of_every_change_at_once(world: World) -> None:
    first = await world.ask(Seen(), Feed)
    assert (first.keys, first.whole) == ((), True)
    waiting = [asyncio.create_task(world.ask(Seen(first.changed), Feed)) for _ in range(3)]
    await asyncio.sleep(0)
    made = await world.key(MakeKey("key-1", settings(), "h1"))
    heard = await asyncio.gather(*waiting)
    assert heard == [Feed(made.changed, (made,))] * 3
    other = await world.key(MakeKey("key-2", settings(), "h2"))
    revoked = await world.key(RevokeKey("key-1"))
    # Whoever was away hears of both, and a newcomer of what is valid.
    assert await world.ask(Seen(made.changed), Feed) == Feed(revoked.changed, (other, revoked))
    newcomer = Feed(revoked.changed, (other,), whole=True)
    assert await world.ask(Seen(), Feed) == newcomer
    # From another database, by what it has seen.
    assert await world.ask(Seen(10**6), Feed) == newcomer
    world.begin()
    assert await world.ask(Seen(), Feed) == newcomer


async def test_what_was_spent_is_what_is_committed_also_after_a_restart(world: World) -> None:
    for identity in ("k", "other"):
        await world.request(MakeKey(identity, settings(limits=Limits(budget=Budget(day=100_000))), identity))
    assert await world.spent("k") == Spent()
    await world.settle(attempt(1), request(1), attempt(2, bill=Bill(cost=None, basis="unknown")))
    assert await world.spent("k") == Spent(7_500, 7_500, 7_500)
    # Twice is once, and what began earlier belongs to its own day.
    await world.settle(attempt(1), attempt(3, time=NOON - 86_400 * 40), attempt(4, time=NOON - 86_400 * 2, key="other"))
    for _ in range(2):
        assert await world.spent("k") == Spent(7_500, 7_500, 15_000)
        assert await world.spent("other") == Spent(0, 7_500, 7_500)
        world.begin()
    world.clock.now += 86_400
    assert await world.spent("k") == Spent(0, 7_500, 15_000)
    # A row that is sent again to an actor that does not remember it.
    await world.settle(attempt(1))
    assert await world.spent("k") == Spent(0, 7_500, 15_000)


async def test_what_was_committed_when_the_database_went_away_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.request(MakeKey("k", settings(limits=Limits(budget=Budget(day=100_000))), "h"))
    await world.settle(attempt(1))
    database = world.stores[-1]._database

    async def committed(work: Callable[[Connection], Any], *, patient: bool = False) -> None:
        """Its connection is lost after the commit, before anybody hears of it."""
        await type(database).run(database, work, patient=patient)
        raise ConnectionError("died")

    with monkeypatch.context() as patch:
        patch.setattr(database, "run", committed)
        with pytest.raises(Overloaded):
            await world.settle(attempt(2))
    # The replica sends again what nobody acknowledged.
    await world.settle(attempt(2))
    assert await world.spent("k") == Spent(15_000, 15_000, 15_000)


async def test_a_budget_and_a_minute_survive_the_actor(world: World) -> None:
    limits = Limits(requests_per_minute=10, tokens_per_minute=1_000, budget=Budget(day=20_000))
    await world.request(MakeKey("k", settings(limits=limits), "h"))
    for number in range(1, 3):
        await world.settle(attempt(number, time=NOON - number), request(number, time=NOON - number))
    await world.settle(request(3, outcome="insufficient_quota"), request(4, time=NOON - 100))
    world.begin()
    wishes = (Wish(100, 1), Wish(10_000, 1), Wish(1, 1), Wish(100_000, 1))
    granted = await world.ask(Asked("replica", 1, (Ask("k", wishes),)), Granted)
    (grant,) = granted.grants
    assert (grant.free[0], grant.free[1], grant.free[3]) == (8, 700, 5_000)


async def test_neither_table_nor_words_hold_a_secret(world: World) -> None:
    made = await world.key(MakeKey("key-1", settings(), "the-hash"))
    assert "the-hash" not in repr(made)
    row = await world.stores[-1].read(lambda connection: connection.execute(select(KEYS)).one()._asdict())
    assert set(row) == {"id", "name", "hash", "old_hash", "old_until", "created", "revoked", "changed", "settings"}


@pytest.fixture
async def clusters(server: Postgres, tmp_path: Path) -> AsyncIterator[tuple[World, World]]:
    """Two clusters with one PostgreSQL, as while one takes the other's place."""
    url = server.new_database(f"clusters{next(_numbers)}")
    made = World(url, tmp_path), World(url, tmp_path)
    try:
        for world in made:
            # One after the other: Alembic knows one migration at a time in a process.
            await world.ask(Seen(), Feed)
        yield made
    finally:
        for world in made:
            await world.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_what_one_cluster_does_to_keys_its_neighbour_hears_of(clusters: tuple[World, World]) -> None:
    one, other = clusters
    waiting = asyncio.create_task(other.ask(Seen((await other.ask(Seen(), Feed)).changed), Feed))
    leaked = await one.key(MakeKey("leaked", settings(), "h1"))
    assert (await waiting).keys == (leaked,)
    waiting = asyncio.create_task(other.ask(Seen(leaked.changed), Feed))
    revoked = await one.key(RevokeKey("leaked"))
    assert (await waiting).keys[-1] == revoked
    made = await one.key(MakeKey("made", settings(), "h2"))
    newcomers = await other.ask(Seen(revoked.changed), Feed)
    assert newcomers == Feed(made.changed, (made,))
    assert (await other.request(ChangeKey("leaked", settings("b"), leaked.changed))).problem == "revoked"


async def test_a_change_is_made_to_what_the_database_holds(
    clusters: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = clusters
    made = [await one.key(MakeKey(name, settings(), name)) for name in ("a", "b")]

    async def deaf(self: KeyBook) -> None: ...

    monkeypatch.setattr(KeyBook, "follow", deaf)
    revoked = await one.key(RevokeKey("a"))
    assert (await other.request(ChangeKey("a", settings("x"), made[0].changed))).problem == "revoked"
    assert (await other.key(FindKey("a"))) == revoked
    turned = await one.key(RotateKey("b", "b2", 60.0))
    assert (await other.request(ChangeKey("b", settings("x"), made[1].changed))).problem == "conflict"
    assert await other.key(RevokeKey("b")) == msgspec.structs.replace(
        turned, changed=turned.changed + 1, revoked=NOON, old_hash="", old_until=0.0
    )


async def test_changes_made_at_once_have_numbers_of_their_own(clusters: tuple[World, World]) -> None:
    names = [f"key-{number:02}" for number in range(24)]
    made = await asyncio.gather(
        *(clusters[place % 2].key(MakeKey(name, settings(), name)) for place, name in enumerate(names))
    )
    numbers = sorted(key.changed for key in made)
    assert numbers == list(range(numbers[0], numbers[0] + len(names)))

    async def known(world: World) -> bool:
        return {key.id for key in (await world.ask(Seen(), Feed)).keys} == set(names)

    for world in clusters:
        await until(lambda world=world: known(world))  # type: ignore[misc]


async def test_what_one_cluster_spends_counts_in_both(clusters: tuple[World, World]) -> None:
    one, other = clusters
    limits = Limits(budget=Budget(total=50_000))
    await one.key(MakeKey("k", settings(limits=limits), "h"))
    await one.settle(attempt(0, key="k"))
    # The budget as the other one finds it, then what both add, late rows and those that are taken back too.
    other.begin()
    assert await other.spent("k") == Spent(7_500, 7_500, 7_500)
    lost = msgspec.structs.replace(attempt(9, key="k"), provisional=True, outcome="lost")
    for number in range(1, 4):
        await one.settle(attempt(number, key="k"))
        await other.settle(attempt(10 + number, key="k", time=NOON - 1800))
    await other.ledgers[-1].settle(msgspec.msgpack.encode(Batch("gone", opened=(lost,))))
    await other.stores[-1].settle_lost("gone")
    await one.settle(attempt(9, key="k", bill=Bill(cost=500, basis="computed")))
    expected = Spent(53_000, 53_000, 53_000)

    async def agreed() -> bool:
        return [await world.spent("k") for world in clusters] == [expected] * 2

    await until(agreed)
    for world in clusters:
        # And stays so: what was counted is not counted again.
        book = world.ledgers[-1]._book
        assert book is not None
        for _ in range(2):
            await book.follow()
        assert await world.spent("k") == expected
        granted = await world.ask(Asked("replica", 1, (Ask("k", (Wish(), Wish(), Wish(), Wish(1, 1))),)), Granted)
        assert granted.grants[0].lack == "total"
        world.begin()
        assert await world.spent("k") == expected
