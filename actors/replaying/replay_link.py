"""How a client reaches the replays: `ReplaysLink` is what it calls, `ReplaysActorLink` the real one.

Above it: `replay_client`, `deployments`. Below it: ray, `directory`. Outside it: what the bytes mean.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.actor import ActorHandle

from actors.directory import REPLAYS, finder


class ReplaysLink(Protocol):
    """The methods of the replays as a client calls them; `actors.replaying.replays.Replays` is one itself."""

    async def begin(self, opening: bytes) -> bytes:
        """An encoded Opening in, an encoded Begun out."""

    async def push(self, push: bytes) -> bytes:
        """An encoded Push in, an encoded Progress out."""

    async def abandon(self, opening: bytes) -> None:
        """An encoded Opening in."""

    async def read(self, opening: bytes, offset: int) -> bytes | None:
        """An encoded Piece, or None after a while."""


ReplaysConnector = Callable[[], Awaitable[ReplaysLink]]
"""Finds the replays. It raises where there are none, and is asked again after every failure."""


class ReplaysActorLink:
    """Calls the actor's methods as coroutines. Raises what Ray raises where the actor is away."""

    def __init__(self, handle: ActorHandle) -> None:
        self._handle = handle

    async def begin(self, opening: bytes) -> bytes:
        """`Replays.begin`."""
        begun: bytes = await self._handle.begin.remote(opening)
        return begun

    async def push(self, push: bytes) -> bytes:
        """`Replays.push`."""
        progress: bytes = await self._handle.push.remote(push)
        return progress

    async def abandon(self, opening: bytes) -> None:
        """`Replays.abandon`."""
        await self._handle.abandon.remote(opening)

    async def read(self, opening: bytes, offset: int) -> bytes | None:
        """`Replays.read`."""
        piece: bytes | None = await self._handle.read.remote(opening, offset)
        return piece


def replays_connector_to(state_directory: str) -> ReplaysConnector:
    """Finds the replays of the cluster."""
    find = finder(state_directory, REPLAYS)

    async def connector() -> ReplaysActorLink:
        return ReplaysActorLink(await find())

    return connector
