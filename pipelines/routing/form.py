"""Whether an answer has the form that was asked for: evidence that nobody has to give.

A tool call is well formed if it names a tool that was offered, and its arguments are a JSON object with the members
that the tool's schema requires; an answer in JSON if it is JSON, and an object with the members that its schema
requires. What was cut at the caller's own limit, or refused, says nothing.

Above it: the gateway. Below it: `conversation`, `events`. Outside it: whether the answer is right.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from pipelines.conversation import Request, ToolCall
from pipelines.events import Completion
from pipelines.routing.learning.evidence import Kind


def asks_for_form(request: Request) -> bool:
    """Whether there can be any such evidence."""
    form = request.output_format
    return bool(request.tools) or (form is not None and form.kind != "text")


def seen(request: Request, completion: Completion) -> tuple[Kind, float] | None:
    """The kind of evidence, with 1 for a good form and 0 for a bad one; None where there is none."""
    if completion.finished.reason not in ("stop", "tool_calls"):
        return None
    calls = [part for message in completion.messages for part in message.parts if isinstance(part, ToolCall)]
    if calls and request.tools:
        return "tool_call", float(all(_offered(call, request) for call in calls))
    form = request.output_format
    if calls or form is None or form.kind == "text":
        return None
    texts = [message.text for message in completion.messages]
    schema = form.schema if form.kind == "json_schema" else None
    return "parsed", float(all(_conforms(text, schema) for text in texts))


def _offered(call: ToolCall, request: Request) -> bool:
    tool = next((tool for tool in request.tools if tool.name == call.name), None)
    return tool is not None and _conforms(call.arguments or "{}", tool.schema or {"type": "object"})


def _conforms(text: str, schema: Mapping[str, Any] | None) -> bool:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    if schema is None or schema.get("type", "object") != "object":
        return True
    if not isinstance(value, dict):
        return False
    required = schema.get("required", [])
    return not isinstance(required, list) or all(name in value for name in required if isinstance(name, str))
