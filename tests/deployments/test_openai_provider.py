"""What OpenAI's own servers refuse that compatible ones take, and names of OpenRouter's."""

from typing import Any

import msgspec
import pytest

from deployments.providers import KINDS
from pipelines.calls import Call, Caller
from pipelines.dialects import DIALECTS
from pipelines.dialects.sealing import sealed

OWN = ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", "https://ours.openai.azure.com/openai/v1"]
COMPATIBLE = ["https://api.together.xyz/v1", "https://api.openai.com.example/v1", "http://127.0.0.1:9/v1"]


def sent(kind: str, base_url: str, dialect: str) -> tuple[Any, tuple[str, ...]]:
    """The `top_k` that the provider is sent, and what was dropped."""
    body = {"model": "m", "max_tokens": 9, "top_k": 40, "messages": [{"role": "user", "content": "Hi"}]}
    call = Call("1", dialect, body, DIALECTS[dialect].read_request(body), Caller("test"), "direct")
    way = KINDS[kind](api_key="k", base_url=base_url)._exchange(call)
    return way.body.get("top_k"), way.dropped


@pytest.mark.parametrize("base_url", OWN)
def test_openai_is_not_sent_what_only_other_dialects_know(base_url: str) -> None:
    assert sent("openai", base_url, "anthropic_messages") == (None, ("top_k",))
    assert sent("openai", base_url, "openai_chat") == (40, ())


@pytest.mark.parametrize("base_url", COMPATIBLE)
@pytest.mark.parametrize("kind", ["openai", "local", "openrouter"])
def test_compatible_servers_are_sent_it(kind: str, base_url: str) -> None:
    assert sent(kind, base_url, "anthropic_messages") == (40, ())


def test_a_variant_of_routing_is_listed_as_its_model() -> None:
    provider = KINDS["openrouter"]()
    assert [provider.listed_as(name) for name in ("openai/gpt-5:nitro", "openai/gpt-5")] == ["openai/gpt-5"] * 2


@pytest.mark.parametrize(("base_url", "knows"), [(OWN[0], False), (COMPATIBLE[0], True)])
def test_what_mistral_and_gemini_want_back_goes_to_no_server_of_openai(base_url: str, knows: bool) -> None:
    signed = {"openai_chat": {"calls": {"c": {"extra_content": {"google": {"thought_signature": "s"}}}}}}
    thought = {"openai_chat": {"field": "content.thinking"}}
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": sealed(thought)},
        {"type": "text", "text": "I look"},
        {"type": "thinking", "thinking": "", "signature": sealed(signed)},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]
    result = [{"type": "tool_result", "tool_use_id": "c", "content": "42"}]
    turns = [("user", "Hi"), ("assistant", blocks), ("user", result), ("assistant", blocks[:1]), ("user", "And?")]
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": said} for role, said in turns]}
    call = Call(
        "1", "anthropic_messages", body, DIALECTS["anthropic_messages"].read_request(body), Caller("t"), "direct"
    )
    way = KINDS["openai"](api_key="k", base_url=base_url)._exchange(call)
    sent = msgspec.json.encode(way.body)
    assert (b"extra_content" in sent, b"thinking" in sent) == (knows, knows)
    assert ("reasoning" in way.dropped) != knows
    assert b"I look" in sent
    assert [message["role"] for message in way.body["messages"]].count("assistant") == 2
