"""An event loop on which waiting takes no time: the clock jumps to whatever is due next."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


MOST_TURNS = 100_000
"""Turns of the loop at one moment, at most: more are of a task that never comes to wait."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; instead of waiting it moves the loop's clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits for something that never comes")
        self.turns += 1
        if not ready and timeout:
            self.now += timeout
            self.turns = 0
        if self.turns > MOST_TURNS:
            self.turns = 0
            raise RuntimeError("something goes round and round, and no time passes")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is virtual, in seconds from 0."""

    def __init__(self) -> None:
        self.clock = _JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
