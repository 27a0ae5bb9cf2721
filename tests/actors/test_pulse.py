"""The dead man's switch: in virtual time when it would strike, and on real processes that it does."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors import pulse
from actors.pulse import BEAT, SILENCE, KernelTimer, beat, patience
from tests.actors.virtual_time import VirtualLoop, run

ROOT = Path(__file__).resolve().parents[2]


class FakeTimer:
    """Knows in virtual time when the process would have been killed; None: not."""

    def __init__(self) -> None:
        self.due = float("inf")
        self.killed: float | None = None

    def wind(self, seconds: float) -> None:
        self.look()
        self.due = asyncio.get_running_loop().time() + seconds if seconds else float("inf")

    def look(self) -> None:
        if self.killed is None and asyncio.get_running_loop().time() > self.due:
            self.killed = self.due


def block(seconds: float) -> None:
    """Let time pass in which the loop does not turn."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.clock.now += seconds


@pytest.mark.parametrize(("seconds", "killed"), [(2.0, False), (SILENCE - BEAT - 0.1, False), (SILENCE + 0.1, True)])
def test_a_loop_that_is_busy_is_let_live_and_one_that_hangs_is_not(seconds: float, killed: bool) -> None:
    async def work() -> FakeTimer:
        timer = FakeTimer()
        beating = asyncio.create_task(beat(timer))
        for _ in range(5):
            # At no particular moment between two beats.
            await asyncio.sleep(1.37 * BEAT)
            block(seconds)
            await asyncio.sleep(0.3 * BEAT)
            timer.look()
        beating.cancel()
        return timer

    assert (run(work()).killed is not None) == killed


def test_who_ends_in_order_is_not_killed_however_long_it_takes() -> None:
    async def work() -> FakeTimer:
        timer = FakeTimer()
        beating = asyncio.create_task(beat(timer))
        await asyncio.sleep(2.5 * BEAT)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        block(10 * SILENCE)
        timer.look()
        return timer

    assert run(work()).killed is None


def test_it_hangs_for_so_long_that_a_stop_is_noticed_in_time() -> None:
    # A stop is to be noticed within 15 s: what is left is for the start of another process.
    assert BEAT * 3 <= patience(0) == SILENCE <= 9.0
    assert patience(15) > 4 * patience(0)


PROCESS = """
import asyncio, sys, time
from actors import pulse

async def main():
    pulse.hold()
    pulse.hold()
    await asyncio.sleep(0)
    time.sleep(2.0)
    print("busy no more", flush=True)
    if sys.argv[1] == "blocked":
        await asyncio.sleep(0.1)
        time.sleep(3600)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextmanager
def process(fate: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROCESS, fate]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "busy no more\n"
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("fate", ["stopped", "blocked"])
def test_the_kernel_kills_a_process_that_hangs_and_no_busy_one(fate: str) -> None:
    with process(fate) as hanging:
        if fate == "stopped":
            os.kill(hanging.pid, signal.SIGSTOP)
        assert hanging.wait(60.0) == -signal.SIGKILL


def test_a_kernel_that_gives_no_timer_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pulse, "_CLOCK_MONOTONIC", 999)
    with pytest.raises(OSError, match="Invalid argument"):
        KernelTimer()

    async def work() -> None:
        pulse.hold()

    run(work())
    assert "nobody will notice if this process hangs: " in caplog.text
