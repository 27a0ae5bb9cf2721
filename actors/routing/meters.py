"""The cluster's numbers in the router actor: every replica's reports added up, and kept in a file.

    metrics.bin    what was counted so far (`pipelines.metering.cluster.Kept`), checked (`checked_file`)

The numbers live here because every replica speaks to the router anyway, four times a second, and any gateway replica
can ask it. The file lets counters go on where they were when a router takes over, also those of replicas that are gone:
after a fall Prometheus would count once more what the living ones bring.

Above it: `router`. Below it: `checked_file`, `pipelines.metering`. Outside it: who counts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from actors.checked_file import CheckedFile
from pipelines.metering.cluster import Cluster, Kept
from pipelines.metering.meter import Measured

FILE = "metrics.bin"

SAVING = 5.0
"""Seconds between two writings of the file at least."""

_log = logging.getLogger("penstock.router")
_measured = msgspec.msgpack.Decoder(Measured)
_kept = msgspec.msgpack.Decoder(Kept)


class Meters:
    """clock gives seconds since 1970; offload calls what blocks."""

    def __init__(
        self, state_directory: str, clock: Callable[[], float], offload: Callable[..., Awaitable[Any]] | None = None
    ) -> None:
        self._clock = clock
        self._offload = offload or asyncio.to_thread
        self._file = CheckedFile(state_directory, FILE, "counting")
        self._cluster = Cluster(clock(), self._file.read(_kept.decode))
        self._saved = 0.0
        self._saving = asyncio.Lock()

    def take(self, measured: bytes) -> None:
        """A replica tells its numbers (an encoded Measured)."""
        self._cluster.take(_measured.decode(measured), self._clock())

    def snapshot(self) -> bytes:
        """The cluster's numbers as of now, as an encoded Snapshot."""
        return msgspec.msgpack.encode(self._cluster.snapshot(self._clock()))

    async def step(self) -> None:
        """Do what is due."""
        if self._cluster.changed and self._clock() - self._saved >= SAVING:
            await self.save()

    async def save(self) -> None:
        """Write down what was counted since the last time. A failure is logged: the next one tries again."""
        async with self._saving:
            if not self._cluster.changed:
                return
            self._saved = self._clock()
            kept = msgspec.msgpack.encode(self._cluster.keep())
            try:
                await self._offload(self._file.write, kept)
            except OSError as error:
                self._cluster.changed = True
                _log.error("what was counted cannot be written: %s", error.strerror)
