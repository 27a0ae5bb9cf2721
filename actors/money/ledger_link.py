"""How a client reaches the ledger: `LedgerLink` is what it calls, a connection of its own the real one.

Ray finds the actor, and the actor says where it listens (`ledger_socket`); where that cannot be reached, batches are
actor calls.

Above it: `ledger_client`, `deployments`. Below it: ray, `directory`, `ledger_socket`. Outside it: what the bytes mean.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.actor import ActorHandle

from actors.directory import LEDGER, finder
from actors.money.ledger_place import Place
from actors.money.ledger_socket import Endpoint, connect

_log = logging.getLogger("penstock.ledger")


class LedgerLink(Protocol):
    """The ledger's methods as a client calls them; `actors.money.ledger.Ledger` is one itself."""

    async def settle(self, batch: bytes) -> None:
        """An encoded Batch in; returns when it is committed."""

    async def report(self, question: bytes) -> bytes:
        """An encoded Inquiry in, its encoded answer out (`Ledger.report`)."""

    async def keys(self, inquiry: bytes) -> bytes:
        """An encoded KeyInquiry in, its encoded answer out (`Ledger.keys`)."""


LedgerConnector = Callable[[], Awaitable[LedgerLink]]
"""Finds the ledger. It raises where there is none, and is asked again after every failure."""


class LedgerActorLink:
    """Calls the actor's methods as coroutines. Raises what Ray raises where the actor is away."""

    def __init__(self, handle: ActorHandle) -> None:
        self._handle = handle

    async def settle(self, batch: bytes) -> None:
        """`Ledger.settle`."""
        await self._handle.settle.remote(batch)

    async def report(self, question: bytes) -> bytes:
        """`Ledger.report`."""
        answer: bytes = await self._handle.report.remote(question)
        return answer

    async def keys(self, inquiry: bytes) -> bytes:
        """`Ledger.keys`."""
        answer: bytes = await self._handle.keys.remote(inquiry)
        return answer


def ledger_connector_to(state_directory: str, place: Place) -> LedgerConnector:
    """Finds the ledger of the cluster."""
    find = finder(state_directory, LEDGER, place)

    async def connector() -> LedgerLink:
        handle = await find()
        endpoint = Endpoint(*await handle.endpoint.remote())
        try:
            return await connect(endpoint)
        except (OSError, TimeoutError) as error:
            _log.warning("the ledger's port cannot be reached, each batch is an actor call: %s", error)
            return LedgerActorLink(handle)

    return connector
