"""Keys in the ledger's database, and what the ledger's rows say of their use.

A key's settings are one JSON text: nothing looks for keys by what is in it, and the table stays as it is when there is
one more setting. The other columns are what a person with a database client wants to see.

Other clusters may write to the same tables at any time, so a change is made to what the database holds, whatever is
known here.

Above it: `key_book`. Below it: `ledger_tables`, sqlalchemy. Outside it: who may make keys, and what is told to whom.
"""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, case, func, insert, select, text, update

from actors.money.ledger_tables import ATTEMPTS, HOURS, KEYS, REQUESTS
from pipelines.keys import Key, KeyChange, KeyProblem, Settings, Spent, changed
from pipelines.ledger import HOUR
from pipelines.spending import DAY, day_of, first_of_month

REFUSED = ("insufficient_quota", "rate_limit_exceeded", "permission")
"""Outcomes of requests that were not admitted, and count in no minute."""

FIRST = 1
"""The number of the change before all others: who knows of no change yet says 0."""

_settings = msgspec.json.Decoder(Settings)


class Used(NamedTuple):
    """What a key used in one second, in seconds since 1970."""

    key: str
    second: int
    requests: int
    tokens: int


class Sums(NamedTuple):
    """What keys have spent, by the sums of all rows; recent: by key and hour, of the hours from some hour on."""

    spent: dict[str, Spent]
    recent: dict[tuple[str, int], int]


def read(since: int, connection: Connection) -> list[Key]:
    """Every key that was changed after the change of that number, in the order of their last changes."""
    found = select(KEYS).where(KEYS.c.changed > since).order_by(KEYS.c.changed)
    return [_key(row) for row in connection.execute(found).mappings()]


def change(asked: KeyChange, now: float, since: int, connection: Connection) -> tuple[KeyProblem, list[Key]]:
    """Make a change to the key as it stands in the database; why it was not made, and what `read` finds then."""
    # One after the other, whoever makes them: so nobody who has seen one has missed another with a smaller number.
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {KEYS.name} IN SHARE ROW EXCLUSIVE MODE"))
    row = connection.execute(select(KEYS).where(KEYS.c.id == asked.id)).mappings().first()
    known = _key(row) if row is not None else None
    made = changed(asked, now, known)
    if not isinstance(made, Key):
        return made, read(since, connection)
    if made is not known:
        last = connection.execute(select(func.max(KEYS.c.changed))).scalar_one() or FIRST
        _put(msgspec.structs.replace(made, changed=last + 1), known is None, connection)
    return "", read(since, connection)


def _put(key: Key, fresh: bool, connection: Connection) -> None:
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


def spent(now: float, since: int, connection: Connection) -> Sums:
    """What each key has spent; since: the first recent hour."""
    hours, cost = HOURS.c.hour, HOURS.c.cost
    today = day_of(now)
    by_period = [
        func.sum(case((hours >= int(day * DAY // HOUR), cost), else_=0)).label(name)
        for name, day in (("day", today), ("month", first_of_month(today)))
    ]
    # One statement, and so of one moment: what others commit meanwhile is in both, or in neither.
    hour = case((hours >= since, hours), else_=0).label("hour")
    asked = select(HOURS.c.key, hour, *by_period, func.sum(cost).label("total"))
    asked = asked.where(HOURS.c.key.in_(select(KEYS.c.id))).group_by(HOURS.c.key, hour)
    found = Sums({}, {})
    for row in connection.execute(asked).mappings():
        key = row["key"]
        before = found.spent.get(key, Spent())
        # PostgreSQL adds big integers up to decimals.
        figures = {name: getattr(before, name) + int(row[name] or 0) for name in Spent.__struct_fields__}
        found.spent[key] = Spent(**figures)
        if row["hour"]:
            found.recent[key, row["hour"]] = int(row["total"])
    return found


def news(changed_since: int, since: int, connection: Connection) -> tuple[list[Key], dict[tuple[str, int], int]]:
    """What `read` finds; and what was spent by key and hour from that hour on: the first column of the sums' index."""
    keys = read(changed_since, connection)
    asked = select(HOURS.c.key, HOURS.c.hour, func.sum(HOURS.c.cost)).where(HOURS.c.hour >= since)
    sums = connection.execute(asked.group_by(HOURS.c.key, HOURS.c.hour))
    return keys, {(key, hour): int(cost) for key, hour, cost in sums}


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
