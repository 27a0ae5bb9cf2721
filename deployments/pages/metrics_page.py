"""`GET /metrics`: asks the router for the cluster's numbers, at most once a second, and writes them down in a thread.

While the router is away, or has not yet heard every replica again, the last numbers are told once more: counters stand
still then, and never fall.

Above it: `gateway`. Below it: `metrics`, `routing_pages`, `actors.routing.client`. Outside it: the text itself.
"""

import asyncio
import contextlib
import time

from actors.routing.client import RouterClient
from deployments.pages.routing_pages import RoutingPages
from deployments.telemetry.metrics import exposition
from pipelines.errors import Overloaded
from pipelines.metering.cluster import Snapshot
from pipelines.routing.learning.state import WinRate

FRESH = 1.0
"""Seconds for which a page is told again as it is."""


class MetricsPage:
    """One gateway replica's page."""

    def __init__(self, router: RouterClient, pages: RoutingPages) -> None:
        self._router = router
        self._pages = pages
        self._snapshot: Snapshot | None = None
        self._rates: tuple[WinRate, ...] = ()
        self._text = b""
        self._made = float("-inf")
        self._making = asyncio.Lock()

    async def read(self) -> bytes:
        """The page. Raises Overloaded (503) where nothing is known yet."""
        async with self._making:
            if time.monotonic() - self._made >= FRESH:
                await self._make()
            return self._text

    async def _make(self) -> None:
        table, reachable = self._router.table, False
        with contextlib.suppress(Exception):  # Ray raises many classes when an actor is away.
            snapshot = await self._router.metrics()
            table, reachable = await self._router.snapshot(), True
            if snapshot.settled:
                self._snapshot = snapshot
        if self._snapshot is None:
            raise Overloaded("the cluster's numbers are not known yet", status=503, retry_after=1.0)
        with contextlib.suppress(Overloaded):
            self._rates = (await self._pages.standing()).win_rates
        self._text = await asyncio.to_thread(exposition, table, self._rates, self._snapshot, reachable=reachable)
        self._made = time.monotonic()
