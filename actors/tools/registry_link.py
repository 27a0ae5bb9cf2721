"""How the registry is reached: `RegistryLink` is what is called, `RegistryActorLink` the real one.

Above it: `toolbox`, `executor`. Below it: ray, `directory`. Outside it: what the bytes mean.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from actors.directory import REGISTRY, finder
from pipelines.errors import PenstockError


class RegistryLink(Protocol):
    """The registry's methods as others call them; `actors.tools.registry.Registry` is one itself."""

    async def configure(self, specs: bytes) -> None:
        """An encoded tuple of SourceSpec in."""

    async def register(self, registration: bytes) -> bool:
        """An encoded Registration in; out whether all tools are wanted."""

    async def missed(self, source: str) -> None:
        """An executor could not be reached."""

    async def published(self, after_version: int, epoch: str) -> bytes | None:
        """A newer encoded Published, or None after a while."""

    async def allow(self, name: str, fingerprint: str = "") -> bytes:
        """An encoded Tool out. Raises BadRequest."""


RegistryConnector = Callable[[], Awaitable[RegistryLink]]
"""Finds the registry. It raises where there is none, and is asked again after every failure."""


class RegistryActorLink:
    """Calls the actor's methods as coroutines. Raises what Ray raises where the actor is away."""

    def __init__(self, handle: ActorHandle) -> None:
        self._handle = handle

    async def configure(self, specs: bytes) -> None:
        """`Registry.configure`."""
        await self._handle.configure.remote(specs)

    async def register(self, registration: bytes) -> bool:
        """`Registry.register`."""
        wanted: bool = await self._handle.register.remote(registration)
        return wanted

    async def missed(self, source: str) -> None:
        """`Registry.missed`."""
        await self._handle.missed.remote(source)

    async def published(self, after_version: int, epoch: str) -> bytes | None:
        """`Registry.published`."""
        latest: bytes | None = await self._handle.published.remote(after_version, epoch)
        return latest

    async def allow(self, name: str, fingerprint: str = "") -> bytes:
        """`Registry.allow`."""
        try:
            tool: bytes = await self._handle.allow.remote(name, fingerprint)
        except RayTaskError as error:
            # Ray wraps what a method raises; ours is the cause.
            if isinstance(error.cause, PenstockError):
                raise error.cause from None
            raise
        return tool


def registry_connector_to(state_directory: str, *, replace: bool = True) -> RegistryConnector:
    """Finds the registry of the cluster. replace: the first time, one that runs other code is replaced."""
    find = finder(state_directory, REGISTRY, replace=replace)

    async def connector() -> RegistryActorLink:
        return RegistryActorLink(await find())

    return connector
