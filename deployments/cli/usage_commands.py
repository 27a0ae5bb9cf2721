"""What was used and what it cost: sums, requests, exports.

Above it: `commands`. Below it: `talking`, `tables`.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deployments.cli.options import AsJson, Model, OfKey, Outcome, Provider, Since, Tag, Task, Until
from deployments.cli.tables import Column, console, facts, moment, money, note, number, raw, seconds, table
from deployments.cli.talking import Failure, ask, download, segment

requests = typer.Typer(no_args_is_help=True, help="Requests, one by one.")


def usage(
    since: Since = None,
    until: Until = None,
    by: Annotated[str, typer.Option(help="Any of key, tag, model, provider, task, day, hour, with commas.")] = "day",
    key: OfKey = None,
    tag: Tag = None,
    model: Model = None,
    provider: Provider = None,
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Sums of requests, tokens and cost; of the last 30 days unless told otherwise."""
    asked = {"since": since, "until": until, "key": key, "tag": tag, "model": model, "provider": provider, "task": task}
    answer = ask("GET", "/v1/usage", by=by, **asked)
    if as_json:
        raw(answer)
        return
    columns = [
        *(Column(name.upper()) for name in answer["by"]),
        Column("REQUESTS", right=True),
        Column("ERRORS", right=True),
        Column("INPUT", right=True),
        Column("CACHED", right=True, wide=True),
        Column("OUTPUT", right=True),
        Column("REASONING", right=True, wide=True),
        Column("COST", right=True),
    ]
    names = [[str(group[name]) or "–" for name in answer["by"]] for group in answer["data"]]
    rows = [[*name, *_sums(group)] for name, group in zip(names, answer["data"], strict=True)]
    total = answer["total"]
    last = ["total", *([""] * (len(answer["by"]) - 1))] if answer["by"] else []
    table(columns, rows, total=[*last, *_sums(total)] if total and answer["by"] else None)
    if total and total["unknown_costs"]:
        note(f"+? {number(total['unknown_costs'])} attempts of unknown cost are not in it")


@requests.command("list")
def list_requests(
    since: Since = None,
    until: Until = None,
    key: OfKey = None,
    tag: Tag = None,
    model: Model = None,
    provider: Provider = None,
    task: Task = None,
    outcome: Outcome = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """The latest requests; at 120 columns with keys, tags, tokens and costs."""
    asked = {"since": since, "until": until, "key": key, "tag": tag, "model": model, "provider": provider}
    answer = ask("GET", "/v1/requests", **asked, task=task, outcome=outcome, limit=limit, cursor=cursor)
    if as_json:
        raw(answer)
        return
    columns = (
        Column("TIME", whole=True, wide=True),
        Column("TIME", whole=True, narrow=True),
        Column("REQUEST", fold=True, wide=True),
        Column("REQUEST", whole=True, narrow=True),
        Column("KEY", wide=True),
        Column("MODEL"),
        Column("TAG", wide=True),
        Column("OUTCOME", whole=True),
        Column("TOKENS", right=True, wide=True),
        Column("TOOK", right=True, wide=True),
        Column("COST", right=True, wide=True),
    )
    table(columns, [_request(row) for row in answer["data"]])
    if answer["has_more"]:
        note(f"there are more: --cursor {answer['next_cursor']}")


@requests.command()
def show(
    request: Annotated[str, typer.Argument(help="The answer's x-request-id, or the id of the row.")],
    as_json: AsJson = False,
) -> None:
    """One request's whole story."""
    answer = ask("GET", f"/v1/requests/{segment(request)}")
    if as_json:
        raw(answer)
        return
    total = answer["total"]
    facts(
        [
            ("request", answer["request_id"]),
            ("row", answer["id"]),
            ("time", moment(answer["time"])),
            ("key", answer["key"]),
            ("tag", answer["tag"]),
            ("lane", f"{answer['lane']}, {answer['operation'] or answer['dialect']}{', streamed' * answer['stream']}"),
            ("asked", answer["asked"]),
            ("answered", f"{answer['provider']}/{answer['model']}" if answer["provider"] else ""),
            ("route", answer["route"]),
            ("task", answer["task"]),
            ("outcome", answer["outcome"]),
            ("took", _took(answer)),
            ("tokens", _tokens(answer)),
            ("cost", money(total["cost"], total["unknown_costs"]) + " (cached)" * (answer["basis"] == "cached")),
            ("metadata", ", ".join(f"{name}={value}" for name, value in answer["metadata"].items())),
        ]
    )
    if answer["attempts"]:
        console().print()
        columns = (
            Column("ROLE"),
            Column("MODEL"),
            Column("OUTCOME"),
            Column("TRIES", right=True),
            Column("TIME", right=True),
            Column("FIRST", right=True, wide=True),
            Column("TOKENS", right=True, wide=True),
            Column("COST", right=True),
            Column("PRICES", wide=True),
        )
        table(columns, [_attempt(one) for one in answer["attempts"]])


def export(
    file: Annotated[str, typer.Argument(help="Where to; - for standard output.")],
    kind: Annotated[Literal["requests", "attempts"], typer.Option(help="Which rows.")] = "requests",
    form: Annotated[Literal["csv", "json"], typer.Option("--format", help="CSV, or lines of JSON.")] = "csv",
    since: Since = None,
    until: Until = None,
    key: OfKey = None,
    tag: Tag = None,
    model: Model = None,
    provider: Provider = None,
    task: Task = None,
    outcome: Outcome = None,
) -> None:
    """Write rows into a file, however many. A new file that cannot be finished is taken away again."""
    asked = {"since": since, "until": until, "key": key, "tag": tag, "model": model, "provider": provider, "task": task}
    sums = ask("GET", "/v1/usage", by="", **{**asked, "since": since or "0"})["total"]
    expected = sums[kind] if sums and not outcome else None
    with download("/v1/usage/export", kind=kind, format=form, outcome=outcome, **asked) as pieces, _written(file) as to:
        rows = _copied(pieces, to, expected, head=form == "csv")
    note(f"{number(rows)} rows" + (f" in {file}" if file != "-" else ""))


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """A file that appears whole, or not at all; what is there and no plain file (a device, a pipe) gets what comes."""
    if file == "-":
        yield sys.stdout.buffer
        return
    try:
        if Path(file).exists() and not Path(file).is_file():
            with open(file, "wb") as handle:
                yield handle
        else:
            # A link goes on leading to its file.
            with _drafted(Path(os.path.realpath(file))) as handle:
                yield handle
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None


@contextmanager
def _drafted(file: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `file` once it is whole, and goes away where it cannot be."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as handle:
            yield handle
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _copied(pieces: Iterator[bytes], to: BinaryIO, expected: int | None, *, head: bool) -> int:
    """How many lines were copied. On a terminal a bar shows how far it is."""
    shown = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
    )
    lines = size = 0
    with bar:
        task = bar.add_task("rows", total=expected)
        for piece in pieces:
            to.write(piece)
            size += len(piece)
            lines += piece.count(b"\n")
            bar.update(task, completed=max(0, lines - head))
    return max(0, lines - head)


def _sums(group: dict[str, Any]) -> list[str]:
    tokens = group["tokens"]
    return [
        number(group["requests"]),
        number(group["errors"]),
        number(tokens["input"]),
        number(tokens["cached_read"]),
        number(tokens["output"]),
        number(tokens["reasoning"]),
        money(group["cost"], group["unknown_costs"]),
    ]


def _request(row: dict[str, Any]) -> list[str]:
    """Narrow terminals have the row's own id: callers choose theirs as long as they like."""
    answered = f"{row['provider']}/{row['model']}" if row["provider"] else row["asked"]
    return [
        moment(row["time"]),
        moment(row["time"])[len("2000-") : -len(":00")],
        row["request_id"],
        row["id"],
        row["key"],
        answered,
        row["tag"],
        row["outcome"],
        number(row["input"] + row["output"]),
        seconds(row["seconds"]),
        "cached" if row["basis"] == "cached" else money(row["cost"]),
    ]


def _attempt(row: dict[str, Any]) -> list[str]:
    return [
        row["role"],
        f"{row['provider']}/{row['model']}" if row["provider"] else row["model"],
        row["outcome"],
        str(row["retries"] + 1),
        seconds(row["seconds"]),
        seconds(row["first_output"]),
        f"{number(row['input'])} + {number(row['output'])}",
        money(row["cost"]),
        row["prices"] or row["basis"],
    ]


def _took(row: dict[str, Any]) -> str:
    parts = [seconds(row["seconds"])]
    if row["first_output"] is not None:
        parts.append(f"first output after {seconds(row['first_output'])}")
    if row["tokens_per_second"]:
        parts.append(f"{row['tokens_per_second']:.0f} tokens/s")
    if row["queued"] >= 0.001:
        parts.append(f"waited {seconds(row['queued'])}")
    return ", ".join(parts)


def _tokens(row: dict[str, Any]) -> str:
    parts = [f"{number(row['input'])} in", f"{number(row['output'])} out"]
    parts += [f"{number(row[name])} {word}" for name, word in _KINDS if row[name]]
    return ", ".join(parts) + (" (estimated)" if row["estimated"] else "")


_KINDS = (("cached_read", "cached"), ("cache_write", "into the cache"), ("reasoning", "reasoning"))
