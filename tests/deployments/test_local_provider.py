"""What compatible servers need that OpenAI does not: see also `test_real_llama`."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from deployments import provider_replica
from deployments.config import ProviderSettings
from deployments.provider_replica import ProviderReplica
from deployments.providers import base
from deployments.providers.local import LocalProvider
from pipelines.calls import Call, Caller
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.errors import ProtocolError
from pipelines.exchange import exchange
from tests.deployments.house import house
from tests.upstream import Upstream

CALLING: dict[str, Json] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def prepared(base_url: str = "http://127.0.0.1:9/v1", stream_usage: bool | None = None, **body: Any) -> dict[str, Json]:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body}
    request = DIALECTS["openai_chat"].read_request(whole)
    call = Call(uuid.uuid4().hex, "openai_chat", whole, request, Caller("test"), "direct")
    provider = LocalProvider(base_url=base_url, stream_usage=stream_usage)
    return provider.prepare(exchange(call, provider.DIALECTS, "m").body, call).body


def test_a_null_content_is_left_out_for_servers_that_refuse_it() -> None:
    asked = [{"role": "user", "content": "Hi"}, CALLING, {"role": "tool", "tool_call_id": "a", "content": ""}]

    sent = prepared(messages=asked)["messages"]
    assert sent == [asked[0], {name: CALLING[name] for name in ("role", "tool_calls")}, asked[2]]
    assert CALLING["content"] is None


def test_the_limit_is_sent_under_its_older_name_alone() -> None:
    limits = [
        prepared(max_completion_tokens=5),
        prepared(max_completion_tokens=5, max_tokens=None),
        prepared(max_completion_tokens=3, max_tokens=5),
        prepared(max_completion_tokens=None, max_tokens=5),
    ]
    assert all(sent["max_tokens"] == 5 and "max_completion_tokens" not in sent for sent in limits)
    assert not {"max_tokens", "max_completion_tokens"} & prepared().keys()


def test_the_usage_of_a_stream_is_asked_for_where_that_is_not_refused() -> None:
    mistral = "https://api.mistral.ai/v1"
    assert prepared(stream=True)["stream_options"] == {"include_usage": True}
    assert prepared(mistral, stream_usage=True, stream=True)["stream_options"] == {"include_usage": True}
    assert prepared("https://api.notmistral.ai/v1", stream=True)["stream_options"] == {"include_usage": True}
    for sent in (
        prepared(mistral, stream=True),
        prepared("https://codestral.mistral.ai/v1", stream=True, stream_options={"include_usage": True}),
        prepared(stream_usage=False, stream=True),
    ):
        assert sent["stream"] is True
        assert "stream_options" not in sent
    beside = prepared(mistral, stream=True, stream_options={"other": 1, "include_usage": True})
    assert beside["stream_options"] == {"other": 1}


def test_the_setting_reaches_the_kind_that_has_it() -> None:
    assert ProviderSettings(kind="local", stream_usage=False).arguments()["stream_usage"] is False
    assert "stream_usage" not in ProviderSettings(kind="openai").arguments()
    with pytest.raises(ValueError, match="stream_usage"):
        ProviderSettings(kind="openai", stream_usage=True)


async def test_models_are_not_read_while_the_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    monkeypatch.setattr(provider_replica, "REFRESH_SECONDS", 0.0)

    def readings() -> int:
        return sum(request.path.endswith("/models") for request in upstream.requests)

    async with house(tmp_path, monkeypatch) as built:
        replica: ProviderReplica = await built.provider(kind="local", base_url=f"{upstream.url}/v1", drain=1.0)
        await upstream.until(lambda: readings() > 3)
        await replica.limiter.acquire()
        before = readings()
        for _ in range(20):
            await replica.provider.list_models()
        assert readings() - before <= 21, "at most the one that was under way"

        replica.limiter.release()
        idle = readings()
        await upstream.until(lambda: readings() > idle + 3)


async def test_a_model_list_without_end_is_read_to_its_bound(
    monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    provider = LocalProvider(base_url=f"{upstream.url}/v1")
    try:
        assert await provider.list_models()
        monkeypatch.setattr(base, "MAX_ANSWER", 10)
        with pytest.raises(ProtocolError, match="longer than 10 bytes"):
            await provider.list_models()
    finally:
        await provider.aclose()
