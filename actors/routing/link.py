"""How a client reaches the router: `RouterLink` is what it calls, `ActorLink` the real one.

Above it: `client`, `deployments`. Below it: ray, `directory`. Outside it: what the bytes mean.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.actor import ActorHandle

from actors.directory import ROUTER, finder


class RouterLink(Protocol):
    """The router's methods as a client calls them; `actors.routing.router.Router` is one itself."""

    async def announce(self, announcement: bytes) -> bytes:
        """An encoded Announcement in, an encoded Welcome out."""

    async def greet(self, reporter: str) -> bytes:
        """Who is there in, an encoded Welcome out."""

    async def report(self, report: bytes) -> None:
        """An encoded Report in."""

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        """A newer encoded Table, or None after a while."""

    async def snapshot(self) -> bytes:
        """An encoded Table of this moment."""

    async def view(self, after_version: int, epoch: str) -> bytes | None:
        """A newer encoded Published, or None after a while."""

    async def feedback(self, said: bytes) -> bytes:
        """An encoded Said in, an encoded Verdict out."""

    async def standing(self) -> bytes:
        """An encoded Standing."""

    async def metrics(self) -> bytes:
        """An encoded `metering.cluster.Snapshot`."""

    async def keep(self) -> None:
        """Write down what was learned, and counted."""


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

    async def greet(self, reporter: str) -> bytes:
        """`Router.greet`."""
        welcome: bytes = await self._handle.greet.remote(reporter)
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

    async def view(self, after_version: int, epoch: str) -> bytes | None:
        """`Router.view`."""
        view: bytes | None = await self._handle.view.remote(after_version, epoch)
        return view

    async def feedback(self, said: bytes) -> bytes:
        """`Router.feedback`."""
        verdict: bytes = await self._handle.feedback.remote(said)
        return verdict

    async def standing(self) -> bytes:
        """`Router.standing`."""
        standing: bytes = await self._handle.standing.remote()
        return standing

    async def metrics(self) -> bytes:
        """`Router.metrics`."""
        snapshot: bytes = await self._handle.metrics.remote()
        return snapshot

    async def keep(self) -> None:
        """`Router.keep`."""
        await self._handle.keep.remote()


def connector_to(state_directory: str) -> Connector:
    """Finds the router of the cluster."""
    find = finder(state_directory, ROUTER)

    async def connector() -> ActorLink:
        return ActorLink(await find())

    return connector
