"""An executor's side of a workshop: starts it, hands it calls, reads what they write, ends them.

What a call writes is read as it comes and bounded: progress beyond MOST_PROGRESS is left out, and a call that writes
more than MOST_OUTPUT is ended. Closing the generator of a call kills its process; what it writes after that goes
nowhere.

Above it: `function_source`. Below it: `workshop_messages`, pipes, subprocess. Outside it: time limits, who calls.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any, cast

import msgspec

from actors.tools.confinement import Limits
from actors.tools.workshop_messages import MOST_FRAME, Begin, Gone, Kill, Ready, Setup, framed, frames, reports, steps
from pipelines.conversation import Json
from pipelines.errors import ToolFailed
from pipelines.tools.catalogue import Progress, Ran

START_SECONDS = 60.0
"""Within which the tools must be imported."""

MOST_PROGRESS = 1024 * 1024
MOST_OUTPUT = 64 * 1024 * 1024
"""Bytes of one call: of what it yields that is handed on, and of all that it writes."""

AFTERMATH = 5.0
"""Seconds for the workshop to say how a call ended."""

_READ = 256 * 1024
_NOTHING: Mapping[str, str] = {}
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class WorkshopClient(asyncio.Protocol):
    """One workshop. setup: what it is for; its folder is made here. environment: variables beside the usual ones.

    ready is what it said at its start; alive: whether it can take calls; running: calls that it has now; used: when it
    had the last, by the loop's clock.
    """

    def __init__(self, setup: Setup, environment: Mapping[str, str] = _NOTHING) -> None:
        # Not in TMPDIR: that may be a directory into which another user cannot look.
        self._folder = tempfile.mkdtemp(prefix="penstock-tools-", dir="/tmp")
        self._setup = msgspec.structs.replace(setup, folder=self._folder)
        modules = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._environment = {**_ENVIRONMENT, **environment, "PYTHONPATH": modules}
        self._numbers = itertools.count(1)
        self._held = bytearray()
        self._ends: dict[int, asyncio.Future[Gone]] = {}
        self._orders: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started: asyncio.Future[Ready] | None = None
        self.ready = Ready()
        self.alive = False
        self.running = 0
        self.used = 0.0

    async def start(self) -> Ready:
        """Start it, and wait until it has imported the tools. Raises ToolFailed where it cannot, with what it says."""
        loop = asyncio.get_running_loop()
        self._started = loop.create_future()
        self._furnish()
        self._process = await asyncio.to_thread(self._spawn)
        await loop.connect_read_pipe(lambda: self, cast(Any, self._process.stdout))
        orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, cast(Any, self._process.stdin))
        self._orders = orders
        self._orders.write(framed(self._setup))
        try:
            async with asyncio.timeout(START_SECONDS):
                self.ready = await self._started
        except TimeoutError:
            self.ready = Ready(error=f"the tools were not imported within {START_SECONDS:g} s")
        if self.ready.error:
            await self.close()
            raise ToolFailed(self.ready.error)
        self.used = loop.time()
        return self.ready

    async def run(
        self, tool: str, arguments: dict[str, Json], limits: Limits, most: int
    ) -> AsyncGenerator[Progress | Ran, None]:
        """One call in a process of its own. most: bytes of its result."""
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        path = f"{self._folder}/pipes/{number}"
        os.mkfifo(path, 0o600)
        output = _Output(path)
        given = os.memfd_create("arguments")
        os.write(given, msgspec.msgpack.encode(arguments))
        end = self._ends[number] = loop.create_future()
        self.running += 1
        try:
            self._order(Begin(number, tool, f"/proc/{os.getpid()}/fd/{given}", path, limits, most))
            async with contextlib.aclosing(output.steps(end)) as come:
                async for step in come:
                    yield step
        finally:
            self.running -= 1
            self.used = loop.time()
            output.close()
            os.close(given)
            os.unlink(path)
            if not end.done():
                self._order(Kill(number))

    async def close(self) -> None:
        """End it, with all that runs in it."""
        self.alive = False
        if self._orders is not None:
            self._orders.close()
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, AFTERMATH)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                await asyncio.to_thread(process.wait)
        shutil.rmtree(self._folder, ignore_errors=True)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`: the workshop reports."""
        self._held += data
        for frame in frames(self._held):
            report = reports.decode(frame)
            if isinstance(report, Ready):
                self.alive = not report.error
                if self._started is not None and not self._started.done():
                    self._started.set_result(report)
            elif (end := self._ends.pop(report.number, None)) is not None and not end.done():
                end.set_result(report)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`: the workshop has ended, and its calls with it."""
        self.alive = False
        if self._started is not None and not self._started.done():
            self._started.set_result(Ready(error="the process that imports the tools has died"))
        for number, end in self._ends.items():
            if not end.done():
                end.set_result(Gone(number, why="the process that makes its processes has died"))
        self._ends.clear()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # `-P`: neither the folder where it starts nor that of a script is where modules come from.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "actors.tools.workshop"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env=self._environment,
            start_new_session=True,
        )

    def _furnish(self) -> None:
        for name, mode in (("pipes", 0o700), ("scratch", 0o700)):
            os.mkdir(f"{self._folder}/{name}", mode)
        os.chmod(self._folder, 0o711)

    def _order(self, order: Begin | Kill) -> None:
        if self._orders is not None and self.alive:
            self._orders.write(framed(order))


class _Output:
    """What one call writes to its pipe."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)
        self._held = bytearray()
        self._steps: asyncio.Queue[Progress | Ran | None] = asyncio.Queue()
        self._bytes = self._progress = 0
        self._open = True

    async def steps(self, end: "asyncio.Future[Gone]") -> AsyncGenerator[Progress | Ran, None]:
        """Progress, then one Ran, whatever became of the process."""
        end.add_done_callback(self._gone)
        while (step := await self._steps.get()) is not None:
            yield step
            if isinstance(step, Ran):
                return
        yield await _unfinished(end)

    def close(self) -> None:
        """Read no more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _gone(self, end: "asyncio.Future[Gone]") -> None:
        """The process has ended: what it wrote last is still in the pipe, unless it never had one."""
        if self._open and not end.cancelled() and end.result().why:
            self._finish(Ran(error=end.result().why, exit="crash"))

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        if not data:
            self._finish(None)
            return
        self._bytes += len(data)
        self._held += data
        try:
            for frame in frames(self._held, MOST_FRAME):
                self._take(steps.decode(frame))
        except (ValueError, msgspec.MsgspecError):
            self._finish(Ran(error="its process wrote what is no answer", exit="crash"))
        if self._bytes > MOST_OUTPUT:
            self._finish(Ran(error=f"it put out more than {MOST_OUTPUT >> 20} MiB", exit="error"))

    def _take(self, step: Progress | Ran) -> None:
        if isinstance(step, Ran):
            self._finish(step)
        elif self._open and self._progress + len(step.text) <= MOST_PROGRESS:
            self._progress += len(step.text)
            self._steps.put_nowait(step)

    def _finish(self, step: Ran | None) -> None:
        if self._open:
            self._steps.put_nowait(step)
            self.close()


async def _unfinished(end: Awaitable[Gone]) -> Ran:
    """The end of a call whose process ended without a result."""
    try:
        async with asyncio.timeout(AFTERMATH):
            gone = await asyncio.shield(end)
    except TimeoutError:
        return Ran(error="its process gave no result", exit="crash")
    if gone.why:
        return Ran(error=gone.why, exit="crash")
    if gone.status >= 0:
        return Ran(error=f"its process ended with exit code {gone.status}", exit="crash")
    name = signal.Signals(-gone.status).name if -gone.status in set(signal.Signals) else str(-gone.status)
    return Ran(error=f"its process was ended by {name}", exit="crash")
