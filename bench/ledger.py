"""What the ledger costs: CPU of every process for a request and the wait at the end of an answer; or what asking costs.

    python -m bench.ledger [postgresql://…]
    python -m bench.ledger --rows 10000000 [postgresql://…]

64 callers on one replica's bookkeeping, with the real actor in a Ray cluster of its own; between two requests each
sleeps for about so long as an answer may take (half as long to half as long again, or they would all end at once).
What a caller itself costs is measured without any bookkeeping and taken off. With `--rows` a month is
filled instead (`ledger_month`), for which ten million rows want some 6 GB of disk.

Above it: whoever runs it. Below it: the actor, `deployments.money.books`, `ledger_month`, `machine`. Outside it: HTTP,
providers.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import ray

from actors.directory import LEDGER, connect, stop
from actors.money.databases import address
from actors.money.ledger_client import LedgerClient
from actors.money.ledger_place import Place
from actors.money.ledger_store import LedgerStore
from bench import machine
from bench.ledger_month import fill, questions
from deployments.identity import new_id
from deployments.money.books import Books, Measures, attempted, opened
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Request
from pipelines.routing.table import Bill, Outcome

CALLERS = 64
SECONDS = 5.0
PAUSES = (0.0, 0.02, 0.1)

BILL = Bill(input=100, output=50, cost=12_345, basis="computed", prices="genai-prices 0.2.3", answered="gpt-5")
OUTCOME = Outcome("openai", "gpt-5", 0.5, first_output=0.1, input_tokens=100, output_tokens=50, bill=BILL)
REQUEST = Request("gpt-5", (), stream=True)


class Figures(NamedTuple):
    """Requests a second, CPU milliseconds a request, and the wait at the end in milliseconds."""

    rate: float
    cpu: float
    median: float
    slowest: float


async def measured(books: Books | None, pause: float) -> Figures:
    """64 callers for `SECONDS`; without books only themselves."""
    waits: list[float] = []
    ending = False
    chance = random.Random(1)

    async def caller(number: int) -> None:
        while not ending:
            call = Call(
                new_id(), "openai_chat", {}, REQUEST, Caller(f"k{number % 5}"), "direct", account=opened({}, None)
            )
            own = attempted(call, "first")
            if books is not None:
                await books.begin(call, 100)
                books.attempt(own, lambda: OUTCOME)
            await asyncio.sleep(pause * chance.uniform(0.5, 1.5))
            answer = Answer()
            answer.asked, answer.outcome = own, OUTCOME
            began = time.perf_counter()
            if books is None:
                await asyncio.sleep(0.005)
            else:
                await books.answered(call, answer, Measures(pause, 0.1, 100, 1_000))
                books.attempted(own, answer)
            waits.append((time.perf_counter() - began) * 1000)

    tasks = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    await asyncio.sleep(1.0)
    waits.clear()
    cpu = machine.cpu(machine.family(os.getpid()))
    await asyncio.sleep(SECONDS)
    cpu = machine.cpu(machine.family(os.getpid())) - cpu
    found = sorted(waits)
    ending = True
    await asyncio.gather(*tasks)
    return Figures(len(found) / SECONDS, cpu / len(found) * 1000, found[len(found) // 2], found[len(found) * 99 // 100])


async def overhead(directory: str, place: Place) -> None:
    """Print what a request costs."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    await asyncio.to_thread(connect, directory, LEDGER, place)
    client = LedgerClient("bench", directory, place)
    client.start()
    print(f"{'pause s':>8} {'requests/s':>11} {'CPU ms/request':>15} {'wait p50 ms':>12} {'p99':>7}")
    for pause in PAUSES:
        bare = await measured(None, pause)
        full = await measured(Books(client), pause)
        print(
            f"{pause:>8.2f} {full.rate:>11.0f} {full.cpu - bare.cpu:>15.3f} {full.median:>12.1f} {full.slowest:>7.1f}"
        )
    await client.close()
    await asyncio.to_thread(stop, LEDGER)
    ray.shutdown()


async def month(directory: str, url: str, rows: int) -> None:
    """Print how long questions take of a ledger with so many rows in a month. It is left as it is."""
    store = LedgerStore(address(url, directory))
    await store.open()
    await fill(store, rows)
    await questions(store)
    await store.close()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", default="", help="postgresql://… of an empty database; else a SQLite file")
    parser.add_argument("--rows", type=int, default=0, help="make so many and ask, in place of the rest")
    given = parser.parse_args()
    os.environ["PENSTOCK_LEDGER_URL"] = given.url
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(month(directory, given.url, given.rows) if given.rows else overhead(directory, Place()))


if __name__ == "__main__":
    main()
