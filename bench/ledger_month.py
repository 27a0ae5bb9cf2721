"""A ledger with a month in it, and how long it takes to answer: reports, pages of rows, one request's story.

The database makes the rows by itself, half of them requests and half their attempts, which stand in the requests' own,
and builds the indexes afterwards; the sums by the hour are then added up from those rows. An hour has a thousand
groups: 200 keys, each with its tag, task and provider, and with five models.

Every question goes the ledger's own way: the parameters of a query string, `ledger_answers`, and the form that a caller
reads. HTTP and the socket between replica and ledger are left out.

Above it: `bench.ledger`. Below it: `actors.money.ledger_store`, `deployments.pages.usage_query`,
`deployments.pages.ledger_forms`. Outside it: how rows come in.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, func, select

from actors.money.ledger_answers import answered
from actors.money.ledger_store import LedgerStore
from actors.money.ledger_tables import ATTEMPTS, HOURS, REQUESTS
from deployments.pages import ledger_forms, usage_query
from pipelines.ledger import HOUR, SUMS, Group, Question
from pipelines.ledger_questions import Inquiry, Rows, Story, StoryQuestion

FIRST, HOURS_A_MONTH = 498_600, 31 * 24
PIECE = 250_000
"""Rows of one statement."""

REPEATS = 3

COLUMNS = tuple(column.name for column in REQUESTS.c)

_DIALECTS = {
    "sqlite": {"hex": "printf('%0{width}x', {number})", "chance": "lower(hex(randomblob(16)))"},
    "postgresql": {"hex": "lpad(to_hex(({number})::bigint), {width}, '0')", "chance": "md5(({number})::text)"},
}
"""A number with leading zeros, and 32 digits that stand in no order, in the words of each database."""

_VALUES: Mapping[str, str] = {
    "id": "{id}",
    "time": "at / 1000.0",
    "request_id": "{chance}",
    "key": "'key-' || (i % 200)",
    "tag": "'tag-' || (i % 5)",
    "task": "'task-' || (i % 4)",
    "provider": "'provider-' || (i % 2)",
    "model": "'model-' || (i / 200 % 5)",
    "answered": "'model-' || (i / 200 % 5)",
    "input": "100 + i % 1000",
    "output": "10 + i % 300",
    "estimated": "i % 50 = 0",
    "cost": "CASE WHEN i % 40 = 0 THEN NULL ELSE 1000 * (i % 977) END",
    "currency": "'USD'",
    "basis": "'computed'",
    "prices": "'genai-prices 0.2.3'",
    "first_output": "0.3",
    "seconds": "1.0 + i % 7",
    "tokens_per_second": "50.0",
    "outcome": "CASE WHEN i % 33 = 0 THEN 'timeout' ELSE 'ok' END",
    "provisional": "false",
    "lane": "'routed'",
    "dialect": "'openai_chat'",
    "operation": "'chat'",
    "asked": "'auto'",
    "route": "'auto: provider-0/model-3 0.71 (quality 0.8, cost 0.6, time 0.7), then provider-1/model-5'",
    "stream": "true",
    "metadata": "''",
    "status": "200",
    "sent": "2000",
    "attempt": "{attempt}",
    "attempt_first_output": "0.3",
    "attempt_seconds": "1.0 + i % 7",
    "attempt_outcome": "CASE WHEN i % 33 = 0 THEN 'timeout' ELSE 'ok' END",
}
"""Each column of a request by its number `i` and its time `at` in milliseconds; the others are 0."""

_SUMS = {
    REQUESTS: {
        "requests": "count(*)",
        "failed": "sum(CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END)",
        "sent": "sum(sent)",
    },
    ATTEMPTS: {
        "attempts": "count(*)",
        "estimated": "sum(CASE WHEN estimated THEN 1 ELSE 0 END)",
        "unknown_cost": "sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END)",
        **{name: f"sum({name})" for name in ("input", "cached_read", "cache_write", "output", "reasoning")},
        "cost": "sum(coalesce(cost, 0))",
    },
}


class Asked(NamedTuple):
    """One question: its name, the inquiry, and how many lines a caller reads of the encoded answer."""

    name: str
    inquiry: Inquiry
    lines: Callable[[bytes], int]


async def fill(store: LedgerStore, rows: int) -> None:
    """Put so many rows into an empty ledger, half of them requests, and their sums."""
    began = time.perf_counter()
    kind = await store.read(lambda connection: connection.dialect.name)
    steps = [
        *(f"DROP INDEX {index.name}" for index in REQUESTS.indexes),
        *(_requests(kind, start, rows // 2) for start in range(0, rows // 2, PIECE)),
        _hours(),
    ]
    for step in steps:
        await store.change(partial(_run, step))
    await store.change(_index)
    counts = [await store.read(partial(_count, table)) for table in (REQUESTS, ATTEMPTS, HOURS)]
    print("{:,} requests, {:,} attempts, {:,} lines of sums".format(*counts), end="")
    print(f", made in {time.perf_counter() - began:.0f} s", flush=True)


async def questions(store: LedgerStore) -> None:
    """Print how long each question takes, the best of `REPEATS`."""
    for asked in await _asked(store):
        best, lines = float("inf"), 0
        for _ in range(REPEATS):
            began = time.perf_counter()
            lines = asked.lines(await answered(store, asked.inquiry))
            best = min(best, time.perf_counter() - began)
        print(f"{asked.name:<64} {lines:>6} lines {best:>8.3f} s", flush=True)


async def _asked(store: LedgerStore) -> list[Asked]:
    since, until = FIRST * HOUR, (FIRST + HOURS_A_MONTH) * HOUR
    month = {"since": f"{since:.0f}", "until": f"{until:.0f}"}
    found = []
    for by in (
        "",
        "key",
        "tag",
        "task",
        "provider",
        "model",
        "day",
        "hour",
        "key,day",
        "tag,model,provider",
        "key,model",
    ):
        question = usage_query.sums({**month, "by": by}, until)
        found.append(Asked(f"the month by {by or 'nothing'}", question, partial(_report, question)))
    mine = usage_query.sums({**month, "by": "day", "key": "key-7"}, until)
    found.append(Asked("the month of one key by day", mine, partial(_report, mine)))
    for name, chosen in {
        "the first page of all requests": {},
        "the first page of one key's": {"key": "key-7"},
        "the first page of those that timed out": {"outcome": "timeout"},
        "the first page of one model's, in the month's middle": {"model": "model-3", "until": f"{(since + until) / 2}"},
    }.items():
        found.append(Asked(name, usage_query.rows({**month, **chosen}, until), _page))
    some = await store.read(lambda connection: connection.execute(select(REQUESTS.c.request_id).limit(1)).scalar_one())
    found.append(Asked("one request and its attempts, by its x-request-id", StoryQuestion(id=some), _story))
    return found


def _report(question: Question, encoded: bytes) -> int:
    groups = msgspec.msgpack.decode(encoded, type=list[dict[str, Any]])
    msgspec.json.encode(ledger_forms.usage(question, groups))
    return len(groups)


def _page(encoded: bytes) -> int:
    page = msgspec.msgpack.decode(encoded, type=Rows)
    msgspec.json.encode([ledger_forms.row(page.columns, values) for values in page.rows])
    return len(page.rows)


def _story(encoded: bytes) -> int:
    story = msgspec.msgpack.decode(encoded, type=Story)
    msgspec.json.encode(ledger_forms.story(story))
    return 1 + len(story.attempts)


def _requests(kind: str, start: int, count: int) -> str:
    """The statement that makes the requests from number `start` on, `PIECE` of them, of `count` in the month."""
    words = _DIALECTS[kind]
    first, apart = FIRST * HOUR * 1000, HOURS_A_MONTH * HOUR * 1000 / count
    identity = " || ".join(words["hex"].format(width=width, number=of) for width, of in ((12, "at"), (20, "i")))
    given = {"id": identity, "attempt": f"'a' || {identity}", "chance": words["chance"].format(number="i")}
    values = [_VALUES.get(name, "0").format(**given) for name in COLUMNS]
    last = min(count, start + PIECE) - 1
    return (
        f"INSERT INTO ledger_requests ({', '.join(COLUMNS)}) WITH RECURSIVE numbers(i) AS "
        f"(SELECT {start} UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}), "
        f"moments AS (SELECT i, CAST({first:.0f} + i * {apart!r} AS BIGINT) AS at FROM numbers) "
        f"SELECT {', '.join(values)} FROM moments"
    )


def _hours() -> str:
    """The statement that adds the sums up from the rows."""
    hour = f"CAST(floor(time / {HOUR:.0f}) AS INTEGER)"
    groups = ", ".join(Group._fields[1:])
    parts = [
        f"SELECT {hour} AS hour, {groups}, {', '.join(f'{sums.get(name, 0)} AS {name}' for name in SUMS)} "
        f"FROM {table.name} GROUP BY 1, {groups}"
        for table, sums in _SUMS.items()
    ]
    sums = ", ".join(f"sum({name})" for name in SUMS)
    return (
        f"INSERT INTO ledger_hours (hour, {groups}, {', '.join(SUMS)}) "
        f"SELECT hour, {groups}, {sums} FROM ({' UNION ALL '.join(parts)}) AS parts GROUP BY hour, {groups}"
    )


def _run(words: str, connection: Connection) -> None:
    connection.exec_driver_sql(words)


def _index(connection: Connection) -> None:
    for index in REQUESTS.indexes:
        index.create(connection)
    if connection.dialect.name != "sqlite":
        # PostgreSQL does that by itself after a minute (autovacuum).
        connection.exec_driver_sql("ANALYZE")


def _count(table: Table, connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
