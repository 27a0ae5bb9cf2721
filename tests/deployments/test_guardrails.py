"""Guardrails end to end: requests and answers that are let through, refused or redacted, in every dialect."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.config import GatewaySettings
from deployments.replica import Replica
from tests.deployments.house import House, client_of, free_port, house
from tests.upstream import Fault, Upstream

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SECRET = "my number is 555-1234"
Verdict = dict[str, Any]

asked: list[dict[str, Any]] = []
answers: dict[str, Callable[[dict[str, Any]], Any]] = {}


def look(question: dict[str, Any]) -> Verdict | None:
    """The guardrail: what the test wants it to say."""
    asked.append(question)
    answer = answers.get(question["phase"])
    verdict: Verdict | None = answer(question) if answer is not None else {"action": "allow"}
    return verdict


async def look_later(question: dict[str, Any]) -> Verdict | None:
    await asyncio.sleep(0)
    return look(question)


def masked(question: dict[str, Any]) -> Verdict:
    return {"action": "redact", "texts": [one["text"].replace("555-1234", "XXX") for one in question["messages"]]}


def louder(question: dict[str, Any]) -> Verdict:
    return {"action": "redact", "texts": [one["text"].replace("word2", "[cut]") for one in question["messages"]]}


@pytest.fixture(autouse=True)
def fresh() -> None:
    asked.clear()
    answers.clear()


@pytest.fixture(params=["look", "look_later"])
async def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    rail = {"name": "eye", "function": f"{__name__}:{request.param}", "when": "both", "timeout": 30.0}
    async with house(tmp_path, monkeypatch, guardrails=[rail]) as built:
        await built.provider(
            kind="local",
            name="flaky",
            base_url=f"{upstream.url}/v1",
            retry={"base": 0.01, "cap": 0.02},
            guardrails=[rail],
        )
        await built.until(lambda: built.gateway.router.table.provider("flaky") is not None, 30.0)
        upstream.reset()
        upstream.plan("m", Fault.answer(4), times=None)
        yield built


both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
dialects = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
stream_or_not = pytest.mark.parametrize("stream", [True, False])


def lane(running: House, name: str) -> tuple[Replica, str]:
    return (running.gateway, "flaky/") if name == "routed" else (running.replicas[-1], "")


def body(path: str, model: str, text: str, **more: Any) -> dict[str, Any]:
    if path == RESPONSES:
        said: dict[str, Any] = {"instructions": "Be brief.", "input": [{"role": "user", "content": text}]}
    else:
        said = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}], "max_tokens": 50}
    return {"model": model, **said, **more}


def asks(upstream: Upstream) -> list[Any]:
    return [seen.body for seen in upstream.requests if seen.method == "POST"]


@both_lanes
@dialects
@stream_or_not
async def test_a_refusal_is_the_caller_s_to_read(
    running: House, upstream: Upstream, way: str, path: str, stream: bool
) -> None:
    replica, prefix = lane(running, way)
    answers["before"] = lambda _: {"action": "refuse", "reason": "no numbers here"}
    async with client_of(replica) as client:
        refused = await client.post(path, json=body(path, f"{prefix}m", SECRET, stream=stream))
        assert (refused.status_code, "no numbers here" in refused.json()["error"]["message"]) == (400, True)
        assert asks(upstream) == []
        answers["before"] = lambda _: {"action": "allow"}
        answers["after"] = lambda _: {"action": "refuse"}
        refused = await client.post(path, json=body(path, f"{prefix}m", SECRET, stream=stream))
        assert refused.status_code == 400
        assert "eye" in refused.json()["error"]["message"]
        assert "word" not in refused.text
        assert len(asks(upstream)) == 1
    if path == CHAT:
        assert refused.json()["error"]["code"] == "content_policy"


@both_lanes
@dialects
@stream_or_not
async def test_what_is_left_out_is_left_out(
    running: House, upstream: Upstream, way: str, path: str, stream: bool
) -> None:
    replica, prefix = lane(running, way)
    answers.update(before=masked, after=louder)
    async with client_of(replica) as client:
        answer = await client.post(path, json=body(path, f"{prefix}m", SECRET, stream=stream, top_p=0.5))
    assert answer.status_code == 200, answer.text
    (sent,) = asks(upstream)
    assert "my number is XXX" in json.dumps(sent)
    assert "555-1234" not in json.dumps(sent)
    assert sent["top_p"] == 0.5
    assert "[cut]" in answer.text
    assert "word2" not in answer.text
    before, after = asked
    assert [one["text"] for one in before["messages"]][-1] == SECRET
    assert (before["key_id"], before["phase"], after["phase"]) == ("administrator", "before", "after")
    assert "word2" in after["messages"][0]["text"]
    assert after["messages"][0]["role"] == "assistant"


async def test_what_is_allowed_passes_as_it_came(running: House, upstream: Upstream) -> None:
    async with client_of(running.gateway) as client:
        stream = await client.post(CHAT, json=body(CHAT, "flaky/m", SECRET, stream=True))
        whole = await client.post(CHAT, json=body(CHAT, "flaky/m", SECRET))
    assert stream.text.endswith("data: [DONE]\n\n")
    assert whole.json()["choices"][0]["message"]["content"].split()[0] == "word0"
    assert len(asked) == 4


async def test_a_stream_that_breaks_is_an_error_and_no_half_answer(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.cut_off(2), times=None)
    async with client_of(running.gateway) as client:
        answer = await client.post(CHAT, json=body(CHAT, "flaky/m", SECRET, stream=True))
    assert answer.status_code == 502
    assert "word" not in answer.text
    assert [question["phase"] for question in asked] == ["before"]


async def test_handles_and_embeddings_are_looked_at(running: House, upstream: Upstream) -> None:
    answers["before"] = masked
    await running.gateway.chat(body(CHAT, "flaky/m", SECRET))
    async with client_of(running.gateway) as client:
        await client.post("/v1/embeddings", json={"model": "flaky/m", "input": [SECRET, "other"]})
        legacy = await client.post("/v1/completions", json={"model": "flaky/m", "prompt": SECRET})
    chat, embeddings = asks(upstream)
    assert "555" not in json.dumps([chat, embeddings])
    assert embeddings["input"] == ["my number is XXX", "other"]
    assert legacy.status_code == 400


@pytest.mark.parametrize(
    ("path", "member"), [("/v1/embeddings", {"input": [[37, 878]]}), ("/v1/completions", {"prompt": [37, 878]})]
)
async def test_tokens_pass_no_guardrail_that_looks_at_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, member: dict[str, Any]
) -> None:
    rail = {"name": "eye", "function": f"{__name__}:look", "when": "before", "timeout": 30.0}
    async with house(tmp_path, monkeypatch, guardrails=[rail]) as built, client_of(built.gateway) as client:
        refused = await client.post(path, json={"model": "simulator/fast", **member})
        text = await client.post(path, json={"model": "simulator/fast", **dict.fromkeys(member, "one")})
    assert (refused.status_code, text.status_code) == (400, 200)
    assert refused.json()["error"]["param"] == next(iter(member))
    assert "cannot read tokens" in refused.json()["error"]["message"]
    assert [one["messages"][0]["text"] for one in asked] == ["one"]


@pytest.mark.parametrize(
    "said",
    [
        lambda _: 1 / 0,
        lambda _: {"action": "perhaps"},
        lambda _: {"action": "redact", "texts": []},
        lambda _: "yes",
    ],
)
@pytest.mark.parametrize("policy", ["refuse", "allow"])
async def test_one_that_fails_is_open_or_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: Any, policy: str
) -> None:
    answers["before"] = said
    rail = {"name": "eye", "function": f"{__name__}:look", "on_failure": policy, "timeout": 30.0}
    with caplog.at_level(logging.WARNING):
        async with house(tmp_path, monkeypatch, guardrails=[rail]) as built, client_of(built.gateway) as client:
            answer = await client.post(CHAT, json=body(CHAT, "simulator/fast", SECRET))
    assert answer.status_code == (503 if policy == "refuse" else 200)
    if policy == "refuse":
        assert answer.json()["error"]["code"] == "guardrail_unavailable"
    assert "eye" in caplog.text
    assert "555" not in caplog.text


async def test_one_that_is_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", port)
    rail = {"name": "eye", "url": f"http://127.0.0.1:{port}/", "timeout": 0.1}
    async with house(tmp_path, monkeypatch, guardrails=[rail]) as built, client_of(built.gateway) as client:
        answer = await client.post(CHAT, json=body(CHAT, "simulator/fast", SECRET))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    silent.close()
    for writer in held:
        writer.close()


async def test_a_service_is_asked_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        said = json.dumps(masked(json.loads(await reader.readexactly(length)))).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(said), said))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    monkeypatch.setenv("EYE_KEY", "the-key")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/look"
    rail = {"name": "eye", "url": url, "key_variable": "EYE_KEY", "timeout": 30.0}
    async with house(tmp_path, monkeypatch, guardrails=[rail]) as built, client_of(built.gateway) as client:
        answer = await client.post(CHAT, json=body(CHAT, "simulator/fast", SECRET))
        assert answer.status_code == 200
    assert b"POST /look" in heads[0]
    assert b"Bearer the-key" in heads[0]
    server.close()


async def test_streams_may_pass_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail = {"name": "eye", "function": f"{__name__}:look", "when": "after", "streams": "off"}
    async with house(tmp_path, monkeypatch, guardrails=[rail]) as built, client_of(built.gateway) as client:
        await client.post(CHAT, json=body(CHAT, "simulator/fast", SECRET, stream=True))
        assert asked == []
        await client.post(CHAT, json=body(CHAT, "simulator/fast", SECRET))
        assert len(asked) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "eye"},
        {"name": "eye", "function": "a:b", "url": "http://x"},
        {"name": "eye", "function": "justmodule"},
        {"name": "eye", "url": "ftp://x"},
    ],
)
def test_half_a_guardrail_is_none(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(guardrails=(wrong,))
