"""What one core bears, from the figures of `make bench`: the table of `docs/sizing.md`.

`python -m bench.sizing` reads `build/bench.json` and writes the table between its two markers.

Above it: the Makefile. Below it: nothing. Outside it: measuring.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "sizing.md"

BEGIN = "<!-- bench: begin (`make bench` writes what stands between the markers) -->"
END = "<!-- bench: end -->"

CHUNKS = 50
"""Chunks a second of a stream."""

UNARY, STREAMS = "unary, 16 callers", "s200"
"""The scenarios that the table is made of: the whole name, the beginning of one."""

FLOOR = "no gateway"


def table(measured: Mapping[str, Any]) -> str:
    """The table as Markdown, of what `bench` wrote: a row for each target that was measured."""
    figures = measured["figures"]
    chunk = {one["target"]: one["cpu"] for one in figures if one["scenario"].startswith(STREAMS)}
    request = {one["target"]: one["cpu"] for one in figures if one["scenario"] == UNARY}
    about = measured["about"]
    lines = [
        f"{about['processor']}, {about['cores']} cores, Python {about['python']}, Ray {about['ray']}, "
        f"revision {about['revision']}.",
        "",
        "| way | CPU µs a chunk | streams a core | CPU µs a request | requests a second and core |",
        "|---|---|---|---|---|",
    ]
    ways = [name for name in dict.fromkeys([*chunk, *request]) if name != FLOOR]
    rows = [f"| {name} | {_pair(chunk.get(name), CHUNKS)} | {_pair(request.get(name), 1)} |" for name in ways]
    return "\n".join([*lines, *rows])


def _pair(cost: float | None, units: int) -> str:
    """Microseconds of CPU a unit, and how many a core bears of what has so many units a second."""
    return "– | –" if not cost else f"{cost:.0f} | {1e6 / (cost * units):,.0f}"


def inserted(text: str, made: str) -> str:
    """`text` (the page) with the table between its markers. ValueError where a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page lacks a marker of the table")
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(inserted(PAGE.read_text(), table(json.loads(FIGURES.read_text()))))


if __name__ == "__main__":
    main()
