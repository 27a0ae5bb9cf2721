"""What a routing decision costs: CPU of a gateway's own way from a call to its decision, by the number of candidates.

Run: `python -m bench.router`. It needs no cluster and no provider. `auto` is read, its features are computed and its
qualities predicted, as on every such request; a model that was named is not. bench.routing has the parts one by one.
"""

import random
import time
from typing import NamedTuple

import msgspec
import numpy

from actors.routing.client import RouterClient
from deployments.choosing import Chooser
from deployments.config import GatewaySettings
from pipelines.calls import Call, Caller
from pipelines.dialects import DIALECTS
from pipelines.routing.learning.features import width
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.view import view
from pipelines.routing.learning.weights import SHIPPED
from pipelines.routing.table import ModelCard, Performance, ProviderEntry, Published, ReplicaEntry, Table

ROUNDS = 1000

QUESTION = (
    "Write a function in Python that merges two sorted lists into one, and explain why its running time is linear. "
    "It must not change its arguments, and must work for lists of any type that can be compared."
)
"""A usual prompt: 49 tokens. A long one takes longer to read, up to what `bench.routing` prints."""


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


def chooser_of(table: Table) -> Chooser:
    """A gateway's chooser that knows the table, and a view of its models."""
    router = RouterClient("gateway")
    router.table = table
    chooser = Chooser(GatewaySettings(), router)
    priors = {f"{entry.name}/{card.name}": card.quality for entry in table.providers for card in entry.models}
    seen = view(Learning(width(len(SHIPPED.topics))), priors, numpy.random.default_rng(1).standard_normal, 0.0)
    chooser.learned(Published("epoch", 1, msgspec.msgpack.encode(seen)))
    return chooser


def call_of(wanted: str) -> Call:
    """A chat that asks for `wanted`."""
    body = {"model": wanted, "messages": [{"role": "user", "content": QUESTION}]}
    return Call("id", "openai_chat", body, DIALECTS["openai_chat"].read_request(body), Caller("key"), "routed")


def measure(candidates: int, wanted: str, rounds: int = ROUNDS) -> Row:
    """Median and worst (99th percentile) CPU time of a decision, with its explanation for the header."""
    chooser, call = chooser_of(table_of(candidates)), call_of(wanted)
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        _ = chooser.choose(call).decision.explain
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
