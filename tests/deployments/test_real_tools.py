"""Real functions in real processes as the tools of a chat request: called by a scripted model, and by a real one.

The real one is that of `test_real_llama`. Its server calls a tool where one is named, and then one only, so calls side
by side are the scripted model's.
"""

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.conversation import Request
from pipelines.events import Event
from tests.deployments.house import House, client_of, house
from tests.deployments.scripted_provider import results_of, scripted_provider
from tests.deployments.test_real_llama import server
from tests.pipelines.scripted_turns import calling, text, turn

__all__ = ["server"]

NAMES = ("calculator", "clock", "read_file", "failing", "slow")
ARGUMENTS = {
    "calculator": {"expression": "6 * 7"},
    "clock": {"timezone": "UTC"},
    "read_file": {"path": "greeting.txt"},
    "failing": {"why": "always"},
    "slow": {"how": "very"},
}
SAID = {
    "calculator": "42",
    "clock": "UTC",
    "read_file": "hello from a file",
    "failing": "it fails always",
    "slow": "0.5 s",
}
"""What each one's result or error has in it."""


def scripted(request: Request) -> list[Event]:
    """Calls every tool that is offered, side by side; then answers."""
    if results_of(request):
        return turn(text("so be it"))
    names = [tool.name for tool in request.tools]
    return turn(*(calling(name, ARGUMENTS[name], f"call_{place}", place) for place, name in enumerate(names)))


@asynccontextmanager
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str) -> AsyncIterator[House]:
    """A house with the tools, and one provider."""
    # Contained calls run as other users, who see nothing of pytest's own directories.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        files = Path(folder)
        files.chmod(0o755)
        (files / "greeting.txt").write_text("hello from a file")
        roots = {"guards": [{"argument": "path", "kind": "path", "roots": [folder]}]}
        tools = {"functions": ["tests.deployments.chosen_tools"], "policies": {"read_file": roots}}
        async with _housed(tmp_path, monkeypatch, base_url, tools) as built:
            yield built


@asynccontextmanager
async def _housed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str, tools: dict[str, Any]
) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch, tools=tools) as built:
        await built.provider(kind="local", name="real", base_url=base_url, drain=1.0, retry={"attempts": 1})
        toolbox = built.gateway.toolbox
        assert toolbox is not None
        await built.until(lambda: all((tool := toolbox.catalogue.tool(n)) and tool.health == "ready" for n in NAMES))
        await built.until(lambda: _is_ready(built))
        yield built


def _is_ready(built: House) -> bool:
    entry = built.gateway.router.table.provider("real")
    return entry is not None and entry.state == "ready"


def body_of(model: str, *names: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": "go on"}],
        "tools": [{"type": "penstock", "name": name} for name in names],
        "max_tokens": 200,
        "temperature": 0,
        **more,
    }


async def answered(built: House, body: dict[str, Any]) -> dict[str, Any]:
    async with client_of(built.gateway) as client:
        response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stories(built: House) -> list[dict[str, Any]]:
    """The latest requests with all that the ledger has of them, newest first."""
    async with client_of(built.gateway) as client:
        rows = (await client.get("/v1/requests?limit=1")).json()["data"]
        return [(await client.get(f"/v1/requests/{row['id']}")).json() for row in rows]


def check(answer: dict[str, Any], *names: str) -> None:
    """Every tool said what it says."""
    tools = {tool["name"]: tool for tool in answer["penstock"]["tools"]}
    assert tools.keys() == set(names)
    for name, tool in tools.items():
        assert SAID[name] in tool["text"], tool
        assert bool(tool.get("error")) == (name in ("failing", "slow"))
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


async def test_functions_run_side_by_side_and_one_fails_and_one_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(scripted_provider(scripted))
        built = await stack.enter_async_context(opened(tmp_path, monkeypatch, f"{provider.url}/v1"))

        check(await answered(built, body_of("real/model", "calculator", "clock")), "calculator", "clock")
        check(await answered(built, body_of("real/model", *NAMES)), *NAMES)
        results = [result.call_id for result in results_of(provider.asked[-1])]
        assert results == [f"call_{place}" for place in range(len(NAMES))]


@pytest.mark.real
@pytest.mark.parametrize("stream", [False, True])
async def test_a_real_model_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, stream: bool
) -> None:
    async with opened(tmp_path, monkeypatch, server) as built:
        for name in NAMES:
            named = {"type": "function", "function": {"name": name}}
            body = body_of("real/tiny", name, tool_choice=named)
            if not stream:
                check(await answered(built, body), name)
                story = (await stories(built))[0]
                assert [attempt["outcome"] for attempt in story["attempts"]] == ["ok", "ok"]
                continue
            async with client_of(built.gateway) as client:
                response = await client.post("/v1/chat/completions", json={**body, "stream": True})
            frames = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
            ended = [frame["penstock"] for frame in frames if frame.get("penstock", {}).get("event") == "tool_ended"]
            assert [SAID[name] in one["text"] for one in ended] == [True]
            assert response.text.endswith("data: [DONE]\n\n")
            assert [frame["choices"][0]["finish_reason"] for frame in frames][-1] in ("stop", "length")
