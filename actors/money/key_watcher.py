"""A replica's ear for the keys: all of them at the start, and every change as it is made.

A long poll, so that a key that is revoked ends on every replica in the time of a message. While the ledger is away a
replica goes on with the keys that it knows.

Above it: `deployments.replica`. Below it: `ledger_client`, `pipelines.keys`. Outside it: who is let in.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from actors.money.ledger_client import LedgerClient
from pipelines.errors import Overloaded
from pipelines.keys import Feed, Seen

POLL_TIMEOUT = 15.0
"""Seconds after which a long poll has failed: the ledger itself ends one after 10."""

BACKOFF = (0.05, 0.5)
"""Seconds before the first further try, doubled with each failure, and at most."""

_log = logging.getLogger("penstock.keys")
_feeds = msgspec.msgpack.Decoder(Feed)


class KeyWatcher:
    """Hands every piece of news to on_feed, on the loop. hearing: whether the ledger answered when last asked."""

    def __init__(self, client: LedgerClient, on_feed: Callable[[Feed], None]) -> None:
        self._client = client
        self._on_feed = on_feed
        self.hearing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on this loop."""
        if self._task is None:
            self._task = self._client.spawn(self._watch())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        first, longest = BACKOFF
        seen, wait = 0, first
        while True:
            try:
                feed = _feeds.decode(await self._client.keys(msgspec.msgpack.encode(Seen(seen)), POLL_TIMEOUT))
            except (Overloaded, msgspec.MsgspecError) as error:
                self.hearing = False
                if wait == first:
                    _log.warning("the ledger does not tell of keys, those that are known go on: %s", error)
                await asyncio.sleep(wait)
                wait = min(longest, wait * 2)
                continue
            self.hearing = True
            seen, wait = feed.changed, first
            if feed.keys or feed.whole:
                self._on_feed(feed)
