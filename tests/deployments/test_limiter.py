"""The limiter: never more than its limit, first come first served, nothing leaks when a waiter leaves."""

import asyncio

import pytest

from deployments.limiter import Limiter
from pipelines.errors import Overloaded


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
