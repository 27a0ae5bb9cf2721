"""A process that hangs is killed by the kernel, so that whoever started it starts it again.

Ray restarts an actor whose process has died, and takes no notice of one that is stopped (SIGSTOP, a debugger) or whose
loop is blocked for ever. So an actor holds a dead man's switch: a timer of the kernel that sends SIGKILL to its own
process, and that a task on its event loop winds up again and again. A stopped process does nothing, but its timer goes
on, and SIGKILL is the signal that reaches it. Nobody else has to look after it, on whatever node it is, and no process
can be taken for another: the timer ends with the process that made it.

Sources: timer_create(2), timer_settime(2), sigevent(3type), signal(7). The clock stands still while the machine sleeps.

Above it: `directory`. Below it: Linux. Outside it: what the process does, and who starts it again.
"""

import asyncio
import ctypes
import logging
import os
import signal
from typing import Protocol

BEAT = 1.0
"""Seconds between two windings."""

SILENCE = 8.0
"""Seconds without a turn of the loop after which the process is killed: longer than a busy machine makes it wait, and
short enough for a stop to be noticed within 15."""

NICE_SILENCE = 40.0
"""The same for a process that yields to all others (`RAY_worker_niceness` is 15 unless it is set): it may starve."""

_CLOCK_MONOTONIC = 1
_SIGEV_SIGNAL = 0

_log = logging.getLogger("penstock.pulse")
_beating: asyncio.Task[None] | None = None


class Timer(Protocol):
    """What is wound up."""

    def wind(self, seconds: float) -> None:
        """Kill in so many seconds from now, in place of what was said before; 0: never."""


class _Event(ctypes.Structure):
    """`struct sigevent`, 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


class _Span(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (("interval", _Span), ("value", _Span))


class KernelTimer:
    """Sends SIGKILL to this process. Raises OSError where the kernel gives none."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timer_create"):
            # Where glibc is older than 2.34.
            self._libc = ctypes.CDLL("librt.so.1", use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _Event(None, signal.SIGKILL, _SIGEV_SIGNAL)
        self._check(self._libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)))

    def wind(self, seconds: float) -> None:
        """See `Timer`."""
        whole = int(seconds)
        setting = _Setting(_Span(0, 0), _Span(whole, int((seconds - whole) * 1e9)))
        self._check(self._libc.timer_settime(self._timer, 0, ctypes.byref(setting), None))

    def _check(self, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def patience(niceness: int) -> float:
    """Seconds of silence that are borne of a process with this niceness (nice(2))."""
    return SILENCE if niceness <= 0 else NICE_SILENCE


async def beat(timer: Timer, silence: float = SILENCE) -> None:
    """Wind it up for as long as this task runs on a loop that turns; afterwards it kills nobody."""
    try:
        while True:
            timer.wind(silence)
            await asyncio.sleep(BEAT)
    finally:
        timer.wind(0.0)


def hold() -> None:
    """From now on this process is killed when the running loop has not turned for as long as `patience` says.

    Once is enough; again does nothing.
    """
    global _beating
    if _beating is not None:
        return
    try:
        silence = patience(os.getpriority(os.PRIO_PROCESS, 0))
        _beating = asyncio.get_running_loop().create_task(beat(KernelTimer(), silence))
    except OSError as error:
        _log.warning("nobody will notice if this process hangs: %s", error)
