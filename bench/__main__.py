"""`make bench`: Penstock beside no gateway and bare Ray Serve, in one run, as one table.

Every scenario is measured on every target in turns (A B C A B C), and the medians are printed; a run in which one
request failed is void. CPU is that of all the gateway's processes, Ray's own and HAProxy's too.

Above it: nothing. Below it: `bench.load`, `bench.machine`, `bench.targets`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import machine, targets
from bench.load import Plan, Result
from bench.targets import Target


class Scenario(NamedTuple):
    """One kind of load. ramp: seconds within which the callers begin; prompt: bytes of the question."""

    name: str
    model: str
    requests: int
    callers: int
    ramp: float = 0.0
    prompt: int = 40

    @property
    def streams(self) -> bool:
        """Whether it is counted by the chunk."""
        return self.model.startswith("s")


SCENARIOS = (
    Scenario("unary, 16 callers", "u-200", 4000, 16),
    Scenario("unary, 1 caller", "u-200", 500, 1),
    Scenario("s200: 200 streams of 64 chunks, 20 ms apart", "s-64-20", 600, 200, 1.3),
    Scenario("s1000: 1,000 streams of 200 chunks, 50 ms apart", "s-200-50", 1000, 1000, 3.0),
)


LIGHTER = {
    SCENARIOS[0]: SCENARIOS[0]._replace(name="1,000 requests", requests=1000),
    SCENARIOS[1]: SCENARIOS[1]._replace(name="200 requests", requests=200),
    SCENARIOS[2]: SCENARIOS[2]._replace(name="20 streams", requests=60, callers=20),
}
"""What is asked of those who would not bear the whole: a peer, a Ray handle. What counts is what each costs."""


class Measured(NamedTuple):
    """One scenario on one target: medians over the repeats. The scenario is the target's own, if it has a lighter one.

    cpu: microseconds a request or a chunk; latency, first: 50th and 99th percentile in milliseconds; gap: the 99th;
    rate: requests or chunks a second; ledger: milliseconds of the latency that were spent, on average, until the
    answer's rows were durable (None: not told).
    """

    scenario: Scenario
    target: str
    cpu: float
    latency: tuple[float, float]
    first: tuple[float, float]
    gap: float
    rate: float
    ledger: float | None = None


class Void(Exception):
    """A request failed: the run says nothing."""


def once(target: Target, scenario: Scenario) -> Result:
    """What the load generator saw. Raises Void."""
    plan = Plan(
        url=target.url,
        model=target.prefix + scenario.model,
        requests=scenario.requests,
        callers=scenario.callers,
        ramp=scenario.ramp,
        key=target.key,
        headers=dict(target.headers),
        prompt=scenario.prompt,
        processes=tuple(target.processes()),
    )
    said = subprocess.run(
        [sys.executable, "-m", target.load],
        cwd=targets.ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        input=msgspec.json.encode(plan),
        capture_output=True,
    )
    if said.returncode:
        raise Void(said.stderr.decode()[-2000:])
    result = msgspec.json.decode(said.stdout.splitlines()[-1], type=Result)
    if result.failures:
        raise Void(f"{target.name}, {scenario.name}: {result.failures}")
    return result


def measured(
    scenario: Scenario, every: Sequence[Target], repeats: int, lighter: Mapping[str, Scenario] | None = None
) -> list[Measured]:
    """The scenario on all targets, in turns; the first turn warms up and is not counted.

    lighter: what a target of this name is asked instead, because it could not bear the scenario.
    """
    own = {target.name: (lighter or {}).get(target.name, scenario) for target in every}
    runs: dict[str, list[Result]] = {target.name: [] for target in every}
    waits: dict[str, list[float]] = {target.name: [] for target in every}
    for turn in range(repeats + 1):
        for target in every:
            looked = bool(turn) and not scenario.streams
            seconds, count = target.waited() if looked else (0.0, 0.0)
            result = once(target, own[target.name])
            if turn:
                runs[target.name].append(result)
            if looked:
                more, all_ = target.waited()
                waits[target.name] += [(more - seconds) / (all_ - count) * 1000] if all_ > count else []
    rows = []
    for target in every:
        results = runs[target.name]
        units = results[0].chunks if scenario.streams else results[0].requests
        rows.append(
            Measured(
                own[target.name],
                target.name,
                statistics.median(result.cpu for result in results) / units * 1e6,
                _pair([(r.latency.p50, r.latency.p99) for r in results]),
                _pair([(r.first.p50, r.first.p99) for r in results]),
                statistics.median(r.gaps.p99 for r in results),
                statistics.median(units / r.seconds for r in results),
                statistics.median(waits[target.name]) if waits[target.name] else None,
            )
        )
    return rows


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _pair(values: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(v for v, _ in values), statistics.median(v for _, v in values)


def table(rows: Sequence[Measured]) -> str:
    """The rows of one scenario, that of the first, as markdown; whoever had a lighter one has its name beside."""
    scenario = rows[0].scenario
    names = [r.target if r.scenario.name == scenario.name else f"{r.target}, {r.scenario.name}" for r in rows]
    lines = [f"### {scenario.name}", ""]
    if scenario.streams:
        lines += ["| | CPU us/chunk | first p50 / p99 ms | gap p99 ms | chunks/s |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {r.cpu:.1f} | {r.first[0]:.1f} / {r.first[1]:.1f} | {r.gap:.1f} | {r.rate:,.0f} |"
            for name, r in zip(names, rows, strict=True)
        ]
    else:
        lines += [
            "| | CPU us/request | p50 / p99 ms | of it for the ledger, ms | requests/s |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {r.cpu:.0f} | {r.latency[0]:.2f} / {r.latency[1]:.2f} | {_or_dash(r.ledger)} | {r.rate:,.0f} |"
            for name, r in zip(names, rows, strict=True)
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a scenario's name")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="where the figures go as JSON")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        floor = stack.enter_context(targets.upstream())
        base = floor.url.removesuffix(targets.CHAT)
        ours = stack.enter_context(targets.penstock(directory, base))
        about = machine.description()
        print(" · ".join(f"{name} {value}" for name, value in about.items()), end="\n\n", flush=True)
        rows: list[Measured] = []
        handle = targets.by_handle(next(each for each in ours if each.name.startswith("routed lane")))
        for scenario in SCENARIOS:
            if arguments.only in scenario.name:
                light = LIGHTER.get(scenario)
                some = [floor, *ours, handle] if light else [floor, *ours]
                found = measured(scenario, some, arguments.repeats, {handle.name: light} if light else None)
                print(table(found), flush=True)
                rows += found
        print("### memory", "", "| process | PSS MB |", "|---|---|", sep="\n")
        for use in machine.uses(ours[0].processes()):
            print(f"| {use.name} | {use.memory / 2**20:.0f} |")
        print(f"| all | {machine.pss(ours[0].processes()) / 2**20:.0f} |")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figures = [{**row._asdict(), "scenario": row.scenario.name} for row in rows]
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode({"about": about, "figures": figures})))


if __name__ == "__main__":
    main()
