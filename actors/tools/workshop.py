"""A process that makes processes: it has imported the tools, and forks once for each call.

    executor --Setup, Begin, Kill--> workshop --fork--> the call: contained, then the tool
             <----Ready, Gone------                       |
             <------------- Progress, Ran ----------------+

It runs with an environment of its own, in one thread, and never holds a caller's data, which the next call would find
in its memory: the arguments are in a memory of the executor's (memfd_create(2)) that the call itself opens.
Where namespaces can be had, a call is the first process of its own, so that the kernel ends all that it has made when
it ends (pid_namespaces(7)); elsewhere the workshop adopts what a call leaves behind, and ends it. It ends with its
executor, whose pipe closes then, and the calls end with it.

Above it: `workshop_client`, which starts it (`python -m actors.tools.workshop`). Below it: `confinement`, `user_pool`,
`function_finding`, `pipelines.tools.functions`. Outside it: time limits, which the executor keeps.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import resource
import selectors
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Never

import msgspec

from actors.tools import confinement, user_pool, workshop_messages
from actors.tools.confinement import Isolation
from actors.tools.function_finding import find
from actors.tools.user_pool import UserPool
from actors.tools.workshop_messages import Begin, Gone, Kill, Ready, Setup, framed, frames
from pipelines.errors import ConfigurationError
from pipelines.tools.catalogue import Progress, Ran
from pipelines.tools.cutting import cut
from pipelines.tools.functions import FunctionTool, invoke

_ORDERS, _REPORTS = 0, 1
_RESULT, _ALIVE = 3, 4
"""Descriptors: of the workshop, and of a call."""

_SWEEPS = 1000


class _Call(msgspec.Struct):
    """A call that runs. descriptor: of its process; user: whom it runs as, None where that is the workshop's own."""

    number: int
    process: int
    descriptor: int
    user: int | None
    scratch: str


class Workshop:
    """The process's whole life. report: the descriptor to write reports to."""

    def __init__(self, setup: Setup, functions: dict[str, FunctionTool[..., Any]], report: int = _REPORTS) -> None:
        self.isolation = confinement.probe()
        self._functions = functions
        self._folder = setup.folder
        self._report = report
        self._users = UserPool(*setup.users, confinement.end_all_of) if self.isolation.users else None
        self._calls: dict[int, _Call] = {}
        self._selector = selectors.DefaultSelector()
        # Only this process can write to it, so that a call sees when this one has ended.
        self._alive, self._life = os.pipe()
        confinement.adopt_orphans()
        if self.isolation.namespaces and self._users is not None:
            self._processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self._mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            if not setup.network:
                confinement.unshare(confinement.NEW_NETWORK)
            guards = [guard for made in functions.values() for guard in made.definition.policy.guards]
            roots = {root for guard in guards for root in guard.roots}.union(setup.roots)
            needed = {sys.base_prefix, sys.prefix, *sys.path}
            roots.add(str(user_pool.FOLDER))
            confinement.shut(setup.hidden, roots, needed, f"{setup.folder}/scratch")
        else:
            self.isolation = Isolation(self.isolation.users, False)
        self._began_with = confinement.address_space()

    def run(self, orders: int = _ORDERS) -> None:
        """Serve until the orders end."""
        held = bytearray()
        self._selector.register(orders, selectors.EVENT_READ)
        # What is there now is never collected: the forks would copy it.
        gc.collect()
        gc.freeze()
        try:
            self._serve(orders, held)
        finally:
            self._end_all()

    def _serve(self, orders: int, held: bytearray) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd != orders:
                    self._ended(key.data)
                    continue
                data = os.read(orders, 65536)
                if not data:
                    return
                held += data
                for frame in frames(held):
                    self._obey(workshop_messages.orders.decode(frame))

    def _obey(self, order: Begin | Kill) -> None:
        if isinstance(order, Begin):
            user = self._users.take() if self._users is not None else None
            try:
                self._begin(order, user)
            except OSError as error:
                if user is not None and self._users is not None:
                    self._users.give_back(user)
                self._say(Gone(order.number, why=f"no process could be made for it: {error.strerror or error}"))
        elif (call := self._calls.get(order.number)) is not None:
            self._kill(call)

    def _begin(self, begin: Begin, user: int | None) -> None:
        if self._users is not None and user is None:
            raise OSError("no user is free")
        # Without a reader, who has gone then, opening fails and does not wait.
        pipe = os.open(begin.pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(pipe, True)
        scratch = self._scratch(begin.number, user)
        if self.isolation.namespaces:
            confinement.unshare(confinement.NEW_PROCESSES)
        try:
            process = os.fork()
            if process == 0:
                self._work(begin, user, scratch, pipe)
        finally:
            os.close(pipe)
            if self.isolation.namespaces:
                confinement.rejoin(self._processes, confinement.NEW_PROCESSES)
        call = _Call(begin.number, process, os.pidfd_open(process), user, scratch)
        self._calls[begin.number] = call
        self._selector.register(call.descriptor, selectors.EVENT_READ, call)

    def _scratch(self, number: int, user: int | None) -> str:
        """A directory for a call; in namespaces each call sees one of its own at the same place."""
        if self.isolation.namespaces:
            return f"{self._folder}/scratch"
        scratch = f"{self._folder}/{number}"
        os.mkdir(scratch, 0o700)
        if user is not None:
            os.chown(scratch, user, user)
        return scratch

    def _work(self, begin: Begin, user: int | None, scratch: str, pipe: int) -> Never:
        """The call's own process: contain it, run the tool, end."""
        try:
            with open(begin.arguments, "rb") as file:
                arguments = msgspec.msgpack.decode(file.read())
            _keep_only(pipe, self._alive)
            try:
                self._contain(begin, user, scratch)
            except OSError as error:
                os.write(_RESULT, framed(Ran(error=f"it cannot be contained: {error.strerror}", exit="refused")))
                os._exit(0)
            made = self._functions[begin.tool]
            running = _send_all(invoke(made, arguments), begin.result)
            if made.waits:
                asyncio.run(running)
            else:
                with contextlib.suppress(StopIteration):
                    running.send(None)
        except BaseException:
            os._exit(1)
        os._exit(0)

    def _contain(self, begin: Begin, user: int | None, scratch: str) -> None:
        os.setsid()
        os.umask(0o077)
        if self.isolation.namespaces and user is not None:
            confinement.furnish(scratch, user, begin.limits.file)
        with contextlib.suppress(OSError):
            # Where memory runs out, a tool goes before everything else (proc(5), oom_score_adj).
            Path("/proc/self/oom_score_adj").write_text("1000")
        confinement.limit(begin.limits, self._began_with)
        if user is not None:
            confinement.become(user)
        confinement.die_with_parent(_ALIVE)
        confinement.renounce_privileges()
        os.close(_ALIVE)
        os.chdir(scratch)
        os.environ["HOME"] = os.environ["TMPDIR"] = scratch

    def _kill(self, call: _Call) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(call.process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(call.descriptor, signal.SIGKILL)

    def _ended(self, call: _Call) -> None:
        _, status = os.waitpid(call.process, 0)
        del self._calls[call.number]
        self._selector.unregister(call.descriptor)
        os.close(call.descriptor)
        if not self.isolation.namespaces:
            self._sweep(call)
            shutil.rmtree(call.scratch, ignore_errors=True)
        if call.user is not None and self._users is not None:
            self._users.give_back(call.user)
        self._say(Gone(call.number, os.waitstatus_to_exitcode(status)))

    def _sweep(self, call: _Call) -> None:
        """End what an ended call has left behind: its group, and what has left that."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(call.process, signal.SIGKILL)
        for _ in range(_SWEEPS):
            left = confinement.orphans(other.process for other in self._calls.values())
            if not left:
                return
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)

    def _end_all(self) -> None:
        for call in list(self._calls.values()):
            self._kill(call)
        for call in list(self._calls.values()):
            with contextlib.suppress(BrokenPipeError):
                self._ended(call)
        if self.isolation.namespaces:
            # Nothing can be removed in ours.
            confinement.rejoin(self._mounts, confinement.NEW_MOUNTS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _say(self, report: Gone) -> None:
        os.write(self._report, framed(report))


async def _send_all(steps: AsyncGenerator[Progress | Ran, None], most: int) -> None:
    async for step in steps:
        data = framed(cut(step, most) if isinstance(step, Ran) else step)
        if len(data) > workshop_messages.MOST_FRAME:
            data = framed(Ran(error="what it gave is too large", exit="error")) if isinstance(step, Ran) else b""
        view = memoryview(data)
        while view:
            view = view[os.write(_RESULT, view) :]


def _keep_only(pipe: int, alive: int) -> None:
    """Close every descriptor but these two, which get their usual numbers, and three that lead nowhere."""
    # Out of the way first: each may have a number that is wanted.
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD, 16) for one in (pipe, alive, os.open(os.devnull, os.O_RDWR))]
    for number, source in ((_RESULT, moved[0]), (_ALIVE, moved[1]), (0, moved[2]), (1, moved[2]), (2, moved[2])):
        os.dup2(source, number)
    os.closerange(_ALIVE + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def main() -> None:
    """Read the setup, import the tools, say so, serve."""
    # What a tool's module prints while it is imported must not be taken for a report.
    report = os.dup(_REPORTS)
    os.dup2(2, _REPORTS)
    length = int.from_bytes(_exactly(4), "big")
    setup = msgspec.msgpack.decode(_exactly(length), type=Setup)
    try:
        functions = find(setup.functions)
        workshop = Workshop(setup, functions, report)
    except (ConfigurationError, OSError) as error:
        os.write(report, framed(Ready(error=str(error))))
        return
    tools = tuple(made.definition for made in functions.values())
    os.write(report, framed(Ready(tools, workshop.isolation)))
    workshop.run()


def _exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(_ORDERS, count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


if __name__ == "__main__":
    main()
