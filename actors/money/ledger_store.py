"""The ledger's database: a SQLite file, or PostgreSQL by URL; the same statements for both.

What `settle` has returned from is on the disk. Rows, the sums that they change and the reservations that they end are
one transaction, so that sums are those of the rows at any time.

A row whose id is there already changes nothing, unless a provisional one is there: that one gives way. The same holds
for the attempt that stands in a request's row: it is left out of it if it has a row of its own.

Above it: `ledger`. Below it: `databases`, `ledger_tables`, `migrations`. Outside it: who sends rows, and when.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Dialect, bindparam, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from actors.money import migrations
from actors.money.databases import Database, FileDatabase, Server
from actors.money.ledger_tables import HOURS, REQUESTS, RESERVATIONS, TABLES, clean, columns, row_of
from pipelines.ledger import SUMS, AttemptRow, Batch, Group, RequestRow, Row, summed

AT_ONCE = 500
"""Ids of one question."""

Result = TypeVar("Result")
_Sums = dict[Group, list[int]]
_rows: msgspec.msgpack.Decoder[Row] = msgspec.msgpack.Decoder(Row)


class Words:
    """The statements of every commit, as one database wants them: worked out once, they cost a tenth."""

    def __init__(self, dialect: Dialect) -> None:
        own = sqlite if dialect.name == "sqlite" else postgresql
        upsert = own.insert(HOURS)
        added = {name: HOURS.c[name] + upsert.excluded[name] for name in SUMS}
        words = [
            *(insert(table) for table in TABLES.values()),
            upsert.on_conflict_do_update(index_elements=list(Group._fields), set_=added),
            own.insert(RESERVATIONS).on_conflict_do_nothing(index_elements=["id"]),
            delete(RESERVATIONS).where(RESERVATIONS.c.id == bindparam("id")),
        ]
        *inserts, self.add, self.reserve, self.release = [str(word.compile(dialect=dialect)) for word in words]
        self.insert = dict(zip(TABLES, inserts, strict=True))


class LedgerStore:
    """One database. Every method raises sqlalchemy.exc.SQLAlchemyError or OSError where it is away or full.

    on_sums: is told what each commit has added to the sums, before anybody else hears of the commit. shared: other
    clusters may write to it.
    """

    def __init__(self, where: URL) -> None:
        self._database: Database = FileDatabase(where) if where.get_backend_name() == "sqlite" else Server(where)
        self.shared = self._database.shared
        self._words = Words(self._database.dialect)
        self.on_sums: Callable[[Mapping[Group, list[int]]], None] | None = None

    async def open(self) -> None:
        """Make the file, with mode 600, if there is none, and bring the tables up to date."""
        await self._database.run(migrate, patient=True)

    async def settle(self, batches: Sequence[Batch]) -> None:
        """Put rows and reservations in, end the reservations that are over; committed when this returns."""
        try:
            sums = await self._database.run(partial(self._settle, batches, careful=False))
        except IntegrityError:
            sums = await self._database.run(partial(self._settle, batches, careful=True))
        self._tell(sums)

    async def reporters(self) -> set[str]:
        """Who has reservations."""
        return await self._database.run(
            lambda connection: set(connection.execute(select(RESERVATIONS.c.reporter).distinct()).scalars())
        )

    async def settle_lost(self, reporter: str) -> int:
        """Make rows of the reservations of a reporter that has died; how many."""
        count, sums = await self._database.run(partial(self._settle_lost, reporter))
        self._tell(sums)
        return count

    async def read(self, question: Callable[[Connection], Result]) -> Result:
        """What `question` makes of a connection, which can only read; nothing that is to be written waits for it."""
        return await self._database.read(question)

    async def change(self, work: Callable[[Connection], Result], *, patient: bool = False) -> Result:
        """What `work` makes of a connection, committed when this returns. patient: it may take as long as it takes."""
        return await self._database.run(work, patient=patient)

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    def _tell(self, sums: _Sums) -> None:
        if self.on_sums is not None and sums:
            self.on_sums(sums)

    def _settle(self, batches: Sequence[Batch], connection: Connection, *, careful: bool) -> _Sums:
        closed = {identity for batch in batches for identity in batch.closed}
        opened = [
            (row.id, batch.reporter, msgspec.msgpack.encode(row))
            for batch in batches
            for row in batch.opened
            if row.id not in closed
        ]
        sums = self._put(connection, (row for batch in batches for row in batch.rows), careful=careful)
        if opened:
            connection.exec_driver_sql(self._words.reserve, opened)
        self._release(connection, closed)
        return sums

    def _settle_lost(self, reporter: str, connection: Connection) -> tuple[int, _Sums]:
        mine = select(RESERVATIONS.c.id, RESERVATIONS.c.row).where(RESERVATIONS.c.reporter == reporter)
        found = connection.execute(mine).all()
        sums = self._put(connection, (_rows.decode(encoded) for _, encoded in found), careful=True)
        self._release(connection, {identity for identity, _ in found})
        return len(found), sums

    def _release(self, connection: Connection, ids: set[str]) -> None:
        if ids:
            connection.exec_driver_sql(self._words.release, [(identity,) for identity in sorted(ids)])

    def _put(self, connection: Connection, rows: Iterable[Row], *, careful: bool) -> _Sums:
        """Insert rows, and add up. careful: some may be there; without it that is an IntegrityError."""
        sums: _Sums = {}
        for kind, group in _by_kind(rows).items():
            if careful:
                group = _fresh(connection, kind, group, sums)
            if group:
                connection.exec_driver_sql(self._words.insert[kind], [columns(row) for row in group.values()])
                summed(group.values(), into=sums)
        if sums:
            # In one order for all who write, or two of them could wait for each other.
            connection.exec_driver_sql(self._words.add, [(*group, *sums[group]) for group in sorted(sums)])
        return sums


def migrate(connection: Connection) -> None:
    """Bring the tables up to date."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _by_kind(rows: Iterable[Row]) -> dict[type[Row], dict[str, Row]]:
    """Each row once; of two with the same id a provisional one gives way."""
    kinds: dict[type[Row], dict[str, Row]] = {}
    for row in rows:
        row = clean(row)
        group = kinds.setdefault(type(row), {})
        known = group.get(row.id)
        if known is None or (known.provisional and not row.provisional):
            group[row.id] = row
    attempts = kinds.get(AttemptRow)
    if attempts:
        for identity in _held(kinds.get(RequestRow, {}).values()):
            attempts.pop(identity, None)
    return kinds


def _held(rows: Iterable[Row]) -> list[str]:
    """The ids of the attempts that stand in requests' rows."""
    return [row.attempt.id for row in rows if isinstance(row, RequestRow) and row.attempt is not None]


def _fresh(connection: Connection, kind: type[Row], group: Mapping[str, Row], sums: _Sums) -> dict[str, Row]:
    """Those rows that are not there, requests without an attempt that is there."""
    there = _there(connection, kind, {identity: row.provisional for identity, row in group.items()}, sums)
    fresh = {identity: row for identity, row in group.items() if identity not in there}
    if kind is AttemptRow:
        requests = {row.request for row in fresh.values() if isinstance(row, AttemptRow)}
        for some in _some(requests):
            found = connection.execute(select(REQUESTS.c.attempt).where(REQUESTS.c.id.in_(some))).scalars()
            for identity in found:
                fresh.pop(identity, None)
    elif kind is RequestRow:
        own = _there(connection, AttemptRow, dict.fromkeys(_held(fresh.values()), False), sums)
        for identity, row in fresh.items():
            if isinstance(row, RequestRow) and row.attempt is not None and row.attempt.id in own:
                fresh[identity] = msgspec.structs.replace(row, attempt=None)
    return fresh


def _there(connection: Connection, kind: type[Row], coming: Mapping[str, bool], sums: _Sums) -> set[str]:
    """The ids that have a row. coming: whether the row that comes is provisional, by id: if not, it takes the place of
    a provisional one, which is taken out, of sums too.
    """
    table = TABLES[kind]
    there: dict[str, bool] = {}
    for some in _some(coming):
        found = connection.execute(select(table.c.id, table.c.provisional).where(table.c.id.in_(some)))
        there.update((identity, weak) for identity, weak in found)
    for some in _some(identity for identity, weak in there.items() if weak and not coming[identity]):
        rows = connection.execute(select(table).where(table.c.id.in_(some)))
        summed([row_of(kind, row._asdict()) for row in rows], -1, into=sums)
        connection.execute(delete(table).where(table.c.id.in_(some)))
        for identity in some:
            del there[identity]
    return set(there)


def _some(ids: Iterable[str]) -> Iterable[list[str]]:
    every = sorted(ids)
    return (every[place : place + AT_ONCE] for place in range(0, len(every), AT_ONCE))
