"""`make bench-peers`: LiteLLM's and Portkey's gateways and plain proxies beside Penstock, in one run, as one table.

The same upstream, load generator and turns as `make bench`; CPU is that of all of a peer's processes. LiteLLM is asked
for fewer requests and streams, as many as it bears: what counts is what each costs. `--saturate` asks it for all 200.

Above it: the Makefile. Below it: `bench.__main__`'s measuring, `bench.peers.programs`.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import machine, targets
from bench.__main__ import LIGHTER, SCENARIOS, Measured, Scenario, measured, table
from bench.peers import programs
from bench.peers.programs import LITELLM, PORTKEY
from bench.targets import Target

UNARY, ALONE, STREAMS = SCENARIOS[:3]

UNITS = {UNARY.name: "request", STREAMS.name: "chunk"}
"""The scenarios whose CPU is compared, and what it is counted by."""

PENSTOCK = "Penstock, with Ray"


class Ratio(NamedTuple):
    """What a peer's CPU for a request or a chunk is, divided by that of one of our ways in."""

    peer: str
    unit: str
    way: str
    ratio: float


def ratios(rows: Sequence[Measured], scenario: Scenario, ways: Sequence[str]) -> list[Ratio]:
    """One for each gateway among the peers and each of our ways in; `rows` are those of `scenario`."""
    cost = {row.target: row.cpu for row in rows}
    unit = UNITS[scenario.name]
    return [Ratio(peer, unit, way, cost[peer] / cost[way]) for peer in (LITELLM, PORTKEY) for way in ways if cost[way]]


def ratio_table(found: Sequence[Ratio], ways: Sequence[str]) -> str:
    """A line for each peer and unit, a column for each way in, as markdown."""
    lines = [f"| CPU, theirs / ours | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for peer, unit in dict.fromkeys((one.peer, one.unit) for one in found):
        by_way = {one.way: f"{one.ratio:.1f}" for one in found if (one.peer, one.unit) == (peer, unit)}
        lines.append(f"| {peer}, a {unit} | {' | '.join(by_way.get(way, '–') for way in ways)} |")
    return "\n".join(lines)


def memory_table(idle: Mapping[str, int], after: Mapping[str, int]) -> str:
    """What each took before and after the runs, as markdown."""
    lines = ["### memory of all processes", "", "| | idle, PSS MB | after the runs |", "|---|---|---|"]
    lines += [f"| {name} | {size / 2**20:.0f} | {after[name] / 2**20:.0f} |" for name, size in idle.items()]
    return "\n".join(lines)


def memory(ours: Target, others: Sequence[Target]) -> dict[str, int]:
    """Bytes of PSS of each program now."""
    return {PENSTOCK: machine.pss(ours.processes()), **{each.name: machine.pss(each.processes()) for each in others}}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a scenario's name")
    parser.add_argument("--saturate", action="store_true", help="ask LiteLLM for as much as the others")
    parser.add_argument("--output", type=Path, default=Path("build/bench-peers.json"), help="the figures as JSON")
    arguments = parser.parse_args()
    peers, missing = programs.chosen()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-peers-")))
        floor = stack.enter_context(targets.upstream())
        base = floor.url.removesuffix(targets.CHAT)
        ours = stack.enter_context(targets.penstock(directory, base, bare=False))
        others = []
        for peer in peers:
            (own := directory / peer.__name__).mkdir()
            others.append(stack.enter_context(peer(own, base)))
        about = {**machine.description(), **programs.versions()}
        print(
            " · ".join(f"{name} {value}" for name, value in about.items()), *missing, sep="\n", end="\n\n", flush=True
        )
        idle = memory(ours[0], others)
        ways = [way.name for way in ours]
        figures: list[dict[str, Any]] = []
        compared: list[Ratio] = []
        for scenario in (UNARY, ALONE, STREAMS):
            if arguments.only not in scenario.name:
                continue
            lighter = {} if arguments.saturate else {LITELLM: LIGHTER[scenario]}
            found = measured(scenario, [floor, *ours, *others], arguments.repeats, lighter)
            print(table(found), flush=True)
            figures += [{**row._asdict(), "scenario": scenario.name, "load": row.scenario._asdict()} for row in found]
            if scenario.name in UNITS:
                compared += ratios(found, scenario, ways)
        after = memory(ours[0], others)
    print(ratio_table(compared, ways), "", memory_table(idle, after), sep="\n")
    written = {
        "about": about,
        "figures": figures,
        "ratios": [one._asdict() for one in compared],
        "memory": {"idle": idle, "after": after},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(written)))


if __name__ == "__main__":
    main()
