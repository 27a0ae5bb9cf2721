"""The process that holds a running Ray: its processes are this one's children, and end with it.

    python -m deployments.starting.holding ADDRESS PID...

It waits, in 5 MB, for SIGINT, and becomes then `ending`, which stops Serve and ends; for SIGTERM, and stops Ray
alone; or for one of the processes without which nothing goes on, and fails. Each step is an exec(2) in the thread that
started Ray: to the kernel, and so to Ray's processes, the parent has never changed.

Above it: `run`, by exec. Below it: the standard library, so that it stays small. Outside it: what Ray and Serve do.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

LIMIT = 5.0
"""Seconds that each of Ray's processes gets to end after SIGTERM."""

_HEARD = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}


def become(address: str, essential: Sequence[int]) -> NoReturn:
    """Turn this process into the one that holds Ray at `address`.

    essential: the processes that must not end, in the order in which they are to.
    """
    # A SIGINT that comes meanwhile waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    _turn_into("holding", address, *map(str, essential))


def _turn_into(module: str, *arguments: str) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"deployments.starting.{module}", *arguments])


def main(arguments: Sequence[str]) -> int:
    """Hold until told to end; 1 if one of the processes named has ended by itself."""
    address, essential = arguments[0], [int(pid) for pid in arguments[1:]]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    while (number := signal.sigwait(_HEARD)) == signal.SIGCHLD:
        for pid in _ended().intersection(essential):
            print(f"process {pid} of Ray has ended", flush=True)  # noqa: T201 - the log of `serve run`
            return 1
    if number == signal.SIGTERM:
        for pid in essential:
            _end(pid)
        return 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    _turn_into("ending", address)


def _end(pid: int) -> None:
    """Ask a process to end, which then ends those that it has started, and wait for it."""
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + LIMIT
    while pid not in _ended() and time.monotonic() < until:
        time.sleep(0.05)


def _ended() -> set[int]:
    """The children that have ended."""
    ended: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.add(pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
