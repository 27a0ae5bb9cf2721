"""A tool server as a child process that speaks MCP over its standard input and output.

    stdin   one JSON-RPC message a line       ours, written as the session sends them
    stdout  one JSON-RPC message a line       the server's; a line of more than MOST_LINE, more than MOST_MESSAGES
                                              in a second, more rubbish than MOST_RUBBISH without a message end
                                              the connection
    stderr  anything                          goes to a log file, which is never longer than MOST_LOG

The client library has such a transport too; this one bounds what a server may send, gives it no variable that is not
named, and leaves nothing of it behind: a server whose input is closed has GRACE seconds to end (as the protocol's
section on the lifecycle has it), then all of its process group is killed, and whatever carries its mark in the
environment, wherever it went (as Jenkins' ProcessTreeKiller does it). A server dies with us, too: prctl(2),
PR_SET_PDEATHSIG.

Above it: `mcp_source`. Below it: asyncio's subprocesses, `mcp_types`. Outside it: what the messages mean.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from pipelines.errors import ToolFailed

MOST_LINE = 16 * 1024 * 1024
"""Bytes of one message."""

MOST_MESSAGES = 5_000
"""Messages of one second."""

MOST_RUBBISH = 1_000
"""Lines in a row that are no message: some servers greet, or keep their log, on the wrong channel."""

MOST_LOG = 1024 * 1024
"""Bytes of a log; the one before it is kept beside it."""

GRACE = 2.0
"""Seconds that a server has to end by itself."""

MARK = "PENSTOCK_TOOL_SERVER"
"""The variable by which a server's descendants are known."""

LAST_WORDS = 0.5
"""Seconds in which what an ended server has said is still read; its children may hold the pipe open for ever."""

_SHIM = """
import ctypes, os, sys
parent, user, group, program, *words = sys.argv[1:]
if user:
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(parent) or os._exit(1)
os.execv(program, words)
"""
"""Becomes the server, after it has become its user and has asked to die with us; a change of user forgets that wish."""

Streams = Any
"""What an MCP session is made of: the stream that it reads from, and the one that it writes to."""


class ServerCommand(NamedTuple):
    """How a server is started. environment: all of its variables; user: whose rights it has, None for ours."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    log: Path
    user: tuple[int, int] | None = None


class _Process(asyncio.subprocess.Process):
    """A process that can be let go of, and whose end is known when it comes.

    asyncio's own `wait` also waits for the ends of the pipes, which the process's children may hold.
    """

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: "_Protocol") -> None:
        super().__init__(transport, protocol, asyncio.get_running_loop())
        self.ended = protocol.ended
        self.let_go = transport.close


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __init__(self) -> None:
        super().__init__(limit=MOST_LINE, loop=asyncio.get_running_loop())
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.ended.set()


@asynccontextmanager
async def started(given: ServerCommand, ended: Callable[[], None]) -> AsyncGenerator[Streams, None]:
    """A running server's streams; it is gone, with all that it started, when the context is left.

    ended is called when the server says no more. Raises ToolFailed where it cannot be started, and in place of what a
    session makes of it where it has ended.
    """
    mark = uuid.uuid4().hex
    process = await _process(given, {**given.environment, MARK: mark})
    coming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, going = anyio.create_memory_object_stream[SessionMessage](0)
    hearing = asyncio.create_task(_hear(process, coming, ended))
    log = asyncio.create_task(_keep_log(process, given.log))
    tasks = [
        hearing,
        log,
        asyncio.create_task(_watch(process, hearing)),
        asyncio.create_task(_tell(process, going)),
    ]
    try:
        yield read, write
    except Exception as error:
        why = await _why_ended(process, hearing, log)
        if not why:
            raise
        if await asyncio.to_thread(_is_filled, given.log):
            why += f": see {given.log.parent.name}/{given.log.name}"
        raise ToolFailed(why) from error
    finally:
        ending = asyncio.create_task(_end(process, mark, log))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            _kill(process.pid, mark)
            raise
        finally:
            for task in tasks:
                task.cancel()
            for stream in (coming, read, write, going):
                stream.close()


async def _process(given: ServerCommand, environment: Mapping[str, str]) -> _Process:
    program = shutil.which(given.command[0], path=environment.get("PATH"))
    if program is None:
        raise ToolFailed(f"there is no program {given.command[0]!r}")
    user, group = map(str, given.user or ("", ""))
    shim = (sys.executable, "-ISc", _SHIM, str(os.getpid()), user, group, program, *given.command)
    try:
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            _Protocol,
            *shim,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=given.directory,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolFailed(f"the server could not be started ({type(error).__name__})") from None
    return _Process(transport, protocol)


async def _watch(process: _Process, hearing: asyncio.Task[str]) -> None:
    """End the hearing with the process."""
    await process.ended.wait()
    await asyncio.wait([hearing], timeout=LAST_WORDS)
    hearing.cancel()


async def _hear(process: _Process, coming: Any, ended: Callable[[], None]) -> str:
    """Hand on what the server says, until it has said all, or too much. Returns what was too much, "" for nothing."""
    rubbish, messages, second = 0, 0, 0
    loop = asyncio.get_running_loop()
    assert process.stdout is not None
    try:
        async with coming:
            while line := await process.stdout.readline():
                now = int(loop.time())
                messages, second = (messages + 1, second) if now == second else (1, now)
                if messages > MOST_MESSAGES:
                    return f"it sent more than {MOST_MESSAGES} messages in a second, and was ended"
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    rubbish += 1
                    if rubbish > MOST_RUBBISH:
                        return f"it sent {rubbish} lines in a row that are no messages, and was ended"
                    continue
                rubbish = 0
                await coming.send(SessionMessage(message))
    except ValueError:
        return f"it sent a line of more than {MOST_LINE} bytes, and was ended"
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    finally:
        ended()
    return ""


async def _why_ended(process: _Process, hearing: asyncio.Task[str], log: asyncio.Task[None]) -> str:
    """Why the server says no more, in words; "" where it may say more."""
    await asyncio.wait([hearing], timeout=LAST_WORDS)
    if not hearing.done():
        return ""
    too_much = "" if hearing.cancelled() else hearing.result()
    if too_much:
        return too_much
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            await process.ended.wait()
    await asyncio.wait([log], timeout=LAST_WORDS)
    code = process.returncode
    if code is None:
        return "the server has closed its output"
    return f"the server ended with exit code {code}" if code >= 0 else f"the server was ended by signal {-code}"


async def _tell(process: _Process, going: Any) -> None:
    """Write what the session sends."""
    assert process.stdin is not None
    with contextlib.suppress(anyio.ClosedResourceError, OSError):
        async with going:
            async for message in going:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()


async def _keep_log(process: _Process, path: Path) -> None:
    """Write what the server complains about to its log; where none can be had it is thrown away."""
    assert process.stderr is not None
    written = MOST_LOG
    while piece := await process.stderr.read(64 * 1024):
        with contextlib.suppress(OSError):
            if written + len(piece) > MOST_LOG:
                written = _make_room(path)
            with path.open("ab") as file:
                file.write(piece)
            written += len(piece)


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _make_room(path: Path) -> int:
    """Bytes of the log as it is now; a full one is put aside."""
    size = path.stat().st_size if path.exists() else 0
    if size < MOST_LOG // 2:
        path.touch(mode=0o600)
        return size
    path.replace(path.with_name(path.name + ".1"))
    path.touch(mode=0o600)
    return 0


async def _end(process: _Process, mark: str, log: asyncio.Task[None]) -> None:
    """Close the server's input, give it time to end, and kill what is left of it."""
    assert process.stdin is not None
    process.stdin.close()
    await _ended(process)
    await asyncio.to_thread(_kill, process.pid, mark)
    await _ended(process)
    await asyncio.wait([log], timeout=LAST_WORDS)
    process.let_go()


async def _ended(process: _Process) -> None:
    """Wait for its end, for GRACE at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.ended.wait()


def _kill(group: int, mark: str) -> None:
    """Kill the process group and all that carry the mark; blocks for a few milliseconds."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    sign = f"{MARK}={mark}".encode()
    killed: set[int] = set()
    while found := set(_carrying(sign)) - killed:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found


def _carrying(sign: bytes) -> list[int]:
    """Processes that have this among their variables (proc(5), environ), as far as we may look."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if sign in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return found
