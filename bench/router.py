"""What a routing decision costs: CPU of `choose` by the number of candidates, as a table.

Run: `python -m bench.router`. It needs no cluster and no provider.
"""

import random
import time
from typing import NamedTuple

from pipelines.routing.choose import Ask, choose
from pipelines.routing.table import ModelCard, Performance, ProviderEntry, ReplicaEntry, Table

ROUNDS = 2000


class Row(NamedTuple):
    """One line of the table; times in microseconds of CPU a decision."""

    candidates: int
    wanted: str
    median: float
    worst: float


def table_of(candidates: int, models: int = 5) -> Table:
    """A table with so many models, a handful a provider, all measured."""
    source = random.Random(7)
    providers = []
    for index in range(0, candidates, models):
        names = [f"model-{number}" for number in range(index, min(index + models, candidates))]
        cards = tuple(
            ModelCard(
                name,
                context=128_000,
                vision=True,
                input_price=source.random() * 10,
                output_price=source.random() * 30,
                quality=source.random(),
            )
            for name in names
        )
        performance = {
            name: Performance(3, 100, source.random() / 10, source.random(), 20 + source.random() * 100, 250.0)
            for name in names
        }
        replicas = tuple(ReplicaEntry(f"r{n}", f"http://10.0.0.{n}:1", n, 0, 100) for n in range(3))
        providers.append(
            ProviderEntry(f"provider{index}", "ready", models=cards, replicas=replicas, performance=performance)
        )
    return Table("epoch", 1, True, tuple(providers))


def measure(candidates: int, wanted: str, rounds: int = ROUNDS) -> Row:
    """Median and worst (99th percentile) CPU time of a decision."""
    table = table_of(candidates)
    ask = Ask((wanted,), prompt_tokens=1000, allowed=("provider*/*",))
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        _ = choose(table, ask, 0.0, random.random).explain
        times.append((time.process_time_ns() - began) / 1000)
    times.sort()
    return Row(candidates, wanted, times[rounds // 2], times[int(rounds * 0.99)])


def main() -> None:
    """Print the table."""
    print("candidates  wanted                CPU us p50   CPU us p99")
    for candidates in (1, 10, 50, 200):
        for wanted in ("auto", "provider0/model-0"):
            row = measure(candidates, wanted)
            print(f"{row.candidates:>10}  {row.wanted:<20}  {row.median:>10.1f}  {row.worst:>11.1f}")


if __name__ == "__main__":
    main()
