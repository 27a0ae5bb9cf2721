"""How a client reaches the router: `RouterLink` is what it calls, `ActorLink` the real one.

Above it: `client`, `deployments`. Below it: ray, `directory`. Outside it: what the bytes mean.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.actor import ActorHandle

from actors.directory import ROUTER, connect

FIRST_PATIENCE = 20.0
"""Seconds in which a process that has just started must find or start an actor."""

PATIENCE = 5.0
"""Seconds of one later attempt to find it again."""


class RouterLink(Protocol):
    """The router's methods as a client calls them; `actors.router.Router` is one itself."""

    async def announce(self, announcement: bytes) -> bytes:
        """An encoded Announcement in, an encoded Welcome out."""

    async def greet(self) -> bytes:
        """An encoded Welcome."""

    async def report(self, report: bytes) -> None:
        """An encoded Report in."""

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        """A newer encoded Table, or None after a while."""

    async def snapshot(self) -> bytes:
        """An encoded Table of this moment."""


Connector = Callable[[], Awaitable[RouterLink]]
"""Finds the router. It raises where there is none, and is asked again after every failure."""


class ActorLink:
    """Calls the actor's methods as coroutines. Raises what Ray raises where the actor is away."""

    def __init__(self, handle: ActorHandle) -> None:
        self._handle = handle

    async def announce(self, announcement: bytes) -> bytes:
        """`Router.announce`."""
        welcome: bytes = await self._handle.announce.remote(announcement)
        return welcome

    async def greet(self) -> bytes:
        """`Router.greet`."""
        welcome: bytes = await self._handle.greet.remote()
        return welcome

    async def report(self, report: bytes) -> None:
        """`Router.report`."""
        await self._handle.report.remote(report)

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        """`Router.table`."""
        table: bytes | None = await self._handle.table.remote(after_version, epoch)
        return table

    async def snapshot(self) -> bytes:
        """`Router.snapshot`."""
        snapshot: bytes = await self._handle.snapshot.remote()
        return snapshot


def connector_to(state_directory: str) -> Connector:
    """Finds the router of the cluster."""
    find = finder(state_directory, ROUTER)

    async def connector() -> ActorLink:
        return ActorLink(await find())

    return connector


def finder(state_directory: str, name: str) -> Callable[[], Awaitable[ActorHandle]]:
    """Finds the actor of that name; only the first time may it replace one of another code version.

    Ray's own calls for it block, so they run in a thread.
    """
    replace = True

    async def find() -> ActorHandle:
        nonlocal replace
        patience = FIRST_PATIENCE if replace else PATIENCE
        handle = await asyncio.to_thread(connect, state_directory, name, replace=replace, patience=patience)
        replace = False
        return handle

    return find
