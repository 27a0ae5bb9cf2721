"""Where an actor keeps what it must not forget: pieces of bytes under names of its own, in the ledger's database.

So a cluster that is started again on another machine, with the same PostgreSQL, starts where it stopped. The ledger
may be away: whoever keeps something here goes on without, and tries again.

Above it: `learning_keeper`, `directory`. Below it: msgspec. Outside it: databases (`ledger_states`).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec


class Pieces(msgspec.Struct, frozen=True):
    """What one owner keeps: its pieces by name. An empty piece takes the one of its name away."""

    owner: str
    pieces: dict[str, bytes]


class Shelf(Protocol):
    """The ledger, as far as it keeps things for others; `actors.money.ledger.Ledger` is one itself."""

    async def keep(self, pieces: bytes) -> None:
        """Put encoded Pieces in the place of those of the same names; durable when it returns."""

    async def kept(self, owner: str) -> bytes:
        """All that this owner keeps, as encoded Pieces."""


ShelfConnector = Callable[[], Awaitable[Shelf]]
"""Finds the ledger. It raises where there is none, and is asked again after every failure."""
