"""Small transforms of streams. The only module that may import aiostream, which is under another licence than ours.

Above it: `turns`. Below it: aiostream. Outside it: what the streams mean.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeVar

from aiostream import stream

Item = TypeVar("Item")


async def merged(sources: Sequence[AsyncGenerator[Item, None]], at_once: int) -> AsyncGenerator[Item, None]:
    """The items of all sources in order of arrival; at most `at_once` of them run at the same time, in their order.

    However it ends (closed, cancelled, a source that raises), every source is closed, those that never began too.
    """
    if len(sources) == 1 or at_once == 1:
        for source in sources:
            async with aclosing(source):
                async for item in source:
                    yield item
        return
    try:
        async with stream.flatten(stream.iterate(_each(sources)), task_limit=at_once).stream() as streamer:
            async for item in streamer:
                yield item
    finally:
        for source in sources:
            await source.aclose()


async def _each(sources: Sequence[AsyncGenerator[Item, None]]) -> AsyncIterator[AsyncGenerator[Item, None]]:
    for source in sources:
        yield source
