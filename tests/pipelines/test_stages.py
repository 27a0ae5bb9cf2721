"""Streams merged in order of arrival, none left open."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from pipelines.stages import merged


class Source:
    """Counts up to `end`, waiting for `gate` before each number; knows whether it was closed."""

    def __init__(self, name: str, end: int, fails: bool = False) -> None:
        self.name = name
        self.end = end
        self.fails = fails
        self.gate = asyncio.Semaphore(0)
        self.begun = self.closed = False

    async def run(self) -> AsyncGenerator[str, None]:
        self.begun = True
        try:
            for number in range(self.end):
                await self.gate.acquire()
                yield f"{self.name}{number}"
            if self.fails:
                raise RuntimeError(self.name)
        finally:
            self.closed = True


async def test_items_come_in_order_of_arrival() -> None:
    first, second = Source("a", 2), Source("b", 2)
    async with aclosing(merged([first.run(), second.run()], 2)) as items:
        came = []
        for source in (second, first, first, second):
            source.gate.release()
            came.append(await anext(items))
        assert [item async for item in items] == []
    assert came == ["b0", "a0", "a1", "b1"]
    assert first.closed
    assert second.closed


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_no_more_than_may_run_at_once_begin(at_once: int) -> None:
    sources = [Source(str(number), 1) for number in range(5)]
    async with aclosing(merged([source.run() for source in sources], at_once)) as items:
        waiting = asyncio.ensure_future(anext(items))
        for _ in range(50):
            await asyncio.sleep(0)
        assert sum(source.begun for source in sources) == at_once
        for source in sources:
            source.gate.release()
        assert [await waiting, *[item async for item in items]] == ["00", "10", "20", "30", "40"]


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_leaving_closes_every_source(count: int) -> None:
    sources = [Source(str(number), 3) for number in range(count)]
    runs = [source.run() for source in sources]
    items = merged(runs, 2)
    sources[0].gate.release()
    assert await anext(items) == "00"
    await items.aclose()

    assert all(source.closed for source in sources if source.begun)
    for run in runs:
        with pytest.raises(StopAsyncIteration):
            await anext(run)


async def test_a_source_that_raises_ends_all() -> None:
    sources = [Source("a", 1, fails=True), Source("b", 9)]
    sources[0].gate.release()
    with pytest.raises(RuntimeError, match="a"):
        async for _ in merged([source.run() for source in sources], 2):
            pass
    assert [source.closed for source in sources] == [source.begun for source in sources]
