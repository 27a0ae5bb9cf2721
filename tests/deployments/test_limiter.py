"""The limiter: never more than its limit, the more important first, nothing leaks when a waiter leaves."""

import asyncio

import pytest

from deployments.load.limiter import Limiter
from pipelines.errors import Overloaded
from tests.actors.virtual_time import run


async def _turn() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    limiter = Limiter(1, 1)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await _turn()
    with pytest.raises(Overloaded) as refused:
        await limiter.acquire()
    assert refused.value.retry_after
    limiter.release()
    await waiting
    assert (limiter.in_flight, limiter.waiting) == (1, 0)


async def test_first_come_first_served() -> None:
    limiter, order = Limiter(1, 10), []

    async def work(number: int) -> None:
        await limiter.acquire()
        order.append(number)
        await asyncio.sleep(0)
        limiter.release()

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))
    assert limiter.in_flight == 0


async def test_a_waiter_who_leaves_takes_no_place_with_him() -> None:
    limiter = Limiter(1, 5)
    await limiter.acquire()
    leaving = asyncio.create_task(limiter.acquire())
    staying = asyncio.create_task(limiter.acquire())
    await _turn()
    leaving.cancel()
    await _turn()
    limiter.release()
    await staying
    limiter.release()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_place_given_in_the_moment_of_leaving_is_passed_on() -> None:
    limiter = Limiter(1, 5)
    await limiter.acquire()
    leaving = asyncio.create_task(limiter.acquire())
    staying = asyncio.create_task(limiter.acquire())
    await _turn()
    limiter.release()  # the place goes to `leaving`, who has not run yet
    leaving.cancel()
    await staying
    limiter.release()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_patience_ends() -> None:
    limiter = Limiter(1, 5, patience=0.01)
    await limiter.acquire()
    with pytest.raises(Overloaded):
        await limiter.acquire()
    limiter.release()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_idle_waits_until_the_last_one_has_left() -> None:
    limiter = Limiter(2, 5)
    await limiter.idle()
    await limiter.acquire()
    await limiter.acquire()
    idle = asyncio.create_task(limiter.idle())
    limiter.release()
    await _turn()
    assert not idle.done()
    limiter.release()
    await idle


async def _serve(limiter: Limiter, name: str, priority: int, order: list[str]) -> None:
    """Have one place for one turn of the loop; `order` gets the name, with `!` where it was refused."""
    try:
        await limiter.acquire(priority)
    except Overloaded:
        order.append(f"{name}!")
        return
    order.append(name)
    await asyncio.sleep(0)
    limiter.release()


async def test_higher_priorities_first_and_within_one_first_come_first_served() -> None:
    limiter, order = Limiter(1, 10), list[str]()
    await limiter.acquire()
    async with asyncio.TaskGroup() as group:
        for name, priority in (("a", 0), ("low", -5), ("b", 0), ("high", 7), ("c", 0), ("higher", 100), ("d", 0)):
            group.create_task(_serve(limiter, name, priority, order))
        await _turn()
        assert limiter.waiting == 7
        limiter.release()
    assert order == ["higher", "high", "a", "b", "c", "d", "low"]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_higher_priority_takes_the_place_of_the_last_of_the_lowest() -> None:
    limiter, order = Limiter(1, 3), list[str]()
    await limiter.acquire()
    async with asyncio.TaskGroup() as group:
        for name, priority in (("low 1", -1), ("low 2", -1), ("middle", 0)):
            group.create_task(_serve(limiter, name, priority, order))
        await _turn()
        for name, priority in (("low 3", -1), ("high", 5), ("middle 2", 0), ("middle 3", 0)):
            group.create_task(_serve(limiter, name, priority, order))
            await _turn()
            assert limiter.waiting == 3
        assert order == ["low 3!", "low 2!", "low 1!", "middle 3!"]
        limiter.release()
    assert order[4:] == ["high", "middle", "middle 2"]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_who_is_pushed_out_in_the_moment_of_leaving_leaves_nothing_behind() -> None:
    limiter, order = Limiter(1, 1), list[str]()
    await limiter.acquire()
    leaving = asyncio.create_task(limiter.acquire(0))
    await _turn()
    high = asyncio.create_task(_serve(limiter, "high", 1, order))
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await _turn()
    limiter.release()
    await high
    assert order == ["high"]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_patience_is_the_shorter_of_two() -> None:
    async def waited(own: float, callers: float) -> float:
        limiter = Limiter(1, 5, patience=own)
        await limiter.acquire()
        began = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded, match="within 2 s"):
            await limiter.acquire(0, callers)
        return asyncio.get_running_loop().time() - began

    assert run(waited(2.0, 600.0)) == pytest.approx(2.0)
    assert run(waited(30.0, 2.0)) == pytest.approx(2.0)


def test_when_to_come_back_follows_from_how_fast_places_come_free() -> None:
    async def heard(seconds: float) -> float | None:
        limiter = Limiter(2, 4)
        await limiter.acquire()
        await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(7)]
        await _turn()
        for _ in range(3):
            await asyncio.sleep(seconds)
            limiter.release()
        waiting += [asyncio.create_task(limiter.acquire()) for _ in range(4)]
        await _turn()
        with pytest.raises(Overloaded) as refused:
            await limiter.acquire()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return refused.value.retry_after

    assert run(heard(1.0)) == pytest.approx(3 / 4 * 5)
    assert run(heard(0.1)) == 1.0
    assert run(heard(9.0)) == 30.0


async def test_a_lower_limit_lets_the_calls_end_and_a_higher_one_lets_waiters_in() -> None:
    limiter = Limiter(3, 10)
    for _ in range(3):
        await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(4)]
    await _turn()
    limiter.resize(1)
    for left in (2, 1):
        limiter.release()
        await _turn()
        assert (limiter.in_flight, limiter.waiting) == (left, 4)
    limiter.release()
    await _turn()
    assert (limiter.in_flight, limiter.waiting) == (1, 3)
    limiter.resize(3)
    await _turn()
    assert (limiter.in_flight, limiter.waiting) == (3, 1)
    for _ in range(4):
        limiter.release()
        await _turn()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    assert all(task.done() for task in waiting)
    await limiter.idle()
