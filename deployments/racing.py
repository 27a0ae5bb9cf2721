"""Asking candidates one after the other, and where it is wanted a slow one and the next side by side.

A hedge: once a candidate has been silent for longer than nineteen in twenty of its answers take, the next one is
asked too; the first output wins, the other is cancelled at once. Source: J. Dean and L. Barroso, "The Tail at
Scale", CACM 56(2), 2013, which sends the second request after the 95th percentile so that the load grows by some 5%;
a budget keeps it there when everybody is slow.

Above it: `routed_lane`. Below it: `pipelines.routing.walk`. Outside it: how a candidate is asked.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pipelines.calls import Answer
from pipelines.errors import PenstockError
from pipelines.routing.ask import Candidate
from pipelines.routing.table import Role
from pipelines.routing.walk import Walk

Asking = Callable[[Candidate, Role], Coroutine[Any, Any, Answer]]
"""Asks one candidate, in a role; the answer stands at its first output. Raises PenstockError."""

Patience = Callable[[Candidate], float | None]
"""Seconds of silence after which the next one is asked beside it; None: never."""

_Won = tuple[Candidate, Answer]


async def first_answer(
    walk: Walk, ask: Asking, patience: Patience, allowed: Callable[[], bool], role: Role = "first"
) -> _Won:
    """The first candidate that answers, and its answer. role: that of the first attempt.

    allowed: asked before every hedge. Raises the first meaningful error where nobody answers.
    """
    while (candidate := walk.next()) is not None:
        wait = patience(candidate)
        if wait is not None:
            won = await _raced(walk, ask, candidate, wait, allowed, role)
            if won is not None:
                return won
        else:
            try:
                return candidate, await ask(candidate, role)
            except PenstockError as error:
                if not walk.failed(candidate, error):
                    raise walk.nobody() from error
        role = "fallback"
    raise walk.nobody()


async def _raced(
    walk: Walk, ask: Asking, candidate: Candidate, wait: float, allowed: Callable[[], bool], role: Role
) -> _Won | None:
    """The candidate's answer, or that of the one asked beside it; None where both failed and others may be asked."""
    running = {asyncio.create_task(ask(candidate, role)): candidate}
    second: tuple[Candidate, PenstockError] | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=wait)
        # The budget is asked last: nobody pays for a hedge that cannot be.
        if not done and walk.upcoming is not None and allowed() and (other := walk.next()) is not None:
            running[asyncio.create_task(ask(other, "hedge"))] = other
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Of two that are there at the same time the one that was asked first wins.
            for task in [task for task in running if task in done]:
                error = task.exception()
                if error is None:
                    winner = running.pop(task)
                    return winner, task.result()
                loser = running.pop(task)
                if not isinstance(error, PenstockError):
                    raise error
                if loser is not candidate:
                    second = (loser, error)
                elif not walk.failed(loser, error):
                    raise walk.nobody() from error
        # What the second one says is heard after what the first one says, and ends nothing that is under way.
        if second is not None and not walk.failed(*second):
            raise walk.nobody() from second[1]
        return None
    finally:
        await _abandoned(running)


async def _abandoned(running: Mapping[asyncio.Task[Answer], Candidate]) -> None:
    """Cancel what is still asked, and close what has been answered too late."""
    for task in running:
        task.cancel()
    for late in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(late, Answer):
            await late.close()
