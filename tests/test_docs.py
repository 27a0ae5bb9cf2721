"""The table of losses is honest: it lists every name that a request can lose, and none that no request loses."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.providers import OpenAIProvider
from pipelines.calls import Call, Caller
from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningRequest,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.anthropic_messages import BEARER, for_version
from pipelines.errors import BadRequest
from pipelines.tools import portable
from tests.recordings import own, shared
from tests.strategies import requests

LOSSES = (Path(__file__).resolve().parents[1] / "docs" / "losses.md").read_text()
PLACES = {
    "<dialect>": f"(?:{'|'.join(DIALECTS)})",
    "<tool>": "[A-Za-z0-9_-]{1,64}",
    "<path>": "[!-~]+",
    "<field>": "[!-~]+",
    "<i>": r"\d+",
    "<j>": r"\d+(?:\.content\.\d+)?",
}
OPENAI = OpenAIProvider(api_key="k", base_url=OpenAIProvider.BASE_URL)
CALL = Call("1", "anthropic_messages", {}, Request("m", ()), Caller("me"), "direct")
NAMES = list(DIALECTS)
EVERY_WIRE = pytest.mark.parametrize("dialect", list(WIRES))


def listed(heading: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    section = LOSSES.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    assert cells, heading
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def pattern(name: str) -> re.Pattern[str]:
    escaped = re.escape(name)
    for place, expression in PLACES.items():
        escaped = escaped.replace(re.escape(place), expression)
    return re.compile(escaped)


def names_for(dialect: str) -> list[str]:
    return listed("Requests to any provider") + listed(f"Requests to an `{dialect}` provider")


def dropped(request: Request, dialect: str) -> list[str]:
    """What a request loses on its way to a provider of a dialect, by every writer on that way."""
    way = portable(request, dialect)
    try:
        written = WIRES[dialect].write_request(way.request)
    except BadRequest:
        return list(way.dropped)
    lost = [*way.dropped, *written.dropped]
    if dialect == "anthropic_messages":
        return [*lost, *for_version(written.body, BEARER).dropped]
    return [*lost, *OPENAI.prepare(written.body, CALL).dropped] if dialect == "openai_chat" else lost


def unlisted(lost: Iterable[str], dialect: str) -> list[str]:
    patterns = [pattern(name) for name in names_for(dialect)]
    return [name for name in lost if not any(known.fullmatch(name) for known in patterns)]


def shares(*others: str) -> dict[str, Any]:
    return {name: {"mark": 1} for name in others}


ALL = shares(*NAMES)
PARTS = (
    Text("words", ALL),
    Image("https://example.com/a.png", opaque=ALL),
    Image(),
    File(opaque={"anthropic_messages": {"source": {"type": "content", "content": []}}}),
    File(data="aGk=", media_type="application/zip", name="a.zip", opaque=ALL),
    File(text="words", opaque=ALL),
    Image(data="aGk=", media_type="image/png", opaque=ALL),
    Audio("aGk=", "wav", opaque=ALL),
    Reasoning("thought"),
    Refusal("no"),
    ToolCall("call_1", "look", "{}", ALL),
    ToolResult("call_1", (Text("found", ALL),), is_error=True, opaque=ALL),
    Foreign({name: {"type": "server_tool_use"} for name in NAMES[:1]}),
    Foreign({name: {"type": "server_tool_use"} for name in NAMES[1:2]}),
    Foreign({name: {"type": "server_tool_use"} for name in NAMES[2:]}),
)
LOOSE = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
TOOLS = (
    ToolSpec("look", schema=LOOSE, strict=True, opaque=ALL),
    ToolSpec("bent", schema={"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}),
    *(ToolSpec(f"search_{name}", opaque={name: {"type": "web_search", "tool": {"type": "x"}}}) for name in NAMES),
)
SETTINGS: dict[str, Any] = {
    "temperature": 1.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop": ("\n",),
    "seed": 1,
    "n": 2,
    "frequency_penalty": 1.0,
    "presence_penalty": 1.0,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 1.0},
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "max_tokens": 4000,
}
CITED = Text("x", {"anthropic_messages": {"citations": [{"type": "char_location"}]}})
DOCUMENT = File(text="words", name="notes")
USER = Message("user", (Text("Hello"),))

RICH = [
    *(Request("m", (USER, Message(role, (part,), opaque=ALL))) for role in ("assistant", "user") for part in PARTS),
    Request(
        "m", (Message("user", (Text("Hello"), CITED), name="ann"), Message("system", (Text("later"),))), **SETTINGS
    ),
    Request("m", (USER,), tools=TOOLS, extra={name: {"novelty": 1} for name in NAMES}),
    Request("m", (USER,), tools=(ToolSpec("plain", schema=LOOSE, strict=True),)),
    Request("m", (USER,), tool_choice=ToolChoice("required"), output_format=OutputFormat("json_object")),
    Request("m", (USER, Message("assistant", (DOCUMENT, Text("ok"))), USER), temperature=0.5),
    Request("m", (USER,), reasoning=ReasoningRequest(budget=9000, summary="auto"), **SETTINGS),
    Request("m", (USER,), reasoning=ReasoningRequest(budget=2000), max_tokens=1000),
    Request("m", (USER,), reasoning=ReasoningRequest(enabled=False)),
    Request("claude-opus-5-5", (USER,), reasoning=ReasoningRequest(enabled=False), temperature=0.5),
    Request("claude-opus-5-5", (USER,), reasoning=ReasoningRequest(effort="minimal")),
    Request("m", (USER,), reasoning=ReasoningRequest(effort="minimal"), user="ann" * 22, parallel_tool_calls=False),
    Request("m", (USER, Message("assistant", (Reasoning(), Text("ok"))), USER)),
    Request("m", (USER,), top_logprobs=3),
]
"""Requests that hold one of everything."""


@EVERY_WIRE
def test_a_rich_request_loses_only_what_the_table_lists(dialect: str) -> None:
    lost = [name for request in RICH for name in dropped(request, dialect)]
    assert unlisted(lost, dialect) == []


@EVERY_WIRE
def test_the_table_lists_nothing_that_is_never_lost(dialect: str) -> None:
    lost = {name for request in RICH for name in dropped(request, dialect)}
    # A writer alone names what `portable` has already seen to on a whole way (`tools.strict`).
    lost |= {name for request in RICH for name in _written(request, dialect)}
    never = [name for name in names_for(dialect) if not any(map(pattern(name).fullmatch, lost))]
    assert never == []


def _written(request: Request, dialect: str) -> tuple[str, ...]:
    try:
        return WIRES[dialect].write_request(request).dropped
    except BadRequest:
        return ()


@EVERY_WIRE
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(request=requests(), opaque=st.sampled_from([None, ALL]))
def test_no_request_loses_what_the_table_does_not_list(dialect: str, request: Request, opaque: Any) -> None:
    extra = {"openai_chat": {"logging": 1}, "openai_responses": {"truncation": "auto"}} if opaque else None
    lost = dropped(Request(**{**{f: getattr(request, f) for f in request.__struct_fields__}, "extra": extra}), dialect)
    assert unlisted(lost, dialect) == []


@EVERY_WIRE
def test_no_recorded_request_loses_what_the_table_does_not_list(dialect: str) -> None:
    seen = 0
    for recording in (*own(), *shared()):
        source = next((d for d in DIALECTS.values() if recording.path.endswith(d.path)), None)
        if source is None or source.name == dialect or recording.status != 200 or not recording.request:
            continue
        try:
            request = source.read_request(recording.request)
        except BadRequest:
            continue  # what needs an answer stored at the provider
        lost = dropped(request, dialect)
        assert unlisted(lost, dialect) == [], recording.name
        seen += 1
    if not seen:
        pytest.skip("no recording is there")


def test_an_unlisted_name_is_noticed() -> None:
    assert unlisted(["tools.look.strict", "novelty", "messages.x"], "openai_chat") == ["novelty", "messages.x"]
