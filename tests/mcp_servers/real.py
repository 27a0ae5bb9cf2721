"""The real MCP servers of `make test-mcp`, unmodified: how each is started, which tools it has, a call that works.

They are installed beside this file (npm) and in the environment that PENSTOCK_MCP_PYTHON is of (PyPI).
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

PYTHON = os.environ.get("PENSTOCK_MCP_PYTHON", "")
"""The interpreter of the environment with the servers from PyPI; empty where `make test-mcp` has not begun."""

_NODE = Path(__file__).parent / "node_modules" / ".bin"
PATIENCE = 60.0


class Server(NamedTuple):
    """A server's settings, the tools that it must have at least, and one call with words of its answer."""

    name: str
    settings: dict[str, Any]
    tools: frozenset[str]
    tool: str
    arguments: dict[str, Any]
    answer: str


_EVERYTHING = frozenset({"echo", "get-sum", "get-env", "get-tiny-image", "trigger-long-running-operation"})


def servers(folder: Path) -> dict[str, Server]:
    """All that speak over stdio, with a folder for those that work on files."""
    folder = folder.resolve()
    repository = folder / "repository"
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    (repository / "greeting.txt").write_text("good day")
    python = Path(PYTHON).parent
    found = (
        Server(
            "everything",
            {"command": [str(_NODE / "mcp-server-everything")]},
            _EVERYTHING,
            "echo",
            {"message": "good day"},
            "Echo: good day",
        ),
        Server(
            "filesystem",
            {"command": [str(_NODE / "mcp-server-filesystem"), str(folder)]},
            frozenset({"read_text_file", "write_file", "list_directory", "search_files"}),
            "read_text_file",
            {"path": str(repository / "greeting.txt")},
            "good day",
        ),
        Server(
            "memory",
            {"command": [str(_NODE / "mcp-server-memory")], "env": {"MEMORY_FILE_PATH": "PENSTOCK_TEST_MEMORY"}},
            frozenset({"create_entities", "read_graph", "search_nodes"}),
            "create_entities",
            {"entities": [{"name": "Ada", "entityType": "person", "observations": ["counts"]}]},
            "Ada",
        ),
        Server(
            "time",
            {"command": [str(python / "mcp-server-time")]},
            frozenset({"get_current_time", "convert_time"}),
            "convert_time",
            {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
            "21:00",
        ),
        Server(
            "git",
            {"command": [str(python / "mcp-server-git")]},
            frozenset({"git_status", "git_log", "git_commit"}),
            "git_status",
            {"repo_path": str(repository)},
            "greeting.txt",
        ),
    )
    return {server.name: server for server in found}


@asynccontextmanager
async def everything_over_http(port: int) -> AsyncIterator[Server]:
    """The same server as `everything`, over streamable HTTP on that port."""
    process = await asyncio.create_subprocess_exec(
        str(_NODE / "mcp-server-everything"),
        "streamableHttp",
        env={"PATH": os.environ["PATH"], "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    await client.get(url)
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        settings = {"url": url}
        yield Server("remote", settings, _EVERYTHING, "echo", {"message": "good day"}, "Echo: good day")
    finally:
        process.kill()
        await process.wait()
