"""`LocalProvider` against a real model server: llama.cpp's Python server with a tiny model of random weights.

The model says word salad, but its tokens, its finish reasons, its grammar-bound tool calls and its errors are real.
PENSTOCK_REAL_PYTHON names the Python that has `llama-cpp-python[server]` and `gguf` (`make test-real` sets it);
without it these tests are skipped. PENSTOCK_REAL_MODEL names the model's file; without it one is made. The server
starts once for the session.

What this server does that others do not: it counts no tokens in a stream; it calls a tool only where one is named
(`tool_choice`), and says the call twice, as `tool_calls` and as `function_call`, with id and name in every piece; it
ends a stream that a newer request interrupts with `[DONE]` and no finish reason; it answers a stream that does not
fit its context with an empty 200; it refuses a `content` of null, and passes over `max_completion_tokens`.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.providers.local import LocalProvider
from pipelines.calls import Call, Caller
from pipelines.conversation import Message, Request, Text, ToolCall, ToolChoice, ToolResult, ToolSpec
from pipelines.dialects import DIALECTS
from pipelines.errors import StreamBroken, UpstreamError
from pipelines.events import Completion, Finished, PartDelta, assemble
from pipelines.resilience import RetryPolicy

pytestmark = pytest.mark.real

MAKE_MODEL = Path(__file__).resolve().parents[3] / "shared" / "make_tiny_gguf.py"
CONTEXT = 1024
START_WITHIN = 60.0

WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the running server."""
    python = os.environ.get("PENSTOCK_REAL_PYTHON")
    if not python:
        pytest.skip("PENSTOCK_REAL_PYTHON is not set: see `make test-real`")
    folder = tmp_path_factory.mktemp("llama")
    model = os.environ.get("PENSTOCK_REAL_MODEL") or str(folder / "tiny.gguf")
    if not Path(model).exists():
        if not MAKE_MODEL.exists():
            pytest.skip(f"{MAKE_MODEL} is absent")
        subprocess.run([python, str(MAKE_MODEL), model], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", model, "--model_alias", "tiny", "--n_ctx", str(CONTEXT), "--n_threads", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until_up(process, f"http://127.0.0.1:{port}/v1", folder / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the server lists its models; fail with its log if it ends or takes too long."""
    deadline = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/models", timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"the model server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
async def provider(server: str) -> AsyncIterator[LocalProvider]:
    local = LocalProvider(base_url=server, api_key="none", retry=RetryPolicy(attempts=1))
    yield local
    await local.aclose()


def asking(text: str = "hello there", **settings: Any) -> Request:
    settings.setdefault("max_tokens", 30)
    return Request(model="tiny", messages=(Message("user", (Text(text),)),), **settings)


def saying(text: str) -> dict[str, Any]:
    """The server's own field that leaves the model one answer only: a grammar in GBNF."""
    return {"openai_chat": {"grammar": f"root ::= {text}"}}


async def completed(provider: LocalProvider, request: Request) -> Completion:
    return assemble([event async for event in provider.stream(request)])


def unary(request: Request) -> Call:
    """The same as a call of a caller who wants no stream."""
    body = DIALECTS["openai_chat"].write_request(request).body
    return Call(uuid.uuid4().hex, "openai_chat", body, request, Caller("test"), "direct")


async def test_the_models_are_read_from_the_server(provider: LocalProvider) -> None:
    assert [card.name for card in await provider.list_models()] == ["tiny"]


async def test_a_stream_is_a_whole_answer(provider: LocalProvider) -> None:
    answer = await completed(provider, asking(max_tokens=8, temperature=0.0))

    assert answer.finished.reason in ("stop", "length")
    assert len(answer.messages[0].text.split()) >= 3
    assert answer.started.model == "tiny"


async def test_an_answer_says_what_it_used(provider: LocalProvider) -> None:
    answer = await provider.answer(unary(asking(temperature=0.0)))
    body = json.loads(answer.body)

    assert body["usage"]["prompt_tokens"] > 10
    assert body["usage"]["completion_tokens"] > 0
    assert answer.outcome is not None
    assert answer.outcome.output_tokens == body["usage"]["completion_tokens"]
    await answer.close()


async def test_the_pieces_of_text_are_the_answer(provider: LocalProvider) -> None:
    settings: dict[str, Any] = {"temperature": 0.0, "seed": 3, "max_tokens": 12}
    messages = [{"role": "user", "content": "hello there"}]
    pieces = [text async for text in provider.generate_stream(messages, model="tiny", **settings)]

    assert len(pieces) > 3
    assert "".join(pieces) == (await completed(provider, asking(**settings))).messages[0].text


async def test_a_named_tool_is_called_once(provider: LocalProvider) -> None:
    """The server says the call twice over, as `tool_calls` and as the older `function_call`: it is one."""
    request = asking("the weather", tools=(WEATHER,), tool_choice=ToolChoice("named", WEATHER.name), max_tokens=200)
    answer = await completed(provider, request)

    assert [call.name for call in answer.messages[0].tool_calls] == [WEATHER.name]
    assert list(json.loads(answer.messages[0].tool_calls[0].arguments)) == ["city"]
    assert answer.finished.reason == "tool_calls"


async def test_a_tool_result_is_answered_in_text(provider: LocalProvider) -> None:
    call = Message("assistant", (ToolCall("call_1", WEATHER.name, '{"city": "Oslo"}'),))
    result = Message("tool", (ToolResult("call_1", (Text("sunny"),)),))
    messages = (*asking("the weather").messages, call, result)

    answer = await completed(provider, Request("tiny", messages, tools=(WEATHER,), extra=saying('"so so"')))
    assert answer.messages[0].tool_calls == ()
    assert answer.messages[0].text == "so so"


async def test_no_more_is_said_than_was_asked_for(provider: LocalProvider) -> None:
    answer = await completed(provider, asking(max_tokens=5, extra=saying('("a "){60}')))

    assert answer.finished.reason == "length"
    assert len(answer.messages[0].text) <= 10


async def test_a_context_that_overflows_is_said_so(provider: LocalProvider) -> None:
    with pytest.raises(UpstreamError) as refused:
        await provider.answer(unary(asking("word " * CONTEXT)))

    assert (refused.value.reason, refused.value.upstream_status) == ("context_too_long", 400)
    assert str(CONTEXT) in refused.value.message


async def test_an_empty_stream_is_no_answer(provider: LocalProvider) -> None:
    """For a stream that does not fit its context this server sends a 200, and ends."""
    with pytest.raises(StreamBroken):
        await completed(provider, asking("word " * CONTEXT))


async def test_a_field_that_we_do_not_know_is_passed(provider: LocalProvider) -> None:
    answer = await completed(provider, asking(extra=saying('"yes please"')))

    assert answer.messages[0].text == "yes please"


async def test_a_stream_that_is_left_leaves_the_server_free(provider: LocalProvider) -> None:
    events = provider.stream(asking(max_tokens=900, extra=saying('("a ")+')))
    async for event in events:
        if isinstance(event, PartDelta):
            break
    await events.aclose()  # type: ignore[attr-defined] # an async generator

    async with asyncio.timeout(10):
        assert (await completed(provider, asking())).finished


async def test_streams_side_by_side_are_whole_or_broken_and_say_which(provider: LocalProvider) -> None:
    """The server interrupts the older of two streams, with `[DONE]`: that is no end of an answer."""

    async def one() -> str:
        words = asking(max_tokens=300, extra=saying('("a "){60}'))
        try:
            events = [event async for event in provider.stream(words)]
        except StreamBroken:
            return "broken"
        assert isinstance(events[-1], Finished)
        return assemble(events).messages[0].text

    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*(one() for _ in range(4)))
    assert set(outcomes) <= {"broken", "a " * 60}
    assert "a " * 60 in outcomes
