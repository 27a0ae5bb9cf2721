"""What the ledger says beside what callers heard and what the upstream counted.

    lost      an acknowledged answer without a settled row of its request, or without one of the attempt that gave it
    doubled   a request with two rows, or with two attempts that gave an answer
    wrong     other tokens than the upstream's own, sums that are not those of the rows, reservations that are left

A row of the outcome `lost`, or a provisional one, settles nothing that was acknowledged: it is what is left of somebody
who died.

Above it: `audit`. Below it: `audit_load`, the ledger's tables. Outside it: how it came about.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from actors.money.ledger_tables import ATTEMPTS, HOURS, REQUESTS, RESERVATIONS
from pipelines.ledger import LOST, SUMS
from tests.faults.audit_load import MODELS, QUESTION, Asked


class Books(NamedTuple):
    """All rows, as dicts by column; the sums of the rows and those that the ledger keeps; what is reserved."""

    requests: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    kept: dict[str, int]
    reserved: int


def read(connection: Connection) -> Books:
    """All of it, as of one moment."""
    columns = ("id", "request_id", "key", "outcome", "provisional", "input", "output", "cost")
    requests = select(*(REQUESTS.c[name] for name in columns))
    attempts = select(*(ATTEMPTS.c[name] for name in (*columns, "provider", "estimated")))
    sums = select(*(func.sum(HOURS.c[name]).label(name) for name in SUMS))
    kept = connection.execute(sums).mappings().one()
    return Books(
        [dict(row) for row in connection.execute(requests).mappings()],
        [dict(row) for row in connection.execute(attempts).mappings()],
        {name: int(kept[name] or 0) for name in SUMS},
        connection.execute(select(func.count()).select_from(RESERVATIONS)).scalar_one(),
    )


class Verdict(NamedTuple):
    """What was found, in words; figures: what is not judged."""

    lost: list[str]
    doubled: list[str]
    wrong: list[str]
    figures: dict[str, int]


def compared(
    asked: Sequence[Asked], seen: Mapping[str, Sequence[bool]], books: Books, spent: Mapping[str, int]
) -> Verdict:
    """The verdict. seen: `audit_load.delivered`; spent: nano-dollars by key, as `/v1/keys` has them."""
    requests, attempts = _by(books.requests, "request_id"), _by(books.attempts, "request_id")
    acknowledged = [one for one in asked if one.acknowledged]
    lost, doubled, wrong = [], [], []
    for one in acknowledged:
        rows, tries = requests.get(one.id, []), attempts.get(one.id, [])
        settled = [row for row in rows if row["outcome"] == "ok" and not row["provisional"]]
        whole = [row for row in tries if row["outcome"] == "ok" and not row["provisional"]]
        if not settled or not whole:
            lost.append(f"{one.id} ({one.way.lane}, {one.way.form}): {_told(rows)}; attempts {_told(tries)}")
        elif len(whole) == 1 and (whole[0]["input"], whole[0]["output"]) != (QUESTION, MODELS[one.model].words):
            wrong.append(f"{one.id}: {whole[0]['input']} + {whole[0]['output']} tokens of {QUESTION} + its words")
        if len(whole) > 1:
            doubled.append(f"{one.id}: attempts {_told(tries)}")
        if not any(seen.get(one.id, ())):
            wrong.append(f"{one.id}: acknowledged, and the upstream never sent a whole answer")
    doubled += [f"{name}: {_told(rows)}" for name, rows in requests.items() if len(rows) > 1]
    unseen = [row for row in books.attempts if row["outcome"] == LOST and not (row["estimated"] and row["provider"])]
    wrong += [f"{row['id']}: the attempt of somebody who died has no estimate" for row in unseen]
    return Verdict(lost, doubled, wrong + _sums(books) + _budgets(books, spent), _figures(asked, seen, books))


def _figures(asked: Sequence[Asked], seen: Mapping[str, Sequence[bool]], books: Books) -> dict[str, int]:
    """The sums of tokens on both sides, and what became of the rest."""
    acknowledged = {one.id: one for one in asked if one.acknowledged}
    others = [one for one in asked if not one.acknowledged]
    rows = {row["request_id"]: row for row in books.requests}
    tried = {row["request_id"] for row in books.attempts}
    mine = [row for row in books.attempts if row["request_id"] in acknowledged and row["outcome"] == "ok"]
    return {
        "requests": len(asked),
        "acknowledged": len(acknowledged),
        "rows of them": sum(name in rows for name in acknowledged),
        "tokens of them by the ledger": sum(row["input"] + row["output"] for row in mine),
        "tokens of them by the upstream": sum(QUESTION + MODELS[one.model].words for one in acknowledged.values()),
        "not acknowledged": len(others),
        "refused or failed, with a row": sum(one.id in rows for one in others),
        "that the upstream saw": sum(one.id in seen for one in others),
        "of these with a row of an attempt": sum(one.id in seen and one.id in tried for one in others),
        "requests settled as lost": sum(row["outcome"] == LOST for row in books.requests),
        "attempts settled as lost": sum(row["outcome"] == LOST for row in books.attempts),
        "reservations left": books.reserved,
    }


def _sums(books: Books) -> list[str]:
    """What the ledger keeps as sums beside the sums of its rows."""
    own = Counter(requests=len(books.requests), attempts=len(books.attempts))
    for row in books.attempts:
        own.update({name: int(row[name] or 0) for name in ("input", "output", "cost")})
    found = [
        f"{name}: sums have {books.kept[name]}, rows {count}"
        for name, count in own.items()
        if books.kept[name] != count
    ]
    return found + ([f"{books.reserved} reservations are left"] if books.reserved else [])


def _budgets(books: Books, spent: Mapping[str, int]) -> list[str]:
    own: Counter[str] = Counter()
    for row in books.attempts:
        own[row["key"]] += row["cost"] or 0
    return [
        f"{key}: a budget with {nano} spent, rows with {own[key]}" for key, nano in spent.items() if nano != own[key]
    ]


def _by(rows: Sequence[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found


def _told(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['outcome']}{' (provisional)' if row['provisional'] else ''}" for row in rows) or "no row"
