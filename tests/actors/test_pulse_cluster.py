"""The real actors on a real cluster, stopped like processes that hang: each ends, and Ray starts it again."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.directory import LEDGER, REPLAYS, ROUTER, connect

pytestmark = [
    pytest.mark.cluster,
]


async def another(handle: ActorHandle, than: int) -> int:
    """The actor's process once it is another one."""
    async with asyncio.timeout(120.0):
        while True:
            try:
                found: int = await handle.process.remote()
            except RayError:
                found = than
            if found != than:
                return found
            await asyncio.sleep(0.1)


async def test_an_actor_that_is_stopped_is_replaced_every_time(state: Path) -> None:
    names = (ROUTER, REPLAYS, LEDGER)
    for _ in range(2):
        handles = [await asyncio.to_thread(connect, str(state), name, patience=120.0) for name in names]
        stopped = [await handle.process.remote() for handle in handles]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        found = [await another(handle, process) for handle, process in zip(handles, stopped, strict=True)]
        assert not {*stopped, *found} & {os.getpid()}
        assert len({*stopped, *found}) == 6
