"""The tools of this floor in one process without Ray: a registry, executors on real sockets, a toolbox.

The workshops, and the processes of contained calls, are what they are anywhere.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.tools.executor import Executor
from actors.tools.registry import Registry
from actors.tools.registry_link import RegistryLink
from actors.tools.tool_messages import Published
from actors.tools.tool_source import SourceSpec
from actors.tools.toolbox import ToolboxClient
from pipelines.conversation import Text
from pipelines.tools.catalogue import Progress, Ran, ToolRun

NAUGHTY = "tests.actors.naughty_tools"
USERS = (61184, 65519)
PATIENCE = 60.0
"""Seconds for what should take none, on a busy machine."""

_numbers = itertools.count(1)


def functions(*names: str, source: str = "python", **settings: Any) -> SourceSpec:
    """A source of Python functions."""
    return SourceSpec(
        kind="functions", name=source, settings={"functions": list(names), "users": list(USERS), **settings}
    )


class _Link:
    """Leads to one incarnation of the registry, and nowhere once that is gone."""

    def __init__(self, shop: "Toolshop", registry: Registry) -> None:
        self._shop = shop
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        if self._shop.registry is not self._registry:
            raise ConnectionError("this registry is gone")
        return getattr(self._registry, name)


class Toolshop:
    """What runs. registry: None while it is away; executors by source."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executors: dict[str, Executor] = {}
        self.started: list[str] = []
        self.registry: Registry | None = Registry(str(directory), launcher=self)
        self.toolbox: ToolboxClient

    async def connect(self) -> RegistryLink:
        """The connector of all."""
        if self.registry is None:
            raise ConnectionError("the registry is away")
        return cast(RegistryLink, _Link(self, self.registry))

    async def start(self, spec: SourceSpec) -> None:
        """See `registry.Launcher`."""
        self.started.append(spec.name)
        running = self.executors.get(spec.name)
        if running is not None and running.spec.settings == spec.settings:
            return
        if running is not None:
            await running.close()
        spec = msgspec.structs.replace(spec, state_directory=str(self.directory))
        self.executors[spec.name] = Executor(spec, self.connect)
        await self.executors[spec.name].start()

    async def stop(self, name: str) -> None:
        """See `registry.Launcher`."""
        await self.executors.pop(name).close()

    async def open(self, *specs: SourceSpec) -> ToolboxClient:
        """A toolbox for which these sources are configured, once all have said what they have."""
        self.toolbox = ToolboxClient(specs, str(self.directory), self.connect)
        self.toolbox.start()
        await self.until(lambda known: bool(known.sources) and all(one.health != "starting" for one in known.sources))
        return self.toolbox

    async def until(self, known: Callable[[Published], bool]) -> Published:
        """Wait until what is published is so."""
        assert await self.toolbox.until(known, PATIENCE), self.toolbox.published
        return self.toolbox.published

    async def close(self) -> None:
        """End everything."""
        await self.toolbox.close()
        if self.registry is not None:
            await self.registry.close()
        await asyncio.gather(*(executor.close() for executor in self.executors.values()))

    def run(self, tool: str, seconds: float = PATIENCE, **arguments: Any) -> Any:
        """Begin a call; an async generator of its steps."""
        return self.toolbox.run(ToolRun(id=f"run-{next(_numbers)}", tool=tool, arguments=arguments, seconds=seconds))

    async def ran(self, tool: str, **arguments: Any) -> Ran:
        """A call's end."""
        steps = [step async for step in self.run(tool, **arguments)]
        assert all(isinstance(step, Progress) for step in steps[:-1])
        assert isinstance(steps[-1], Ran)
        return steps[-1]

    async def said(self, tool: str, **arguments: Any) -> str:
        """The text of a call that goes well."""
        ran = await self.ran(tool, **arguments)
        assert ran.exit == "ok", ran
        return text_of(ran)


def text_of(ran: Ran) -> str:
    """All text of a result."""
    return "".join(part.text for part in ran.parts if isinstance(part, Text))


@asynccontextmanager
async def toolshop(directory: Path, *specs: SourceSpec) -> AsyncIterator[Toolshop]:
    """A shop with these sources; with none, the naughty ones."""
    directory.mkdir(mode=0o700, exist_ok=True)
    shop = Toolshop(directory)
    await shop.open(*(specs or (functions(NAUGHTY),)))
    try:
        yield shop
    finally:
        await shop.close()
