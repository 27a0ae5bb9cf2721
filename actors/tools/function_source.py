"""Python functions as a source of tools: each contained call in a process of its own (`workshop`).

A workshop, which has the functions imported and forks for each call, serves the tools of one toolset with or without
network; it starts with the first call that needs it and goes when it has been idle. What need not be contained runs in
this process: on its event loop, or in a thread.

    settings = {"functions": ["module", "module:function"], "users": [first, last], "same_user": [name],
                "environment": [variable], "policies": {name: {field of ToolPolicy: value}}, "code": any}

Another "code" is another source: what has changed in a module is imported by a new executor.

Above it: `tool_source`, which makes it in an executor. Below it: `workshop_client`, `function_finding`. Outside it:
time limits, guards, at most once.
"""

import asyncio
import contextlib
import glob
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.credentials import credential
from actors.tools.confinement import Limits
from actors.tools.function_finding import find
from actors.tools.tool_source import SourceSpec
from actors.tools.workshop_client import WorkshopClient
from actors.tools.workshop_messages import Setup
from pipelines.conversation import Json
from pipelines.errors import ConfigurationError, ToolFailed
from pipelines.tools.catalogue import Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.tools.cutting import MARGIN
from pipelines.tools.functions import FunctionTool, invoke

IDLE = 300.0
"""Seconds without a call after which a workshop goes."""

_SWEEP = 10.0
_NO_USER = (
    "it must be contained, and no other user can be had here: run Penstock as root, or name it in `tools.same_user`"
)


class FunctionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a spec's settings hold; see the module."""

    functions: tuple[str, ...]
    users: tuple[int, int]
    same_user: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    policies: dict[str, dict[str, Json]] = {}
    code: str = ""

    def policy(self, tool: Tool) -> ToolPolicy:
        """A tool's policy with what is configured over it."""
        given = {**msgspec.to_builtins(tool.policy), **self.policies.get(tool.name, {})}
        return msgspec.convert(given, ToolPolicy)

    def roots(self) -> tuple[str, ...]:
        """Directories of all guards that are configured."""
        policies = (msgspec.convert(given, ToolPolicy) for given in self.policies.values())
        return tuple({root for policy in policies for guard in policy.guards for root in guard.roots})


class FunctionSource:
    """See `tool_source.ToolSource`. idle: seconds without a call after which a workshop goes."""

    def __init__(self, spec: SourceSpec, idle: float = IDLE) -> None:
        try:
            self._settings = msgspec.convert(spec.settings, FunctionSettings)
            self._roots = self._settings.roots()
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the tools of {spec.name} are not described well: {error}") from None
        self._spec = spec
        self._idle = idle
        self._tools: dict[str, Tool] = {}
        self._here: dict[str, FunctionTool[..., Any]] | None = None
        self._workshops: dict[tuple[str, bool], WorkshopClient] = {}
        self._starting: dict[tuple[str, bool], asyncio.Lock] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, on_change: Callable[[], None]) -> None:
        """Import the functions in a first workshop. Raises ToolFailed where they cannot be."""
        workshop = self._new_workshop(network=False)
        ready = await workshop.start()
        self._tools = {tool.name: self._listed(tool, ready.isolation.users) for tool in ready.tools}
        places = [_place(tool) for tool in self._tools.values() if not tool.policy.network]
        if places:
            self._workshops[places[0]] = workshop
        else:
            await workshop.close()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def tools(self) -> Sequence[Tool]:
        """What the functions' definitions say."""
        return list(self._tools.values())

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `ToolSource.run`. A function that runs in a thread here cannot be ended, only forgotten."""
        tool = self._tools[run.tool]
        steps = self._contained(tool, run) if tool.policy.contained else self._uncontained(run)
        async with contextlib.aclosing(steps) as come:
            async for step in come:
                yield step

    async def close(self) -> None:
        """End the workshops, with all that runs in them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        workshops, self._workshops = list(self._workshops.values()), {}
        await asyncio.gather(*(workshop.close() for workshop in workshops))

    async def _contained(self, tool: Tool, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        try:
            workshop = await self._workshop(_place(tool))
        except ToolFailed as error:
            yield Ran(error=error.message, exit="crash")
            return
        limits = Limits(run.seconds, tool.policy.memory)
        most = tool.policy.result + MARGIN
        async with contextlib.aclosing(workshop.run(tool.name, run.arguments, limits, most)) as steps:
            async for step in steps:
                yield step

    async def _uncontained(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        if self._here is None:
            self._here = await asyncio.to_thread(find, self._settings.functions)
        made = self._here[run.tool]
        steps = invoke(made, run.arguments)
        if not made.waits:
            steps = _in_thread(steps)
        async with contextlib.aclosing(steps) as come:
            async for step in come:
                yield step

    def _listed(self, tool: Tool, users: bool) -> Tool:
        listed = msgspec.structs.replace(tool, source=self._spec.name, policy=self._settings.policy(tool))
        if users or not listed.policy.contained or tool.name in self._settings.same_user:
            return listed
        return msgspec.structs.replace(listed, health="failed", why=_NO_USER)

    async def _workshop(self, place: tuple[str, bool]) -> WorkshopClient:
        """A workshop that lives; one that has died is replaced."""
        async with self._starting.setdefault(place, asyncio.Lock()):
            workshop = self._workshops.get(place)
            if workshop is None or not workshop.alive:
                if workshop is not None:
                    await workshop.close()
                workshop = self._new_workshop(network=place[1])
                await workshop.start()
                self._workshops[place] = workshop
            return workshop

    def _new_workshop(self, *, network: bool) -> WorkshopClient:
        settings = self._settings
        hidden = tuple(_private(self._spec.state_directory))
        setup = Setup(settings.functions, network, settings.users, hidden=hidden, roots=self._roots)
        given = {name: value for name in settings.environment if (value := credential(name))}
        return WorkshopClient(setup, given)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP, self._idle))
            now = asyncio.get_running_loop().time()
            for place, workshop in list(self._workshops.items()):
                if not workshop.running and now - workshop.used > self._idle:
                    del self._workshops[place]
                    await workshop.close()


def _place(tool: Tool) -> tuple[str, bool]:
    """Which workshop a tool's calls are for."""
    return tool.toolset, tool.policy.network


def _private(state_directory: str) -> Iterator[str]:
    """Directories of which a tool must see nothing, whatever their modes say."""
    yield str(Path(state_directory or "~/.penstock").expanduser().absolute())
    yield str(Path("~/.ray").expanduser())
    # Ray lets everybody into its session: into the sockets of its daemons, and to what they log.
    for folder in {os.environ.get("RAY_TMPDIR", "/tmp"), tempfile.gettempdir()}:
        for name in ("sockets", "logs"):
            yield from glob.glob(f"{folder}/ray/session_2*/{name}")


async def _in_thread(steps: AsyncGenerator[Progress | Ran, None]) -> AsyncGenerator[Progress | Ran, None]:
    """Steps that never wait for an event loop, made in a thread."""
    while (step := await asyncio.to_thread(_next, steps)) is not None:
        yield step


def _next(steps: AsyncGenerator[Progress | Ran, None]) -> Progress | Ran | None:
    try:
        steps.__anext__().send(None)
    except StopIteration as end:
        step: Progress | Ran = end.value
        return step
    except StopAsyncIteration:
        return None
    raise AssertionError("a function that does not wait has waited")
