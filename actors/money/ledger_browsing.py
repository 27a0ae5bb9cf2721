"""Rows of the ledger as a person or a program reads them: pages of them, and one request with all that belongs to it.

Above it: `ledger`. Below it: `ledger_tables`. Outside it: who may ask; what a row looks like to a caller.
"""

from itertools import takewhile
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Table, select, tuple_

from actors.money.ledger_tables import ATTEMPTS, OF_ATTEMPT, REQUESTS, TOOLS, id_at
from pipelines.ledger_questions import FILTERS, Kind, Rows, RowsQuestion, Story, StoryQuestion

TABLES: dict[Kind, Table] = {"requests": REQUESTS, "attempts": ATTEMPTS}

_SHOWN: dict[Kind, list[Column[Any]]] = {
    kind: [column for column in table.columns if column.name not in OF_ATTEMPT] for kind, table in TABLES.items()
}
"""A request's columns without those of the attempt that stands in its row: who wants them asks for attempts."""

_SLACK = 1.0
"""Seconds by which the time in an id may differ from the time in its row."""


def page(connection: Connection, question: RowsQuestion) -> Rows:
    """The rows that a question asks for. Nothing is sorted: there is an index in the order that it reads in."""
    table = TABLES[question.kind]
    # An index holds the rows of one key by time; those of all keys stand by id, which begins with the time.
    order = (table.c.time, table.c.id) if question.key else (table.c.id,)
    shown = _SHOWN[question.kind]
    asked = select(*shown).where(*_chosen(table, question)).limit(question.most)
    if question.after is not None:
        last = (question.after.time, question.after.id) if question.key else (question.after.id,)
        here, there = tuple_(*order), tuple_(*last)
        asked = asked.where(here < there if question.newest_first else here > there)
    asked = asked.order_by(*(column.desc() if question.newest_first else column.asc() for column in order))
    return Rows(tuple(str(column.name) for column in shown), [list(row) for row in connection.execute(asked)])


def story(connection: Connection, question: StoryQuestion) -> Story:
    """One request's row, and those of its attempts and tools. Whatever else is known of it by its id belongs here."""
    row = _request(connection, REQUESTS.c.id == question.id, question)
    row = row or _request(connection, REQUESTS.c.request_id == question.id, question)
    if row is None:
        return Story()
    attempts, tools = (
        select(table).where(table.c.request == row["id"]).order_by(table.c.time, table.c.id)
        for table in (ATTEMPTS, TOOLS)
    )
    tried, ran = ([dict(found) for found in connection.execute(asked).mappings()] for asked in (attempts, tools))
    return Story(dict(row), _in_order(tried), ran)


def _in_order(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Attempts by time, with the one of the request's row, which has the request's time, behind those that were lost
    with a replica before it.
    """
    if not attempts or attempts[0]["id"] != attempts[0]["request"]:
        return attempts
    held, others = attempts[0], attempts[1:]
    lost = sum(1 for _ in takewhile(lambda row: row["role"] == "first", others))
    return [*others[:lost], held, *others[lost:]]


def _request(connection: Connection, named: ColumnElement[bool], question: StoryQuestion) -> RowMapping | None:
    asked = select(*_SHOWN["requests"]).where(named)
    if question.key:
        asked = asked.where(REQUESTS.c.key == question.key)
    return connection.execute(asked.order_by(REQUESTS.c.time.desc()).limit(1)).mappings().first()


def _chosen(table: Table, question: RowsQuestion) -> list[ColumnElement[bool]]:
    columns: Any = table.c
    chosen = [columns.time >= question.since, columns.time < question.until]
    if question.key:
        chosen.append(columns.key == question.key)
    else:
        chosen += [columns.id >= id_at(question.since - _SLACK), columns.id < id_at(question.until + _SLACK)]
    return chosen + [columns[name] == value for name, value in question.only.items() if name in FILTERS]
