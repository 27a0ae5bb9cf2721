"""An MCP server as a source of tools, through the official client.

    starting --connected, listed--> ready --connection lost--> away --after a backoff--> starting
                                      |
                                      +-- list_changed, LOOK_AGAIN seconds, or a call that broke: listed again

The connection lives in one task (`_keep`), which lists every page of tools and waits for a reason to list them anew;
calls are made from their own tasks and end with the connection. A server of the revision 2026-07-28 tells of changes in
a stream that is asked for (`subscriptions/listen`), an older one in a notification. It is offered nothing of ours: no
sampling, no roots, no elicitation.

Above it: `executor`. Below it: `mcp_stdio`, `mcp_answers`, `mcp_parts`, `supplied`, the package `mcp`. Outside it: what
a tool's policy says, the limit on a result's size.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import mcp_types
import msgspec
from mcp import Client, MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from actors.credentials import credential
from actors.supplied import supplied
from actors.tools.mcp_answers import as_read
from actors.tools.mcp_parts import Part, parts_of, text_of, tool_of
from actors.tools.mcp_stdio import ServerCommand, Streams, started
from actors.tools.tool_source import SourceSpec
from pipelines.conversation import Text
from pipelines.errors import ConfigurationError, ToolFailed, redacted
from pipelines.resilience import RetryPolicy
from pipelines.tools.catalogue import Exit, Health, Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.version import VERSION

LOOK_AGAIN = 60.0
"""Seconds between two lists where nothing was said: it also shows whether the server still answers."""

LEAST_PAUSE = 0.1
"""Seconds between two lists, however often the server says that they have changed."""

CONNECT_WITHIN = 60.0
"""Seconds for a connection and the first list."""

ANSWER_WITHIN = 20.0
"""Seconds for one page of a list."""

MOST_PAGES = 100
MOST_TOOLS = 1_000
SENDING = 1.0
"""Seconds beyond its time limit that a call may take to be sent."""

MOST_PROGRESS = 64
"""Progress that waits to be read; what comes beyond it is left out."""

STEADY = 30.0
"""Seconds after which a connection that breaks is asked again as soon as if it were the first time."""

_OF_THE_CALL = (mcp_types.REQUEST_TIMEOUT, mcp_types.INVALID_PARAMS)
"""Errors that say nothing of the connection; others may mean that it, or its session, has ended."""

_BACKOFF = RetryPolicy(base=0.5, cap=30.0)
_NOT_CONTAINED = ToolPolicy(contained=False, network=True)
_log = logging.getLogger("penstock.tools")


class McpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server as it is configured: a command, or a URL.

    env, headers: names of the variables that hold the values. user: whose rights it has, "" for ours, with a home of
    its own; directory: "" for its home. http: who connects to a URL (`supplied`), called with it, the headers and
    ca_file. policy: of all its tools; policies: of single ones, by the server's names; only: the tools that are taken,
    all where it is empty.
    """

    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    directory: str = ""
    user: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    ca_file: str = ""
    http: str = ""
    policy: ToolPolicy = _NOT_CONTAINED
    policies: dict[str, ToolPolicy] = {}
    only: tuple[str, ...] = ()


class McpSource:
    """See `actors.tools.tool_source.ToolSource`. Its settings are `McpSettings`."""

    def __init__(self, spec: SourceSpec) -> None:
        try:
            self._settings = msgspec.convert(spec.settings, McpSettings)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the tool source {spec.name} is not well described: {error}") from None
        self._source = spec.name
        self._server = spec.name.removeprefix("mcp:")
        self._state = Path(spec.state_directory or ".").expanduser().absolute()
        self._environment = {name: _variable(given) for name, given in self._settings.env.items()}
        self._headers = {name: _variable(given) for name, given in self._settings.headers.items()}
        self._policies = {"": self._settings.policy, **self._settings.policies}
        self._client: Client | None = None
        self._tools: tuple[Tool, ...] = ()
        self._health: Health = "starting"
        self._why = ""
        self._look = asyncio.Event()
        self._on_change: Callable[[], None] = lambda: None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, on_change: Callable[[], None]) -> None:
        """Connect, beside what else goes on."""
        for name in ("mcp", "client", "httpx2"):
            # The package's own words quote what servers send, and the addresses of requests.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._on_change = on_change
        self._keeping = asyncio.create_task(self._keep())

    async def tools(self) -> Sequence[Tool]:
        """The tools of the last list; while the server is away they are listed so. Raises ToolFailed without any."""
        if self._health == "ready":
            return self._tools
        if self._health == "away" and not self._tools:
            raise ToolFailed(self._why)
        unusable = {"health": self._health, "why": self._why}
        return [msgspec.structs.replace(tool, **unusable) for tool in self._tools]

    async def close(self) -> None:
        """End the connection, and the server with it where we started it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    # The connection.

    async def _keep(self) -> None:
        """Connect, again and again."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            why = "the server ended the connection"
            try:
                await self._connection()
            except Exception as error:  # whatever a server does, it is asked again
                why = _words(error)
            failures = 1 if loop.time() - began >= STEADY else failures + 1
            self._be("away", why)
            _log.warning("the tool server %s is away: %s", self._server, why)
            await asyncio.sleep(_BACKOFF.backoff(failures, random.random()))

    async def _connection(self) -> None:
        """One connection, from its beginning to its end."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_WITHIN):
                client = await stack.enter_async_context(
                    Client(
                        as_read(self._way()),
                        message_handler=self._heard,
                        client_info=mcp_types.Implementation(name="penstock", version=VERSION),
                        read_timeout_seconds=ANSWER_WITHIN,
                        cache=None,
                    )
                )
            listening = asyncio.create_task(self._listen(client))
            stack.callback(listening.cancel)
            stack.callback(self._lose)
            while True:
                self._look.clear()
                tools = await self._listed(client)
                changed = tools != self._tools
                self._client, self._tools = client, tools
                self._be("ready", "", changed)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await self._look.wait()
                await asyncio.sleep(LEAST_PAUSE)

    def _way(self) -> AbstractAsyncContextManager[Streams]:
        settings = self._settings
        if settings.url:
            way: AbstractAsyncContextManager[Streams] = supplied(settings.http)(
                settings.url, self._headers, settings.ca_file
            )
            return way
        own = self._state / "tool_servers" / self._server
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        home, user = _whose(settings.user) if settings.user else (str(own), None)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "LANG": "C.UTF-8"}
        command = ServerCommand(
            settings.command,
            {**environment, **self._environment},
            settings.directory or home,
            own.with_name(f"{self._server}.log"),
            user,
        )
        return started(command, self._look.set)

    def _lose(self) -> None:
        self._client = None

    def _be(self, health: Health, why: str, changed: bool = False) -> None:
        changed = changed or (health, why) != (self._health, self._why)
        self._health, self._why = health, why
        if changed:
            self._on_change()

    async def _heard(self, message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._look.set()

    async def _listen(self, client: Client) -> None:
        """Wait for changes where the server's revision has a stream for it; without it they show at the next look."""
        with contextlib.suppress(MCPError, RuntimeError, TimeoutError):
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._look.set()

    async def _listed(self, client: Client) -> tuple[Tool, ...]:
        """Every page of the server's tools. Raises ToolFailed for a list without end."""
        listed: dict[str, mcp_types.Tool] = {}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                listed.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if len(listed) > MOST_TOOLS:
                raise ToolFailed(f"the server lists more than {MOST_TOOLS} tools")
            if cursor is None:
                wanted = self._settings.only or listed
                prefix = f"{self._server}."
                return tuple(
                    tool_of(tool, prefix, self._source, self._server, self._policies)
                    for name, tool in listed.items()
                    if name in wanted
                )
        raise ToolFailed(f"the server's list of tools has more than {MOST_PAGES} pages")

    # The calls.

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Call a tool of the server. Closing the generator cancels the call there, too."""
        client = self._client
        if client is None:
            yield Ran(error=f"the tool's server is away: {self._why or 'it is being started'}", exit="refused")
            return
        told: asyncio.Queue[Progress | None] = asyncio.Queue()

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if told.qsize() < MOST_PROGRESS:
                told.put_nowait(Progress(message or (f"{done:g} of {total:g}" if total else f"{done:g}")))

        call = asyncio.create_task(self._call(client, run, progress))
        call.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (step := await told.get()) is not None:
                yield step
            yield call.result()
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _call(self, client: Client, run: ToolRun, progress: Callable[..., object]) -> Ran:
        began = asyncio.get_running_loop().time()
        parts: tuple[Part, ...] = ()
        error = ""
        way: Exit = "ok"
        try:
            # The client's own limit begins when the call has been sent, which one that is just ending never does.
            async with asyncio.timeout(run.seconds + SENDING):
                result = await client.call_tool(
                    run.tool.removeprefix(f"{self._server}."),
                    run.arguments,
                    read_timeout_seconds=run.seconds,
                    progress_callback=progress,  # type: ignore[arg-type]
                )
            parts = parts_of(result)
            if result.is_error:
                error, way = text_of(parts) or "the tool failed without a word", "error"
                parts = tuple(part for part in parts if not isinstance(part, Text))
        except MCPError as failure:
            error, way = _failure(failure)
            if failure.code not in _OF_THE_CALL:
                self._look.set()
        except TimeoutError:
            error, way = "the server did not take the call", "timeout"
            self._look.set()
        except ValidationError as failure:
            error, way = f"the call was made, but {_not_the_protocols(failure)}", "error"
        except RuntimeError as failure:
            error, way = f"the server's answer is not what the protocol has: {redacted(str(failure))[:500]}", "error"
        seconds = asyncio.get_running_loop().time() - began
        return Ran(parts=parts, error=error, exit=way, seconds=seconds)


def _failure(failure: MCPError) -> tuple[str, Exit]:
    """What an error of the protocol means."""
    if failure.code == mcp_types.REQUEST_TIMEOUT:
        return "the tool did not answer in time", "timeout"
    if failure.code == mcp_types.CONNECTION_CLOSED:
        return "the tool's server ended during the call", "crash"
    return redacted(failure.message) or "the server refused the call", "error"


def _words(error: BaseException) -> str:
    """Why a connection failed, for an administrator; a group's first error speaks for it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError) and error.code == mcp_types.CONNECTION_CLOSED:
        return "the server ended the connection"
    if isinstance(error, ToolFailed | MCPError):
        return redacted(error.message)[:500]
    if isinstance(error, ValidationError):
        return _not_the_protocols(error)
    return "it did not answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}"


def _not_the_protocols(error: ValidationError) -> str:
    """What is wrong with an answer, and where in it first."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return redacted(f"its answer is not what the protocol has, at {place}: {first['msg']}")[:500]


def _whose(name: str) -> tuple[str, tuple[int, int]]:
    """A user's home, and the numbers of the user and its group. Raises ToolFailed for nobody that is known here."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ToolFailed(f"there is no user {name!r}") from None
    home = found.pw_dir if Path(found.pw_dir).is_dir() else "/"
    return home, (found.pw_uid, found.pw_gid)


def _variable(name: str) -> str:
    value = credential(name)
    if not value:
        raise ConfigurationError(f"the variable {name} is empty")
    return value
