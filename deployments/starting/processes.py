"""Processes as Linux shows them: who descends from whom, who holds a port, and how all of them are ended.

Source: proc(5) for `/proc/<pid>/stat`, `cmdline`, `fd` and `/proc/net/tcp`; prctl(2) for the two options.

Above it: `preflight`, `launch`, `haproxy`. Below it: the standard library alone, for the last of them starts
in a bare interpreter. Outside it: what the processes are.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LISTEN = "0A"
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """One process: its id, its parent's, its name (15 characters at most), its state and its command line."""

    pid: int
    parent: int
    name: str
    state: str
    command: tuple[str, ...]


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes this process's child. OSError if refused."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: signal.Signals) -> None:
    """This process gets the signal `number` when the thread that started it ends. OSError if refused."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def read(pid: int) -> Process | None:
    """The process `pid`, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself.
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    words = command.decode(errors="replace").rstrip("\0").split("\0")
    return Process(pid, int(fields[1]), name, fields[0], tuple(words))


def every() -> list[Process]:
    """All processes of this machine that can be seen."""
    found = (read(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [process for process in found if process is not None]


def descendants(root: int) -> list[Process]:
    """Children of `root`, their children and so on; zombies are among them."""
    children: dict[int, list[Process]] = {}
    for process in every():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += [process.pid for process in born]
    return found


def listening(port: int) -> set[str]:
    """The inodes of the TCP sockets that listen on `port`, on whatever address."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def holders(port: int) -> list[Process]:
    """The processes that listen on `port`, as far as this user may see them."""
    links = {f"socket:[{inode}]" for inode in listening(port)}
    return [process for process in every() if links and _holds(process.pid, links)]


def _holds(pid: int, links: set[str]) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") in links:
                return True
        except OSError:
            continue
    return False


def reap() -> dict[int, int]:
    """Collect the children that have ended: process id to exit code (minus the signal that ended it)."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def end_all(grace: float, limit: float = 5.0) -> list[Process]:
    """End every descendant of this process: SIGTERM, after `grace` seconds SIGKILL.

    Returns those that are still there `limit` seconds after that (none, unless the kernel holds them).
    """
    left: list[Process] = []
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, limit)):
        until = time.monotonic() + seconds
        while True:
            reap()
            left = [process for process in descendants(os.getpid()) if process.state != "Z"]
            if not left:
                reap()
                return []
            if time.monotonic() >= until:
                break
            signal_all(left, number)
            pause()
    return left


def signal_all(targets: Iterable[Process], number: signal.Signals) -> None:
    """Send `number` to each of `targets` that is still there."""
    for process in targets:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def pause(seconds: float = 0.05) -> None:
    """Wait between two looks at something that tells nobody when it changes."""
    time.sleep(seconds)
