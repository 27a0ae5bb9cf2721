"""The README's examples about routing, money, guardrails and the command line, word for word, against the house."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config import GatewaySettings, ProviderSettings
from pipelines.tools.catalogue import Progress, Ran, ToolRun
from tests.actors.toolshop import text_of
from tests.deployments.house import KEY, House, client_of, house, url_of
from tests.readme import ROOT, example, run

ADDRESS = "http://127.0.0.1:8000"


async def said(name: str, built: House, replaced: dict[str, str], cwd: Path) -> str:
    """What an example prints."""
    url = url_of(built.gateway)
    environment = {**os.environ, "PENSTOCK_API_KEY": KEY, "PENSTOCK_URL": url, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return await asyncio.to_thread(run, name, environment, replaced, cwd)


async def asked(built: House, text: str = "Hello") -> Any:
    async with client_of(built.gateway) as client:
        body = {"model": "simulator/fast", "messages": [{"role": "user", "content": text}]}
        return (await client.post("/v1/chat/completions", json=body)).json()


async def test_usage_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        await asked(built)
        told = await said("usage", built, {ADDRESS: url_of(built.gateway)}, tmp_path)
    decoder = json.JSONDecoder()
    usage, end = decoder.raw_decode(told)
    listed, length = decoder.raw_decode(told[end:])
    assert usage["data"][0]["model"] == "fast"
    assert listed["data"][0]["outcome"] == "ok"
    head, row = told[end + length :].splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["role"] == "first"


async def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        told = await said("cache", built, {ADDRESS: url_of(built.gateway)}, tmp_path)
    assert [line.split()[1] for line in told.splitlines() if line.startswith("x-penstock-cache")] == ["miss", "hit"]


async def test_a_decision_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        told = json.loads(await said("route", built, {ADDRESS: url_of(built.gateway)}, tmp_path))
    assert (told["task"], told["policy"]) == ("mathematics", "quality")
    assert told["bounds"] == {"max_cost": 0.01, "min_quality": 0.5}


async def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        await asked(built)
        told = await said("command line", built, {".venv/bin/python": sys.executable}, tmp_path)
    assert "psk-" in told
    assert "search team" in told
    assert "mathematics" in told
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2


async def test_a_guardrail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "company"
    package.mkdir()
    (package / "rules.py").write_text(example("guardrail")[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    written = yaml.safe_load(example("guardrails")[1])["guardrails"]
    assert [one.name for one in GatewaySettings(guardrails=tuple(written)).guardrails] == ["numbers", "moderation"]
    async with house(tmp_path, monkeypatch, guardrails=written[:1]) as built:
        assert (await asked(built, "my password"))["error"]["code"] == "content_policy"
        assert "choices" in await asked(built, "call 5551234")


def test_retention_and_prices_are_written_so() -> None:
    written = yaml.safe_load(example("money")[1])
    assert GatewaySettings(**written["gateway"]).retention.requests_days == 90
    assert ProviderSettings(kind="openai", **written["provider"]).prices.hours == 24


async def test_tools_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "shop_tools.py").write_text(example("own tools")[1])
    monkeypatch.syspath_prepend(str(modules))
    written = yaml.safe_load(example("tools configured")[1])
    async with house(tmp_path, monkeypatch, **written) as built:
        toolbox = built.gateway.toolbox
        assert toolbox is not None
        assert await toolbox.until(lambda known: known.catalogue.tool("postage") is not None, 60.0)
        tools = {tool.name: tool for tool in toolbox.catalogue.tools}
        assert set(tools) == {"postage", "order", "calculator", "clock", "read_file", "list_files"}
        assert tools["postage"].schema["properties"]["weight"] == {"type": "number", "description": "Kilograms."}
        assert (tools["postage"].policy.seconds, tools["postage"].policy.concurrent) == (2.0, 4)
        ran = [step async for step in toolbox.run(ToolRun(id="1", tool="postage", arguments={"weight": 2}))]
        assert isinstance(ran[-1], Ran)
        assert text_of(ran[-1]) == "6.9"
        ran = [step async for step in toolbox.run(ToolRun(id="2", tool="order", arguments={"article": "pen"}))]
        assert ran[:2] == [Progress("asking for 1 of pen"), Progress("ordered")]
        told = await said("list tools", built, {ADDRESS: url_of(built.gateway)}, tmp_path)
    listed, end = json.JSONDecoder().raw_decode(told)
    assert {tool["name"] for tool in listed["data"]} == set(tools)
    assert json.loads(told[end:])["name"] == "postage"


async def test_the_example_that_asks_for_tools_has_them_from_the_configuration_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = yaml.safe_load(example("example tools")[1])
    async with house(tmp_path, monkeypatch, **written) as built:
        toolbox = built.gateway.toolbox
        assert toolbox is not None
        assert await toolbox.until(lambda known: len(known.catalogue.tools) == 2, 60.0)
        told = json.loads(await said("ask for tools", built, {ADDRESS: url_of(built.gateway)}, tmp_path))
    assert told["choices"][0]["finish_reason"] == "stop", told


async def test_the_live_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        told = await said("live", built, {"http://127.0.0.1:8000": url_of(built.gateway)}, tmp_path)
    assert "event: snapshot\ndata: {" in told
