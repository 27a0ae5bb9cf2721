"""Four small tools to begin with: `tools: {functions: [actors.tools.example_tools]}` in the gateway's arguments.

The two for files see nothing until a directory is named for them (`tools.policies`, guards of the kind `path`).

Above it: whoever configures them. Below it: `pipelines.tools.functions`, `pipelines.tools.arithmetic`, files.
"""

import datetime
import zoneinfo
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipelines.tools.arithmetic import evaluate
from pipelines.tools.catalogue import ArgumentGuard
from pipelines.tools.functions import tool

MOST_ENTRIES = 1000
"""Entries of a directory that are listed."""

_INSIDE = (ArgumentGuard("path", "path"),)


@tool(toolset="examples", seconds=5)
def calculator(expression: str) -> int | float:
    """Works out an arithmetic expression exactly.

    Args:
        expression: In Python's notation, for instance `(2 + 3) * sqrt(16)`.
    """
    return evaluate(expression)


@tool(toolset="examples", seconds=5)
def clock(timezone: str = "UTC") -> str:
    """Tells the date and the time of day now.

    Args:
        timezone: Name in the IANA database, for instance `Europe/Berlin`.
    """
    try:
        zone = zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"there is no time zone {timezone!r}") from None
    return datetime.datetime.now(zone).strftime("%A, %Y-%m-%d %H:%M:%S %Z")


@tool(toolset="examples", seconds=10, guards=_INSIDE)
def read_file(path: str, first: int = 1, lines: int = 500) -> str:
    """Reads lines of a text file.

    Args:
        path: The file.
        first: Number of the first line, counted from 1.
        lines: How many lines.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(islice(file, max(0, first - 1), max(0, first - 1) + max(0, lines)))


@tool(toolset="examples", seconds=10, guards=_INSIDE)
def list_files(path: str = ".") -> str:
    """Lists a directory: one entry a line, directories with a slash, files with their size in bytes.

    Args:
        path: The directory.
    """
    return "\n".join(islice(_entries(Path(path)), MOST_ENTRIES))


def _entries(folder: Path) -> Iterator[str]:
    for entry in sorted(folder.iterdir()):
        yield f"{entry.name}/" if entry.is_dir() else f"{entry.name}\t{entry.lstat().st_size}"
