"""A load generator that costs next to nothing: one asyncio protocol a connection, answers scanned and not parsed.

Two kinds of load:
- closed: so many callers, each of which asks again on its connection as soon as it has its answer; they begin one after
  the other within `ramp` seconds, so that what they ask for is spread as in life;
- open: requests begin at a given rate whatever becomes of those before, each on a connection of its own.

Every answer is checked: a unary one by its length and text, a stream by the number of its frames and its sentinel,
and each SAMPLE-th stream by its whole text. Whatever is not as it should be is counted as a failure, and a run with a
failure says nothing.

Run as `python -m bench.load` with a `Plan` as JSON on standard input; a `Result` comes out as JSON.

Above it: the benchmarks. Below it: `bench.upstream` (what a model's answer is), `bench.machine`, asyncio, uvloop.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.machine import cpu
from bench.upstream import read_model, text_of

_END = b"0\r\n\r\n"
_FRAME = b"data: {"
_SENTINEL = b"data: [DONE]"
_ACCEPTED = b"HTTP/1.1 200"
_CONTENT = re.compile(rb'"content": ?"([^"]*)"')

SAMPLE = 20
"""Of so many streams the text of one is read."""

PATIENCE = 60.0
"""Seconds that a run may take beyond what its streams last."""


class Plan(msgspec.Struct, frozen=True):
    """What to ask of whom.

    url: of the endpoint for chat completions; model: as the gateway knows it, its last part as `bench.upstream` does.
    callers: how many ask at once (closed), begun within ramp seconds; requests: in all. rate: requests a second (open),
    0 for a closed load.
    prompt: bytes of the user's message; headers: further ones. processes: whose CPU is looked at.
    """

    url: str
    model: str
    requests: int
    callers: int = 1
    ramp: float = 0.0
    rate: float = 0.0
    key: str = ""
    prompt: int = 40
    headers: dict[str, str] = {}
    processes: tuple[int, ...] = ()


class Spread(msgspec.Struct, frozen=True):
    """Percentiles of a measurement, in milliseconds."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    worst: float = 0.0

    @classmethod
    def of(cls, seconds: list[float]) -> "Spread":
        """The percentiles of measurements in seconds (nearest rank)."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

        return cls(rank(0.5), rank(0.9), rank(0.99), rank(1.0))


class Result(msgspec.Struct, frozen=True):
    """How it went. first: time to the first content of a stream; gaps: between two deliveries of one stream.

    failures: what went wrong, by kind and count. seconds: from the first request to the last answer; cpu: seconds of
    it that the plan's processes used meanwhile.
    """

    requests: int
    chunks: int
    seconds: float
    latency: Spread
    first: Spread
    gaps: Spread
    failures: dict[str, int]
    cpu: float = 0.0


class Tally:
    """What a run has seen so far, in seconds; failures by kind."""

    def __init__(self) -> None:
        self.latency: list[float] = []
        self.first: list[float] = []
        self.gaps: list[float] = []
        self.failures: dict[str, int] = {}

    def failed(self, kind: str) -> None:
        """One request failed."""
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def result(self, chunks: int, seconds: float, cpu: float) -> Result:
        """All of it, with what else is to be told."""
        return Result(
            requests=len(self.latency),
            chunks=chunks,
            seconds=round(seconds, 3),
            cpu=cpu,
            latency=Spread.of(self.latency),
            first=Spread.of(self.first),
            gaps=Spread.of(self.gaps),
            failures=self.failures,
        )


class _Run(Tally):
    """What all connections of one run share."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        spec = read_model(plan.model)
        where = urlsplit(plan.url)
        self.host, self.port = where.hostname or "127.0.0.1", where.port or 80
        self.streams = spec.streams
        self.chunks = spec.chunks
        self.text = text_of(plan.model).encode()
        self.request = _request(plan, where.path, streams=spec.streams)
        self.left = plan.requests
        self.closed = not plan.rate
        self.running = 0
        self.received = 0
        self.over = asyncio.Event()

    def take(self) -> bool:
        """Whether one more request is to be made; it is then counted as under way."""
        if self.left <= 0:
            return False
        self.left -= 1
        self.running += 1
        return True

    def whole(self, pieces: list[bytes]) -> bool:
        """Whether a sampled stream says its text."""
        return not pieces or b"".join(_CONTENT.findall(b"".join(pieces))) == self.text

    def ended(self, failure: str = "") -> None:
        """One request is over."""
        if failure:
            self.failed(failure)
        self.running -= 1
        if self.left <= 0 and self.running <= 0:
            self.over.set()


class _Connection(asyncio.Protocol):
    """One connection; of a closed load it asks as long as there is something to ask."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self.began = self.last = time.perf_counter()
        self.head = self.tail = b""
        self.length = -1
        self.frames = self.size = 0
        self.done = self.answered = False
        self.pieces: list[bytes] = []
        self.sampled = self.run.left % SAMPLE == 0
        self.busy = True
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            return
        if not self.answered:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self.head.startswith(_ACCEPTED):
                self._over(f"status {self.head[9:12].decode('ascii', 'replace')}")
                return
            self.answered = True
            data = self.head[end + 4 :]
            self.length = _length(self.head[:end])
        if self.run.streams:
            self._stream(data)
        else:
            self._unary(data)

    def _stream(self, data: bytes) -> None:
        # What is kept of the last delivery is shorter than what is looked for: nothing is counted twice.
        frames = (self.tail[1 - len(_FRAME) :] + data).count(_FRAME)
        seen = self.tail + data
        if self.sampled:
            self.pieces.append(data)
        self.done = self.done or _SENTINEL in seen
        self.tail = seen[1 - len(_SENTINEL) :]
        if frames:
            now = time.perf_counter()
            if self.frames:
                self.run.gaps.append(now - self.last)
            else:
                self.run.first.append(now - self.began)
            self.last = now
            self.frames += frames
        if seen.endswith(_END):
            whole = self.done and self.frames >= self.run.chunks and self.run.whole(self.pieces)
            self._over("" if whole else "a stream that is not whole")

    def _unary(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size >= self.length >= 0:
            whole = b"".join(self.pieces)
            self._over("" if self.run.text in whole and self.size == self.length else "an answer that is not whole")

    def _over(self, failure: str) -> None:
        self.busy = False
        if not failure:
            self.run.latency.append(time.perf_counter() - self.began)
            self.run.received += self.run.chunks
        more = not failure and self.run.closed and self.run.take()
        self.run.ended(failure)
        if more:
            self._ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self._over("the connection broke")


def _request(plan: Plan, path: str, *, streams: bool) -> bytes:
    body = msgspec.json.encode(
        {
            "model": plan.model,
            "stream": streams,
            "messages": [{"role": "user", "content": "x" * plan.prompt}],
        }
    )
    lines = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(body)}"]
    if plan.key:
        lines.append(f"authorization: Bearer {plan.key}")
    lines += [f"{name}: {value}" for name, value in plan.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return -1


async def _connect(run: _Run) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: _Connection(run), run.host, run.port)
    except OSError:
        run.ended("no connection")


def _starts(run: _Run, plan: Plan) -> Iterator[float]:
    """When each connection begins, in seconds from now."""
    if plan.rate:
        yield from (number / plan.rate for number in range(plan.requests))
    else:
        yield from (plan.ramp * number / plan.callers for number in range(plan.callers))


async def load(plan: Plan) -> Result:
    """Carry out a plan."""
    run = _Run(plan)
    spec = read_model(plan.model)
    used = cpu(plan.processes)
    began = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for start in _starts(run, plan):
        if began + start > time.perf_counter():
            await asyncio.sleep(began + start - time.perf_counter())
        if not run.take():
            break
        tasks.add(asyncio.create_task(_connect(run)))
    rounds = max(1.0, plan.requests / max(1, plan.callers))
    try:
        async with asyncio.timeout(PATIENCE + plan.ramp + rounds * (spec.chunks * spec.gap + spec.delay) / 1000):
            await run.over.wait()
    except TimeoutError:
        run.failures["no end"] = run.running
    used = cpu(plan.processes) - used
    await asyncio.gather(*tasks)
    return run.result(run.received, time.perf_counter() - began, used)


def main() -> None:
    """The command line: a plan in, a result out."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    result = uvloop.run(load(plan))
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
