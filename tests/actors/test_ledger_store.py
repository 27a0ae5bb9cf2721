import asyncio
import itertools
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from actors.money import migrations
from actors.money.databases import address
from actors.money.ledger_reports import report
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, METADATA, REQUESTS, RESERVATIONS, VERSION_TABLE, clean, row_of
from pipelines.conversation import Usage
from pipelines.errors import ConfigurationError
from pipelines.ledger import SUMS, AttemptRow, Batch, Question, RequestRow, Row, billed
from pipelines.pricing import UNKNOWN
from pipelines.routing.table import Bill
from tests.actors.ledger_rows import BILL, NOON, answered, attempt, read_of, request
from tests.actors.postgres import postgres, programs
from tests.programs import absent

DAY = 86_400.0
ALWAYS = Question(NOON - DAY, NOON + DAY)


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    opened = LedgerStore(address(url, tmp_path))
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def batch(*rows: Row, **more: Any) -> Batch:
    return Batch("me", rows, **more)


async def rows_of(store: LedgerStore) -> list[Row]:
    def read(connection: Connection) -> list[Row]:
        both: tuple[tuple[type[Row], Any], ...] = ((RequestRow, REQUESTS), (AttemptRow, ATTEMPTS))
        return [
            row_of(kind, found._asdict())
            for kind, table in both
            for found in connection.execute(select(table).order_by(table.c.id))
        ]

    return await store.read(read)


async def sums(store: LedgerStore, question: Question = ALWAYS) -> list[dict[str, Any]]:
    return await store.read(lambda connection: report(connection, question))


async def reserved(store: LedgerStore) -> int:
    counted = select(func.count()).select_from(RESERVATIONS)
    return await store.read(lambda connection: int(connection.execute(counted).scalar_one()))


async def test_what_is_settled_is_there_as_it_was_and_in_the_sums(store: LedgerStore) -> None:
    rows: list[Row] = [
        request(1, metadata={"team": "blue"}, tag="t", route="because", sent=10, stream=True, lane="routed"),
        request(2, outcome="cancelled", first_output=None, provisional=False),
        attempt(1, role="hedge", skipped=2),
        attempt(2, bill=Bill(cost=None, basis="unknown", estimated=True)),
    ]
    await store.settle([batch(*rows[:2]), batch(*rows[2:])])
    assert await rows_of(store) == rows
    (total,) = await sums(store)
    assert total == dict(zip(SUMS, (2, 0, 2, 1, 1, 100, 40, 0, 50, 10, 7_500, 10), strict=True))


async def test_a_row_that_comes_again_changes_nothing(store: LedgerStore) -> None:
    for rows in ([request(1)], [request(1), request(2)], [request(2), request(1), request(2), attempt(1), attempt(1)]):
        await store.settle([batch(*rows)])
    assert await rows_of(store) == [request(1), request(2), attempt(1)]
    assert [total["requests"] for total in await sums(store)] == [2]


async def test_a_batch_is_whole_or_not_there_at_all(store: LedgerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.settle([batch(request(1))])
    monkeypatch.setattr(store._words, "add", "INSERT INTO a_table_that_is_not_there VALUES (1)")
    with pytest.raises(DBAPIError):
        await store.settle([batch(request(2), attempt(2), opened=(request(3),))])
    assert await rows_of(store) == [request(1)]
    assert await reserved(store) == 0


async def test_a_reservation_becomes_a_row_only_where_no_row_came(store: LedgerStore) -> None:
    opened = tuple(msgspec.structs.replace(request(n), provisional=True, outcome="lost") for n in (1, 2, 3))
    await store.settle([batch(opened=opened)])
    await store.settle([batch(opened=opened)])
    await store.settle([batch(request(1), closed=(request(1).id,))])
    # Its end got lost on the way, or came before its beginning.
    await store.settle([batch(request(2))])
    assert await store.reporters() == {"me"}
    assert await store.settle_lost("somebody else") == 0
    assert await store.settle_lost("me") == 2
    assert await store.reporters() == set()
    assert await rows_of(store) == [request(1), request(2), opened[2]]
    assert [(total["requests"], total["failed"]) for total in await sums(store)] == [(3, 1)]


async def test_the_row_itself_takes_the_place_of_a_provisional_one(store: LedgerStore) -> None:
    weak = msgspec.structs.replace(attempt(1), provisional=True, outcome="lost", bill=Bill(input=9, cost=1, output=1))
    await store.settle([batch(opened=(weak,))])
    await store.settle_lost("me")
    assert [total["input"] for total in await sums(store)] == [9]
    await store.settle([batch(attempt(1))])
    await store.settle([batch(weak)])
    assert await rows_of(store) == [attempt(1)]
    assert [(total["attempts"], total["input"], total["cost"]) for total in await sums(store)] == [(1, 100, 7_500)]


async def test_a_first_attempt_stands_in_its_request_s_row(store: LedgerStore) -> None:
    rows = [answered(1, retries=1, tag="t"), answered(2, outcome="cancelled", bill=Bill(cost=None, basis="unknown"))]
    await store.settle([batch(*rows)])
    assert await rows_of(store) == [*rows, *map(read_of, rows)]
    (total,) = await sums(store)
    assert total == dict(zip(SUMS, (2, 0, 2, 0, 1, 100, 40, 0, 50, 10, 7_500, 0), strict=True))
    rates = await store.read(lambda c: list(c.execute(select(ATTEMPTS.c.tokens_per_second)).scalars()))
    assert rates == [50.0, None]


WEAK = msgspec.structs.replace(attempt(1), provisional=True, outcome="lost", bill=Bill(input=9, cost=1, output=1))
COMING = {
    "answered": Batch("gateway", (answered(1),)),
    "its attempt": Batch("provider", (attempt(1),)),
    "its reservation": Batch("provider", opened=(WEAK,)),
    "both": Batch("gateway", (attempt(1), answered(1))),
}


@pytest.mark.parametrize("order", list(itertools.permutations(COMING, 3)), ids="-".join)
async def test_an_attempt_counts_once_wherever_it_stands(store: LedgerStore, order: tuple[str, ...]) -> None:
    """The provider's replica sends its copy, or dies; the gateway sends its row; in any order, and again."""
    for name in (*order, order[0]):
        await store.settle([COMING[name]])
        await store.settle_lost("provider")
        (total,) = await sums(store)
        held = await store.read(lambda c: list(c.execute(select(ATTEMPTS.c.input, ATTEMPTS.c.cost)).mappings()))
        assert [(row["input"], row["cost"]) for row in held] == [(total["input"], total["cost"])]
        assert total["attempts"] == 1
    assert (total["requests"], total["failed"], total["input"], total["cost"]) == (1, 0, 100, 7_500)


async def test_rows_of_before_are_read_as_they_were_and_go_back(store: LedgerStore) -> None:
    """From the tables that knew no attempt in a request's row, and back to them."""

    def to(revision: str, move: Any, connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__path__[0])))
        config.attributes["connection"] = connection
        move(config, revision)

    rows: list[Row] = [request(1), answered(2), attempt(1), attempt(3)]
    await store.settle([batch(*rows)])
    await store.change(partial(to, "0005", command.downgrade))
    names = await store.read(lambda connection: set(inspect(connection).get_table_names()))
    assert names == {*METADATA.tables, VERSION_TABLE} - {"ledger_further_attempts"} | {"ledger_attempts"}
    await store.open()
    own = sorted((attempt(1), attempt(3), read_of(answered(2))), key=lambda row: row.id)
    assert await rows_of(store) == [request(1), request(2), *own]


async def test_the_tables_are_those_that_the_migrations_make(store: LedgerStore) -> None:
    def compared(connection: Connection) -> list[Any]:
        mine = {"version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=mine), METADATA))

    assert await store.read(compared) == []
    await store.open()
    names = await store.read(lambda connection: set(inspect(connection).get_table_names()))
    assert names == {*METADATA.tables, VERSION_TABLE}


HOSTILE = [
    "'; DROP TABLE ledger_requests; --",
    '" OR 1=1 --',
    "\0",
    "a\0b",
    "%s ? :name $1 {x} \\",
    "\u202e\U0001f600é\n\r",
    "x" * 100_000,
    "\U0001f600" * 4_000,
]


@pytest.mark.parametrize("words", HOSTILE)
async def test_whatever_a_caller_says_is_only_text(store: LedgerStore, words: str) -> None:
    named = {"key": words, "tag": words, "task": words, "provider": words, "model": words}
    hostile = request(1, **named, route=words, asked=words, metadata={words: words}, outcome=words, lane=words)
    await store.settle([batch(hostile, attempt(1, bill=msgspec.structs.replace(BILL, answered=words), **named))])
    (kept, made) = await rows_of(store)
    assert kept == clean(hostile)
    assert kept.key == words.replace("\0", "\ufffd")[:128]
    assert made.bill.answered == words.replace("\0", "\ufffd")[:1024]
    (total,) = await sums(store, Question(NOON, NOON + DAY, ("key", "tag", "model"), key=kept.key))
    assert (total["key"], total["requests"]) == (kept.key, 1)


@given(
    st.builds(
        Usage,
        input=st.integers(0, 2**70),
        output=st.integers(0, 2**70),
        cached_read=st.integers(0, 2**70),
        reasoning=st.integers(0, 2**70),
    )
)
def test_no_count_is_too_large_for_the_sums_of_a_column(usage: Usage) -> None:
    bill = billed(usage, UNKNOWN)
    assert max(bill.input, bill.output, bill.cached_read, bill.reasoning) * 1_000_000_000 < 2**63
    assert msgspec.msgpack.encode(bill)


async def test_reports_group_by_what_is_asked_for(store: LedgerStore) -> None:
    rows: list[Row] = [
        request(1, key="a", tag="x"),
        attempt(1, key="a", tag="x"),
        attempt(2, key="a", tag="y", model="other", time=NOON + DAY),
        attempt(3, key="b", tag="x", time=NOON - 3 * DAY),
    ]
    await store.settle([batch(*rows)])
    week = (NOON - 7 * DAY, NOON + 7 * DAY)

    async def by(*names: Any, key: str = "") -> list[tuple[Any, ...]]:
        found = await sums(store, Question(*week, names, key=key))
        return sorted((*(total[name] for name in names), total["attempts"], total["cost"]) for total in found)

    assert await by() == [(3, 22_500)]
    assert await by("key") == [("a", 2, 15_000), ("b", 1, 7_500)]
    assert await by("tag", "model") == [("x", "m", 2, 15_000), ("y", "other", 1, 7_500)]
    day = int(NOON // DAY)
    assert await by("day") == [(day - 3, 1, 7_500), (day, 1, 7_500), (day + 1, 1, 7_500)]
    assert await by("provider", key="b") == [("p", 1, 7_500)]
    assert await sums(store, Question(NOON + 2 * DAY, NOON + 3 * DAY)) == []


async def test_a_server_that_was_away_is_read_again_at_once() -> None:
    if programs() is None:
        absent("PostgreSQL", "postgresql")
    with postgres() as server:
        opened = LedgerStore(address(server.url(), Path("/nowhere")))
        await opened.open()
        assert await rows_of(opened) == []
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert await rows_of(opened) == []
        await opened.close()


async def test_the_file_is_for_nobody_else(tmp_path: Path) -> None:
    store = LedgerStore(address("", tmp_path / "state"))
    await store.open()
    await store.settle([batch(request(1))])
    kept = list((tmp_path / "state").iterdir())
    assert len(kept) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    pragmas = "journal_mode", "synchronous"
    found = await store.read(lambda c: [c.execute(text(f"PRAGMA {name}")).scalar_one() for name in pragmas])
    assert found == ["wal", 2]
    await store.close()


@pytest.mark.parametrize("url", ["mysql://me:secret@host/x", "nonsense", "sqlite://", "://", "postgresql:secret"])
def test_an_address_that_is_none_says_no_secret(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        address(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_the_address_of_a_server_gets_the_driver_that_there_is(tmp_path: Path) -> None:
    for url in ("postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"):
        assert address(url, tmp_path).drivername == "postgresql+asyncpg"
