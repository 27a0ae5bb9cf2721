"""A service with an OpenAPI document, as a source of tools: a real HTTP server, and the real way there."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from actors.tools import openapi_source
from actors.tools.fetch_source import FetchSource
from actors.tools.openapi_source import OpenApiSource
from actors.tools.tool_source import SourceSpec, make
from pipelines.conversation import File, Image, Text
from pipelines.errors import ConfigurationError, ToolFailed
from pipelines.resilience import RetryPolicy
from pipelines.tools.catalogue import Ran, ToolRun
from pipelines.tools.openapi import operations_of
from tests.actors.toolshop import toolshop

FETCH = "deployments.tools.fetching:fetch"
LOOPBACK = ["127.0.0.1/32"]
PATIENCE = 30.0


def described(paths: dict[str, Any]) -> dict[str, Any]:
    servers = [{"url": "http://169.254.169.254/"}]
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": servers, "paths": paths}


PATHS: dict[str, Any] = {
    "/echo/{word}": {
        "post": {
            "operationId": "echo",
            "parameters": [
                {"name": "word", "in": "path", "required": True, "schema": {"type": "string"}},
                {"name": "more", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
            ],
            "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
        }
    },
    **{f"/{name}": {"get": {"operationId": name}} for name in ("picture", "file", "refusal", "away", "slow", "empty")},
    "/upload": {"post": {"operationId": "upload", "requestBody": {"content": {"multipart/form-data": {}}}}},
}


class Service:
    """The server. asked: what it was asked for."""

    def __init__(self) -> None:
        self.port = 0
        self.document: bytes | None = json.dumps(described(PATHS)).encode()
        self.asked: list[dict[str, Any]] = []
        self.documented = asyncio.Event()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(
            {"path": request.raw_path, "headers": dict(request.headers), "body": (await request.read()).decode()}
        )
        match request.path.removeprefix("/v1"):
            case "/openapi.json":
                self.documented.set()
                return web.Response(body=self.document) if self.document is not None else web.Response(status=500)
            case "/picture":
                return web.Response(body=b"\x89PNG", content_type="image/png")
            case "/file":
                return web.Response(body=b"\x00\x01", content_type="application/zip")
            case "/refusal":
                return web.Response(status=422, text="word is too long, key was sk-the-secret")
            case "/away":
                raise web.HTTPFound("http://169.254.169.254/")
            case "/slow":
                await asyncio.sleep(60)
            case "/empty":
                return web.Response(status=204)
        return web.json_response({"asked": request.raw_path, "authorization": request.headers.get("Authorization")})


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


class Opened:
    """A source, with what it was told of changes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        given = {"fetch": FETCH, "networks": LOOPBACK, **settings}
        self.source = make(SourceSpec(kind="openapi", name="openapi:shop", settings=given))
        assert isinstance(self.source, OpenApiSource)
        self.changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    @property
    def health(self) -> str:
        return str(vars(self.source)["_health"])

    async def result(self, tool: str, seconds: float = PATIENCE, **arguments: Any) -> Ran:
        run = ToolRun(id="1", tool=f"shop.{tool}", arguments=arguments, seconds=seconds)
        (ran,) = [step async for step in self.source.run(run)]
        assert isinstance(ran, Ran)
        return ran


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Opened]:
    one = Opened(settings)
    await one.source.start(one.changed.set)
    try:
        yield one
    finally:
        await one.source.close()


async def test_operations_of_a_document_are_asked_at_the_configured_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-the-secret")
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(described(PATHS)))
    async with service() as shop:
        credentials = [
            {"kind": "bearer", "variable": "SHOP_KEY"},
            {"kind": "header", "variable": "SHOP_KEY", "name": "x-key"},
            {"kind": "query", "variable": "SHOP_KEY", "name": "key"},
        ]
        async with opened(document=str(file), base_url=shop.base, credentials=credentials) as one:
            await one.until(lambda: one.health == "ready")
            tools = {tool.name: tool for tool in await one.source.tools()}
            assert tools["shop.echo"].toolset == "shop"
            assert tools["shop.upload"].health == "failed"
            ran = await one.result("echo", word="../a b", more=["x", "y"], body={"k": 1})
            assert ran.exit == "ok"
            (asked,) = shop.asked
            assert asked["path"] == "/v1/echo/..%2Fa%20b?key=sk-the-secret&more=x&more=y"
            assert asked["body"] == '{"k": 1}'
            assert asked["headers"]["Authorization"] == "Bearer sk-the-secret"
            assert asked["headers"]["x-key"] == "sk-the-secret"
            assert isinstance(ran.parts[0], Text)
            assert "sk-the-secret" not in ran.parts[0].text
            refused = await one.result("refusal")
            assert (refused.exit, refused.error) == (
                "error",
                "the service answers 422: word is too long, key was [redacted]",
            )


async def test_a_credential_is_nobodys_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-the-secret")
    places = {"q": "query", "key": "query", "Key": "header", "x-key": "header"}
    parameters = [{"name": name, "in": place, "required": True, "schema": {}} for name, place in places.items()]
    free = {"name": "filter", "in": "query", "schema": {"type": "object"}}
    paths = {"/things": {"parameters": [*parameters, free], "get": {"operationId": "things"}}}
    (tmp_path / "shop.json").write_text(json.dumps(described(paths)))
    credentials = [
        {"kind": "query", "variable": "SHOP_KEY", "name": "key"},
        {"kind": "header", "variable": "SHOP_KEY", "name": "X-Key"},
    ]
    async with (
        service() as shop,
        opened(document=str(tmp_path / "shop.json"), base_url=shop.base, credentials=credentials) as one,
    ):
        await one.until(lambda: one.health == "ready")
        (tool,) = await one.source.tools()
        assert list(tool.schema["properties"]) == ["q", "Key", "filter"]
        assert tool.schema["required"] == ["q", "Key"]
        invented: dict[str, Any] = {"key": "YOUR_KEY", "x-key": "YOUR_KEY", "filter": {"key": "YOUR_KEY", "a": "b"}}
        assert (await one.result("things", q="1", Key="2", **invented)).exit == "ok"
        (asked,) = shop.asked
        assert asked["path"] == "/v1/things?key=sk-the-secret&q=1&a=b"
        assert {word.lower(): value for word, value in asked["headers"].items()}["x-key"] == "sk-the-secret"
        assert "YOUR_KEY" not in str(asked)


async def test_answers_of_every_kind() -> None:
    async with service() as shop, opened(document=f"{shop.base}/openapi.json", base_url=shop.base) as one:
        await one.until(lambda: one.health == "ready")
        assert (await one.result("picture")).parts == (
            Image(data=base64.b64encode(b"\x89PNG").decode(), media_type="image/png"),
        )
        assert (await one.result("file")).parts == (
            File(name="answer", data=base64.b64encode(b"\x00\x01").decode(), media_type="application/zip"),
        )
        assert (await one.result("empty")).parts == (Text("(nothing, status 204)"),)
        away = await one.result("away")
        assert (away.exit, away.error) == ("error", "the service answers 302: it redirects")
        assert (await one.result("slow", seconds=0.2)).exit == "timeout"


async def test_a_private_address_that_nobody_named_is_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(described(PATHS)))
    async with service() as shop:
        async with opened(document=str(file), base_url=shop.base, networks=[]) as one:
            await one.until(lambda: one.health == "ready")
            ran = await one.result("picture")
            assert ran.exit == "error"
            assert "public Internet" in ran.error
        async with opened(document=f"{shop.base}/openapi.json", base_url=shop.base, networks=[]) as one:
            await one.until(lambda: one.health == "away")
            with pytest.raises(ToolFailed):
                await one.source.tools()
        assert not shop.asked


async def test_a_document_that_cannot_be_read_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi_source, "_BACKOFF", RetryPolicy(base=0.01))
    async with service() as shop:
        good, shop.document = shop.document, None
        async with opened(document=f"{shop.base}/openapi.json", base_url=shop.base) as one:
            for broken in (b"{", b"a: [", b"[]", b"{}", good):
                await asyncio.wait_for(shop.documented.wait(), PATIENCE)
                assert one.health != "ready"
                shop.document = broken
                shop.documented.clear()
            await one.until(lambda: one.health == "ready")


async def test_only_what_is_wanted_and_with_its_own_policy(tmp_path: Path) -> None:
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(described(PATHS)))
    settings = {"only": ["echo", "picture"], "policies": {"echo": {"requires_approval": True}}}
    async with opened(document=str(file), base_url="https://api.example", **settings) as one:
        await one.until(lambda: one.health == "ready")
        approval = {tool.name: tool.policy.requires_approval for tool in await one.source.tools()}
        assert approval == {"shop.echo": True, "shop.picture": False}


async def test_a_document_of_many_megabytes_is_used_in_parts(tmp_path: Path) -> None:
    paths = {
        f"/{number}": {"get": {"operationId": f"op/{number}", "description": "x" * 10_000}} for number in range(1_500)
    }
    (tmp_path / "large.json").write_text(json.dumps(described(paths)))
    async with opened(document=str(tmp_path / "large.json"), base_url="https://api.example", only=["op/9"]) as one:
        await one.until(lambda: one.health != "starting")
        assert [tool.name for tool in await one.source.tools()] == ["shop.op_9"]
    (tmp_path / "large.yaml").write_text("# not JSON\n" + json.dumps(described(paths)))
    async with opened(document=str(tmp_path / "large.yaml"), base_url="https://api.example", only=["op/9"]) as one:
        await one.until(lambda: one.health != "starting")
        with pytest.raises(ToolFailed, match="8 MiB for YAML"):
            await one.source.tools()


async def test_a_document_that_has_not_changed_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def reading(*given: Any) -> Any:
        read.append(given)
        return operations_of(*given)

    monkeypatch.setattr(openapi_source, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(openapi_source, "operations_of", reading)
    async with service() as shop, opened(document=f"{shop.base}/openapi.json", base_url=shop.base) as one:
        await one.until(lambda: one.health == "ready")
        for _ in range(3):
            shop.documented.clear()
            await asyncio.wait_for(shop.documented.wait(), PATIENCE)
        assert len(read) == 1
        shop.document = json.dumps(described({"/picture": PATHS["/picture"]})).encode()
        await one.until(lambda: vars(one.source)["_operations"].keys() == {"picture"})


NAMED_ODDLY: dict[str, Any] = {
    "/repos": {"delete": {"operationId": "repos/delete"}, "get": {"operationId": "repos.list"}},
    "/upload": {"post": {"operationId": "repos/upload", "requestBody": {"content": {"multipart/form-data": {}}}}},
    "/other": {"get": {"operationId": "other"}},
}


@pytest.mark.parametrize("form", ["the document's", "the tool's"])
async def test_an_operation_is_named_as_the_document_does_or_as_the_tool_is(tmp_path: Path, form: str) -> None:
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(described(NAMED_ODDLY)))
    delete, upload = ("repos/delete", "repos/upload") if form == "the document's" else ("repos_delete", "repos_upload")
    settings = {"only": [delete, upload], "policies": {delete: {"requires_approval": True}, upload: {"seconds": 3.0}}}
    async with opened(document=str(file), base_url="https://api.example", **settings) as one:
        await one.until(lambda: one.health == "ready")
        tools = {tool.name: tool for tool in await one.source.tools()}
        assert {name: tool.alias for name, tool in tools.items()} == {
            "shop.repos_delete": "repos/delete",
            "shop.repos_upload": "repos/upload",
        }
        assert tools["shop.repos_delete"].policy.requires_approval
        assert tools["shop.repos_upload"].policy.seconds == 3.0


@pytest.mark.parametrize("kind", ["openapi", "mcp"])
async def test_names_that_no_tool_has_are_said_and_protect_what_they_may_be_meant_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(described(PATHS)))
    server = Path(__file__).parents[1] / "mcp_servers" / "misbehaving.py"
    way: dict[str, Any] = (
        {"document": str(tmp_path / "shop.json"), "base_url": "https://api.example", "fetch": FETCH}
        if kind == "openapi"
        else {"command": [sys.executable, str(server), str(tmp_path)], "policy": {"contained": False}}
    )
    other = "slow" if kind == "openapi" else "fail"
    policies = {"eco": {"requires_approval": True}, "nobody": {"requires_approval": True}, "echo.": {"seconds": 1.0}}
    settings = {**way, "policies": policies, "only": ["echo", other, "absent"]}
    async with toolshop(tmp_path / "state", SourceSpec(kind=kind, name=f"{kind}:shop", settings=settings)) as shop:
        known = await shop.until(lambda known: known.catalogue.tool("shop.echo") is not None)
        (state,) = known.sources
        assert state.health == "ready"
        assert "`only` names no tool that there is: 'absent'" in state.why
        assert "'eco' (what it protects holds for shop.echo)" in state.why
        assert "'nobody'" in state.why
        approval = {tool.name: tool.policy.requires_approval for tool in known.catalogue.tools}
        assert approval == {"shop.echo": True, f"shop.{other}": False}
    assert "'nobody'" in caplog.text


async def test_a_source_of_which_nothing_is_taken_says_why(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(described(PATHS)))
    settings = {"document": str(tmp_path / "shop.json"), "base_url": "https://api.example", "only": ["eho"]}
    spec = SourceSpec(kind="openapi", name="openapi:shop", settings={**settings, "fetch": FETCH})
    async with toolshop(tmp_path / "state", spec) as shop:
        known = await shop.until(lambda known: bool(known.sources[0].why))
        assert "'eho'" in known.sources[0].why


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "ftp://api.example"},
        {"base_url": "https://user:password@api.example"},
        {"base_url": "https://api.example/?key=1"},
        {"base_url": "api.example"},
        {"credentials": [{"kind": "bearer", "variable": "PENSTOCK_TEST_UNSET"}]},
        {"credentials": [{"kind": "bearer", "secret": "sk"}]},
        {"fetch": "deployments.tools.fetching:nothing"},
    ],
)
def test_what_an_operator_wrote_wrongly_is_said(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Opened({"document": "x.json", "base_url": "https://api.example", **settings})
    assert "password" not in str(caught.value)


async def test_fetch_url_reads_pages_and_says_why_not() -> None:
    async with service() as shop:
        settings = {"fetch": FETCH, "ports": [shop.port], "networks": LOOPBACK, "most": 20}
        source = make(SourceSpec(kind="fetch", name="fetch", settings=settings))
        assert isinstance(source, FetchSource)
        (tool,) = await source.tools()
        assert tool.name == "fetch_url"

        async def fetched(url: str) -> Ran:
            (ran,) = [step async for step in source.run(ToolRun(id="1", tool="fetch_url", arguments={"url": url}))]
            assert isinstance(ran, Ran)
            return ran

        page = await fetched(f"{shop.base}/page")
        assert (page.parts, page.cut) == ((Text('{"asked": "/v1/page"'),), True)
        assert (await fetched(f"{shop.base}/picture")).parts[0] == Image(data="iVBORw==", media_type="image/png")
        for url, word in (
            (f"{shop.base}/file", "neither text"),
            (f"{shop.base}/refusal", "422"),
            (f"{shop.base}/away", "be asked"),
            ("http://169.254.169.254/", "be asked"),
        ):
            ran = await fetched(url)
            assert ran.exit == "error"
            assert word in ran.error
