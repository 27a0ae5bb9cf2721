"""Everything of `bench.routing`, printed: `python -m bench.routing [FILE]`; FILE has the form of `outcomes.csv`."""

import os

# One core: the machine that is measured does other things too. It is read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.routing import drift, overhead, plot, speed, table
from bench.routing.outcomes import SHARED, fingerprint, read
from pipelines.routing.learning.weights import SHIPPED

BUILD = Path(__file__).resolve().parents[2] / "build"
"""Where pictures go."""


def main(arguments: Sequence[str]) -> None:
    """Print the replay, the simulation, the cost of a decision and its share of a request; draw the simulation."""
    path = Path(arguments[0]) if arguments else SHARED
    if path.exists():
        replay(path)
    else:
        print(f"{path} is not there: no replay\n")
    regrets = drift.measured()
    print(drift.report(regrets))
    print(f"\nplotted: {plot.regrets(regrets, BUILD / 'routing-drift.html')}\n")
    print(speed.report(), "\n")
    print(asyncio.run(overhead.report()))


def replay(path: Path) -> None:
    """Print the table of the replay."""
    questions = read(path)
    seen = SHIPPED.source == fingerprint(path)
    print(f"{path.name}: {len(questions):,} questions; the shipped weights have {'' if seen else 'not '}seen it\n")
    rows = table.measured(questions, seen, lambda said: print(said, file=sys.stderr))
    print(table.markdown(rows), "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
