"""What callers see of the tools, and an administrator's word for one that has changed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.house import House, client_of, house

MODULE = '''
"""Written by a test."""
from pipelines.tools.functions import tool

@tool(contained=False, requires_approval=True)
def greet(name: str) -> str:
    """{words}"""
    return "hello " + name

@tool(name="", toolset="odd")
def secret_tool() -> None:
    """No key but the administrator's sees it."""

broken = tool(name=" ")(lambda: None)
'''


def module(folder: Path, name: str, words: str) -> dict[str, Any]:
    """The configuration of a module with these tools."""
    (folder / f"{name}.py").write_text(MODULE.format(words=words))
    return {"functions": [name]}


async def listed(running: House, key: str | None = None) -> dict[str, Any]:
    async with client_of(running.gateway, *filter(None, [key])) as client:
        answer = await client.get("/v1/tools")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def known(running: House) -> None:
    assert running.gateway.toolbox is not None
    assert await running.gateway.toolbox.until(lambda known: known.catalogue.tool("greet") is not None, 60.0)


async def key(running: House, **fields: Any) -> str:
    """A new key that the gateway knows."""
    async with client_of(running.gateway) as client:
        made = (await client.post("/v1/keys", json={"name": "of a test", **fields})).json()
    await running.until(lambda: made["id"] in running.gateway.guard._hashes)
    secret: str = made["secret"]
    return secret


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return tmp_path / "modules"


async def test_a_key_sees_what_it_may_use_and_an_administrator_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch, tools=module(folder, "tools_listed", "Greets.")) as running:
        await known(running)
        told = await listed(running)
        assert [tool["name"] for tool in told["data"]] == ["greet", "secret_tool"]
        greet = told["data"][0]
        assert greet["object"] == "tool"
        assert (greet["source"], greet["health"], greet["held"], greet["why"]) == ("python", "ready", "", "")
        assert greet["schema"]["properties"] == {"name": {"type": "string"}}
        assert greet["policy"]["requires_approval"] is True
        assert greet["policy"]["seconds"] == 30.0
        assert told["sources"] == [{"name": "python", "health": "ready", "why": ""}]
        assert [(one["name"], one["source"]) for one in told["refused"]] == [(" ", "python")]
        assert "its name is empty" in told["refused"][0]["why"]
        some = await listed(running, await key(running, tools=["gr*"]))
        assert some == {"object": "list", "data": [greet]}
        async with client_of(running.gateway, "psk-nobody") as client:
            assert (await client.get("/v1/tools")).status_code == 401


async def test_a_tool_that_has_changed_is_seen_again_when_an_administrator_allows_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch, tools=module(folder, "tools_before", "Greets.")) as running:
        await known(running)
    changed = module(folder, "tools_after", "Greets, and asks for more.")
    async with house(tmp_path, monkeypatch, tools=changed) as running:
        async with asyncio.timeout(60):
            while not (held := [tool for tool in (await listed(running))["data"] if tool["held"]]):
                await asyncio.sleep(0.01)
        assert [tool["name"] for tool in held] == ["greet"]
        other = await key(running)
        assert [tool["name"] for tool in (await listed(running, other))["data"]] == ["secret_tool"]
        path = "/v1/tools/greet/allow"
        async with client_of(running.gateway, other) as client:
            assert (await client.post(path)).status_code == 403
        async with client_of(running.gateway) as client:
            wrong = await client.post(path, json={"fingerprint": "of another"})
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "tool_changed")
            assert (await client.post(path, json={"fingerprint": 1})).status_code == 400
            assert (await client.post("/v1/tools/absent/allow")).status_code == 404
            allowed = await client.post(path, json={"fingerprint": held[0]["fingerprint"]})
            assert allowed.status_code == 200
            assert allowed.json()["held"] == ""
        async with asyncio.timeout(60):
            while len((await listed(running, other))["data"]) < 2:
                await asyncio.sleep(0.01)


async def test_a_gateway_without_tools_lists_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as running:
        assert await listed(running) == {"object": "list", "data": []}
        async with client_of(running.gateway) as client:
            assert (await client.post("/v1/tools/absent/allow", json={})).status_code == 404
        assert not running.executors
