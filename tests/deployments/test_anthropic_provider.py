"""What reaches Anthropic: the version and its credentials, the caller's beta flags, and nothing that it refuses."""

import time
from typing import Any

import anthropic
import pytest

from deployments.providers import AnthropicProvider
from pipelines.calls import Call, Caller
from pipelines.dialects import DIALECTS
from pipelines.routing.table import ModelCard
from tests.deployments.house import KEY, House, client_of, url_of
from tests.upstream import Fault, Upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]
BODY = {"model": "anthropic/claude", "max_tokens": 50, "messages": HELLO, "temperature": 0.5, "top_k": 3}


async def anthropic_house(running: House, upstream: Upstream, **settings: Any) -> None:
    await running.provider(
        kind="anthropic", base_url=upstream.url, key_variable="TEST_ANTHROPIC_KEY", drain=1.0, **settings
    )
    await running.until(lambda: running.gateway.router.table.provider("anthropic") is not None)
    upstream.reset()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ANTHROPIC_KEY", "sk-ant-of-the-test")


@pytest.mark.parametrize(
    ("configured", "asked", "sent"),
    [
        ("", "2023-06-01", "2023-06-01"),
        ("", "2026-10-21", "2026-10-21"),
        ("", "", "2023-06-01"),
        ("2026-10-21", "2023-06-01", "2026-10-21"),
    ],
)
async def test_each_version_gets_its_credentials_and_its_body(
    running: House, upstream: Upstream, configured: str, asked: str, sent: str
) -> None:
    await anthropic_house(running, upstream, api_version=configured)
    headers = {"anthropic-version": asked} if asked else {}
    async with client_of(running.gateway) as client:
        answer = await client.post("/v1/messages", json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    seen = upstream.requests[-1]
    assert seen.header("anthropic-version") == sent
    newer = sent == "2026-10-21"
    assert seen.header("authorization") == ("Bearer sk-ant-of-the-test" if newer else None)
    assert seen.header("x-api-key") == (None if newer else "sk-ant-of-the-test")
    assert ("temperature" in seen.body) == (not newer)
    assert answer.headers.get("x-penstock-dropped") == ("temperature,top_k" if newer else None)


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        ("terse", {}, 1000),
        ("long", {}, 64_000),
        ("long", {"reasoning_effort": "low"}, 64_000),
        ("terse", {"reasoning_effort": "low"}, 4096 + 2048),
        ("long", {"max_tokens": 5}, 5),
        ("unknown", {}, 4096),
    ],
)
def test_an_answer_without_a_limit_may_be_as_long_as_the_model_can(
    model: str, asked: dict[str, Any], sent: int
) -> None:
    cards = [ModelCard("terse", max_output=1000), ModelCard("long", max_output=64_000), ModelCard("unknown")]
    body = {"model": model, "messages": HELLO, **asked}
    call = Call("1", "openai_chat", body, DIALECTS["openai_chat"].read_request(body), Caller("test"), "direct")
    assert AnthropicProvider(api_key="k", models=cards)._exchange(call).body["max_tokens"] == sent


def test_an_answer_begins_when_it_is_asked_for() -> None:
    body = {"model": "m", "messages": HELLO}
    call = Call("1", "openai_chat", body, DIALECTS["openai_chat"].read_request(body), Caller("test"), "direct")
    before = int(time.time())
    assert before <= AnthropicProvider(api_key="k")._exchange(call).began <= time.time()


async def test_beta_flags_pass_and_an_unknown_field_too(running: House, upstream: Upstream) -> None:
    await anthropic_house(running, upstream)
    async with anthropic.AsyncAnthropic(base_url=url_of(running.gateway), api_key=KEY) as client:
        await client.beta.messages.create(
            model="anthropic/claude",
            max_tokens=50,
            messages=HELLO,
            betas=["context-1m-2025-08-07"],
            extra_body={"brand_new": {"a": 1}},
        )
    seen = upstream.requests[-1]
    assert seen.header("anthropic-beta") == "context-1m-2025-08-07"
    assert seen.body["brand_new"] == {"a": 1}
    async with client_of(running.gateway) as client:
        assert (await client.post("/v1/messages?beta=true&x=1", json=BODY)).status_code == 200
    assert upstream.requests[-1].path == "/v1/messages?beta=true"


async def test_a_chat_caller_is_translated_and_hears_anthropics_own_words(running: House, upstream: Upstream) -> None:
    await anthropic_house(running, upstream)
    body = {"model": "anthropic/claude", "messages": HELLO, "seed": 7, "stream": True}
    async with client_of(running.gateway) as client:
        answer = await client.post("/v1/chat/completions?beta=true", json=body)
        assert answer.text.rstrip().endswith("data: [DONE]")
        assert "seed" in answer.headers["x-penstock-dropped"]
        assert upstream.requests[-1].path == "/v1/messages"
        upstream.plan("claude", Fault.overloaded(), times=None)
        refused = await client.post("/v1/chat/completions", json=body)
    assert refused.status_code == 529
    assert "overloaded" in refused.json()["error"]["message"].lower()
