"""The watchdog: it bites in the right phase, only while it watches, and never eats a caller's cancellation."""

import asyncio

import pytest

from deployments.http.watchdog import Watchdog
from pipelines.errors import StreamBroken, TimedOut
from tests.actors.virtual_time import run


@pytest.mark.parametrize(("phase", "total"), [("idle", 60.0), ("total", 0.0)])
async def test_silence_is_named_by_its_phase(phase: str, total: float) -> None:
    with pytest.raises(TimedOut) as raised, Watchdog("somebody") as dog:  # noqa: PT012 - the body is the subject
        dog.limit(total)
        dog.expect("idle", 0.01)
        await asyncio.Event().wait()
    assert raised.value.phase == phase
    assert raised.value.provider == "somebody"
    assert isinstance(raised.value, TimeoutError)


def test_progress_moves_the_deadline_without_a_new_timer() -> None:
    async def progress() -> None:
        with Watchdog() as dog:
            for _ in range(4):
                dog.expect("idle", 5.0)
                await asyncio.sleep(2.0)

    # Four times 2 s is past the first deadline, and nothing bit.
    run(progress())


async def test_it_does_not_bite_while_it_rests() -> None:
    with Watchdog() as dog:
        dog.expect("idle", 0.01)
        dog.rest()
        await asyncio.sleep(0.03)
    with pytest.raises(TimedOut), Watchdog() as dog:  # noqa: PT012 - the body is the subject
        dog.expect("idle", 0.01)
        dog.rest()
        await asyncio.sleep(0.03)
        dog.resume()
        await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def guarded() -> None:
        with Watchdog() as dog:
            dog.expect("idle", 60)
            await asyncio.Event().wait()

    task = asyncio.create_task(guarded())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_bites_when_told_to_now_or_at_the_next_wait() -> None:
    lost = StreamBroken("gone")
    with pytest.raises(StreamBroken) as raised, Watchdog() as dog:  # noqa: PT012 - the body is the subject
        dog.resume()
        asyncio.get_running_loop().call_soon(dog.bite, lost)
        await asyncio.Event().wait()
    assert raised.value is lost
    with Watchdog() as dog:
        dog.rest()
        dog.bite(lost)
        await asyncio.sleep(0)
        with pytest.raises(StreamBroken):
            dog.resume()


def test_a_doubted_one_is_bitten_once_it_is_silent_and_not_before() -> None:
    lost = StreamBroken("gone")

    async def flowing(doubted: bool) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with Watchdog() as dog:
            dog.doubt(lost, 1.0, lambda: doubted)
            for _ in range(20):
                dog.resume()
                await asyncio.sleep(0.5)
                dog.rest()
            dog.resume()
            await asyncio.sleep(60.0)
        return loop.time() - began

    async def bitten() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(StreamBroken):
            await flowing(doubted=True)
        return loop.time()

    assert 11.0 <= run(bitten()) <= 12.0
    assert run(flowing(doubted=False)) == 70.0


def test_a_slow_reader_is_no_silence() -> None:
    async def slow() -> None:
        with Watchdog() as dog:
            dog.doubt(StreamBroken("gone"), 1.0, lambda: True)
            for _ in range(5):
                dog.rest()
                await asyncio.sleep(10.0)
                dog.resume()

    run(slow())
