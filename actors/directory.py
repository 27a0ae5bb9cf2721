"""Finding the named actors, or starting them: one of each in the cluster, whoever comes first.

They are detached and named in one namespace of ours, because Serve's deployment-scoped actors resolve only inside
their own deployment. An actor that runs another version of the code is replaced, but only by a process that has
just started: in a rolling update the old replicas keep what they find, or the two versions would replace each
other in turn.

Ray starts one again that has died; one that hangs is made to die (`pulse`).

Above it: `link`, `replay_link`, `ledger_link`, `registry_link`. Below it: ray, `router`, `replays`, `ledger`.
Outside it: what is said to the actors.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from actors import collector, pulse
from actors.administrator import ensure_keys
from actors.money import ledger, ledger_socket
from actors.money.ledger_place import DEFAULT_PLACE, Place
from actors.replaying import replays
from actors.routing import router
from actors.shelf import Shelf
from pipelines.errors import Overloaded

NAMESPACE = "penstock"
"""Ray namespace of all our named actors."""

ROUTER = "router"
REPLAYS = "replays"
LEDGER = "ledger"
REGISTRY = "registry"
EXECUTOR = "executor"
"""The executor of a source of tools is named `executor:` and the source."""

YIELDING = 2.0
"""Seconds in which one who has lost an actor only looks for the next: Ray or somebody with newer code starts it."""

FAREWELL = 3.0
"""Seconds that an actor has to close its files before it is stopped."""

FIRST_PATIENCE = 20.0
"""Seconds in which a process that has just started must find or start an actor."""

PATIENCE = 5.0
"""Seconds of one later attempt to find it again."""

_HEAD_NODE = "node:__internal_head__"

_log = logging.getLogger("penstock.directory")


class Hosted:
    """What Ray's actors have beside the class that they host."""

    _settled = False

    async def process(self) -> int:
        """The id of the actor's process on its node, for whoever watches it, or kills it in a test."""
        return os.getpid()

    async def version(self) -> str:
        """See the class that is hosted. Whoever finds the actor asks this first: from then on it must not hang."""
        if not self._settled:
            self._settled = True
            collector.settle()
        pulse.hold()
        version: str = await super().version()  # type: ignore[misc]  # the hosted class's
        return version


class _LedgersShelf:
    """`shelf.Shelf`, as calls of the ledger actor."""

    def __init__(self, handle: ActorHandle) -> None:
        self._handle = handle

    async def keep(self, pieces: bytes) -> None:
        """`Ledger.keep`."""
        await self._handle.keep.remote(pieces)

    async def kept(self, owner: str) -> bytes:
        """`Ledger.kept`."""
        pieces: bytes = await self._handle.kept.remote(owner)
        return pieces


async def _shelf() -> Shelf:
    """The ledger's shelf. Replicas start the ledger, which know where its database is; until then there is none."""
    return _LedgersShelf(await asyncio.to_thread(ray.get_actor, LEDGER, namespace=NAMESPACE))


class RouterActor(Hosted, router.Router):
    """The router as Ray hosts it: an actor that Ray has restarted knows that it was there before."""

    def __init__(self, state_directory: str, preceded: bool) -> None:
        made = ensure_keys(Path(state_directory))
        if made is not None:
            _log.warning("there was no API key: the administrator's is in %s", made)
        super().__init__(state_directory, preceded or _restarted(), shelf=_shelf)


class ReplaysActor(Hosted, replays.Replays):
    """The replays as Ray hosts them."""

    def __init__(self, state_directory: str, preceded: bool) -> None:
        super().__init__(state_directory, preceded or _restarted())


class LedgerActor(Hosted, ledger.Ledger):
    """The ledger as Ray hosts it."""

    def __init__(self, state_directory: str, preceded: bool, place: Place = DEFAULT_PLACE) -> None:
        super().__init__(state_directory, preceded, place)
        self._listening: asyncio.Task[tuple[ledger_socket.Endpoint, asyncio.Server]] | None = None

    async def endpoint(self) -> tuple[str, int, bytes]:
        """Where this actor listens for its clients (`ledger_socket.Endpoint`)."""
        if self._listening is None or (self._listening.done() and self._listening.exception()):
            methods: dict[int, ledger_socket.Method] = {
                ledger_socket.SETTLE: self.settle,
                ledger_socket.REPORT: self.report,
                ledger_socket.KEYS: self.keys,
            }
            listening = ledger_socket.listen(ray.util.get_node_ip_address(), methods)
            self._listening = asyncio.ensure_future(listening)
        endpoint, _ = await asyncio.shield(self._listening)
        return endpoint.host, endpoint.port, endpoint.token


class Kind(NamedTuple):
    """A named actor: its class, made of (state_directory, preceded) and what is its own, and of the latter the version
    that it should run."""

    actor: type
    version: Callable[..., str]


_KINDS = {
    ROUTER: Kind(RouterActor, router.code_version),
    REPLAYS: Kind(ReplaysActor, replays.code_version),
    LEDGER: Kind(LedgerActor, ledger.code_version),
}


def connect(
    state_directory: str, name: str = ROUTER, *arguments: object, replace: bool = True, patience: float = 20.0
) -> ActorHandle:
    """The actor of that name in the cluster that this process is connected to; it is started if there is none.

    state_directory is where a new one finds its files (on the head node, where it runs if there is one); arguments:
    what else its class is made of.
    replace: stop one that runs other code than ours and start ours. Whoever does not replace has lost one that it knew,
    and leaves it to others for a moment to start the next: they may be those who replace it. Blocks, for a start some
    seconds: call it in a thread. Raises Overloaded (503) if none answers within `patience` seconds.
    """
    kind = _kind(name)
    began = time.monotonic()
    deadline = began + patience
    preceded = not replace
    while True:
        try:
            if not replace and time.monotonic() - began < min(YIELDING, patience / 2):
                handle = ray.get_actor(name, namespace=NAMESPACE)
            else:
                handle = _start(kind, name, state_directory, preceded, *arguments)
            version = ray.get(handle.version.remote(), timeout=max(0.1, deadline - time.monotonic()))
            if version == kind.version(*arguments) or not replace:
                return handle
            _log.warning("the actor %s runs other code (%s): it is replaced", name, version)
            _end(handle)
            preceded = True
        except (RayActorError, TimeoutError, ValueError) as error:
            # Between the death of one and the name's being free again each of these may come.
            failure: Exception | None = error
            preceded = preceded or isinstance(error, RayActorError)
        else:
            failure = None
        if time.monotonic() >= deadline:
            raise Overloaded(f"the actor {name} does not answer", status=503, retry_after=1.0) from failure
        time.sleep(0.1)


def begin(state_directory: str, name: str, *arguments: object) -> None:
    """Start the actor of that name if there is none, for those who will `connect` to it; waits for nothing."""
    _start(_kind(name), name, state_directory, False, *arguments)


def stop(name: str = ROUTER) -> None:
    """Stop the actor of that name, if there is one."""
    try:
        _end(ray.get_actor(name, namespace=NAMESPACE))
    except ValueError:
        return


def _kind(name: str) -> Kind:
    if name in _KINDS:
        return _KINDS[name]
    # What the tools' actors run is much to import for those who have no tools.
    from actors.tools import tool_actors

    return tool_actors.KINDS[name.partition(":")[0]]


def _end(handle: ActorHandle) -> None:
    """Let an actor close its files, if it can, and stop it."""
    with contextlib.suppress(Exception):  # one that hangs, is dead, or runs code that knows of no `close`
        ray.get(handle.close.remote(), timeout=FAREWELL)
    ray.kill(handle)


def _restarted() -> bool:
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def _start(kind: Kind, name: str, state_directory: str, preceded: bool, *arguments: object) -> ActorHandle:
    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
        "max_concurrency": 10_000,
    }
    if _HEAD_NODE in ray.cluster_resources():
        options["resources"] = {_HEAD_NODE: 0.001}
    return ray.remote(kind.actor).options(**options).remote(state_directory, preceded, *arguments)


def finder(
    state_directory: str, name: str, *arguments: object, replace: bool = True
) -> Callable[[], Awaitable[ActorHandle]]:
    """Finds the actor of that name, made of `arguments` where it has to be started.

    Only the first time may it replace one of another code version, and not without `replace`.

    Ray's own calls for it block, so they run in a thread.
    """

    async def find() -> ActorHandle:
        nonlocal replace
        patience = FIRST_PATIENCE if replace else PATIENCE
        start = partial(connect, state_directory, name, *arguments, replace=replace, patience=patience)
        handle = await asyncio.to_thread(start)
        replace = False
        return handle

    return find
