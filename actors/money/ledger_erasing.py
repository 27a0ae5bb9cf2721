"""Taking rows out of the ledger: those that are old, and all of one key.

A batch at a time, each a short transaction of its own, so that what is to be committed waits for one batch at the most.
What was taken out before a failure stays out, and the next call goes on with the rest.

An attempt that stands in its request's row goes with it. Where attempts are kept for longer it gets a row of its own
before; where they are kept for a shorter time it is taken out of the row.

Above it: `ledger`. Below it: `ledger_store`, `ledger_tables`. Outside it: who may ask, and how old is old.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from actors.money.approval_store import forget
from actors.money.ledger_states import pieces_of, put
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, FURTHER_ATTEMPTS, HOURS, OF_ATTEMPT, REQUESTS, TOOLS, id_at
from pipelines.ledger import LATE, SUMS, Group
from pipelines.ledger_questions import ERASED, Erased, Erasure, Expiry

AT_ONCE = 500
"""Rows of one batch: some milliseconds."""

BATCHES = 20
"""Of one call, so that it ends in time; whoever called asks again while there is more."""

_OWNER, _MARK = "ledger", "attempts"
"""Where it is kept up to which id no request's row has an attempt any more: nothing looks at those again."""

_LATEST = 1e11
"""Seconds since 1970, later than any row."""


class _Gone(NamedTuple):
    """How many rows are gone, and how many attempts that stood in them."""

    rows: int
    attempts: int = 0


async def expire(store: LedgerStore, expiry: Expiry) -> Erased:
    """Take out what is older than that. Sums stay."""
    requests = tools = further = _Gone(0)
    cleared = 0
    if expiry.requests:
        requests = await _some(store, partial(_old_requests, expiry))
        tools = await _some(store, partial(_old, TOOLS, expiry.requests))
    if expiry.attempts:
        further = await _some(store, partial(_old, FURTHER_ATTEMPTS, expiry.attempts))
        cleared = await _clear(store, expiry.attempts)
    more = _more(requests.rows, tools.rows, further.rows, cleared)
    return Erased(requests.rows, requests.attempts + further.rows + cleared, more=more)


async def erase(store: LedgerStore, erasure: Erasure) -> Erased:
    """Take out everything of a key; once no row is left its sums go too, or lose their key and their tag."""
    requests = await _some(store, partial(_of_key, REQUESTS, erasure.key))
    further = await _some(store, partial(_of_key, FURTHER_ATTEMPTS, erasure.key))
    tools = await _some(store, partial(_of_key, TOOLS, erasure.key))
    await store.change(partial(forget, erasure.key))
    more = _more(requests.rows, further.rows, tools.rows)
    for hour in await store.read(partial(_hours, erasure.key)) if not more and erasure.key != ERASED else ():
        await store.change(partial(_unnamed, erasure, hour))
    return Erased(requests.rows, requests.attempts + further.rows, more=more)


async def _some(store: LedgerStore, batch: Callable[[Connection], _Gone]) -> _Gone:
    """Batch after batch, until there is nothing left or it is enough for one call."""
    rows = attempts = 0
    for _ in range(BATCHES):
        some = await store.change(batch)
        rows += some.rows
        attempts += some.attempts
        if some.rows < AT_ONCE:
            break
    return _Gone(rows, attempts)


def _more(*gone: int) -> bool:
    return max(gone) >= BATCHES * AT_ONCE


async def _clear(store: LedgerStore, before: float) -> int:
    """Take the attempts out of the rows of requests that stay; how many."""
    place = known = await store.read(_mark)
    end, settled = id_at(before), id_at(before - LATE)
    gone = 0
    for _ in range(BATCHES):
        ids = await store.read(partial(_with_attempts, place, end))
        if ids:
            await store.change(partial(_without_attempts, ids))
        gone += len(ids)
        place = ids[-1] if len(ids) == AT_ONCE else end
        if place == end:
            break
    mark = min(place, settled)
    if mark > known:
        await store.change(lambda connection: put(connection, _OWNER, {_MARK: mark.encode()}))
    return gone


def _mark(connection: Connection) -> str:
    return pieces_of(connection, _OWNER).get(_MARK, b"").decode()


def _with_attempts(since: str, end: str, connection: Connection) -> list[str]:
    identity = REQUESTS.c.id
    asked = select(identity).where(identity >= since, identity < end, REQUESTS.c.attempt.is_not(None))
    return list(connection.execute(asked.order_by(identity).limit(AT_ONCE)).scalars())


def _without_attempts(ids: list[str], connection: Connection) -> None:
    connection.execute(update(REQUESTS).where(REQUESTS.c.id.in_(ids)).values(dict.fromkeys(OF_ATTEMPT)))


def _old_requests(expiry: Expiry, connection: Connection) -> _Gone:
    ids = _first(connection, REQUESTS, REQUESTS.c.id < id_at(expiry.requests), REQUESTS.c.id)
    moved = 0
    if ids and expiry.attempts < expiry.requests:
        # There they have the request's id.
        kept = select(ATTEMPTS).where(ATTEMPTS.c.id.in_(ids), ATTEMPTS.c.id >= id_at(expiry.attempts))
        names = [column.name for column in ATTEMPTS.columns]
        moved = connection.execute(insert(FURTHER_ATTEMPTS).from_select(names, kept)).rowcount
    gone = _gone(connection, REQUESTS, ids)
    return _Gone(gone.rows, gone.attempts - moved)


def _old(table: Table, before: float, connection: Connection) -> _Gone:
    return _gone(connection, table, _first(connection, table, table.c.id < id_at(before), table.c.id))


def _of_key(table: Table, key: str, connection: Connection) -> _Gone:
    which = (table.c.key == key) & (table.c.time < _LATEST)
    return _gone(connection, table, _first(connection, table, which, table.c.time))


def _first(connection: Connection, table: Table, which: ColumnElement[bool], order: ColumnElement[object]) -> list[str]:
    return list(connection.execute(select(table.c.id).where(which).order_by(order).limit(AT_ONCE)).scalars())


def _gone(connection: Connection, table: Table, ids: list[str]) -> _Gone:
    attempts = 0
    if ids and table is REQUESTS:
        attempts = connection.execute(select(func.count(REQUESTS.c.attempt)).where(REQUESTS.c.id.in_(ids))).scalar_one()
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return _Gone(len(ids), attempts)


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
