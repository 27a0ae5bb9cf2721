"""What it costs to be seen: CPU a request with metrics and log, with neither, with traces; and what a scrape costs.

    python -m bench.observability                paired runs and the scrape, a table (2 minutes)
    python -m bench.observability --requests 10000 --agree    metrics, ledger and callers compared after 10,000 requests

Every variant is a gateway and a provider of its own; all are in one process without Ray (`tests.deployments.house`), on
real sockets, and share router and ledger. They are asked in short turns, forwards and backwards, so that what disturbs
one disturbs all; the ratio is the median of the turns' ratios, and `neither, again` shows how far chance takes it. CPU
is that of all the process's threads, in nanoseconds (proc(5), `schedstat`). Upstream and load have their own processes.

Above it: nothing. Below it: `bench.load`, the tests' house, `deployments.telemetry.metrics`.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import uvloop

from bench import targets
from bench.load import Plan, Result
from deployments.gateway import Gateway
from deployments.telemetry.metrics import exposition
from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.errors import Reason
from pipelines.ledger import RequestRow
from pipelines.metering.cluster import Cluster
from pipelines.metering.meter import Measured, Meter
from pipelines.metering.recorder import Recorder
from pipelines.routing.table import Bill, ModelCard, Outcome, Performance, ProviderEntry, Table

VARIANTS = {
    "neither": (False, False),
    "neither, again": (False, False),
    "metrics and log": (True, False),
    "traces too": (True, True),
}
"""By name: whether metrics and request log are on, whether traces are."""

LOADS = {"unary, 16 callers": ("u-200", 200, 16), "streams of 64 chunks": ("s-64-0", 100, 16)}
"""By name: the upstream's model, requests of one run, callers."""

MODELS = 50


class Served(NamedTuple):
    """A variant that runs: its address, its provider, its process."""

    name: str
    url: str
    provider: str
    process: int


async def serve(base: str, receiver: str) -> None:
    """All variants, until standard input ends; their addresses go to standard output, as JSON."""
    from tests.deployments.house import house, url_of

    with pytest.MonkeyPatch.context() as patch:
        async with house(Path(os.environ["PENSTOCK_STATE_DIR"]), patch) as running:
            told = []
            for index, (name, (seen, traced)) in enumerate(VARIANTS.items()):
                if traced:
                    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver)
                wanted = {"metrics": seen, "request_log": seen}
                provider = f"bench-{index}"
                await running.provider(
                    kind="local", name=provider, base_url=f"{base}/v1", any_model=True, drain=1.0, observability=wanted
                )
                gateway = await running.open_gateway(drain=1.0, observability=wanted)
                await running.until(partial(_ready, gateway, provider), 30.0)
                told.append(Served(name, url_of(gateway) + targets.CHAT, provider, os.getpid()))
            print(msgspec.json.encode(told).decode(), flush=True)
            await asyncio.to_thread(sys.stdin.read)


def _ready(gateway: Gateway, provider: str) -> bool:
    entry = gateway.router.table.provider(provider)
    return entry is not None and entry.state == "ready"


@contextlib.contextmanager
def variants(base: str, receiver: str) -> Iterator[list[Served]]:
    """All of them, in a process of their own."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as directory:
        environment = {**os.environ, "PENSTOCK_STATE_DIR": directory, "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "bench.observability", "--serve", base, "--receiver", receiver]
        with subprocess.Popen(
            command, cwd=targets.ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield msgspec.json.decode(process.stdout.readline(), type=list[Served])
            finally:
                process.stdin.close()
                process.wait(30.0)


class _Sink(BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def once(served: Served, load: str) -> float:
    """Seconds of CPU a request. RuntimeError if one failed: the run says nothing then."""
    from tests.deployments.house import KEY

    model, requests, callers = LOADS[load]
    plan = Plan(served.url, f"{served.provider}/{model}", requests, callers, key=KEY)
    before = _used(served.process)
    said = subprocess.run(
        [sys.executable, "-m", "bench.load"], cwd=targets.ROOT, input=msgspec.json.encode(plan), capture_output=True
    )
    used = _used(served.process) - before
    if said.returncode:
        raise RuntimeError(said.stderr.decode()[-2000:])
    result = msgspec.json.decode(said.stdout, type=Result)
    if result.failures:
        raise RuntimeError(f"{served.name}, {load}: {result.failures}")
    return used / result.requests


def _used(process: int) -> float:
    """Seconds of CPU that the threads of a process have used so far."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def _turn(running: list[Served], load: str, turn: int) -> list[float]:
    """One run on each variant, in their order; every other turn begins with the last."""
    used = {served.name: once(served, load) for served in (running if turn % 2 else running[::-1])}
    return [used[served.name] for served in running]


def compared(base: str, turns: int) -> None:
    """Every load on every variant in turns; the first warms up. Prints the table."""
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with variants(base, f"http://127.0.0.1:{receiver.server_port}") as running:
        print("| load | variant | CPU us/request | ratio to neither |", "|---|---|---|---|", sep="\n")
        for load in LOADS:
            rows = [_turn(running, load, turn) for turn in range(turns + 2)][2:]
            for index, served in enumerate(running):
                used = statistics.median(row[index] for row in rows) * 1e6
                ratio = statistics.median(row[index] / row[0] for row in rows)
                print(f"| {load} | {served.name} | {used:.0f} | {ratio:.3f} |", flush=True)
    receiver.shutdown()


def scrape() -> None:
    """Prints what a page of MODELS models costs, each with three kinds of end on two lanes; and what counting costs."""
    meter, cluster = Meter("a", "gateway"), Cluster(0.0)
    recorder = Recorder(meter, lambda provider, model: True)
    call = Call("1", "openai_chat", {}, Request("m", ()), Caller("me"), "routed")
    bill = Bill(input=100, output=50, cost=1000)
    for index in range(MODELS):
        provider, model = f"provider-{index % 5}", f"model-{index}"
        for end in ("ok", "timeout", "cancelled"):
            for lane in ("routed", "direct"):
                row = RequestRow(id="1", provider=provider, model=model, outcome=end, lane=lane, first_output=0.1)
                recorder.request(row, 0.001)
            reason: Reason | None = "timeout" if end == "timeout" else None
            left = end == "cancelled"
            outcome = Outcome(
                provider, model, 1.0, reason=reason, cancelled=left, first_output=0.1, bill=bill, pieces=9
            )
            recorder.attempt(call, outcome)
    cluster.take(msgspec.msgpack.decode(meter.changes().encoded, type=Measured), 0.0)
    cards = {f"provider-{index}": tuple(ModelCard(f"model-{n}") for n in range(index, MODELS, 5)) for index in range(5)}
    table = Table(
        providers=tuple(
            ProviderEntry(name, "ready", models=own, performance={card.name: Performance(attempts=3) for card in own})
            for name, own in cards.items()
        )
    )
    began = time.process_time()
    for _ in range(10):
        text = exposition(table, (), cluster.snapshot(0.0))
    took = (time.process_time() - began) * 100
    lines = len(text.splitlines())
    print(f"\na page of {MODELS} models, {lines:,} lines, {len(text) / 1e6:.1f} MB: {took:.1f} ms")
    began = time.process_time()
    for _ in range(100_000):
        recorder.request(row, 0.001)
        recorder.attempt(call, outcome)
    print(f"a request and its attempt counted: {(time.process_time() - began) * 10:.2f} us")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--agree", action="store_true", help="compare metrics, ledger and callers instead")
    parser.add_argument("--requests", type=int, default=10_000, help="for --agree")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--receiver", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve, arguments.receiver))
    elif arguments.agree:
        test = "tests/deployments/test_metrics.py::test_metrics_ledger_and_callers_agree"
        environment = {**os.environ, "AGREEMENT_REQUESTS": str(arguments.requests)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        sys.exit(subprocess.run(command, cwd=targets.ROOT, env=environment).returncode)
    else:
        with targets.upstream() as floor:
            compared(floor.url.removesuffix(targets.CHAT), arguments.turns)
        scrape()


if __name__ == "__main__":
    main()
