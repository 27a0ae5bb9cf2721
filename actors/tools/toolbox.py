"""A gateway's side of the tools: keeps the catalogue, and runs calls at the executors.

Two tasks live as long as it does: one tells the registry what is configured, the other keeps the latest that it
publishes (a long poll). Calls go straight to the executors over connections of their own (`tool_socket`), so that the
registry may be away meanwhile. Where an executor has died a new one is waited for, within the call's time.

Above it: `deployments`. Below it: `registry_link`, `tool_socket`, `tool_messages`. Outside it: who may call what.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

import msgspec

from actors.frames import Endpoint
from actors.tools.registry_link import RegistryConnector, RegistryLink, registry_connector_to
from actors.tools.tool_messages import Published
from actors.tools.tool_socket import ToolConnection, connect
from actors.tools.tool_source import SourceSpec
from pipelines.errors import BadRequest, Overloaded
from pipelines.tools.catalogue import Catalogue, Progress, Ran, Tool, ToolRun

POLL_TIMEOUT = 15.0
"""Seconds after which a long poll has failed: the registry itself ends one after 10."""

CALL_TIMEOUT = 5.0
"""Seconds after which a short call of the registry has failed."""

BACKOFF = (0.05, 1.0)
"""Seconds before the first further try, doubled with each failure, and at most."""

GRACE = 10.0
"""Seconds beyond a call's own time after which its executor hangs."""

REMEMBERED = 20_000
"""Ids of runs that are known to have begun from here."""

_log = logging.getLogger("penstock.tools")
_published = msgspec.msgpack.Decoder(Published)
_tools = msgspec.msgpack.Decoder(Tool)


class ToolboxClient:
    """See `pipelines.tools.catalogue.Toolbox`. specs: the sources that are configured; None leaves them as they are.

    published is the latest that the registry has said.
    """

    def __init__(
        self,
        specs: Sequence[SourceSpec] | None,
        state_directory: str = "",
        connector: RegistryConnector | None = None,
    ) -> None:
        self.published = Published()
        self._specs = None if specs is None else tuple(specs)
        self._connector = connector or registry_connector_to(state_directory)
        self._link: RegistryLink | None = None
        self._linking = asyncio.Lock()
        self._dialling = asyncio.Lock()
        self._news = asyncio.Event()
        self._connections: dict[Endpoint, ToolConnection] = {}
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def catalogue(self) -> Catalogue:
        """The latest that is known here; empty before the first."""
        return self.published.catalogue

    def start(self) -> None:
        """Begin, on this loop; it does not wait for anything."""
        self._spawn(self._configure())
        self._spawn(self._watch())

    async def close(self) -> None:
        """Stop, and end what runs for us."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._connections.values():
            connection.close()

    async def until(self, known: Callable[[Published], bool], seconds: float) -> bool:
        """Wait until what is published is as `known` wants it. Returns whether it was so within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not known(self.published):
                    await self._news.wait()
                return True
        return False

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `Toolbox.run`. A second run of an id is refused, here and at the executor."""
        tool = self.catalogue.tool(run.tool)
        refusal = self._refusal(run, tool)
        if refusal or tool is None:
            yield Ran(error=refusal, exit="refused")
            return
        self._begun[run.id] = None
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)
        try:
            async with asyncio.timeout(run.seconds):
                connection = await self._connection(tool.source)
        except TimeoutError:
            yield Ran(error="its executor cannot be reached", exit="crash")
            return
        async with contextlib.aclosing(connection.run(run, run.seconds + GRACE)) as steps:
            async for step in steps:
                yield step
        if connection.lost:
            self._spawn(self._missed(tool.source))

    async def allow(self, name: str, fingerprint: str = "") -> Tool:
        """Let a held tool be as it is now. fingerprint: of what was looked at; "" for whatever it is.

        Raises BadRequest (404, 409) as `Admission.allow` does, and Overloaded while the registry is away.
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                link = await self._connected()
                return _tools.decode(await link.allow(name, fingerprint))
        except BadRequest:
            raise
        except Exception as error:  # Ray raises many classes when an actor is away; each means the same here.
            raise Overloaded("the tools' registry does not answer", status=503, retry_after=1.0) from error

    def _refusal(self, run: ToolRun, tool: Tool | None) -> str:
        if tool is None:
            return f"there is no tool {run.tool!r}"
        if run.id in self._begun:
            return "this call has been made already"
        return f"it is held: {tool.held}" if tool.held else ""

    async def _connection(self, source: str) -> ToolConnection:
        """A connection to the executor of a source, which is waited for."""
        while True:
            news, endpoint = self._news, self.published.endpoints.get(source)
            if endpoint is not None:
                try:
                    return await self._dialled(endpoint)
                except (OSError, TimeoutError):
                    self._spawn(self._missed(source))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACKOFF[1]):
                    await news.wait()

    async def _dialled(self, endpoint: Endpoint) -> ToolConnection:
        async with self._dialling:
            made = self._connections.get(endpoint)
            if made is None or made.lost:
                made = self._connections[endpoint] = await connect(endpoint)
            return made

    async def _missed(self, source: str) -> None:
        """Tell the registry that an executor is not there; what fails here the registry finds out by itself."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CALL_TIMEOUT):
                await (await self._connected()).missed(source)

    async def _configure(self) -> None:
        if self._specs is None:
            return
        encoded = msgspec.msgpack.encode(self._specs)

        async def say() -> None:
            async with asyncio.timeout(CALL_TIMEOUT):
                await (await self._connected()).configure(encoded)

        await self._until_done(say)

    async def _watch(self) -> None:
        while True:
            await self._until_done(self._poll)

    async def _poll(self) -> None:
        before = self.catalogue
        async with asyncio.timeout(POLL_TIMEOUT):
            data = await (await self._connected()).published(before.version, before.epoch)
        if data is not None:
            self.published = _published.decode(data)
            endpoints = set(self.published.endpoints.values())
            for endpoint in self._connections.keys() - endpoints:
                # What still runs there ends by itself; its connection closes when the executor goes.
                del self._connections[endpoint]
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def _until_done(self, job: Callable[[], Coroutine[None, None, None]]) -> None:
        pause = BACKOFF[0]
        while True:
            try:
                await job()
                return
            except Exception as error:  # whatever Ray raises when an actor is away
                self._link = None
                _log.info("the tools' registry does not answer: %s", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, BACKOFF[1])

    async def _connected(self) -> RegistryLink:
        async with self._linking:
            if self._link is None:
                self._link = await self._connector()
            return self._link

    def _spawn(self, job: Coroutine[None, None, None]) -> None:
        """Outside the context of any request: Ray would cancel such calls with it."""
        task = contextvars.Context().run(asyncio.get_running_loop().create_task, job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
