"""Rows of the ledger that are too old go, a little at a time.

Every gateway replica asks for it; where several do, they find little left to do.

Above it: `gateway`. Below it: `actors.money.ledger_client`. Outside it: how rows are taken out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from actors.money.ledger_client import LedgerClient
from deployments.settings.money_settings import RetentionSettings
from pipelines.errors import PenstockError
from pipelines.ledger_questions import Erased, Expiry

EVERY = 600.0
"""Seconds between two sweeps."""

PAUSE = 0.2
"""Seconds between two calls of one sweep: 20 transactions of 500 rows each, and then a rest."""

_DAY = 86_400.0
_log = logging.getLogger("penstock.ledger")


class Retention:
    """clock: seconds since 1970."""

    def __init__(
        self,
        settings: RetentionSettings,
        ledger: LedgerClient,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._sleep = sleep

    @property
    def wanted(self) -> bool:
        """Whether anything ever goes."""
        return self._settings.requests_days is not None or self._settings.attempts_days is not None

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except PenstockError as error:
                _log.warning("old rows of the ledger stay for now: %s", error.message)
            await self._sleep(EVERY)

    async def sweep(self) -> Erased:
        """Take out what is too old now; how many rows that were. Raises Overloaded (503) while the ledger is away."""
        expiry = Expiry(
            requests=self._before(self._settings.requests_days), attempts=self._before(self._settings.attempts_days)
        )
        requests = attempts = 0
        while True:
            answer = await self._ledger.report(msgspec.msgpack.encode(expiry))
            gone = msgspec.msgpack.decode(answer, type=Erased)
            requests, attempts = requests + gone.requests, attempts + gone.attempts
            if not gone.more:
                return Erased(requests, attempts)
            await self._sleep(PAUSE)

    def _before(self, days: float | None) -> float:
        return 0.0 if days is None else self._clock() - days * _DAY
