"""The tools' real actors on a real cluster: one contained call, and SIGKILL for the executor and the registry."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray
from ray.actor import ActorHandle

from actors.directory import NAMESPACE, REGISTRY, stop
from actors.tools.tool_actors import name_of
from actors.tools.toolbox import ToolboxClient
from pipelines.tools.catalogue import Ran, ToolRun
from tests.actors.toolshop import NAUGHTY, PATIENCE, USERS, functions, text_of

pytestmark = [pytest.mark.cluster]


def actor(name: str) -> ActorHandle:
    return ray.get_actor(name, namespace=NAMESPACE)


async def ran(toolbox: ToolboxClient, name: str, run_id: str, **arguments: object) -> Ran:
    run = ToolRun(id=run_id, tool=name, arguments=dict(arguments), seconds=PATIENCE)
    steps = [step async for step in toolbox.run(run)]
    assert isinstance(steps[-1], Ran)
    return steps[-1]


async def said(toolbox: ToolboxClient, name: str, run_id: str, **arguments: object) -> str:
    ended = await ran(toolbox, name, run_id, **arguments)
    assert ended.exit == "ok", (ended, toolbox.published.sources)
    return text_of(ended)


async def test_a_contained_call_and_both_actors_may_be_killed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolbox = ToolboxClient([functions(NAUGHTY)], str(state))
    toolbox.start()
    try:
        assert await toolbox.until(lambda known: known.catalogue.tool("add") is not None, PATIENCE)
        told = await said(toolbox, "tells", "first")
        assert f'"user":{USERS[0]}' in told

        executor = await asyncio.to_thread(actor, name_of("python"))
        assert await executor.process.remote() != os.getpid()
        waiting = asyncio.create_task(ran(toolbox, "waits", "second"))
        assert await said(toolbox, "add", "third", a=1, b=2) == "3"
        os.kill(await executor.process.remote(), signal.SIGKILL)
        assert (await waiting).exit == "crash"
        assert await said(toolbox, "add", "fourth", a=2, b=2) == "4"

        epoch = toolbox.catalogue.epoch
        registry = await asyncio.to_thread(actor, REGISTRY)
        os.kill(await registry.process.remote(), signal.SIGKILL)
        assert await said(toolbox, "add", "fifth", a=3, b=2) == "5"
        assert await toolbox.until(lambda known: known.catalogue.epoch != epoch and bool(known.endpoints), PATIENCE), (
            toolbox.published
        )
        assert await said(toolbox, "add", "sixth", a=4, b=2) == "6"
    finally:
        await toolbox.close()
        for name in (name_of("python"), REGISTRY):
            await asyncio.to_thread(stop, name)
