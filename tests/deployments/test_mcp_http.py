"""An MCP server over streamable HTTP, that is not always as it should be: a real server on a real socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from actors.tools import mcp_source
from actors.tools.mcp_source import McpSource
from actors.tools.tool_source import SourceSpec
from deployments.settings.tool_servers import McpServerSettings
from deployments.tools import mcp_http
from pipelines.conversation import Text
from pipelines.resilience import RetryPolicy
from pipelines.tools.catalogue import Ran, ToolRun
from tests.deployments.house import free_port

PATIENCE = 30.0


class Server:
    """A small server that answers in JSON. asked: method and headers of each request; odd: what it does at odd_at."""

    def __init__(self) -> None:
        self.port = free_port()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.odd: Callable[[], web.Response] | None = None
        self.odd_at = {"tools/call"}
        self.tools = ["echo"]
        self.session = 1
        self._runner: web.AppRunner | None = None

    async def open(self, trust: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_post("/mcp", self.answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=trust, reuse_address=True).start()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def answer(self, request: web.Request) -> web.Response:
        said = await request.json()
        method = said["method"]
        self.asked.append((method, dict(request.headers)))
        if self.odd is not None and method in self.odd_at:
            return self.odd()
        if method != "initialize" and request.headers.get("mcp-session-id", str(self.session)) != str(self.session):
            return web.Response(status=404)
        if "id" not in said:
            return web.Response(status=202)
        result: dict[str, Any]
        match method:
            case "initialize":
                info = {"name": "remote", "version": "1"}
                version = said["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]}
            case "tools/call":
                result = {"content": [{"type": "text", "text": "heard"}]}
            case _:
                error = {"code": -32601, "message": "Method not found"}
                return web.json_response({"jsonrpc": "2.0", "id": said["id"], "error": error})
        headers = {"mcp-session-id": str(self.session)} if method == "initialize" else {}
        return web.json_response({"jsonrpc": "2.0", "id": said["id"], "result": result}, headers=headers)


class Watched(McpSource):
    """A source whose changes can be waited for."""

    changed: asyncio.Event

    async def until(self, health: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self._health != health:
                self.changed.clear()
                await self.changed.wait()

    async def result(self, seconds: float = PATIENCE) -> Ran:
        *_, last = [step async for step in self.run(ToolRun(id="1", tool="remote.echo", arguments={}, seconds=seconds))]
        assert isinstance(last, Ran)
        return last


@asynccontextmanager
async def remote(tmp_path: Path, url: str, **settings: Any) -> AsyncIterator[Watched]:
    spec = McpServerSettings(url=url, **settings).spec("remote")
    source = Watched(SourceSpec(kind="mcp", name=spec.name, settings=spec.settings, state_directory=str(tmp_path)))
    source.changed = asyncio.Event()
    await source.start(source.changed.set)
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def opened() -> AsyncIterator[Server]:
    server = Server()
    await server.open()
    try:
        yield server
    finally:
        await server.close()


async def test_each_request_has_the_credentials_of_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_AUTHORIZATION", "Bearer token-of-the-tracker")
    async with opened() as server:
        headers = {"Authorization": "TRACKER_AUTHORIZATION"}
        async with remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp", headers=headers) as source:
            await source.until("ready")
            assert (await source.result()).parts == (Text("heard"),)
        assert {"initialize", "tools/list", "tools/call"} <= {method for method, _ in server.asked}
        assert {headers["Authorization"] for _, headers in server.asked} == {"Bearer token-of-the-tracker"}


async def test_a_server_that_goes_is_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_source, "_BACKOFF", RetryPolicy(base=0.05, cap=0.05))
    async with opened() as server, remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
        await source.until("ready")
        await server.close()
        assert (await source.result()).exit == "crash"
        await source.until("away")
        assert {tool.health for tool in await source.tools()} == {"away"}
        server.tools.append("another")
        await server.open()
        await source.until("ready")
        assert {tool.name for tool in await source.tools()} == {"remote.echo", "remote.another"}
        assert (await source.result()).parts == (Text("heard"),)


async def test_a_session_that_the_server_has_forgotten_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_source, "_BACKOFF", RetryPolicy(base=0.05, cap=0.05))
    async with opened() as server, remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
        await source.until("ready")
        server.session += 1
        assert (await source.result()).exit == "error"
        await source.until("away")
        await source.until("ready")
        assert (await source.result()).parts == (Text("heard"),)


async def test_credentials_are_not_taken_to_another_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "a-key")
    async with AsyncExitStack() as stack:
        server, other = [await stack.enter_async_context(opened()) for _ in range(2)]
        url = f"http://127.0.0.1:{server.port}/mcp"
        source = await stack.enter_async_context(remote(tmp_path, url, headers={"x-key": "KEY"}))
        await source.until("ready")
        headers = {"location": f"http://127.0.0.1:{other.port}/mcp"}
        for status in (307, 308):
            server.odd = partial(web.Response, status=status, headers=headers)
            assert (await source.result(2.0)).exit != "ok"
        assert not other.asked


@pytest.mark.parametrize("more", [{}, {"content-encoding": "gzip"}])
async def test_an_answer_without_end_costs_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.setattr(mcp_http, "MOST_ANSWER", 100_000)
    monkeypatch.setattr(mcp_source, "_BACKOFF", RetryPolicy(base=0.05, cap=0.05))
    async with opened() as server, remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
        await source.until("ready")
        headers = {"content-type": "application/json", **more}
        server.odd = lambda: web.Response(body=b" " * 200_000, headers=headers)
        assert (await source.result()).exit == "crash"
        server.odd = None
        async with asyncio.timeout(PATIENCE):
            while (await source.result()).parts != (Text("heard"),):
                await asyncio.sleep(0.01)


async def test_a_call_that_is_not_answered_ends_with_its_time(tmp_path: Path) -> None:
    async with opened() as server, remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
        await source.until("ready")
        server.odd = lambda: web.Response(status=202)
        assert (await source.result()).exit == "error"
        server.odd = lambda: web.Response(text="not found", status=404)
        assert (await source.result()).exit == "error"


ELSEWHERE = "https://somebody@login.example:8443/token-in-a-path?key=k"


@pytest.mark.parametrize(
    ("status", "more", "why"),
    [
        (401, {}, "the server answers 401: are its `headers` right?"),
        (401, {"content_type": "application/json", "text": '{"error": "invalid_token"}'}, "answers 401"),
        (403, {"text": "token-in-a-body"}, "the server answers 403: are its `headers` right?"),
        (404, {}, "the server answers 404: is its `url` right?"),
        (405, {}, "the server answers 405: is its `url` right?"),
        (500, {"text": "token-in-a-body"}, "the server answers 500"),
        (302, {"headers": {"location": "/token-in-a-path/"}}, "the server redirects to another path"),
        (307, {"headers": {"location": ELSEWHERE}}, "the server redirects to https://login.example:8443: is its `url`"),
        (307, {"headers": {"location": "http://a:b/"}}, "the server redirects to what is no address"),
        (200, {"headers": {"content-encoding": "gzip"}}, "the answer is compressed, which was not asked for"),
    ],
)
async def test_why_a_server_is_away_is_told_without_a_secret(
    tmp_path: Path, status: int, more: dict[str, Any], why: str
) -> None:
    async with opened() as server:
        server.odd, server.odd_at = partial(web.Response, status=status, **more), {"server/discover", "initialize"}
        async with remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
            await source.until("away")
            assert why in source._why
            assert "token" not in source._why
            assert "somebody" not in source._why


async def test_an_error_of_the_protocol_keeps_its_words(tmp_path: Path) -> None:
    text = '{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "The licence has ended."}}'
    async with opened() as server:
        server.odd = partial(web.Response, status=403, text=text, content_type="application/json")
        server.odd_at = {"server/discover", "initialize"}
        async with remote(tmp_path, f"http://127.0.0.1:{server.port}/mcp") as source:
            await source.until("away")
            assert source._why == "The licence has ended."


async def test_a_port_where_nothing_listens_is_told(tmp_path: Path) -> None:
    async with remote(tmp_path, f"http://127.0.0.1:{free_port()}/mcp") as source:
        await source.until("away")
        assert source._why.startswith("it cannot be connected to")


async def test_an_authority_of_its_own_can_be_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(trust)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    server = Server()
    await server.open(trust)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        url = f"https://127.0.0.1:{server.port}/mcp"
        trusting = await stack.enter_async_context(remote(tmp_path, url, ca_file=bundle))
        await trusting.until("ready")
        wary = await stack.enter_async_context(remote(tmp_path, url))
        await wary.until("away")
