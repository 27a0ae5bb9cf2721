"""How cost grows: with the streams at once, the size of a message, the replicas, and the number of providers.

`make bench-growth` prints a table for each, and draws them in `build/growth.html`. What Ray and Serve use when
nobody asks anything is measured beside each and taken off, so that a small load does not carry all of it.

Above it: the Makefile. Below it: `bench.__main__`'s measuring, `bench.targets`, plotly. Outside it: peers.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import machine, targets
from bench.__main__ import Scenario, Void, once
from bench.targets import Target

IDLE_SECONDS = 5.0
LANES = ("direct lane, own listener", "routed lane, own listener")

STREAMS = (10, 50, 200, 500, 1000, 2000)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPLICAS = (1, 2, 4)
PROVIDERS = (1, 5, 20, 50)

WARMING = (Scenario("warm-up", "u-200", 20_000, 16), Scenario("warm-up", "s-10-20", 2_000, 10))
"""What fills the caches that anything fills, the ledger's above all: no stream is to be charged for them."""


class Point(NamedTuple):
    """One measurement. at: of what there was so much; cpu: microseconds a request or a chunk; wait: milliseconds, the
    99th percentile of the gap between chunks, or of the time to an answer; memory: bytes of PSS in all, at the peak."""

    series: str
    lane: str
    at: int
    cpu: float
    wait: float
    memory: int
    failed: str = ""


def streams(count: int) -> Scenario:
    """So many at once, ten chunks a second each; few streams last longer, so that there is something to measure."""
    chunks = max(50, min(400, 40_000 // count))
    return Scenario(f"{count} streams", f"s-{chunks}-100", count, count, min(3.0, 0.1 + count / 500))


def answers(size: int) -> Scenario:
    """Answers of so many bytes."""
    return Scenario(f"answers of {size:,} bytes", f"u-{size}", max(100, min(2000, 40_000_000 // size)), 16)


def questions(size: int) -> Scenario:
    """Questions of so many bytes."""
    return Scenario(f"questions of {size:,} bytes", "u-200", max(100, min(2000, 20_000_000 // size)), 16, prompt=size)


def idle(target: Target) -> float:
    """CPU seconds a second while nobody asks anything."""
    processes = target.processes()
    before, began = machine.cpu(processes), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (machine.cpu(processes) - before) / (time.monotonic() - began)


class Peak:
    """The most memory that a target's processes take meanwhile, in bytes of PSS, looked at every second."""

    def __init__(self, target: Target) -> None:
        self.memory = 0
        self._target = target
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peak":
        self._looking.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while True:
            self.memory = max(self.memory, machine.pss(self._target.processes()))
            if self._over.wait(1.0):
                return


def point(series: str, at: int, target: Target, scenario: Scenario, resting: float, repeats: int) -> Point:
    """One measurement; where requests failed it says which, and so where growth stops."""
    costs, waits = [], []
    with Peak(target) as peak:
        try:
            for turn in range(repeats + 1):
                result = once(target, scenario)
                units = result.chunks if scenario.streams else result.requests
                if turn:
                    costs.append(max(0.0, result.cpu - resting * result.seconds) / units * 1e6)
                    waits.append(result.gaps.p99 if scenario.streams else result.latency.p99)
        except Void as error:
            return Point(series, target.name, at, 0.0, 0.0, peak.memory, str(error)[-200:])
    return Point(series, target.name, at, statistics.median(costs), statistics.median(waits), peak.memory)


@contextmanager
def started(**how: Any) -> Iterator[list[Target]]:
    """Penstock's two lanes by their own listeners, before an upstream of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-growth-") as folder, targets.upstream() as floor:
        base = floor.url.removesuffix(targets.CHAT)
        with targets.penstock(Path(folder), base, bare=False, **how) as found:
            yield [target for target in found if target.name in LANES]


def along(series: str, steps: Sequence[int], make: Callable[[int], Scenario], repeats: int) -> Iterator[Point]:
    """Another load each time, on the same Penstock; each lane has one of its own, for a process keeps what it took."""
    for name in LANES:
        with started() as lanes:
            lane = next(one for one in lanes if one.name == name)
            resting = idle(lane)
            for scenario in WARMING:
                once(lane, scenario)
            for step in steps:
                yield point(series, step, lane, make(step), resting, repeats)


def across(series: str, steps: Sequence[int], how: str, repeats: int) -> Iterator[Point]:
    """The same load on another Penstock each time."""
    load = Scenario("200 streams", "s-64-20", 400, 200, 1.3)
    for step in steps:
        with started(**{how: step}) as lanes:
            resting = idle(lanes[0])
            for lane in lanes:
                yield point(series, step, lane, load, resting, repeats)


SERIES: dict[str, Callable[[int], Iterator[Point]]] = {
    "streams at once": lambda repeats: along("streams at once", STREAMS, streams, repeats),
    "bytes of an answer": lambda repeats: along("bytes of an answer", SIZES, answers, repeats),
    "bytes of a question": lambda repeats: along("bytes of a question", SIZES, questions, repeats),
    "replicas": lambda repeats: across("replicas", REPLICAS, "replicas", repeats),
    "providers": lambda repeats: across("providers", PROVIDERS, "providers", repeats),
}


def a_stream(points: Sequence[Point]) -> dict[str, float]:
    """Bytes of memory that one more stream takes, for each lane: by the fewest and the most that were served."""
    found: dict[str, float] = {}
    for lane in LANES:
        mine = [one for one in points if one.series == "streams at once" and one.lane == lane and not one.failed]
        if len(mine) > 1:
            found[lane] = (mine[-1].memory - mine[0].memory) / (mine[-1].at - mine[0].at)
    return found


def picture(points: Sequence[Point], file: Path) -> None:
    """All series as one page of charts."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    names = list(dict.fromkeys(point.series for point in points))
    figure = make_subplots(rows=len(names), cols=2, column_titles=["CPU µs a chunk or request", "PSS MB in all"])
    for row, name in enumerate(names, 1):
        for number, lane in enumerate(LANES):
            mine = [one for one in points if one.series == name and one.lane == lane and not one.failed]
            style = {"mode": "lines+markers", "name": lane, "legendgroup": lane, "showlegend": row == 1}
            style["line"] = {"color": ("#1f77b4", "#d62728")[number]}
            at = [one.at for one in mine]
            figure.add_trace(graph_objects.Scatter(x=at, y=[one.cpu for one in mine], **style), row=row, col=1)
            style["showlegend"] = False
            memory = [one.memory / 2**20 for one in mine]
            figure.add_trace(graph_objects.Scatter(x=at, y=memory, **style), row=row, col=2)
        figure.update_xaxes(type="log", title_text=name, row=row)
    figure.update_layout(height=320 * len(names), template="plotly_white", title="How Penstock's cost grows")
    figure.write_html(file, include_plotlyjs=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a series' name")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where figures and picture go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    points: list[Point] = []
    for name, run in SERIES.items():
        if arguments.only not in name:
            continue
        print(f"### {name}\n\n| {name} | lane | CPU us | p99 ms | PSS MB |\n|---|---|---|---|---|", flush=True)
        for one in run(arguments.repeats):
            points.append(one)
            found = one.failed or f"{one.cpu:.1f} | {one.wait:.1f} | {one.memory / 2**20:.0f}"
            print(f"| {one.at:,} | {one.lane} | {found} |", flush=True)
        print(flush=True)
    for lane, memory in a_stream(points).items():
        print(f"{lane}: {memory / 1024:.0f} KB of memory a stream")
    about = machine.description()
    figures = {"about": about, "figures": [one._asdict() for one in points]}
    (arguments.folder / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    picture(points, arguments.folder / "growth.html")


if __name__ == "__main__":
    main()
