"""What was used and what it cost, from the ledger's sums by the hour.

Above it: `ledger`. Below it: `ledger_tables`. Outside it: who may ask; single rows.
"""

from typing import Any

from sqlalchemy import Connection, Integer, func, select, type_coerce

from actors.money.ledger_tables import HOURS
from pipelines.ledger import HOUR, SUMS, Group, Question

HOURS_A_DAY = 24


def report(connection: Connection, question: Question) -> list[dict[str, Any]]:
    """One dict a group, with its names, and the sums (`pipelines.ledger.SUMS`), dearest first.

    day and hour are whole ones since 1970, in UTC. What is in it is exact to the last commit; groups without a row are
    left out. `cost` is in nano-dollars, and `unknown_cost` says how many attempts are missing in it.
    """
    columns = HOURS.c
    # A division of integers that both databases round down.
    day = type_coerce(columns.hour.op("/")(HOURS_A_DAY), Integer)
    groups = [(day if name == "day" else columns[name]).label(name) for name in question.by]
    sums = [func.sum(columns[name]).label(name) for name in SUMS]
    asked = (
        select(*groups, *sums)
        .where(columns.hour >= int(question.since // HOUR), columns.hour < int(question.until // HOUR))
        .group_by(*groups)
        .order_by(sums[SUMS.index("cost")].desc())
    )
    if question.key:
        asked = asked.where(columns.key == question.key)
    asked = asked.where(*(columns[name] == value for name, value in question.only.items() if name in Group._fields))
    if question.most:
        asked = asked.limit(question.most)
    # PostgreSQL adds big integers up to decimals.
    return [
        {name: int(value) if name in SUMS else value for name, value in row.items()}
        for row in connection.execute(asked).mappings()
        if row["requests"] is not None
    ]
