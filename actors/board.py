"""The latest version of something, and those who wait for a newer one.

Above it: `router`, `learner`. Below it: asyncio. Outside it: what is published.
"""

import asyncio

LONG_POLL = 10.0
"""Seconds after which a long poll without news returns."""


class Board:
    """Holds encoded bytes under an epoch and a version that counts up within it."""

    def __init__(self, epoch: str, version: int, data: bytes) -> None:
        self.epoch = epoch
        self.version = version
        self._data = data
        self._news = asyncio.Event()

    def post(self, version: int, data: bytes) -> None:
        """Publish the next version, and hand it to all who wait."""
        self.version, self._data = version, data
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def newer(self, version: int, epoch: str) -> bytes | None:
        """The first bytes that are newer than the version named; None if there are none within LONG_POLL."""
        if not self._is_newer(version, epoch):
            news = self._news
            try:
                async with asyncio.timeout(LONG_POLL):
                    await news.wait()
            except TimeoutError:
                return None
        return self._data if self._is_newer(version, epoch) else None

    def _is_newer(self, version: int, epoch: str) -> bool:
        return bool(self._data) and (self.epoch != epoch or self.version > version)
