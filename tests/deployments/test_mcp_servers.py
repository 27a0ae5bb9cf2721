"""Real MCP servers, unmodified, as the tools of a chat request: over stdio, and over streamable HTTP.

PENSTOCK_MCP_PYTHON names the Python that has the servers from PyPI (`make test-mcp` sets it, and installs those from
npm, too); without it these tests are skipped.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployments.house import House, client_of, free_port, house
from tests.mcp_servers.model import Model, model_server
from tests.mcp_servers.real import PATIENCE, PYTHON, Server, everything_over_http, servers

pytestmark = [
    pytest.mark.mcp,
    pytest.mark.skipif(not PYTHON, reason="PENSTOCK_MCP_PYTHON is not set: see `make test-mcp`"),
]

NAMES = ("everything", "filesystem", "git", "memory", "remote", "time")


class Shop:
    """A house with the real servers as its tools, and a model that calls one of them."""

    def __init__(self, built: House, model: Model, found: dict[str, Server]) -> None:
        self.house = built
        self.model = model
        self.servers = found
        self.client: httpx.AsyncClient = client_of(built.gateway)

    async def tools(self) -> dict[str, dict[str, Any]]:
        """What `GET /v1/tools` lists, by name."""
        listed = (await self.client.get("/v1/tools")).json()["data"]
        return {tool["name"]: tool for tool in listed}


@asynccontextmanager
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> AsyncIterator[Shop]:
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setenv("PENSTOCK_TEST_MEMORY", str(tmp_path / "memory.jsonl"))
    async with AsyncExitStack() as stack:
        found = servers(files)
        if "remote" in names:
            found["remote"] = await stack.enter_async_context(everything_over_http(free_port()))
        found = {name: found[name] for name in names}
        model = await stack.enter_async_context(model_server())
        tools = {"mcp": {name: server.settings for name, server in found.items()}}
        built = await stack.enter_async_context(house(tmp_path, monkeypatch, tools=tools))
        await built.provider(kind="local", name="scripted", base_url=model.base_url, drain=1.0)
        opened = Shop(built, model, found)
        await stack.enter_async_context(opened.client)
        toolbox = built.gateway.toolbox
        assert toolbox is not None
        wanted = {f"{name}.{tool}" for name, server in found.items() for tool in server.tools}
        assert await toolbox.until(
            lambda published: wanted <= {tool.name for tool in published.catalogue.tools if tool.health == "ready"},
            PATIENCE,
        ), [(tool.name, tool.health, tool.why) for tool in toolbox.catalogue.tools]
        await built.until(lambda: _listed(built))
        yield opened


def _listed(built: House) -> bool:
    provider = built.gateway.router.table.provider("scripted")
    return provider is not None and bool(provider.models)


def asking(tool: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Use the tool."}]
    return {"model": "scripted/scripted", "messages": messages, "tools": [{"type": "penstock", "name": tool}], **more}


@pytest.mark.parametrize("name", NAMES)
async def test_a_servers_tools_are_listed_and_one_is_called_by_a_chat_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with shop(tmp_path, monkeypatch, name) as opened:
        server = opened.servers[name]
        listed = await opened.tools()
        assert {f"{name}.{tool}" for tool in server.tools} <= listed.keys()
        assert {tool["source"] for tool in listed.values()} == {f"mcp:{name}"}
        opened.model.wanted = (server.tool, server.arguments)
        answer = await opened.client.post("/v1/chat/completions", json=asking(f"{name}.{server.tool}"))
        assert answer.status_code == 200, answer.text
        content = answer.json()["choices"][0]["message"]["content"]
        assert content.startswith("I was told: ")
        assert server.answer in content


async def test_all_servers_at_once_in_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(tmp_path, monkeypatch, *NAMES) as opened:
        listed = await opened.tools()
        assert len(listed) > 40
        assert {tool["name"] for tool in listed.values() if tool["health"] != "ready"} == {
            "everything.simulate-research-query",
            "remote.simulate-research-query",
        }
        for server in opened.servers.values():
            opened.model.wanted = (server.tool, server.arguments)
            body = asking(f"{server.name}.{server.tool}", stream=True)
            answer = await opened.client.post("/v1/chat/completions", json=body)
            assert answer.text.rstrip().endswith("data: [DONE]")
            assert server.answer in answer.text
            assert "I was told: " in answer.text


async def test_progress_of_a_real_server_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(tmp_path, monkeypatch, "everything") as opened:
        opened.model.wanted = ("trigger-long-running-operation", {"duration": 0.3, "steps": 3})
        body = asking("everything.trigger-long-running-operation", stream=True)
        answer = await opened.client.post("/v1/chat/completions", json=body)
        assert all(f"{step} of 3" in answer.text for step in (1, 2, 3))


async def test_a_picture_comes_back_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(tmp_path, monkeypatch, "everything") as opened:
        opened.model.wanted = ("get-tiny-image", {})
        answer = await opened.client.post("/v1/chat/completions", json=asking("everything.get-tiny-image"))
        assert answer.status_code == 200
        assert "data:image/png;base64," in str(opened.model.asked[-1]["messages"])
