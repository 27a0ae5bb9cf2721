"""A million streams at once, on paper: which part of one cluster saturates first, and how many clusters it takes.

    python -m bench.million [--streams 1000000] [--chunks 20] [--seconds 30]

Unit costs come from three places, and the table says which: measured here in some seconds (the router's and the
ledger's own code), `build/bench.json` where `make bench` has written it (the token path), and else the figures of the
design, section 4, measured with a mock in place of a provider. A part is full at 60 % of what it bears: beyond that
callers wait (M/M/1: the mean wait is 1.5 times the service at 0.6, and 9 times at 0.9).

Above it: whoever runs it. Below it: `pipelines.routing`, `actors.money.ledger_store`. Outside it: the real thing;
nothing that meets another limit first (file descriptors, the network between machines) is seen here.
"""

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.money.databases import address
from actors.money.ledger_store import LedgerStore
from actors.routing.client import ANNOUNCING, REPORTING, STEADY
from pipelines.ledger import Batch, FirstAttempt, RequestRow
from pipelines.routing.state import STATISTICS_INTERVAL, RouterState
from pipelines.routing.table import Announcement, Bill, ModelCard, Outcome, Report

FULL = 0.6
"""Share of what a part bears that is used."""

ACTOR_CALLS = 3_500.0
"""Calls a second that one actor bears ("tops out near 3,000–4,000 calls/s", measured on one node of two cores)."""

NETWORK = 25e9 / 8
"""Bytes a second of the head's network card."""

MODELS, PROVIDERS = 50, 5
"""What a table lists, beside replicas."""

ASSUMED = {"chunk": 54.0, "direct chunk": 31.0, "request": 240.0, "direct request": 110.0}
"""Microseconds of CPU where nothing has been measured here: two own listeners, and one."""

INGRESS_CHUNK = 8.0
"""Microseconds of CPU of HAProxy alone, as a plain proxy."""

BENCH = Path("build/bench.json")


class Load(NamedTuple):
    """Streams at once; chunks a second of each; seconds that each lasts."""

    streams: float
    chunks: float
    seconds: float

    @property
    def requests(self) -> float:
        """That begin in a second."""
        return self.streams / self.seconds


class Costs(NamedTuple):
    """Microseconds of CPU for a chunk and a request at a gateway and a provider; of the router for an announcement,
    an outcome, a table's replica (with bytes of it), a table's rest; of the ledger for a row.

    source: of the first four.
    """

    gateway_chunk: float
    provider_chunk: float
    gateway_request: float
    provider_request: float
    source: str
    announcement: float
    outcome: float
    replica: float
    replica_bytes: float
    models: float
    models_bytes: float
    row: float


class Part(NamedTuple):
    """One part under a load: how much of what it has, and what the design does about it. whole: one a cluster."""

    name: str
    load: float
    bears: float
    unit: str
    answer: str
    whole: bool = True

    @property
    def share(self) -> float:
        """Of what it bears at FULL."""
        return self.load / (self.bears * FULL)


def token_path() -> tuple[dict[str, float], str]:
    """Microseconds a chunk and a request on the two lanes, and where they come from."""
    if not BENCH.exists():
        return ASSUMED, "assumed"
    found: dict[str, float] = {}
    for figure in msgspec.json.decode(BENCH.read_bytes(), type=dict[str, Any])["figures"]:
        scenario = figure["scenario"]
        kind = "chunk" if "s200" in scenario else "request" if "16 callers" in scenario else ""
        lane = {"routed lane, own listener": "", "direct lane, own listener": "direct "}.get(figure["target"])
        if kind and lane is not None:
            found[lane + kind] = float(figure["cpu"])
    return (found, str(BENCH)) if found.keys() >= ASSUMED.keys() else (ASSUMED, "assumed")


def timed(work: Callable[[], object], times: int) -> float:
    """Microseconds of CPU of one call, the best of three rounds."""
    rounds = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - began) / times * 1e6)
    return min(rounds)


def announcement(number: int) -> bytes:
    """What replica `number` says."""
    provider = number % PROVIDERS
    cards = tuple(
        ModelCard(f"model-{provider}-{n}", context=128_000, input_price=1.0) for n in range(MODELS // PROVIDERS)
    )
    said = Announcement(
        f"p{provider}", f"replica{number:08}", f"http://10.0.{number // 250}.{number % 250}:40000", models=cards
    )
    return msgspec.msgpack.encode(said)


def table_costs(replicas: int) -> tuple[float, float]:
    """Microseconds to make and encode a table with so many replicas, and its bytes."""
    state = RouterState("epoch", 0.0)
    decoder = msgspec.msgpack.Decoder(Announcement)
    for number in range(replicas):
        state.announce(decoder.decode(announcement(number)), 0.0)
    for number in range(MODELS):
        provider = number % PROVIDERS
        outcome = Outcome(
            f"p{provider}", f"model-{provider}-{number // PROVIDERS}", 2.0, first_output=0.3, output_tokens=50
        )
        state.report(Report("g", (outcome,)), 0.0)
    encoded = msgspec.msgpack.encode(state.snapshot(0.0))
    return timed(lambda: msgspec.msgpack.encode(state.snapshot(0.0)), 20), float(len(encoded))


def router_costs() -> dict[str, float]:
    """The router's own code, measured now."""
    small, few = table_costs(PROVIDERS)
    large, many = table_costs(1000)
    state = RouterState("epoch", 0.0)
    said, decoder = announcement(1), msgspec.msgpack.Decoder(Announcement)
    outcomes = tuple(Outcome("p1", "model-1-1", 2.0, first_output=0.3, output_tokens=50) for _ in range(100))
    report, reports = msgspec.msgpack.encode(Report("g", outcomes)), msgspec.msgpack.Decoder(Report)
    return {
        "announcement": timed(lambda: state.announce(decoder.decode(said), 0.0), 2000),
        "outcome": timed(lambda: state.report(reports.decode(report), 0.0), 50) / 100,
        "replica": (large - small) / (1000 - PROVIDERS),
        "replica_bytes": (many - few) / (1000 - PROVIDERS),
        "models": small,
        "models_bytes": few,
    }


async def row_cost(url: str = "") -> float:
    """Microseconds of CPU of this process for a request's row with its attempt, in batches as they come under load."""
    with tempfile.TemporaryDirectory() as directory:
        store = LedgerStore(address(url, directory))
        await store.open()
        bill = Bill(input=100, output=50, cost=12_345, basis="computed")
        common: dict[str, Any] = {"time": 1_795_003_200.0, "key": "k", "provider": "p", "model": "m", "bill": bill}
        began = time.process_time()
        for batch in range(20):
            names = [f"{batch:04}{number:06}" for number in range(500)]
            rows = [
                RequestRow(id=f"r{name}", request_id=name, attempt=FirstAttempt(f"a{name}"), **common) for name in names
            ]
            await store.settle([Batch("bench", tuple(rows))])
        cpu = time.process_time() - began
        await store.close()
    return cpu / (20 * 500) * 1e6


def costs() -> Costs:
    """All of them."""
    path, source = token_path()
    return Costs(
        gateway_chunk=path["chunk"] - path["direct chunk"],
        provider_chunk=path["direct chunk"],
        gateway_request=path["request"] - path["direct request"],
        provider_request=path["direct request"],
        source=source,
        row=asyncio.run(row_cost()),
        **router_costs(),
    )


def replicas(load: Load, cost: Costs) -> tuple[int, int]:
    """Gateway and provider replicas, a core each, that bear the load."""
    chunks = load.streams * load.chunks
    gateway = (chunks * cost.gateway_chunk + load.requests * cost.gateway_request) / 1e6
    provider = (chunks * cost.provider_chunk + load.requests * cost.provider_request) / 1e6
    return max(1, math.ceil(gateway / FULL)), max(1, math.ceil(provider / FULL))


def parts(load: Load, cost: Costs) -> list[Part]:
    """Every part of one cluster under the load."""
    gateways, providers = replicas(load, cost)
    return [*_single(load, cost, gateways, providers), *_scaled(load, gateways, providers)]


def _single(load: Load, cost: Costs, gateways: int, providers: int) -> list[Part]:
    """What there is once."""
    everyone = gateways + providers
    tables = 1 / STATISTICS_INTERVAL
    size = cost.models_bytes + providers * cost.replica_bytes
    calls = gateways / REPORTING + providers / ANNOUNCING + gateways / (STEADY * ANNOUNCING) + everyone * tables
    work = (
        providers / ANNOUNCING * cost.announcement
        + load.requests * cost.outcome
        + tables * (cost.models + providers * cost.replica)
    )
    rows = load.requests * cost.row
    reports = "reports are batches of 250 ms, whatever they hold: cells"
    batches = "one table for all, encoded once; outcomes in batches: cells"
    seldom = "twice a second at most, without it replicas go on: cells"
    together = "rows of many requests in one transaction: cells, each with its own database"
    return [
        Part("calls to the router actor", calls, ACTOR_CALLS, "calls/s", reports),
        Part("the router's own work", work / 1e6, 1.0, "cores", batches),
        Part("the table's fan-out", size * everyone * tables, NETWORK, "bytes/s", seldom),
        Part("rows of the ledger", rows / 1e6, 1.0, "cores", together),
    ]


def _scaled(load: Load, gateways: int, providers: int) -> list[Part]:
    """What grows with the load, or stands on each node."""
    ingress = load.streams * load.chunks * INGRESS_CHUNK / 1e6
    each = "one on each node; own listeners go past it"
    kinds = (("gateway", gateways), ("provider", providers))
    return [
        *(
            Part(f"{kind} replicas", count * FULL, count, "cores", _by_streams(count), whole=False)
            for kind, count in kinds
        ),
        Part("HAProxy, if all came by the ingress", ingress, 1.0, "cores", each, whole=False),
    ]


def _by_streams(count: int) -> str:
    return f"{count} replicas: scaled by streams in flight"


def ceiling(load: Load, cost: Costs) -> tuple[float, Part]:
    """The most streams at which no part that there is once is full, and the part that fills first."""
    low, high = 1.0, load.streams * 100
    while high - low > 1.0:
        middle = (low + high) / 2
        full = any(part.share > 1 for part in parts(load._replace(streams=middle), cost) if part.whole)
        low, high = (low, middle) if full else (middle, high)
    single = [part for part in parts(load._replace(streams=low), cost) if part.whole]
    return low, max(single, key=lambda part: part.share)


def show(load: Load, cost: Costs) -> None:
    """Print it all."""
    print(f"{load.streams:,.0f} streams at once, {load.chunks:g} chunks/s each, {load.seconds:g} s long:")
    print(f"{load.streams * load.chunks:,.0f} chunks/s, {load.requests:,.0f} requests/s\n")
    print("unit cost                                       CPU µs    source")
    for name, value, source in (
        ("a chunk at a gateway, at a provider", f"{cost.gateway_chunk:.0f}, {cost.provider_chunk:.0f}", cost.source),
        (
            "a request at a gateway, at a provider",
            f"{cost.gateway_request:.0f}, {cost.provider_request:.0f}",
            cost.source,
        ),
        ("a chunk in HAProxy", f"{INGRESS_CHUNK:.0f}", "assumed"),
        ("an announcement, an outcome at the router", f"{cost.announcement:.1f}, {cost.outcome:.1f}", "measured now"),
        (f"a table: {MODELS} models; each replica", f"{cost.models:.0f}; {cost.replica:.2f}", "measured now"),
        (
            f"  bytes: {MODELS} models; each replica",
            f"{cost.models_bytes:.0f}; {cost.replica_bytes:.0f}",
            "measured now",
        ),
        ("a row of the ledger (SQLite)", f"{cost.row:.0f}", "measured now"),
        ("a call to an actor", f"{1e6 / ACTOR_CALLS:.0f}", "assumed"),
    ):
        print(f"  {name:<44} {value:>10}    {source}")
    print(
        f"\n{'one cluster for all of it':<40}{'load':>16}  {'one bears':>14}  {'times over':>10}  what is done about it"
    )
    for part in sorted(parts(load, cost), key=lambda part: (not part.whole, -part.share)):
        times = f"{part.share:.1f}" if part.whole else "-"
        bears = f"{part.bears:,.0f} {part.unit}" if part.whole else "any"
        print(f"  {part.name:<38}{part.load:>12,.1f} {part.unit[:3]}  {bears:>14}  {times:>10}  {part.answer}")
    most, first = ceiling(load, cost)
    cells = math.ceil(load.streams / most)
    gateways, providers = replicas(load._replace(streams=load.streams / cells), cost)
    print(f"\nOne cluster bears {most:,.0f} streams; then {first.name} is full ({first.load:,.1f} {first.unit}).")
    each = f"{gateways} gateway and {providers} provider replicas (a core each)"
    print(f"{load.streams:,.0f} are {cells} clusters of {each}.")
    print(
        "Clusters know nothing of each other: a balancer sends a key always to the same one, so that its limits hold."
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=float, default=1e6)
    parser.add_argument("--chunks", type=float, default=20.0, help="a second, of each")
    parser.add_argument("--seconds", type=float, default=30.0, help="that each lasts")
    given = parser.parse_args()
    show(Load(given.streams, given.chunks, given.seconds), costs())


if __name__ == "__main__":
    main()
