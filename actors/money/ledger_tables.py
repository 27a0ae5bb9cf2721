"""The ledger's tables as the present code knows them, and rows to their columns and back.

    ledger_requests                    a row each (`pipelines.ledger`), found by id, by key and time; the first attempt
                                       stands in it if that gave the answer
    ledger_further_attempts            the other attempts, found by id, by key and time, by request
    ledger_attempts                    a view: all attempts, wherever they stand, in the same columns
    ledger_hours                       their sums (`pipelines.ledger.SUMS`) by hour and group: what reports read
    ledger_reservations                provisional rows, encoded, of what is under way
    tool_calls                         one row for each call of a tool that runs here
    approvals                          calls that wait for a person, with the conversation that they belong to
    ledger_states                      what other actors keep here (`ledger_states`): pieces of bytes by owner and name
    keys                               the callers' keys (`pipelines.keys`), each with the hash of its secret

Ids begin with the time in milliseconds (`deployments.identity`): the primary key is the index by time as well, and
new rows stand together at its end. An attempt that stands in a request's row is read with the request's id and time,
so that the view has its order from the same indexes.

An attempt stands in one place: triggers refuse a row that would be the second one, as a primary key does.

Texts are cut to what a column is for, and hold no NUL, for which PostgreSQL has no place.

Above it: `ledger_store`, `migrations`. Below it: sqlalchemy, `pipelines.ledger`. Outside it: transactions.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from pipelines.ledger import SUMS, AttemptRow, FirstAttempt, Group, RequestRow, Row, ToolRow
from pipelines.pricing import CURRENCY
from pipelines.routing.table import Bill

VERSION_TABLE = "ledger_version"
"""Alembic's own; named so that the ledger can share a database."""

LONGEST_NAME = 128
"""Characters of what is in an index: five of them must fit into a page of PostgreSQL's B-trees (2,704 bytes)."""

LONGEST_TEXT = 1024
MOST_METADATA = 16

METADATA = MetaData()
VIEWS = MetaData()


def _text(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False)


def _count(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False)


def _common() -> list[Column[Any]]:
    return [
        Column("id", Text, primary_key=True),
        Column("time", Float(53), nullable=False),
        *map(_text, ("request_id", "key", "tag", "task", "provider", "model", "answered")),
        *map(_count, ("input", "cached_read", "cache_write", "output", "reasoning")),
        Column("estimated", Boolean, nullable=False),
        Column("cost", BigInteger),
        *map(_text, ("currency", "basis", "prices")),
        Column("queued", Float(53), nullable=False),
        Column("first_output", Float(53)),
        Column("seconds", Float(53), nullable=False),
        Column("tokens_per_second", Float(53)),
        _text("outcome"),
        Column("retries", Integer, nullable=False),
        Column("provisional", Boolean, nullable=False),
    ]


REQUESTS = Table(
    "ledger_requests",
    METADATA,
    *_common(),
    *map(_text, ("lane", "dialect", "operation", "asked", "route")),
    Column("stream", Boolean, nullable=False),
    _text("metadata"),
    Column("status", Integer, nullable=False),
    *map(_count, ("received", "sent")),
    Column("attempt", Text),
    *(Column(f"attempt_{name}", Float(53)) for name in ("queued", "first_output", "seconds")),
    Column("attempt_outcome", Text),
    Column("attempt_skipped", Integer),
    Index("ledger_requests_by_key", "key", "time"),
    Index("ledger_requests_by_request_id", "request_id"),
    sqlite_with_rowid=False,
)

OF_ATTEMPT = ("attempt", *(f"attempt_{field}" for field in FirstAttempt.__struct_fields__ if field != "id"))
"""The columns of a request's row for the attempt that stands in it, in the order of its fields."""


def _of_attempts() -> list[Column[Any]]:
    return [*_common(), *map(_text, ("request", "role")), Column("skipped", Integer, nullable=False)]


ATTEMPTS = Table("ledger_attempts", VIEWS, *_of_attempts())

FURTHER_ATTEMPTS = Table(
    "ledger_further_attempts",
    METADATA,
    *_of_attempts(),
    Index("ledger_attempts_by_request", "request"),
    Index("ledger_attempts_by_key", "key", "time"),
    sqlite_with_rowid=False,
)

HOURS = Table(
    "ledger_hours",
    METADATA,
    Column("hour", Integer, nullable=False),
    *map(_text, Group._fields[1:]),
    *map(_count, SUMS),
    PrimaryKeyConstraint(*Group._fields),
    sqlite_with_rowid=False,
)

RESERVATIONS = Table(
    "ledger_reservations",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("reporter"),
    Column("row", LargeBinary, nullable=False),
)


KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    *map(_text, ("name", "hash", "old_hash")),
    Column("old_until", Float(53), nullable=False),
    Column("created", Float(53), nullable=False),
    Column("revoked", Float(53)),
    _count("changed"),
    _text("settings"),
    Index("keys_by_hash", "hash", unique=True),
)

TOOLS = Table(
    "tool_calls",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("time", Float(53), nullable=False),
    *map(_text, ("request_id", "key", "request")),
    Column("turn", Integer, nullable=False),
    *map(_text, ("call", "tool", "source", "arguments", "preview", "decisions", "outcome")),
    Column("seconds", Float(53), nullable=False),
    _count("size"),
    Column("cut", Boolean, nullable=False),
    Column("provisional", Boolean, nullable=False),
    Index("tool_calls_by_request", "request"),
    Index("tool_calls_by_key", "key", "time"),
    sqlite_with_rowid=False,
)

APPROVALS = Table(
    "approvals",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("key"),
    Column("expires", Float(53), nullable=False),
    Column("held", LargeBinary, nullable=False),
    Index("approvals_by_key", "key"),
)

STATES = Table(
    "ledger_states",
    METADATA,
    _text("owner"),
    _text("name"),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("owner", "name"),
)

TABLES: Mapping[type[Row], Table] = {AttemptRow: FURTHER_ATTEMPTS, RequestRow: REQUESTS, ToolRow: TOOLS}

_NO_ATTEMPT = (None,) * len(OF_ATTEMPT)

_LONGEST = dict.fromkeys(("id", "request", "request_id", *Group._fields[1:]), LONGEST_NAME)
_TEXTS = {
    kind: tuple(
        (field.name, _LONGEST.get(field.name, LONGEST_TEXT))
        for field in msgspec.structs.fields(kind)
        if field.type is str
    )
    for kind in (AttemptRow, RequestRow, ToolRow)
}


def id_at(seconds: float) -> str:
    """Before every id of that time (seconds since 1970) or later: ids begin with it, in milliseconds."""
    return f"{max(0, int(seconds * 1000)):012x}"


def clean(row: Row) -> Row:
    """The row with every text cut to its column's size, and without what no database takes."""
    if not isinstance(row, ToolRow) and len(row.request_id) <= LONGEST_NAME and _is_plain(row):
        return row
    changed: dict[str, Any] = {}
    for name, longest in _TEXTS[type(row)]:
        text = getattr(row, name)
        if len(text) > longest or "\0" in text:
            changed[name] = _cut(text, longest)
    if isinstance(row, RequestRow) and row.metadata:
        pairs = list(row.metadata.items())[:MOST_METADATA]
        changed["metadata"] = {_cut(name): _cut(text) for name, text in pairs}
    answered = row.bill.answered
    if len(answered) > LONGEST_TEXT or "\0" in answered:
        changed["bill"] = msgspec.structs.replace(row.bill, answered=_cut(answered))
    return msgspec.structs.replace(row, **changed) if changed else row


def _is_plain(row: Row) -> bool:
    """Whether nothing of it can be too long or wrong: all of it together is short, as it usually is."""
    said = row.key + row.tag + row.task + row.provider + row.model + row.bill.answered + row.outcome
    if isinstance(row, RequestRow):
        if row.metadata or len(row.route) > LONGEST_TEXT:
            return False
        said += row.asked + row.operation
        return len(said) <= LONGEST_NAME and "\0" not in said and "\0" not in row.route
    return len(said) <= LONGEST_NAME and "\0" not in said


def _cut(text: str, longest: int = LONGEST_TEXT) -> str:
    return text.replace("\0", "\ufffd")[:longest]


def columns(row: Row) -> tuple[Any, ...]:
    """A clean row as the values of its table, in the order of its columns."""
    if isinstance(row, ToolRow):
        return tuple(getattr(row, column.name) for column in TOOLS.columns)
    bill = row.bill
    common = (
        row.id,
        row.time,
        row.request_id,
        row.key,
        row.tag,
        row.task,
        row.provider,
        row.model,
        bill.answered,
        bill.input,
        bill.cached_read,
        bill.cache_write,
        bill.output,
        bill.reasoning,
        bill.estimated,
        bill.cost,
        CURRENCY,
        bill.basis,
        bill.prices,
        row.queued,
        row.first_output,
        row.seconds,
        row.tokens_per_second,
        row.outcome,
        row.retries,
        row.provisional,
    )
    if isinstance(row, AttemptRow):
        return (*common, row.request, row.role, row.skipped)
    metadata = msgspec.json.encode(row.metadata).decode() if row.metadata else ""
    said = (row.lane, row.dialect, row.operation, row.asked, row.route)
    attempt = _NO_ATTEMPT if row.attempt is None else msgspec.structs.astuple(row.attempt)
    return (*common, *said, row.stream, metadata, row.status, row.received, row.sent, *attempt)


def row_of(kind: type[Row], values: Mapping[str, Any]) -> Row:
    """A table's values as the row that they came from."""
    given = dict(values)
    if kind is ToolRow:
        return ToolRow(**given)
    bill = Bill(**{field.name: given[field.name] for field in msgspec.structs.fields(Bill)})
    if kind is RequestRow:
        held = tuple(given[name] for name in OF_ATTEMPT)
        given["attempt"] = (
            FirstAttempt(**dict(zip(FirstAttempt.__struct_fields__, held, strict=True))) if held[0] else None
        )
        given["metadata"] = msgspec.json.decode(given["metadata"]) if given["metadata"] else None
    own = {field.name: given[field.name] for field in msgspec.structs.fields(kind) if field.name != "bill"}
    return kind(**own, bill=bill)
