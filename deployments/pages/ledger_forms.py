"""The ledger's sums and rows as callers read them: JSON, lines of JSON, CSV.

Money twice: `cost` is a number of US dollars, `cost_exact` the same to the last digit, a string. Both are null where
nobody knows the price.

Above it: `usage_pages`. Below it: `pipelines`. Outside it: HTTP.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipelines.conversation import Json
from pipelines.ledger import HOUR, Question
from pipelines.ledger_questions import Rows, Story
from pipelines.pricing import dollars, in_dollars

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take text for a formula. Source: OWASP, "CSV Injection"."""

_INTERNAL = frozenset(("provisional", "metadata"))
"""Columns that are no business of readers', or are told otherwise."""


def when(seconds: float, timespec: str = "milliseconds") -> str:
    """A time as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def money(nano: int | None) -> dict[str, Json]:
    """A cost, as a number and to the last digit."""
    if nano is None:
        return {"cost": None, "cost_exact": None}
    return {"cost": dollars(nano), "cost_exact": in_dollars(nano)}


def usage(question: Question, groups: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """A report: its span, its groups, and what they add up to."""
    names = [name for name in (groups[0] if groups else ()) if name not in question.by]
    total = {name: sum(group[name] for group in groups) for name in names}
    return {
        "object": "usage",
        "since": when(question.since, "seconds"),
        "until": when(question.until, "seconds"),
        "by": list(question.by),
        "data": [{**_names(group, question), **_sums(group)} for group in groups],
        "total": _sums(total) if total else None,
    }


def row(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Json]:
    """One row of the ledger."""
    return told(dict(zip(columns, values, strict=True)))


def told(values: Mapping[str, Any]) -> dict[str, Json]:
    """One row of the ledger, by column."""
    shown: dict[str, Json] = {}
    for name, value in values.items():
        if name == "cost":
            shown.update(money(value))
        elif name == "time":
            shown["time"] = when(value)
        elif name not in _INTERNAL:
            shown[name] = value
    if "metadata" in values:
        shown["metadata"] = msgspec.json.decode(values["metadata"]) if values["metadata"] else {}
    return shown


def story(found: Story) -> dict[str, Json]:
    """A request with its attempts, and what they cost together."""
    assert found.request is not None
    costs = [attempt["cost"] for attempt in found.attempts]
    known = [cost for cost in costs if cost is not None]
    return {
        "object": "request",
        **told(found.request),
        "total": {**money(sum(known)), "unknown_costs": len(costs) - len(known)},
        "attempts": [told(attempt) for attempt in found.attempts],
        "tools": [told(call) for call in found.tools],
    }


def json_lines(page: Rows) -> bytes:
    """Each row as a line of JSON."""
    return b"".join([msgspec.json.encode(row(page.columns, values)) + b"\n" for values in page.rows])


def csv_head(columns: Iterable[str]) -> bytes:
    """The names of the columns of `csv_lines`."""
    return _csv([_csv_columns(columns)])


def csv_lines(page: Rows) -> bytes:
    """Each row as a line. Costs are exact; nothing stands where there is nothing. Text that a spreadsheet would take
    for a formula has an apostrophe before it.
    """
    names = _csv_columns(page.columns)
    lines = []
    for values in page.rows:
        given = dict(zip(page.columns, values, strict=True))
        given["cost"] = None if given["cost"] is None else in_dollars(given["cost"])
        given["time"] = when(given["time"])
        lines.append([_harmless(given[name]) if name != "cost" else given[name] for name in names])
    return _csv(lines)


def _csv_columns(columns: Iterable[str]) -> list[str]:
    return [name for name in columns if name != "provisional"]


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _names(group: Mapping[str, Any], question: Question) -> dict[str, Json]:
    named: dict[str, Json] = {name: group[name] for name in question.by}
    if "day" in named:
        named["day"] = when(named["day"] * 24 * HOUR)[:10]
    if "hour" in named:
        named["hour"] = when(named["hour"] * HOUR, "seconds")
    return named


def _sums(group: Mapping[str, Any]) -> dict[str, Json]:
    return {
        "requests": group["requests"],
        "errors": group["failed"],
        "attempts": group["attempts"],
        "tokens": {name: group[name] for name in ("input", "cached_read", "cache_write", "output", "reasoning")},
        "estimated": group["estimated"],
        "bytes_sent": group["sent"],
        **money(group["cost"]),
        "unknown_costs": group["unknown_cost"],
    }
