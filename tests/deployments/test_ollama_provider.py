"""Ollama over its own wire: recordings replayed on a real socket, and heard by every caller."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deployments.providers import OllamaProvider
from pipelines.dialects import DIALECTS
from pipelines.errors import UnknownModel
from pipelines.events import Completion, assemble
from tests.deployments.house import House, client_of, house
from tests.deployments.ollama_server import OllamaServer, ollama_server
from tests.pipelines.ollama_wire import END, line, of_this_wire
from tests.pipelines.test_recordings_cross import STREAMED, WHOLE, decoded
from tests.recordings import Recording

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LOOK = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": (
        "/v1/chat/completions",
        {
            "messages": HELLO,
            "max_completion_tokens": 9,
            "tools": [{"type": "function", "function": {"name": "look.up", "description": "d", "parameters": LOOK}}],
        },
    ),
    "anthropic_messages": (
        "/v1/messages",
        {
            "messages": HELLO,
            "max_tokens": 9,
            "tools": [{"name": "look.up", "description": "d", "input_schema": LOOK}],
        },
    ),
    "openai_responses": (
        "/v1/responses",
        {
            "input": HELLO,
            "max_output_tokens": 9,
            "tools": [{"type": "function", "name": "look.up", "description": "d", "parameters": LOOK}],
        },
    ),
}
CALLERS = pytest.mark.parametrize("caller", sorted(ASKED))
REPLAYED = [r for r in of_this_wire() if r.status == 200 and "mid_stream_error" not in r.features]


@pytest.fixture
async def server() -> AsyncIterator[OllamaServer]:
    async with ollama_server() as running:
        yield running


@pytest.fixture
async def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: OllamaServer) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch) as running:
        await running.provider(kind="ollama", base_url=server.url, drain=1.0, retry={"base": 0.01, "cap": 0.02})
        await running.until(lambda: ready(running))
        yield running


def ready(running: House) -> bool:
    entry = running.gateway.router.table.provider("ollama")
    return entry is not None and entry.state == "ready"


async def ask(running: House, caller: str, *, stream: bool, **more: Any) -> Any:
    path, body = ASKED[caller]
    if stream and caller == "openai_chat":
        more["stream_options"] = {"include_usage": True}
    async with client_of(running.gateway) as client:
        return await client.post(path, json={"model": "ollama/qwen3:4b", "stream": stream, **body, **more})


def heard(caller: str, content: bytes, *, stream: bool) -> Completion:
    """The answer that a caller was given, checked strictly by his vendor's types."""
    dialect = DIALECTS[caller]
    if not stream:
        WHOLE[caller].validate_json(content, strict=True)
        return assemble(dialect.read_answer(content))
    for raw in content.split(b"\n\n"):
        data = raw.partition(b"data: ")[2]
        if data.startswith(b"{"):
            STREAMED[caller].validate_json(data, strict=True)
    decoder = dialect.decoder()
    events = decoder.feed(content)
    return assemble(events if decoder.done else events + decoder.close())


def said(answer: Completion) -> Any:
    parts = [
        (type(part).__name__, getattr(part, "text", ""), json.loads(getattr(part, "arguments", "0")))
        for part in answer.message.parts
    ]
    return parts, answer.finished.reason


@CALLERS
@pytest.mark.parametrize("stream", [True, False])
async def test_every_caller_hears_every_recording(
    built: House, server: OllamaServer, caller: str, stream: bool
) -> None:
    called = 0
    for recording in REPLAYED:
        server.replay(recording)
        answer = await ask(built, caller, stream=stream)
        assert answer.status_code == 200, answer.text
        told = heard(caller, answer.content, stream=stream)
        meant = assemble(decoded(recording))
        assert said(told) == said(meant), recording.name
        if meant.finished.usage is not None:
            assert told.finished.usage is not None
            assert told.finished.usage.output == meant.finished.usage.output
            assert told.finished.usage.input == meant.finished.usage.input
        called += bool(told.message.tool_calls)
    assert called
    asked = server.chats()[-1].body
    assert asked["model"] == "qwen3:4b"
    assert asked["stream"] is True
    assert asked["options"] == {"num_predict": 9}
    function = {"name": "look_up", "description": "d", "parameters": LOOK}
    assert asked["tools"] == [{"type": "function", "function": function}]


@CALLERS
async def test_a_tool_is_called_by_the_callers_own_name(built: House, server: OllamaServer, caller: str) -> None:
    entry = {"id": "call_1", "function": {"index": 0, "name": "look_up", "arguments": {"city": "Örebro"}}}
    server.answer = (200, "application/x-ndjson", line({"tool_calls": [entry]}) + END)
    for stream in (True, False):
        answer = await ask(built, caller, stream=stream)
        (call,) = heard(caller, answer.content, stream=stream).message.tool_calls
        assert (call.id, call.name, json.loads(call.arguments)) == ("call_1", "look.up", {"city": "Örebro"})


@CALLERS
async def test_a_stream_that_breaks_is_no_answer(built: House, server: OllamaServer, caller: str) -> None:
    recording = next(r for r in REPLAYED if r.streaming)
    server.replay(recording, cut=len(recording.body) - 20)
    streamed = await ask(built, caller, stream=True)
    assert streamed.status_code == 200
    dialect = DIALECTS[caller]
    assert "error" in streamed.text.rstrip().rpartition("\n\n")[2]
    assert not dialect.sentinel or dialect.sentinel not in streamed.content
    assert (await ask(built, caller, stream=False)).status_code == 502


@CALLERS
async def test_a_refusal_reaches_the_caller(built: House, server: OllamaServer, caller: str) -> None:
    server.answer = (404, "application/json", b'{"error":"model \'qwen3:4b\' not found"}')
    answer = await ask(built, caller, stream=True)
    assert answer.status_code == 404
    assert "model 'qwen3:4b' not found" in answer.json()["error"]["message"]
    assert len(server.chats()) == 1


async def test_what_is_lost_is_named(built: House, server: OllamaServer) -> None:
    server.answer = (200, "application/x-ndjson", line({"content": "a"}) + END)
    answer = await ask(built, "openai_chat", stream=False, n=1, logit_bias={"1": 2}, tool_choice="required")
    assert answer.headers["x-penstock-dropped"] == "tool_choice,logit_bias"


async def test_the_models_and_what_they_can_do(built: House, server: OllamaServer) -> None:
    entry = built.gateway.router.table.provider("ollama")
    assert entry is not None
    able, unknown = entry.models
    assert (able.name, able.vision, able.tools, able.reasoning) == ("qwen3:4b", True, True, True)
    assert (unknown.name, unknown.vision, unknown.tools, unknown.context) == ("old:latest", False, True, 0)
    provider = OllamaProvider(base_url=server.url)
    try:
        cards = [await provider.list_models() for _ in range(3)]
    finally:
        await provider.aclose()
    assert cards[0] == cards[2] == [able, unknown]
    shown = [asked.body["model"] for asked in server.requests if asked.path == "/api/show"]
    assert shown == ["qwen3:4b", "old:latest"] * 2, "once for each model, by each of the two that listed them"
    async with client_of(built.gateway) as client:
        listed = (await client.get("/v1/models")).json()["data"]
    assert "ollama/qwen3:4b" in [model["id"] for model in listed]


async def test_what_is_written_of_a_model_leaves_the_rest_to_the_list(built: House, server: OllamaServer) -> None:
    models: Any = [{"name": "qwen3:4b", "context": 4096, "reasoning": False}, {"name": "old", "vision": True}]
    provider = await built.provider(kind="ollama", name="written", base_url=server.url, models=models)
    await built.until(lambda: len(provider.announcement().models) == 3)
    cards = {card.name: card for card in provider.announcement().models}
    known = cards["qwen3:4b"]
    assert (known.context, known.vision, known.tools, known.reasoning) == (4096, True, True, False)
    assert (cards["old"].vision, cards["old:latest"].vision) == (True, False)
    provider.reconfigure({"models": [{"name": "qwen3:4b", "vision": False}]})
    (changed,) = [card for card in provider.announcement().models if card.name == "qwen3:4b"]
    assert (changed.context, changed.vision, changed.reasoning) == (0, False, True)


async def test_embeddings_and_other_paths_are_those_of_the_compatible_api(built: House, server: OllamaServer) -> None:
    async with client_of(built.gateway) as client:
        answer = await client.post("/v1/embeddings", json={"model": "ollama/qwen3:4b", "input": "Hi"})
    assert answer.json()["data"][0]["embedding"] == [0.5]
    assert server.requests[-1].body == {"model": "qwen3:4b", "input": "Hi"}
    async with client_of(built.replicas[-1]) as client:
        assert (await client.get("/v1/images/x")).status_code == 404
    assert server.requests[-1].path == "/v1/images/x"


async def test_the_adapter_alone(server: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    monkeypatch.setenv("OLLAMA_API_KEY", "of-the-test")
    provider = OllamaProvider()
    try:
        server.replay(thinking := next(r for r in REPLAYED if r.streaming and "thinking" in r.features))
        pieces = [text async for text in provider.generate_stream(HELLO, model="m", top_k=4)]
        assert "".join(pieces) == assemble(decoded(thinking)).message.text
        assert server.chats()[-1].body["options"] == {"top_k": 4}
        assert server.chats()[-1].headers["authorization"] == "Bearer of-the-test"
        server.answer = (404, "application/json", b'{"error":"model \'m\' not found"}')
        with pytest.raises(UnknownModel):
            _ = [text async for text in provider.generate_stream(HELLO, model="m")]
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("10.0.0.7", "http://10.0.0.7:11434/v1"),
        ("box:8080", "http://box:8080/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("https://ollama.com", "https://ollama.com/v1"),
        ("https://ollama.com/api", "https://ollama.com/v1"),
        ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1"),
        ("http://gateway/ollama/", "http://gateway/ollama/v1"),
    ],
)
async def test_addresses(monkeypatch: pytest.MonkeyPatch, given: str, address: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert OllamaProvider().base_url == address


def test_there_is_something_to_replay() -> None:
    assert any(isinstance(r, Recording) and r.streaming for r in REPLAYED)
