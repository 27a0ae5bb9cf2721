"""Tools that do what tools must not, and two that do what they should. Imported by workshops, never by the tests."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pipelines.tools.functions import tool

GIB = 1 << 30


@tool(seconds=60, concurrent=64)
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@tool(seconds=60)
async def count(to: int) -> AsyncIterator[int]:
    """Counts, and says so."""
    for number in range(1, to + 1):
        await asyncio.sleep(0)
        yield number


@tool(seconds=2)
def fork_bomb() -> None:
    """Makes processes that make processes."""
    while True:
        try:
            os.fork()
        except OSError:
            continue


@tool(seconds=1)
def endless() -> None:
    """Never ends."""
    while True:
        pass


@tool(seconds=60)
def flood() -> Iterator[str]:
    """Yields 1 GiB."""
    for _ in range(1024):
        yield "x" * (1 << 20)


@tool(seconds=60)
def scribble() -> None:
    """Writes 1 GiB where the answer goes, without any form."""
    for descriptor in range(3, 64):
        try:
            for _ in range(1024):
                os.write(descriptor, b"\xff" * (1 << 20))
        except OSError:
            continue


@tool(seconds=60)
def shout() -> str:
    """Prints 1 GiB."""
    for _ in range(1024):
        sys.stdout.write("x" * (1 << 20))
    return "done"


@tool(seconds=60)
def verbose() -> str:
    """Gives a result of 100 MiB."""
    return "ä" * (50 << 20)


@tool(seconds=60)
def gluttonous() -> int:
    """Wants 10 GiB."""
    return len(bytearray(10 * GIB))


@tool(seconds=60)
def hoarding() -> None:
    """Writes 1 GiB into its scratch directory."""
    with open("hoard", "wb") as file:
        for _ in range(1024):
            file.write(b"x" * (1 << 20))


@tool(seconds=1)
def stubborn() -> None:
    """Ignores every signal that can be ignored, and so does its grandchild, in a session of its own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)


@tool(seconds=60)
def leaves_a_daemon() -> str:
    """Ends well, and leaves a process behind."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return "left"


@tool(seconds=60)
def exits() -> None:
    """Ends its process."""
    os._exit(3)


@tool(seconds=60)
def crashes() -> None:
    """Reads where nothing is."""
    ctypes.string_at(8)


@tool(seconds=60)
def raises() -> None:
    """Raises."""
    raise LookupError("nothing there")


@tool(seconds=60)
def kills() -> str:
    """Kills all that it may."""
    for process in os.listdir("/proc"):
        if process.isdigit() and int(process) != os.getpid():
            try:
                os.kill(int(process), signal.SIGKILL)
            except OSError:
                continue
    return "lived"


@tool(seconds=60)
def environments() -> list[str]:
    """Reads the environment of every process."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                found.append(Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found


@tool(seconds=60)
def reads(paths: list[str]) -> dict[str, str]:
    """Tries to read files, to list directories and to speak to sockets."""
    return {path: _reached(path) for path in paths}


@tool(seconds=60)
def connects(port: int) -> str:
    """Connects to a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), 5):
        return "connected"


@tool(seconds=60, network=True)
def connects_freely(port: int) -> str:
    """The same, as one that may."""
    with socket.create_connection(("127.0.0.1", port), 5):
        return "connected"


@tool(seconds=60)
def becomes_root() -> str:
    """Tries to be root again."""
    try:
        os.setuid(0)
    except OSError:
        return subprocess.run(["/bin/su", "-c", "id -u"], capture_output=True, text=True, check=False).stdout
    return "0"


@tool(seconds=60)
def tells() -> dict[str, object]:
    """Who and where it is."""
    Path("own").write_text("x")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "user": os.getuid(),
        "groups": os.getgroups(),
        "folder": os.getcwd(),
        "files": os.listdir(),
        "variables": sorted(os.environ),
        "capabilities": status["CapEff"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
    }


@tool(seconds=600)
def waits() -> Iterator[str]:
    """Says that it has begun, and then waits for ever."""
    yield "begun"
    time.sleep(600)
    yield "too late"


@tool(contained=False, seconds=60)
def trusted(word: str) -> Iterator[str]:
    """Runs in the executor itself."""
    yield word
    yield f"{word} {os.getpid()}"


def _reached(path: str) -> str:
    try:
        if Path(path).is_dir():
            return " ".join(os.listdir(path))
        if Path(path).is_socket():
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                return "connected"
        return Path(path).read_text()
    except OSError as error:
        return type(error).__name__
