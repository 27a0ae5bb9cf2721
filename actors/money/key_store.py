"""Keys in the ledger's database, and what the ledger's rows say of their use.

A key's settings are one JSON text: nothing looks for keys by what is in it, and the table stays as it is when there is
one more setting. The other columns are what a person with a database client wants to see.

Above it: `key_book`. Below it: `ledger_tables`, sqlalchemy. Outside it: who may make keys, and what is told to whom.
"""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, case, func, insert, select, update

from actors.money.ledger_tables import ATTEMPTS, HOURS, KEYS, REQUESTS
from pipelines.keys import Key, Settings, Spent
from pipelines.ledger import HOUR
from pipelines.spending import DAY, day_of, first_of_month

REFUSED = ("insufficient_quota", "rate_limit_exceeded", "permission")
"""Outcomes of requests that were not admitted, and count in no minute."""

_settings = msgspec.json.Decoder(Settings)


class Used(NamedTuple):
    """What a key used in one second, in seconds since 1970."""

    key: str
    second: int
    requests: int
    tokens: int


def read(connection: Connection) -> list[Key]:
    """Every key, in the order of their last changes."""
    return [_key(row) for row in connection.execute(select(KEYS).order_by(KEYS.c.changed)).mappings()]


def put(key: Key, fresh: bool, connection: Connection) -> None:
    """Write a key down. fresh: it is not there yet."""
    values = {
        "name": key.settings.name,
        "hash": key.hash,
        "old_hash": key.old_hash,
        "old_until": key.old_until,
        "revoked": key.revoked,
        "changed": key.changed,
        "settings": msgspec.json.encode(key.settings).decode(),
    }
    if fresh:
        connection.execute(insert(KEYS).values(id=key.id, created=key.created, **values))
    else:
        connection.execute(update(KEYS).where(KEYS.c.id == key.id).values(**values))


def spent(now: float, connection: Connection) -> dict[str, Spent]:
    """What each key has spent, by the sums of all rows."""
    hours, cost = HOURS.c.hour, HOURS.c.cost
    today = day_of(now)
    by_period = [
        func.sum(case((hours >= int(day * DAY // HOUR), cost), else_=0)).label(name)
        for name, day in (("day", today), ("month", first_of_month(today)))
    ]
    asked = select(HOURS.c.key, *by_period, func.sum(cost).label("total")).where(HOURS.c.key.in_(select(KEYS.c.id)))
    return {
        row["key"]: Spent(int(row["day"] or 0), int(row["month"] or 0), int(row["total"] or 0))
        for row in connection.execute(asked.group_by(HOURS.c.key)).mappings()
    }


def recent(since: float, connection: Connection) -> list[Used]:
    """What keys have used since then, in the order of time, by the rows of requests and attempts."""
    ours = select(KEYS.c.id)
    used: dict[tuple[int, str], list[int]] = {}
    # Ids begin with the time in milliseconds, and are the index by time.
    first = f"{max(0, int(since * 1000)):012x}"
    requests = select(REQUESTS.c.key, REQUESTS.c.time).where(
        REQUESTS.c.id >= first, REQUESTS.c.key.in_(ours), REQUESTS.c.outcome.not_in(REFUSED)
    )
    for key, at in connection.execute(requests):
        used.setdefault((int(at), key), [0, 0])[0] += 1
    tokens = select(ATTEMPTS.c.key, ATTEMPTS.c.time, ATTEMPTS.c.input + ATTEMPTS.c.output).where(
        ATTEMPTS.c.id >= first, ATTEMPTS.c.key.in_(ours)
    )
    for key, at, count in connection.execute(tokens):
        used.setdefault((int(at), key), [0, 0])[1] += int(count)
    return [Used(key, second, *used[second, key]) for second, key in sorted(used)]


def _key(row: RowMapping) -> Key:
    given: dict[str, Any] = {name: row[name] for name in Key.__struct_fields__ if name != "settings"}
    return Key(settings=_settings.decode(row["settings"]), **given)
