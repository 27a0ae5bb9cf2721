"""An executor: hosts one source of tools, says so to the registry every second, and runs calls for gateways.

What holds for every source is kept here: a call runs at most once, within its time and beside so many others of its
tool, with arguments that keep to the guards, and its result is cut. A call's time includes its waiting. What a
configuration says of tools that are not there is said, too.

Above it: `directory` (as an actor of Ray). Below it: `tool_source`, `tool_socket`, `argument_guards`. Outside it: what
a source is; who may call what.
"""

import asyncio
import contextlib
import contextvars
import hashlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator

import msgspec

from actors.tools import tool_source
from actors.tools.argument_guards import guarded, misnamed
from actors.tools.registry_link import RegistryConnector, RegistryLink
from actors.tools.tool_messages import Registration
from actors.tools.tool_socket import Listener, listen
from actors.tools.tool_source import SourceSpec, ToolSource
from actors.version import code_of
from pipelines import tools
from pipelines.errors import PenstockError
from pipelines.tools.catalogue import Health, Progress, Ran, Tool, ToolRun
from pipelines.tools.configured import Configured
from pipelines.tools.cutting import MARGIN, cut

BEAT = 1.0
"""Seconds between two words to the registry."""

CALL_TIMEOUT = 4.0
"""Seconds after which a call of the registry has failed."""

REMEMBERED = 100_000
"""Ids of runs that are known to have begun here."""

MOST_PROGRESS = 1024 * 1024
"""Characters that one call may yield; what comes beyond them is left out."""

_NAMED_APART = ("mcp", "openapi")
"""Kinds of sources whose policies are their own: those of functions are of all sources of functions."""

_WORDS = 2000
_log = logging.getLogger("penstock.tools")


def code_version(spec: bytes = b"") -> str:
    """A name for the code that an executor runs, and for what it hosts (an encoded SourceSpec)."""
    return f"{code_of(__file__, tools)} {hashlib.sha256(spec).hexdigest()[:12]}"


class Executor:
    """One source's host. host: the address to listen on; connector: how the registry is found."""

    def __init__(self, spec: SourceSpec, connector: RegistryConnector, host: str = "127.0.0.1") -> None:
        self.spec = spec
        self._connector = connector
        self._host = host
        self._version = code_version()
        self._instance = uuid.uuid4().hex[:12]
        self._source: ToolSource | None = None
        self._configured = Configured()
        self._tools: dict[str, Tool] = {}
        self._health: Health = "starting"
        self._why = ""
        self._failed = False
        self._news = asyncio.Event()
        self._looked = asyncio.Event()
        self._link: RegistryLink | None = None
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._places: dict[str, asyncio.Semaphore] = {}
        self._listener: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def start(self) -> None:
        """Listen, and go on to start the source; what is wrong with it is said to the registry."""
        self._listener = await listen(self._host, self.execute)
        loop = asyncio.get_running_loop()
        # Not in the context of whatever called: what runs here outlasts it.
        self._tasks = [contextvars.Context().run(loop.create_task, job()) for job in (self._host_source, self._speak)]

    async def close(self) -> None:
        """End what runs here, and the source."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        if self._source is not None:
            await self._source.close()

    async def execute(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Run a tool: Progress, then one Ran with what it took. Closing it ends what runs."""
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(run.seconds):
                await self._looked.wait()
        tool = self._tools.get(run.tool)
        refusal = self._refusal(run, tool)
        if refusal or tool is None or self._source is None:
            yield Ran(error=refusal or "its source has not started", exit="refused")
            return
        self._remember(run.id)
        seconds = min(run.seconds, tool.policy.seconds)
        ran = Ran(error="it ended without a result", exit="error")
        try:
            async with asyncio.timeout(seconds), self._place(tool):
                arguments = await guarded(run.arguments, tool.policy.guards)
                left = max(0.1, seconds - (time.monotonic() - began))
                run = msgspec.structs.replace(run, arguments=arguments, seconds=left)
                async with contextlib.aclosing(self._source.run(run)) as steps:
                    said = 0
                    async for step in steps:
                        if isinstance(step, Ran):
                            ran = step
                            break
                        said += len(step.text)
                        if said <= MOST_PROGRESS:
                            yield step
        except TimeoutError:
            ran = Ran(error=f"it was not done within {seconds:g} s", exit="timeout")
        except PenstockError as error:
            ran = Ran(error=error.message, exit="refused")
        except Exception as error:
            ran = Ran(error=f"{type(error).__name__}: {error}"[:_WORDS], exit="error")
        ran = cut(ran, tool.policy.result + MARGIN)
        yield msgspec.structs.replace(ran, seconds=time.monotonic() - began)

    def _refusal(self, run: ToolRun, tool: Tool | None) -> str:
        if run.id in self._begun:
            return "this call has been made already"
        if tool is None:
            return f"there is no tool {run.tool!r} here"
        return "" if tool.health == "ready" else tool.why or f"it is {tool.health}"

    def _remember(self, run_id: str) -> None:
        self._begun[run_id] = None
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)

    def _place(self, tool: Tool) -> asyncio.Semaphore:
        return self._places.setdefault(tool.name, asyncio.Semaphore(tool.policy.concurrent))

    async def _host_source(self) -> None:
        try:
            self._source = tool_source.make(self.spec)
            if self.spec.kind in _NAMED_APART:
                self._configured = msgspec.convert(self.spec.settings, Configured)
            await self._source.start(self._news.set)
        except Exception as error:
            self._failed = True
            self._be("failed", error.message if isinstance(error, PenstockError) else type(error).__name__)
            _log.exception("the source %s fails", self.spec.name)
        self._news.set()

    def _be(self, health: Health, why: str) -> None:
        self._health, self._why = health, why[:_WORDS]

    async def _speak(self) -> None:
        """Tell the registry that we are there, and of our tools whenever they change."""
        wanted = True
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if wanted else BEAT):
                    await self._news.wait()
            changed = self._news.is_set()
            self._news.clear()
            if changed:
                await self._look()
                wanted = True
            try:
                wanted = await self._register(everything=wanted)
            except Exception as error:  # whatever Ray raises where the registry is away
                self._link = None
                _log.info("the registry does not answer: %s", type(error).__name__)
                await asyncio.sleep(BEAT / 4)

    async def _look(self) -> None:
        """Ask the source for its tools."""
        if self._source is None or self._failed:
            self._looked.set()
            return
        try:
            found = await self._source.tools()
        except Exception as error:
            self._be("away", error.message if isinstance(error, PenstockError) else type(error).__name__)
            away = {"health": self._health, "why": self._why}
            self._tools = {name: msgspec.structs.replace(tool, **away) for name, tool in self._tools.items()}
        else:
            found, why = self._configured.compared(found)
            if found and why and why[:_WORDS] != self._why:
                _log.warning("the source %s: %s", self.spec.name, why)
            self._be("ready", why)
            found = [_held_back(tool) for tool in found]
            for tool in found:
                if (before := self._tools.get(tool.name)) and before.policy.concurrent != tool.policy.concurrent:
                    self._places.pop(tool.name, None)
            self._tools = {tool.name: tool for tool in found}
        self._looked.set()

    async def _register(self, *, everything: bool) -> bool:
        """One word to the registry. Returns whether it wants to hear everything."""
        assert self._listener is not None
        tools = tuple(self._tools.values()) if everything and self._health != "starting" else None
        said = Registration(self.spec.name, self._instance, self._listener.endpoint, tools, self._health, self._why)
        async with asyncio.timeout(CALL_TIMEOUT):
            if self._link is None:
                self._link = await self._connector()
            wanted = await self._link.register(msgspec.msgpack.encode(said))
        # Until the source has said something there is nothing to repeat.
        return wanted and tools is None and self._health != "starting"


def _held_back(tool: Tool) -> Tool:
    """The tool, out of use where one of its guards would never look at anything."""
    if tool.health != "ready" or not (argument := misnamed(tool)):
        return tool
    return msgspec.structs.replace(tool, health="failed", why=f"its guard names no argument of it: {argument!r}")
