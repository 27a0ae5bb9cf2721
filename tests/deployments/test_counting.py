"""Token counts for providers that cannot be asked for them."""

from typing import Any

import msgspec
import pytest

from deployments.providers.counting import estimated_tokens
from pipelines.calls import Call, Caller
from pipelines.conversation import Request


def counted(*content: dict[str, Any], role: str = "user", **more: Any) -> int:
    body = {"model": "m", "messages": [{"role": role, "content": list(content)}], **more}
    call = Call("1", "anthropic_messages", body, Request("m", ()), Caller("test"), "direct")
    tokens: int = msgspec.json.decode(estimated_tokens(call).body)["input_tokens"]
    return tokens


TEXT = {"type": "text", "text": "x" * 350}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_400_000}}
THOUGHT = {"type": "thinking", "thinking": "x" * 35, "signature": "s" * 10_000}
TOOL = {"name": "f", "description": "x" * 350, "input_schema": {"type": "object"}}


def test_words_count_by_their_length() -> None:
    assert counted(TEXT) == 104
    assert 205 < counted(TEXT, tools=[TOOL]) < 240


@pytest.mark.parametrize(
    ("content", "tokens", "role"),
    [((IMAGE,), 1604, "user"), ((IMAGE, TEXT), 1704, "user"), ((THOUGHT,), 14, "assistant")],
)
def test_bytes_that_are_no_words_do_not(content: tuple[dict[str, Any], ...], tokens: int, role: str) -> None:
    assert counted(*content, role=role) == tokens
