"""Which form of thinking, which efforts and which sampling the Anthropic dialect's writer gives each model."""

from typing import Any

import msgspec

from pipelines.conversation import (
    Message,
    OutputFormat,
    ReasoningRequest,
    Request,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES

USER = Message("user", (Text("hi"),))
CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}


def write(request: Request) -> dict[str, Any]:
    return ANTHROPIC_MESSAGES.write_request(request).body


BUDGETED = (
    "claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "anthropic/claude-3.7-sonnet:thinking",
    "claude-opus-4-20250514", "claude-opus-4-0", "claude-opus-4-1-20250805", "claude-sonnet-4@20250514",
    "us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-5", "anthropic/claude-opus-4.5",
    "claude-haiku-4-5@20251001", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-4-sonnet",
    "Claude-Opus-4.1", "deepseek-chat", "qwen3.5:9b",
)  # fmt: skip
ADAPTIVE = (
    "claude-opus-4-6", "anthropic.claude-opus-4-6-v1", "claude-sonnet-4-6", "anthropic/claude-sonnet-4.6",
    "claude-opus-4-7", "claude-4.7-opus", "claude-opus-4-8@20260528", "claude-opus-5",
    "us.anthropic.claude-opus-5-v1:0", "claude-sonnet-5", "claude-haiku-5-5", "claude-opus-5-5",
    "claude-fable-5-1", "claude-mythos-preview", "claude-zephyr", "claude-opus-10-20300101",
)  # fmt: skip


def test_each_model_is_asked_to_think_in_its_own_form() -> None:
    def asked(model: str, **values: Any) -> dict[str, Any]:
        return write(Request(model, (USER,), max_tokens=9000, reasoning=ReasoningRequest(**values)))

    for name in BUDGETED:
        written = asked(name, effort="low")
        assert (written["thinking"], "output_config" in written) == ({"type": "enabled", "budget_tokens": 2048}, False)
    for name in ADAPTIVE:
        written = asked(name, effort="low")
        assert (written["thinking"], written["output_config"]) == ({"type": "adaptive"}, {"effort": "low"}), name
        assert asked(name, summary="auto")["thinking"] == {"type": "adaptive", "display": "summarized"}
        assert "output_config" not in asked(name, summary="auto")
        assert written["max_tokens"] == 9000
    for name in ("claude-3-5-sonnet-20241022", "claude-3-haiku@20240307", "anthropic/claude-3.5-haiku"):
        written = asked(name, effort="low")
        assert "thinking" not in written
        assert "output_config" not in written


def test_an_effort_or_budget_for_a_model_that_decides_for_itself() -> None:
    def asked(model: str = "claude-opus-5", **values: Any) -> tuple[str, tuple[str, ...]]:
        request = Request(model, (USER,), max_tokens=9000, reasoning=ReasoningRequest(**values))
        written = ANTHROPIC_MESSAGES.write_request(request)
        return written.body.get("output_config", {}).get("effort", ""), written.dropped

    for word in ("low", "medium", "high", "xhigh", "max"):
        assert asked(effort=word) == (word, ())
    assert asked("claude-opus-4-6", effort="xhigh") == ("high", ("reasoning.effort",))
    assert asked("claude-sonnet-4.6", effort="max") == ("max", ())
    assert asked(effort="minimal") == ("low", ("reasoning.effort",))
    assert asked(effort="sideways") == ("", ("reasoning.effort",))
    assert asked(budget=1500) == ("low", ("reasoning.budget",))
    assert asked(budget=30_000) == ("high", ("reasoning.budget",))
    written = write(Request("claude-opus-5", (USER,), reasoning=ReasoningRequest(effort="high")))
    assert written["max_tokens"] == 4096 + 16384, "thinking counts as output"
    form = OutputFormat("json_schema", schema=CLOSED)
    both = write(Request("claude-opus-5", (USER,), reasoning=ReasoningRequest(effort="low"), output_format=form))
    assert both["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}, "effort": "low"}


def test_thinking_is_off_where_it_can_be() -> None:
    off = ReasoningRequest(effort="none")
    for name in ("claude-opus-5", "claude-opus-4-8", "claude-sonnet-5", "claude-haiku-5-5", "claude-opus-4-1"):
        assert write(Request(name, (USER,), reasoning=off))["thinking"] == {"type": "disabled"}
    for name in ("claude-opus-5-5", "anthropic/claude-opus-5.5", "claude-fable-5", "claude-mythos-preview"):
        written = ANTHROPIC_MESSAGES.write_request(Request(name, (USER,), reasoning=off))
        assert "thinking" not in written.body
        assert written.body["output_config"] == {"effort": "low"}
        assert written.dropped == ("reasoning.enabled",)


def test_thinking_that_is_off_stays_off_beside_an_effort() -> None:
    asked = {"model": "claude-opus-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    more = {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}
    written = write(ANTHROPIC_MESSAGES.read_request({**asked, **more}))
    assert {name: written[name] for name in more} == more


def test_sampling_is_left_out_for_models_that_refuse_it() -> None:
    given: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9, "top_k": 5}
    for name in (*BUDGETED, "claude-opus-4-6", "claude-3-haiku-20240307"):
        assert write(Request(name, (USER,), **given)).items() >= given.items()
    for name in ADAPTIVE[4:]:
        written = ANTHROPIC_MESSAGES.write_request(Request(name, (USER,), **given))
        assert not written.body.keys() & given
        assert written.dropped == tuple(given)


def test_a_model_that_decides_for_itself_thinks_in_a_tool_loop() -> None:
    loop = (USER, Message("assistant", (Text("ok"), ToolCall("t", "f"))), Message("tool", (ToolResult("t"),)))
    request = Request("claude-opus-4-8", loop, tools=(ToolSpec("f", schema={}),))
    written = ANTHROPIC_MESSAGES.write_request(
        msgspec.structs.replace(request, reasoning=ReasoningRequest(effort="high"))
    )
    assert (written.body["thinking"], written.dropped) == ({"type": "adaptive"}, ())
    own = {"anthropic_messages": {"thinking": {"type": "adaptive"}}}
    assert (
        write(msgspec.structs.replace(request, reasoning=ReasoningRequest(), extra=own))["thinking"]
        == own["anthropic_messages"]["thinking"]
    )
