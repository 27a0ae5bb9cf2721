"""A request's line tells its whole story, and no more than is switched on; old files go."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.starting.log_files import REST, sweep
from tests.deployments.house import KEY, House, client_of, house
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
SECRET = "the harvest moon rises over Elbonia"
HELLO: Any = [{"role": "user", "content": SECRET}]


async def lines(running: House, application: str, count: int) -> list[dict[str, Any]]:
    """The application's lines, once there are so many."""
    async with asyncio.timeout(30.0):
        while True:
            for replica in running.replicas:
                replica._log.flush()
            text = "".join(file.read_text() for file in (running.directory / "logs").glob(f"{application}-*.jsonl"))
            found = [json.loads(line) for line in text.splitlines()]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_the_whole_story_is_one_line(running: House, upstream: Upstream) -> None:
    upstream.plan("wrong", Fault.server_error(), times=None)
    upstream.plan("m", Fault.answer(7), times=None)
    body = {"model": "flaky/wrong", "models": ["flaky/m"], "messages": HELLO, "stream": True}
    body["metadata"] = {"tag": "night"}
    async with client_of(running.gateway) as client:
        answer = await client.post(CHAT, json=body, headers={"x-request-id": "mine-7"})
        assert answer.headers["x-request-id"] == "mine-7"
        (line,) = await lines(running, "gateway", 1)
    told = {
        "request": "mine-7", "caller": "administrator", "lane": "routed", "dialect": "openai_chat", "status": 200,
        "asked": "flaky/wrong", "stream": True, "tag": "night", "provider": "flaky", "model": "m", "result": "ok",
        "output_tokens": 7,
    }  # fmt: skip
    assert {name: line.get(name) for name in told} == told
    assert [(one["model"], one["role"], one["result"]) for one in line["attempts"]] == [
        ("wrong", "first", "server_error"),
        ("m", "fallback", "ok"),
    ]
    assert line["attempts"][0]["tries"] >= 1
    assert 0 < line["first_output"] < line["seconds"]
    # The same id at the provider's replica, and at the provider.
    assert {one["request"] for one in await lines(running, "flaky", 2)} == {"mine-7"}
    assert {request.header("x-request-id") for request in upstream.requests if request.method == "POST"} == {"mine-7"}


async def test_who_was_asked_is_said_without_an_answer_too(running: House, upstream: Upstream) -> None:
    upstream.plan("wrong", Fault.context_too_long())
    upstream.plan("endless", Fault.without_end(gap=0.01))
    asked = {"messages": HELLO, "stream": True, "penstock": {"fall_back": False}}
    async with client_of(running.gateway) as client:
        await client.post(CHAT, json={**asked, "model": "flaky/wrong"})
        async with client.stream("POST", CHAT, json={**asked, "model": "flaky/endless"}) as answer:
            await anext(answer.aiter_lines())
        refused, left = await lines(running, "gateway", 2)
    assert (refused["provider"], refused["model"], left["provider"], left["model"]) == (
        "flaky",
        "wrong",
        "flaky",
        "endless",
    )
    assert refused["route"]
    assert left["result"] == "cancelled"


@pytest.mark.parametrize("given", ["two words", "x" * 129, "tab\there", ""])
async def test_an_id_that_is_none_is_replaced(running: House, given: str) -> None:
    async with client_of(running.gateway) as client:
        answer = await client.post(CHAT, content=b"{", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] not in ("", given)
        (line,) = await lines(running, "gateway", 1)
    assert line["request"] == answer.headers["x-request-id"]
    assert line["result"] == "invalid_json"


async def test_neither_text_nor_key_is_in_any_file(running: House, upstream: Upstream) -> None:
    upstream.plan("wrong", Fault.context_too_long(), times=None)
    async with client_of(running.gateway) as client:
        for model in ("flaky/wrong", "simulator/fast", f"nobody/{KEY[:3]}"):
            await client.post(CHAT, json={"model": model, "messages": HELLO})
        await lines(running, "gateway", 3)
    text = "".join(file.read_text() for file in (running.directory / "logs").iterdir())
    assert SECRET not in text
    assert KEY not in text


@pytest.mark.parametrize("stream", [True, False])
async def test_text_is_written_where_that_is_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with house(tmp_path, monkeypatch, observability={"log_content": True}) as running:
        async with client_of(running.gateway) as client:
            answer = await client.post(CHAT, json={"model": "simulator/fast", "messages": HELLO, "stream": stream})
            await client.post(CHAT, json={"model": "nobody/x", "messages": HELLO})
        line, refused = await lines(running, "gateway", 2)
    question = [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]
    assert line["question"] == refused["question"] == question
    (said,) = line["answer"]
    assert said["role"] == "assistant"
    first = said["parts"][0]["content"].split()[0]
    assert first
    assert first in answer.text
    assert KEY not in json.dumps(line)


async def test_the_log_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch, observability={"request_log": False}) as running:
        async with client_of(running.gateway) as client:
            await client.post(CHAT, json={"model": "simulator/fast", "messages": HELLO})
        await lines(running, "simulator", 1)
        assert not list((tmp_path / "logs").glob("gateway-*.jsonl"))


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_files_of_processes_that_are_gone_go_oldest_first(tmp_path: Path) -> None:
    gone, now = ended_process(), 1_000_000.0
    ages = {f"gateway-{gone}.jsonl": 1, f"gateway-{gone}.jsonl.1": 5, f"flaky-{gone}.log": 3, f"openai-{gone}.jsonl": 4}
    for name, age in ages.items():
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (now - REST - age, now - REST - age))
    kept = [f"gateway-{os.getpid()}.jsonl.3", "serve.log", "other.txt", f"new-{gone}.log"]
    for name in kept:
        (tmp_path / name).write_bytes(b"x" * 10_000)
        os.utime(tmp_path / name, (now, now))
    assert sweep(tmp_path, now, most=10_250) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*kept, f"gateway-{gone}.jsonl", f"flaky-{gone}.log"}
    assert sweep(tmp_path, now, most_files=2) == 1
    assert {path.name for path in tmp_path.iterdir()} == {*kept, f"gateway-{gone}.jsonl"}
    assert sweep(tmp_path, now, most=0) == 1
    assert {path.name for path in tmp_path.iterdir()} == set(kept), "what was written just now stays"


async def test_a_new_process_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    old = tmp_path / "logs" / f"gateway-{ended_process()}.jsonl"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    monkeypatch.setattr(sweep, "__kwdefaults__", {"most": 0, "most_files": 0})
    async with house(tmp_path, monkeypatch) as running:
        await running.until(lambda: not old.exists(), 30.0)
