"""How answers look on a terminal: tables that fit 80 columns and use more where there are more.

Above it: `commands`. Below it: rich. Outside it: asking.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDE = 120
"""Columns from which on a table shows what it can do without."""

_STATES = {
    "active": "green", "ready": "green", "ok": "green",
    "expired": "yellow", "draining": "yellow", "cancelled": "yellow", "unconfigured": "yellow",
    "revoked": "red", "unreachable": "red", "lost": "red",
}  # fmt: skip


class Column(NamedTuple):
    """wide, narrow: shown on such terminals only. right: set to the right, and whole.

    fold: broken into lines, and not cut. whole: neither.
    """

    name: str
    right: bool = False
    wide: bool = False
    narrow: bool = False
    fold: bool = False
    whole: bool = False


def console() -> Console:
    """Standard output."""
    return Console(highlight=False)


def complain(words: str) -> None:
    """One red line on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]{escape(words)}[/]")


def note(words: str) -> None:
    """One line on standard error, so that what is read by a script stays clean."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[dim]{escape(words)}[/]")


def raw(answer: Any) -> None:
    """The answer itself, for scripts."""
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None) -> None:
    """Rows under headings; a last one under a line where there is a total."""
    rows = list(rows)
    if not rows:
        note("nothing")
        return
    out = console()
    hidden = "narrow" if out.width >= WIDE else "wide"
    shown = [place for place, column in enumerate(columns) if not getattr(column, hidden)]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_footer=total is not None)
    for place in shown:
        column = columns[place]
        made.add_column(
            column.name,
            footer=f"[bold]{escape(total[place])}[/]" if total is not None else "",
            justify="right" if column.right else "left",
            # Half a number is a wrong one: where there is no room names are cut, or broken between words.
            no_wrap=column.right or column.whole,
            overflow="fold" if column.fold else "ellipsis",
        )
    for row in rows:
        made.add_row(*(painted(row[place]) for place in shown))
    _print(out, made)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; those without a value are left out."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            made.add_row(name, painted(value))
    _print(console(), made)


def painted(text: str) -> str:
    """A state in its colour; everything else as it is."""
    return f"[{_STATES[text]}]{text}[/]" if text in _STATES else escape(text)


def _print(out: Console, made: Table) -> None:
    """Without the spaces that fill the last column."""
    with out.capture() as captured:
        out.print(made)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def number(value: Any) -> str:
    """A count, in groups of three digits."""
    return "" if value is None else f"{value:,}"


def money(value: Any, unknown: int = 0) -> str:
    """US dollars, as short as they can be said to a thousandth of a cent. unknown: costs that are missing in it."""
    if value is None:
        return "unknown"
    dollars = float(value)
    text = f"${dollars:,.2f}" if dollars >= 100 or dollars == round(dollars, 2) else f"${dollars:,.5f}"
    if 0 < dollars < 0.00001:
        text = "<$0.00001"
    return f"{text} +?" if unknown else text


def seconds(value: Any) -> str:
    """A duration."""
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def moment(text: Any) -> str:
    """A time of the API to the second, without its zone: all of them are UTC."""
    return str(text)[:19].replace("T", " ") if text else ""
