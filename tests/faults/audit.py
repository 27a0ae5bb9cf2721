"""Part 5, money: who keeps the ledger, who writes to it and where it writes are killed under load; then an audit.

Half of the kills hit a Penstock whose ledger is a SQLite file, the other half one with a PostgreSQL server of its own.
Each kill is SIGKILL, the victims take turns, and the next one dies when all of them are there again. Afterwards every
acknowledged answer must have exactly one settled row, with the upstream's own count of tokens.

Above it: `__main__`. Below it: `audit_load`, `audit_books`, `deaths`. Outside it: how long nobody is served.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx

from actors.money.databases import address
from actors.money.ledger_store import LedgerStore
from pipelines.pricing import NANO
from tests.actors.postgres import Postgres, postgres, programs
from tests.cluster.doors import client
from tests.faults.audit_books import Books, Verdict, compared, read
from tests.faults.audit_load import CALLERS, MODELS, Load, delivered
from tests.faults.deaths import REPLICAS, actor, healthy
from tests.faults.scene import LONG, PROVIDERS, Options, Scene, scene
from tests.faults.table import Sheet

COLUMNS = (("killed", 28), ("number", -6), ("answers since", -13), ("failed", -6), ("all there again after s", -23))

RUNS = 100

APART = 1.0
"""Seconds of load between two kills in which everything is there."""

AWAY = 1.0
"""Seconds that the database is down."""

SETTLED_WITHIN = 60.0
"""Seconds until the reservations of the dead are settled: a lease is 15."""

KEYS, BUDGET = 3, 1000
"""Keys, and dollars that each may spend."""

SHOWN = 10
"""Findings of a kind that are shown."""


class Victim(NamedTuple):
    """Whom a kill hits, and how."""

    name: str
    strike: Callable[[], None]


def victims(built: Scene, server: Postgres | None) -> list[Victim]:
    """Who takes turns. server: the database, unless it is a file."""
    found = []
    for provider in PROVIDERS:
        found += [
            Victim("the ledger actor", partial(_kill, partial(actor("Ledger"), built))),
            Victim(f"a replica of {provider.name}", partial(_kill, partial(built.replicas, provider.name))),
            Victim("a replica of the gateway", partial(_kill, partial(built.replicas, "gateway"))),
        ]
        if server is not None:
            found.append(Victim("PostgreSQL", partial(_restart, server)))
    return found


def _kill(find: Callable[[], list[int]]) -> None:
    os.kill(find()[0], signal.SIGKILL)


def _restart(server: Postgres) -> None:
    server.kill()
    time.sleep(AWAY)
    server.start()


async def kills(built: Scene, sheet: Sheet, load: Load, order: Sequence[Victim], runs: int) -> None:
    """So many, one after the other, each when all is there."""
    for number in range(runs):
        await asyncio.sleep(APART)
        victim, before = order[number % len(order)], len(load.asked)
        await asyncio.to_thread(victim.strike)
        began = time.monotonic()
        well = await healthy(built)
        since = load.asked[before:]
        failed = sum(not one.acknowledged for one in since)
        cells = [victim.name, number + 1, len(since), failed, f"{time.monotonic() - began:.1f}"]
        sheet.row(cells, [] if well else ["not everything is there again"])


async def audited(built: Scene, sheet: Sheet, server: Postgres | None, url: str, runs: int) -> None:
    """Load, kills, and the audit of one ledger."""
    async with client(built.running.listener()) as http:
        if not await healthy(built):
            raise RuntimeError("not everything came up")
        keys = [await _key(http, number) for number in range(KEYS)]
        load = Load(built, keys)
        load.start()
        await kills(built, sheet, load, victims(built, server), runs)
        asked = await load.stop()
        books = await _settled(LedgerStore(address(url, built.running.state)))
        spent = {key: await _spent(http, key) for key, _ in keys}
    log = await asyncio.to_thread(built.upstream.log)
    told(sheet, compared(asked, delivered(log.requests), books, spent))


def told(sheet: Sheet, verdict: Verdict) -> None:
    """Print what was found."""
    print()
    for name, count in verdict.figures.items():
        print(f"    {name:<36} {count:>10,}")
    findings = {"lost": verdict.lost, "doubled": verdict.doubled, "wrong": verdict.wrong}
    for name, found in findings.items():
        sheet.violations += found[:SHOWN]
        for line in found[:SHOWN]:
            print(f"      {name}: {line}")
    print(f"\n    {', '.join(f'{name} {len(found)}' for name, found in findings.items())}\n", flush=True)


async def _key(http: httpx.AsyncClient, number: int) -> tuple[str, str]:
    made = await http.post("/v1/keys", json={"name": f"audit {number}", "budget": {"total": BUDGET}})
    made.raise_for_status()
    return made.json()["id"], made.json()["secret"]


async def _spent(http: httpx.AsyncClient, key: str) -> int:
    """Nano-dollars that a key has spent."""
    found = await http.get(f"/v1/keys/{key}")
    found.raise_for_status()
    return round(float(found.json()["spent"]["total"]) * NANO)


async def _settled(store: LedgerStore) -> Books:
    """The books, once nothing is reserved, or `SETTLED_WITHIN` later."""
    end = time.monotonic() + SETTLED_WITHIN
    while True:
        books = await store.read(read)
        if not books.reserved or time.monotonic() > end:
            await store.close()
            return books
        await asyncio.sleep(2.0)


@contextlib.contextmanager
def _database(kind: str) -> Iterator[tuple[Postgres | None, str]]:
    """The server, if there is one, and the ledger's URL."""
    if kind == "SQLite":
        yield None, ""
        return
    with postgres() as server:
        yield server, server.new_database("ledger")


def main(given: Options) -> bool:
    """Part 5. quick: a tenth of the kills."""
    runs = given.runs or (RUNS // 10 if given.quick else RUNS)
    kinds = [kind for kind in ("SQLite", "PostgreSQL") if given.only in kind]
    if programs() is None:
        raise SystemExit("PostgreSQL's server is needed: apt-get install postgresql")
    passed = []
    models: list[dict[str, Any]] = [{"name": name, "input_price": 1, "output_price": 3} for name in MODELS]
    for kind in kinds:
        with (
            _database(kind) as (server, url),
            scene(
                given, replicas=REPLICAS, timeouts=LONG, models=models, variables={"PENSTOCK_LEDGER_URL": url}
            ) as built,
        ):
            sheet = Sheet(f"{runs // len(kinds)} x kill -9 under {CALLERS} callers, the ledger in {kind}", COLUMNS)
            asyncio.run(audited(built, sheet, server, url, runs // len(kinds)))
        passed.append(sheet.end())
    return all(passed)
