"""Pages of rows, a request's story, and rows that are taken out, on both databases."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, delete, event, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from actors.money import databases, ledger_erasing
from actors.money.databases import address
from actors.money.ledger import Ledger
from actors.money.ledger_browsing import page
from actors.money.ledger_client import LedgerClient
from actors.money.ledger_reports import report
from actors.money.ledger_states import pieces_of
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, REQUESTS, row_of
from pipelines.errors import Overloaded
from pipelines.ledger import AttemptRow, Batch, Question, RequestRow, Row, ToolRow, ids
from pipelines.ledger_questions import (
    ERASED,
    Erased,
    Erasure,
    Expiry,
    Inquiry,
    Kind,
    Position,
    Rows,
    RowsQuestion,
    Story,
    StoryQuestion,
)
from tests.actors.ledger_rows import NOON, answered, attempt, request

DAY = 86_400.0


def at(seconds: float, serial: int = 0) -> str:
    """An id as `deployments.identity` makes it."""
    return f"{int(seconds * 1000):012x}{serial:020x}"


def told(number: int, **more: Any) -> tuple[Row, Row]:
    """A request and its attempt. Three of them each second, by two keys."""
    time = NOON + number // 3
    common = {"time": time, "key": f"key{number % 2}", **more}
    row = msgspec.structs.replace(request(number, **common), id=at(time, number))
    tried = msgspec.structs.replace(attempt(number, **common), id=at(time, 10**6 + number), request=row.id)
    return row, tried


def whole(number: int, **more: Any) -> Row:
    """The same where the attempt stands in the request's row."""
    time = NOON + number // 3
    row = answered(number, **{"time": time, "key": f"key{number % 2}", **more})
    return msgspec.structs.replace(row, id=at(time, number))


@pytest.fixture
async def store(url: str, tmp_path: Path) -> LedgerStore:
    opened = LedgerStore(address(url, tmp_path))
    await opened.open()
    return opened


@pytest.fixture(autouse=True)
async def client(store: LedgerStore, tmp_path: Path) -> AsyncIterator[LedgerClient]:
    """Of a ledger on that store."""
    ledger = Ledger(str(tmp_path), store=store)

    async def connect() -> Ledger:
        return ledger

    made = LedgerClient("me", connector=connect)
    made.start()
    yield made
    await made.close()
    await ledger.close()


async def fill(store: LedgerStore, rows: list[Row]) -> None:
    random.Random(7).shuffle(rows)
    await store.settle([Batch("me", tuple(rows))])


async def ask(client: LedgerClient, inquiry: Inquiry, kind: type[Any]) -> Any:
    return msgspec.msgpack.decode(await client.report(msgspec.msgpack.encode(inquiry)), type=kind)


async def pages(client: LedgerClient, question: RowsQuestion) -> list[list[str]]:
    """The ids of every page."""
    found: list[list[str]] = []
    while True:
        rows: Rows = await ask(client, question, Rows)
        time, identity = rows.columns.index("time"), rows.columns.index("id")
        if not rows.rows:
            return found
        found.append([row[identity] for row in rows.rows])
        last = Position(rows.rows[-1][time], rows.rows[-1][identity])
        question = msgspec.structs.replace(question, after=last)


@pytest.mark.parametrize("kind", ["requests", "attempts"])
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("key", ["", "key1"])
async def test_pages_hold_every_row_once_in_order(
    store: LedgerStore, client: LedgerClient, kind: Any, newest_first: bool, key: str
) -> None:
    both = [told(number) for number in range(40)]
    await fill(store, [row for pair in both for row in pair])
    wanted = [pair[kind == "attempts"] for pair in both if not key or pair[0].key == key]
    ids = sorted((row.id for row in wanted), reverse=newest_first)
    question = RowsQuestion(kind=kind, key=key, newest_first=newest_first, most=7)
    found = await pages(client, question)
    assert [identity for some in found for identity in some] == ids
    assert {len(some) for some in found[:-1]} == {7}
    # Rows that come meanwhile change nothing of what is still to be read.
    early, late = ids[10], ids[-1]
    await store.settle([Batch("me", told(500, key=key or "key0"))])
    place = next(row for row in wanted if row.id == early)
    rest = await pages(client, msgspec.structs.replace(question, after=Position(place.time, early)))
    seen = [identity for some in rest for identity in some]
    assert seen[: len(ids) - 11] == ids[11:]
    assert late in seen


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("key", ["", "key1"])
async def test_pages_of_attempts_hold_those_of_both_kinds_in_order(
    store: LedgerStore, client: LedgerClient, newest_first: bool, key: str
) -> None:
    rows = [row for number in range(40) for row in ((whole(number),) if number % 3 else told(number))]
    wanted = [row for row in rows if len(ids(row)) == 2 or isinstance(row, AttemptRow)]
    wanted = [row for row in wanted if not isinstance(row, ToolRow) and key in ("", row.key)]
    await fill(store, list(rows))
    found = await pages(client, RowsQuestion(kind="attempts", key=key, newest_first=newest_first, most=7))
    assert [identity for some in found for identity in some] == sorted((row.id for row in wanted), reverse=newest_first)


async def test_pages_by_time_and_by_what_is_in_them(store: LedgerStore, client: LedgerClient) -> None:
    rows = [
        row for number in range(30) for row in told(number, tag=f"tag{number % 5}", outcome=("ok", "lost")[number % 2])
    ]
    await fill(store, rows)

    async def count(**question: Any) -> int:
        return sum(map(len, await pages(client, RowsQuestion(**question))))

    assert await count() == 30
    assert await count(since=NOON + 3) == 21
    assert await count(since=NOON + 3, until=NOON + 4) == 3
    assert await count(since=NOON + 3, until=NOON + 4, key="key1") == 2
    assert await count(only={"tag": "tag2"}) == 6
    assert await count(only={"tag": "tag2", "outcome": "lost"}) == 3
    assert await count(only={"tag": "'; drop table ledger_requests; --"}) == 0
    assert await count(only={"cost": "1", "id": "2"}) == 30, "only the columns that may be asked for"
    assert await count(kind="attempts", only={"outcome": "lost"}, key="key1") == 15


async def test_pages_read_no_more_than_they_give(store: LedgerStore) -> None:
    """The index is in the order that is asked for: the database sorts nothing, and begins where the page begins."""
    await fill(store, [row for number in range(50) for row in (*told(number), whole(100 + number))])

    def plan(question: RowsQuestion, connection: Connection) -> str:
        said: list[str] = []

        def explain(conn: Any, cursor: Any, statement: str, given: Any, context: Any, many: bool) -> None:
            plans = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            said.extend(str(row[-1]) for row in plans)

        if connection.dialect.name == "sqlite":
            event.listen(connection, "before_cursor_execute", explain)
        page(connection, question)
        return "\n".join(said)

    after = Position(NOON + 5, at(NOON + 5, 15))
    kinds: tuple[Kind, ...] = ("requests", "attempts")
    for key in ("", "key1"):
        for kind in kinds:
            said = await store.read(partial(plan, RowsQuestion(kind=kind, key=key, after=after)))
            if store._database.dialect.name == "sqlite":
                assert "SEARCH" in said
                assert "TEMP B-TREE" not in said


async def test_a_story_by_either_id_for_whoever_may_read_it(store: LedgerStore, client: LedgerClient) -> None:
    row, tried = told(4)
    again = msgspec.structs.replace(tried, id=at(tried.time + 1, 99), time=tried.time + 1, role="fallback")
    await fill(store, [row, again, tried, *told(5)])
    for name in (row.id, row.request_id):
        for key in ("", "key0"):
            found: Story = await ask(client, StoryQuestion(id=name, key=key), Story)
            assert found.request is not None
            assert found.request["id"] == row.id
            assert [(one["id"], one["role"]) for one in found.attempts] == [(tried.id, "first"), (again.id, "fallback")]
        assert await ask(client, StoryQuestion(id=name, key="key1"), Story) == Story()
    assert await ask(client, StoryQuestion(id="' or 1=1; --"), Story) == Story()


async def test_a_story_s_attempts_stand_in_the_order_in_which_they_were_made(
    store: LedgerStore, client: LedgerClient
) -> None:
    row = whole(4)
    assert isinstance(row, RequestRow)
    own = {"time": row.time + 0.5, "request": row.id}
    lost, hedge = attempt(901, outcome="lost", **own), attempt(902, role="hedge", outcome="cancelled", **own)
    await fill(store, [row, lost, hedge])
    found: Story = await ask(client, StoryQuestion(id=row.id), Story)
    assert [one["id"] for one in found.attempts] == [lost.id, row.id, hedge.id]
    assert found.request is not None
    assert not any(name.startswith("attempt") for name in found.request)


async def counts(store: LedgerStore) -> tuple[int, int]:
    def read(connection: Connection) -> tuple[int, int]:
        one, other = (
            connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (REQUESTS, ATTEMPTS)
        )
        return int(one), int(other)

    return await store.read(read)


async def sums(store: LedgerStore, *by: Any) -> list[dict[str, Any]]:
    question = Question(NOON - DAY, NOON + DAY, by=by)
    return await store.read(lambda connection: report(connection, question))


async def test_old_rows_go_in_batches_and_their_sums_stay(
    store: LedgerStore, client: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_erasing, "AT_ONCE", 5)
    monkeypatch.setattr(ledger_erasing, "BATCHES", 3)
    await fill(store, [row for number in range(60) for row in told(number)])
    before = await sums(store, "key", "hour")
    assert await ask(client, Expiry(), Erased) == Erased()
    first: Erased = await ask(client, Expiry(requests=NOON + 10, attempts=NOON + 2), Erased)
    assert first == Erased(15, 6, more=True)
    assert await ask(client, Expiry(requests=NOON + 10, attempts=NOON + 2), Erased) == Erased(15, 0, more=True)
    assert await ask(client, Expiry(requests=NOON + 10, attempts=NOON + 2), Erased) == Erased()
    assert await counts(store) == (30, 54)
    assert await sums(store, "key", "hour") == before


async def attempts_of(store: LedgerStore) -> list[Row]:
    asked = select(ATTEMPTS).order_by(ATTEMPTS.c.id)
    return await store.read(lambda c: [row_of(AttemptRow, row._asdict()) for row in c.execute(asked)])


async def test_attempts_in_requests_rows_go_before_them_where_that_is_asked_for(
    store: LedgerStore, client: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_erasing, "AT_ONCE", 5)
    monkeypatch.setattr(ledger_erasing, "BATCHES", 3)
    monkeypatch.setattr(ledger_erasing, "LATE", 2.0)
    await fill(store, [whole(number) for number in range(60)])
    before, left = await sums(store, "key", "hour"), (await attempts_of(store))[30:]
    expiry = Expiry(attempts=NOON + 10)
    gone = [await ask(client, expiry, Erased) for _ in range(3)]
    assert gone == [Erased(0, 15, more=True), Erased(0, 15, more=True), Erased()]
    assert await counts(store) == (60, 30)
    assert await attempts_of(store) == left
    assert await sums(store, "key", "hour") == before
    looked = await store.read(lambda connection: pieces_of(connection, "ledger"))
    assert looked == {"attempts": at(NOON + 8)[:12].encode()}
    # A row that comes late is found; one that should have come long ago is not looked for.
    for second in (8, 1):
        await fill(store, [msgspec.structs.replace(whole(3 * second), id=at(NOON + second, 77))])
    assert await ask(client, Expiry(attempts=NOON + 11), Erased) == Erased(0, 4)


@pytest.mark.parametrize(("attempts", "kept"), [(0.0, 60), (NOON + 2, 54), (NOON + 10, 30), (NOON + 12, 24)])
async def test_attempts_in_requests_rows_stay_behind_them_where_they_are_kept_for_longer(
    store: LedgerStore, client: LedgerClient, attempts: float, kept: int
) -> None:
    await fill(store, [whole(number) for number in range(60)])
    before, all_ = await sums(store, "key", "hour"), await attempts_of(store)
    assert await ask(client, Expiry(requests=NOON + 10, attempts=attempts), Erased) == Erased(30, 60 - kept)
    assert await counts(store) == (30, kept)
    assert await attempts_of(store) == all_[60 - kept :]
    assert await sums(store, "key", "hour") == before


@pytest.mark.parametrize("kept", ["anonymous", "delete"])
async def test_a_key_s_rows_go_and_its_sums_lose_its_name(store: LedgerStore, client: LedgerClient, kept: Any) -> None:
    for number in range(20):
        more = {"tag": f"t{number % 3}"}
        await fill(store, [whole(number, **more)] if number % 4 > 1 else list(told(number, **more)))
    (total,) = await sums(store)
    (other,) = [group for group in await sums(store, "key") if group["key"] == "key1"]
    gone: Erased = await ask(client, Erasure(key="key0", sums=kept), Erased)
    assert (gone.requests, gone.attempts, gone.more) == (10, 10, False)
    assert await counts(store) == (10, 10)
    left = {group["key"]: group for group in await sums(store, "key")}
    assert left["key1"] == other
    if kept == "delete":
        assert left.keys() == {"key1"}
    else:
        assert left.keys() == {"key1", ERASED}
        assert await sums(store) == [total]
        assert {group["tag"] for group in await sums(store, "key", "tag") if group["key"] == ERASED} == {""}
        # Once more adds them to what is there.
        await fill(store, [row for number in range(100, 104) for row in told(number)])
        (total,) = await sums(store)
        await ask(client, Erasure(key="key0"), Erased)
        assert await sums(store) == [total]


async def test_what_reads_cannot_write_and_keeps_nobody_waiting(store: LedgerStore) -> None:
    with pytest.raises(SQLAlchemyError):
        await store.read(lambda connection: connection.execute(delete(REQUESTS)))
    if not isinstance(store._database, databases.FileDatabase):
        return
    held, reading = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> int:
        counted = connection.execute(select(func.count()).select_from(REQUESTS)).scalar_one()
        loop.call_soon_threadsafe(reading.set)
        assert held.wait(30.0)
        return int(counted)

    asking = asyncio.create_task(store.read(slow))
    await reading.wait()
    await fill(store, list(told(1)))
    assert await counts(store) == (1, 1)
    assert not asking.done()
    held.set()
    assert await asking == 0


async def test_a_question_that_takes_too_long_is_given_up(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "READING_SECONDS", 0.2)
    store = LedgerStore(address(url, tmp_path))
    ledger = Ledger(str(tmp_path), store=store)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT max(i) FROM n"

    def forever(connection: Connection, question: object) -> Any:
        return connection.execute(text(endless)).scalar_one()

    monkeypatch.setattr("actors.money.ledger_answers.report", forever)
    try:
        with pytest.raises(Overloaded, match="cannot be read"):
            await ledger.report(msgspec.msgpack.encode(Question(0.0, 1.0)))
    finally:
        await ledger.close()


async def test_a_ledger_that_is_away_is_found_again(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    links: list[Ledger | None] = [None, ledger]

    async def connect() -> Ledger:
        link = links.pop(0)
        if link is None:
            raise ConnectionError("away")
        return link

    client = LedgerClient("me", connector=connect)
    question = msgspec.msgpack.encode(Question(NOON, NOON))
    try:
        with pytest.raises(Overloaded, match="does not answer"):
            await client.report(question)
        assert msgspec.msgpack.decode(await client.report(question)) == []
    finally:
        await client.close()
        await ledger.close()
