"""Callers' keys: `penstock keys …`.

Above it: `commands`. Below it: `talking`, `tables`. Outside it: what a key may do (`deployments.pages.key_pages`).
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from deployments.cli.options import AsJson
from deployments.cli.tables import Column, facts, moment, money, note, number, raw, table
from deployments.cli.talking import Failure, ask, segment

app = typer.Typer(no_args_is_help=True, help="Callers' keys, for whoever has the right `keys`.")

NONE = "none"
"""Takes a limit away."""

_PERIODS = ("day", "month", "total")
_SPAN = re.compile(r"(\d{1,5})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}

Named = Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]
Expires = Annotated[str | None, typer.Option(help="When it ends: 2026-12-31T00:00:00Z, or in so long: 90d, 12h.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model that it may ask (`openai/*`); repeatable.")]
Tools = Annotated[list[str] | None, typer.Option("--tool", help="A tool that it may use; repeatable.")]
Lanes = Annotated[list[str] | None, typer.Option("--lane", help="direct or routed; repeatable.")]
Rights = Annotated[list[str] | None, typer.Option("--right", help="admin, keys, usage, …; repeatable.")]
Metadata = Annotated[list[str] | None, typer.Option("--metadata", help="name=value; repeatable.")]
Requests = Annotated[str | None, typer.Option("--requests-per-minute", help="A number, or `none`.")]
Tokens = Annotated[str | None, typer.Option("--tokens-per-minute", help="A number, or `none`.")]
Streams = Annotated[str | None, typer.Option(help="Streams at once, or `none`.")]
BudgetDay = Annotated[str | None, typer.Option("--budget-day", help="US dollars a day (UTC), or `none`.")]
BudgetMonth = Annotated[str | None, typer.Option("--budget-month", help="US dollars a month (UTC), or `none`.")]
BudgetTotal = Annotated[str | None, typer.Option("--budget-total", help="US dollars ever, or `none`.")]
Priority = Annotated[int | None, typer.Option(help="From -100 to 100.")]
Cache = Annotated[float | None, typer.Option(help="Seconds for which answers may be given again; 0: never.")]


@app.command("list")
def list_keys(
    revoked: Annotated[bool, typer.Option(help="Revoked ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """All keys."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = ask("GET", "/v1/keys", limit=200, after=after, revoked="true" if revoked else None)
        found += page["data"]
        after = page.get("last_id")
        if not page["has_more"]:
            break
    if as_json:
        raw({"object": "list", "data": found})
        return
    columns = (
        Column("ID"),
        Column("NAME"),
        Column("STATUS"),
        Column("SPENT", right=True),
        Column("BUDGET", right=True),
        Column("A MINUTE", wide=True),
        Column("MODELS", wide=True),
        Column("RIGHTS", wide=True),
        Column("EXPIRES", wide=True),
    )
    table(columns, [_row(key) for key in found])


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    expires: Expires = None,
    model: Models = None,
    tool: Tools = None,
    lane: Lanes = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    streams: Streams = None,
    budget_day: BudgetDay = None,
    budget_month: BudgetMonth = None,
    budget_total: BudgetTotal = None,
    priority: Priority = None,
    cache: Cache = None,
    right: Rights = None,
    metadata: Metadata = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown now, and never again."""
    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute, "streams": streams}
    budget = {"day": budget_day, "month": budget_month, "total": budget_total}
    lists = {"models": model, "tools": tool, "lanes": lane, "rights": right}
    body = _body(expires, limits, budget, lists, priority, cache, metadata)
    _secret(ask("POST", "/v1/keys", {"name": name, **body}), as_json=as_json)


@app.command()
def update(
    key: Named,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires: Expires = None,
    model: Models = None,
    tool: Tools = None,
    lane: Lanes = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    streams: Streams = None,
    budget_day: BudgetDay = None,
    budget_month: BudgetMonth = None,
    budget_total: BudgetTotal = None,
    priority: Priority = None,
    cache: Cache = None,
    right: Rights = None,
    metadata: Metadata = None,
    as_json: AsJson = False,
) -> None:
    """Change a key. What is not named stays; `none` takes a limit away, a list is replaced."""
    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute, "streams": streams}
    budget = {"day": budget_day, "month": budget_month, "total": budget_total}
    lists = {"models": model, "tools": tool, "lanes": lane, "rights": right}
    body = _body(expires, limits, budget, lists, priority, cache, metadata)
    if name is not None:
        body["name"] = name
    if not body:
        raise Failure("there is nothing to change: see penstock keys update --help")
    _shown(ask("PATCH", f"/v1/keys/{segment(key)}", body), as_json=as_json)


@app.command()
def show(key: Named, as_json: AsJson = False) -> None:
    """One key."""
    _shown(ask("GET", f"/v1/keys/{segment(key)}"), as_json=as_json)


@app.command()
def revoke(
    key: Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a key for good."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Revoke {key}?", abort=True, err=True)
    answer = ask("DELETE", f"/v1/keys/{segment(key)}")
    if as_json:
        raw(answer)
    else:
        note(f"{answer['id']} ({answer['name']}) is revoked")


@app.command()
def rotate(
    key: Named,
    overlap: Annotated[str | None, typer.Option(help="How long the old secret stays valid: 1d, 0m.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret. It is shown now, and never again."""
    body = {} if overlap is None else {"overlap": _seconds(overlap)}
    _secret(ask("POST", f"/v1/keys/{segment(key)}/rotate", body), as_json=as_json)


def _body(
    expires: str | None,
    limits: dict[str, str | None],
    budget: dict[str, str | None],
    lists: dict[str, list[str] | None],
    priority: int | None,
    cache: float | None,
    metadata: list[str] | None,
) -> dict[str, Any]:
    """What was given, as the API takes it."""
    body: dict[str, Any] = {name: _limit(name, text) for name, text in limits.items() if text is not None}
    money = {period: None if text == NONE else text for period, text in budget.items() if text is not None}
    body |= {"budget": money} if money else {}
    body |= {name: None if values == [NONE] else values for name, values in lists.items() if values}
    body |= {name: value for name, value in (("priority", priority), ("cache", cache)) if value is not None}
    if expires is not None:
        body["expires"] = None if expires == NONE else _date(expires)
    if metadata:
        body["metadata"] = dict(_pair(text) for text in metadata)
    return body


def _limit(name: str, text: str) -> int | None:
    if text == NONE:
        return None
    if not text.isdecimal():
        raise Failure(f"--{name.replace('_', '-')} is a number, or none")
    return int(text)


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Failure("--metadata is written name=value; name= takes it away")
    return name, value or None


def _seconds(text: str) -> int:
    if not (span := _SPAN.fullmatch(text)):
        raise Failure(f"{text!r} is no length of time: 30m, 12h, 90d")
    return int(span[1]) * _SECONDS[span[2]]


def _date(text: str) -> str:
    if _SPAN.fullmatch(text):
        return (datetime.now(UTC) + timedelta(seconds=_seconds(text))).isoformat(timespec="seconds")
    return f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def _secret(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        raw(key)
        return
    note(f"{key['id']} ({key['name']}): this is its secret; it is not shown again")
    sys.stdout.write(key["secret"] + "\n")
    if key.get("rotated"):
        note(f"the old one is valid until {moment(key['rotated']['old_until'])} UTC")


def _shown(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        raw(key)
        return
    spent, budget = key["spent"], key["budget"]
    facts(
        [
            ("id", key["id"]),
            ("name", key["name"]),
            ("status", key["status"]),
            ("created", moment(key["created"])),
            ("expires", moment(key["expires"])),
            ("revoked", moment(key["revoked"])),
            ("old secret until", moment(key["rotated"]["old_until"]) if key.get("rotated") else ""),
            *((f"spent, {period}", _of(spent[period], budget[period])) for period in _PERIODS),
            ("requests a minute", number(key["requests_per_minute"])),
            ("tokens a minute", number(key["tokens_per_minute"])),
            ("streams", number(key["streams"])),
            ("models", ", ".join(key["models"] or ())),
            ("tools", ", ".join(key["tools"] or ())),
            ("lanes", ", ".join(key["lanes"])),
            ("rights", ", ".join(key["rights"])),
            ("priority", str(key["priority"])),
            ("recovery", key["recovery"]),
            ("cache", f"{key['cache']:g} s" if key.get("cache") else ""),
            ("metadata", ", ".join(f"{name}={value}" for name, value in key["metadata"].items())),
        ]
    )


def _of(spent: str, budget: str | None) -> str:
    return money(spent) if budget is None else f"{money(spent)} of {money(budget)}"


def _row(key: dict[str, Any]) -> list[str]:
    budget = next(((period, key["budget"][period]) for period in _PERIODS if key["budget"][period] is not None), None)
    period = budget[0] if budget else "total"
    rates = ((key["requests_per_minute"], "requests"), (key["tokens_per_minute"], "tokens"))
    return [
        key["id"],
        key["name"],
        key["status"],
        money(key["spent"][period]),
        f"{money(budget[1])} {_EACH[period]}" if budget else "",
        ", ".join(f"{number(value)} {word}" for value, word in rates if value is not None),
        ", ".join(key["models"] or ("all",)),
        ", ".join(key["rights"]),
        moment(key["expires"]),
    ]


_EACH = {"day": "a day", "month": "a month", "total": "in all"}
