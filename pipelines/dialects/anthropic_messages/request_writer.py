"""A `Request` to the body that Anthropic is sent, and the names of what it cannot say.

- `max_tokens` is mandatory: `DEFAULT_MAX_TOKENS` where the request has none, plus the budget for thinking
- a schema for the answer is `output_config.format` where strict mode can hold it; otherwise, and for "any JSON
  object", it is an instruction at the end of `system`, and `output_format` is named; `strict` of a tool likewise
- `allowed` of a tool choice narrows the tools themselves; a choice without tools says nothing and is left out
- temperature above 1 becomes 1 and is named; for models that take no sampling, temperature, `top_p` and `top_k` are
  left out and named; so are stop sequences of nothing but white space
- `extra` of this dialect goes along unchanged and wins over what is derived; `extra` of others is named
- sources of the rules on thinking stand in `thinking`, on what a model takes in `models`

Source: Anthropic API reference, "Create a Message"; "Structured outputs".

Above it: `dialect`. Below it: `content_writer`, `models`, `thinking`, `schemas`, `conversation`.
"""

import msgspec

from pipelines.conversation import Json, OutputFormat, Request, ToolChoice, ToolSpec
from pipelines.dialects.anthropic_messages.content_writer import Block, Dropped, note, write_messages
from pipelines.dialects.anthropic_messages.models import model_of
from pipelines.dialects.anthropic_messages.opaque import NAME, own
from pipelines.dialects.anthropic_messages.schemas import holds_strictly
from pipelines.dialects.anthropic_messages.thinking import reconcile, write_thinking
from pipelines.dialects.base import Written, unsaid
from pipelines.errors import BadRequest

DEFAULT_MAX_TOKENS = 4096
"""Output tokens for a request that names no limit: the most that every Claude model takes."""

_UNSAID = (
    "seed", "n", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias", "metadata",
)  # fmt: skip
_SAMPLING = ("temperature", "top_p", "top_k")
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}


def write_request(request: Request) -> Written:
    """The body and what was dropped. Raises BadRequest where nothing of the messages can be said."""
    dropped: Dropped = {}
    note(unsaid(request.extra, NAME), "extra", dropped)
    system, messages = write_messages(request.messages, dropped)
    if not messages:
        raise BadRequest("`messages` holds nothing that can be sent", param="messages")
    body: Block = {"model": request.model, "max_tokens": DEFAULT_MAX_TOKENS, "messages": messages}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    extra = own(request.extra)
    system += _write_format(request.output_format, body, dropped)
    if system:
        body["system"] = system[0]["text"] if [*system[0]] == ["type", "text"] and len(system) == 1 else system
    _write_settings(request, body, dropped)
    _write_tools(request, body, dropped)
    write_thinking(request, body, extra, dropped)
    _write_extra(extra, body)
    reconcile(body, dropped)
    return Written(body, tuple(dropped))


def _write_settings(request: Request, body: Block, dropped: Dropped) -> None:
    _write_sampling(request, body, dropped)
    if request.user:
        body["metadata"] = {"user_id": request.user}
    if request.service_tier in _TIERS:
        body["service_tier"] = _TIERS[request.service_tier]
    elif request.service_tier:
        dropped["service_tier"] = None
    if request.stream:
        body["stream"] = True


def _write_sampling(request: Request, body: Block, dropped: Dropped) -> None:
    for name in _UNSAID:
        value = getattr(request, name)
        if value is not None and (name, value) != ("n", 1):
            dropped[name] = None
    sampling = {name: value for name in _SAMPLING if (value := getattr(request, name)) is not None}
    if not model_of(request.model).sampled:
        dropped.update(dict.fromkeys(sampling))
        sampling = {}
    body.update(sampling)
    if sampling.get("temperature", 0.0) > 1.0:
        body["temperature"] = 1.0
        dropped["temperature"] = None
    stop = [sequence for sequence in request.stop if sequence.strip()]
    if stop:
        body["stop_sequences"] = stop
    if len(stop) < len(request.stop):
        dropped["stop"] = None


def _write_tools(request: Request, body: Block, dropped: Dropped) -> None:
    choice = request.tool_choice or ToolChoice()
    wanted = [tool for tool in request.tools if not choice.allowed or tool.name in choice.allowed]
    tools = [entry for tool in wanted if (entry := _tool(tool, dropped)) is not None]
    if not tools:
        if request.tool_choice and request.tool_choice.mode in ("required", "named"):
            dropped["tool_choice"] = None
        return
    body["tools"] = tools
    if request.tool_choice is None and request.parallel_tool_calls is not False:
        return
    written: Block = {"type": _CHOICES[choice.mode]}
    if choice.mode == "named":
        written["name"] = choice.name
    if request.parallel_tool_calls is not None and choice.mode != "none":
        written["disable_parallel_tool_use"] = not request.parallel_tool_calls
    body["tool_choice"] = written


def _tool(tool: ToolSpec, dropped: Dropped) -> Block | None:
    share = own(tool.opaque)
    if share.get("type") not in (None, "custom"):
        return share
    if tool.schema is None and tool.opaque and not share:
        dropped[f"tools.{tool.name}"] = None
        return None
    note(tool.opaque, "tools", dropped)
    schema: dict[str, Json] = tool.schema or {}
    written: Block = {**share, "name": tool.name, "input_schema": {**schema, "type": "object"}}
    if tool.description:
        written["description"] = tool.description
    if tool.strict and holds_strictly(schema):
        written["strict"] = True
    elif tool.strict:
        dropped["tools.strict"] = None
    return written


def _write_format(form: OutputFormat | None, body: Block, dropped: Dropped) -> list[Block]:
    """Sets `output_config.format`, or returns the instruction that stands for it."""
    if form is None or form.kind == "text":
        return []
    if form.kind == "json_schema" and holds_strictly(form.schema):
        body["output_config"] = {"format": {"type": "json_schema", "schema": form.schema}}
        return []
    dropped["output_format"] = None
    words = "Answer with one JSON object and nothing else."
    if form.schema:
        words += f" It must fit this JSON Schema:\n{msgspec.json.encode(form.schema).decode()}"
    return [{"type": "text", "text": words}]


def _write_extra(extra: Block, body: Block) -> None:
    for key, value in extra.items():
        before = body.get(key)
        body[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
