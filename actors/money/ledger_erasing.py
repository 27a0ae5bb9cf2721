"""Taking rows out of the ledger: those that are old, and all of one key.

A batch at a time, each a short transaction of its own, so that what is to be committed waits for one batch at the most.
What was taken out before a failure stays out, and the next call goes on with the rest.

Above it: `ledger`. Below it: `ledger_store`, `ledger_tables`. Outside it: who may ask, and how old is old.
"""

from collections.abc import Callable
from functools import partial

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from actors.money.approval_store import forget
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, HOURS, REQUESTS, TOOLS
from pipelines.ledger import SUMS, Group
from pipelines.ledger_questions import ERASED, Erased, Erasure, Expiry

AT_ONCE = 500
"""Rows of one batch: some milliseconds."""

BATCHES = 20
"""Of one call, so that it ends in time; whoever called asks again while there is more."""

_LATEST = 1e11
"""Seconds since 1970, later than any row."""


async def expire(store: LedgerStore, expiry: Expiry) -> Erased:
    """Take out what is older than that. Sums stay."""
    requests = await _some(store, partial(_old, REQUESTS, expiry.requests)) if expiry.requests else 0
    attempts = await _some(store, partial(_old, ATTEMPTS, expiry.attempts)) if expiry.attempts else 0
    tools = await _some(store, partial(_old, TOOLS, expiry.requests)) if expiry.requests else 0
    return Erased(requests, attempts, more=_more(requests, attempts, tools))


async def erase(store: LedgerStore, erasure: Erasure) -> Erased:
    """Take out everything of a key; once no row is left its sums go too, or lose their key and their tag."""
    requests = await _some(store, partial(_of_key, REQUESTS, erasure.key))
    attempts = await _some(store, partial(_of_key, ATTEMPTS, erasure.key))
    tools = await _some(store, partial(_of_key, TOOLS, erasure.key))
    await store.change(partial(forget, erasure.key))
    more = _more(requests, attempts, tools)
    for hour in await store.read(partial(_hours, erasure.key)) if not more and erasure.key != ERASED else ():
        await store.change(partial(_unnamed, erasure, hour))
    return Erased(requests, attempts, more=more)


async def _some(store: LedgerStore, batch: Callable[[Connection], int]) -> int:
    """Batch after batch, until there is nothing left or it is enough for one call; how many rows."""
    gone = 0
    for _ in range(BATCHES):
        some = await store.change(batch)
        gone += some
        if some < AT_ONCE:
            break
    return gone


def _more(*gone: int) -> bool:
    return max(gone) >= BATCHES * AT_ONCE


def _old(table: Table, before: float, connection: Connection) -> int:
    # Ids begin with the time, in milliseconds: the oldest come first.
    return _gone(connection, table, table.c.id < f"{max(0, int(before * 1000)):012x}", table.c.id)


def _of_key(table: Table, key: str, connection: Connection) -> int:
    return _gone(connection, table, (table.c.key == key) & (table.c.time < _LATEST), table.c.time)


def _gone(connection: Connection, table: Table, which: ColumnElement[bool], order: ColumnElement[object]) -> int:
    ids = list(connection.execute(select(table.c.id).where(which).order_by(order).limit(AT_ONCE)).scalars())
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return len(ids)


def _hours(key: str, connection: Connection) -> list[int]:
    return list(connection.execute(select(HOURS.c.hour).where(HOURS.c.key == key).distinct()).scalars())


def _unnamed(erasure: Erasure, hour: int, connection: Connection) -> None:
    """Take a key's sums of one hour out, and where they are to stay add them to nobody's."""
    mine = (HOURS.c.hour == hour) & (HOURS.c.key == erasure.key)
    if erasure.sums == "anonymous":
        kept = [HOURS.c[name] for name in ("task", "provider", "model")]
        added = select(*kept, *(func.sum(HOURS.c[name]).label(name) for name in SUMS)).where(mine).group_by(*kept)
        found = connection.execute(added).mappings().all()
        # PostgreSQL adds big integers up to decimals.
        rows = [
            {**row, **{name: int(row[name]) for name in SUMS}, "hour": hour, "key": ERASED, "tag": ""} for row in found
        ]
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(HOURS)
        summed = {name: HOURS.c[name] + insert.excluded[name] for name in SUMS}
        if rows:
            connection.execute(insert.on_conflict_do_update(index_elements=list(Group._fields), set_=summed), rows)
    connection.execute(delete(HOURS).where(mine))
