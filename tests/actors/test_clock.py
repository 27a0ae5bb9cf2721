"""The actors' clock beside a machine whose own clocks sleep, are wrong, and are put right."""

import time

from actors.clock import LASTING, SteadyClock, since_boot

NOON = 1_800_000_000.0
DAY = 86_400.0


class Machine:
    """A wall clock that is off by so much, and what has passed since the boot."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off
        self.passed = 100.0
        self.clock = SteadyClock(lambda: NOON + self.passed + self.off, lambda: self.passed)
        self.last = self.clock()

    def after(self, seconds: float, step: float = 1.0) -> float:
        """How far the clock is ahead of the truth, so much later; it is read on the way, and never runs back."""
        until = self.passed + seconds
        while self.passed < until:
            self.passed = min(until, self.passed + step)
            now = self.clock()
            assert now >= self.last
            self.last = now
        return self.last - NOON - self.passed


def test_it_is_the_wall_clock_s_time_and_goes_forward() -> None:
    clock = SteadyClock()
    before = time.time()
    assert before - 1 < clock() <= clock() < time.time() + 1


def test_a_machine_that_slept_is_on_time_at_once() -> None:
    machine = Machine()
    assert machine.after(8 * 3600, step=8 * 3600) == 0
    # As Linux has it; elsewhere what goes on in sleep has another name.
    assert abs(since_boot() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_a_wrong_time_at_boot_is_put_right_once_it_is_sure() -> None:
    for off in (-57 * 365 * DAY, -3600.0, -5.0):
        machine = Machine(off)
        assert machine.after(10) == off
        machine.off = 0.0
        assert machine.after(LASTING - 5) == off
        assert machine.after(10) == 0


def test_a_clock_that_is_ahead_goes_slower_until_it_is_not() -> None:
    machine = Machine(3600.0)
    machine.off = 0.0
    assert 3600 - 40 < machine.after(LASTING + 60) < 3600
    assert machine.after(2 * 3600) == 0


def test_a_step_that_does_not_last_changes_nothing() -> None:
    machine = Machine()
    for off in (50 * 365 * DAY, -DAY, 2 * DAY):
        machine.off = off
        assert machine.after(LASTING / 2) == 0
        machine.off = 0.0
        assert machine.after(1) == 0
    assert machine.after(10 * LASTING) == 0


def test_small_corrections_are_followed_as_they_come() -> None:
    machine = Machine()
    for off in (0.2, 0.5, 0.1, -0.3):
        machine.off = off
        assert abs(machine.after(5) - off) < 1e-6
