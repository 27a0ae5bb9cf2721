"""Finding the named actors, or starting them: one of each in the cluster, whoever comes first.

They are detached and named in one namespace of ours, because Serve's deployment-scoped actors resolve only inside
their own deployment. An actor that runs another version of the code is replaced, but only by a process that has
just started: in a rolling update the old replicas keep what they find, or the two versions would replace each
other in turn.

Above it: `link`, `replay_link`. Below it: ray, `router`, `replays`. Outside it: what is said to the actors.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from actors import replays, router
from actors.administrator import ensure_keys
from pipelines.errors import Overloaded

NAMESPACE = "penstock"
"""Ray namespace of all our named actors."""

ROUTER = "router"
REPLAYS = "replays"

_HEAD_NODE = "node:__internal_head__"
_log = logging.getLogger("penstock.directory")


class _Hosted:
    """What Ray's actors have beside the class that they host."""

    async def process(self) -> int:
        """The id of the actor's process on its node, for whoever watches it, or kills it in a test."""
        return os.getpid()


class RouterActor(_Hosted, router.Router):
    """The router as Ray hosts it: an actor that Ray has restarted knows that it was there before."""

    def __init__(self, state_directory: str, preceded: bool) -> None:
        made = ensure_keys(Path(state_directory))
        if made is not None:
            _log.warning("there was no API key: the administrator's is in %s", made)
        super().__init__(state_directory, preceded or _restarted())


class ReplaysActor(_Hosted, replays.Replays):
    """The replays as Ray hosts them."""

    def __init__(self, state_directory: str, preceded: bool) -> None:
        super().__init__(state_directory, preceded or _restarted())


class _Kind(NamedTuple):
    """A named actor: its class, made of (state_directory, preceded), and the code version that it should run."""

    actor: type
    version: Callable[[], str]


_KINDS = {ROUTER: _Kind(RouterActor, router.code_version), REPLAYS: _Kind(ReplaysActor, replays.code_version)}


def connect(state_directory: str, name: str = ROUTER, *, replace: bool = True, patience: float = 20.0) -> ActorHandle:
    """The actor of that name in the cluster that this process is connected to; it is started if there is none.

    state_directory is where a new one finds its files (on the head node, where it runs if there is one).
    replace: stop one that runs other code than ours and start ours. Blocks, for a start some seconds: call it in
    a thread. Raises Overloaded (503) if none answers within `patience` seconds.
    """
    kind = _KINDS[name]
    deadline = time.monotonic() + patience
    preceded = False
    while True:
        try:
            handle = _start(kind, name, state_directory, preceded)
            version = ray.get(handle.version.remote(), timeout=max(0.1, deadline - time.monotonic()))
            if version == kind.version() or not replace:
                return handle
            _log.warning("the actor %s runs other code (%s): it is replaced", name, version)
            ray.kill(handle)
            preceded = True
        except (RayActorError, TimeoutError, ValueError) as error:
            # Between the death of one and the name's being free again each of these may come.
            failure: Exception | None = error
        else:
            failure = None
        if time.monotonic() >= deadline:
            raise Overloaded(f"the actor {name} does not answer", status=503, retry_after=1.0) from failure
        time.sleep(0.1)


def stop(name: str = ROUTER) -> None:
    """Stop the actor of that name, if there is one."""
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    except ValueError:
        return


def _restarted() -> bool:
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def _start(kind: _Kind, name: str, state_directory: str, preceded: bool) -> ActorHandle:
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
    return ray.remote(kind.actor).options(**options).remote(state_directory, preceded)
