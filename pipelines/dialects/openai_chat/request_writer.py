"""A `Request` to the body that a provider of this dialect is sent, and the names of what it cannot say.

`extra` of this dialect goes along unchanged; `extra` of others is dropped and named. The limit on tokens is
`max_completion_tokens` (OpenAI's reasoning models refuse the older name), unless the caller used `max_tokens`.

Above it: `dialect`. Below it: `message_writer`, `conversation`.
"""

from pipelines.conversation import Json, OutputFormat, ReasoningRequest, Request, ToolChoice, ToolSpec
from pipelines.dialects.base import Written, unsaid
from pipelines.dialects.identifiers import user_of
from pipelines.dialects.openai_chat.legacy import is_legacy, marked
from pipelines.dialects.openai_chat.message_writer import write_messages
from pipelines.dialects.openai_chat.part_writer import Dropped, own_share
from pipelines.dialects.openai_chat.thoughts import KEY, own
from pipelines.errors import BadRequest

_AS_THEY_ARE = (
    "parallel_tool_calls", "temperature", "top_p", "top_k", "seed", "n", "frequency_penalty", "presence_penalty",
    "logprobs", "top_logprobs", "logit_bias", "metadata",
)  # fmt: skip


def write_request(request: Request) -> Written:
    """The body. `stream_options.include_usage` is always asked for with a stream."""
    dropped: Dropped = {}
    own_share(unsaid(request.extra, KEY), "extra", dropped)
    extra = own(request.extra).copy()
    messages = write_messages(request.messages, dropped)
    if not messages:
        raise BadRequest("`messages` holds nothing that can be sent", param="messages")
    body: dict[str, Json] = {"model": request.model, "messages": messages}
    _write_settings(request, body, dropped)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.max_tokens is not None:
        body["max_tokens" if "max_tokens" in extra else "max_completion_tokens"] = request.max_tokens
    extra.pop("max_tokens", None)
    _write_tools(request, body, dropped)
    if request.output_format is not None:
        body["response_format"] = _output_format(request.output_format)
    if request.reasoning is not None and "reasoning" not in extra:
        _write_reasoning(request.reasoning, body, dropped)
    options = extra.pop("stream_options", {})
    body.update(extra)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {**options, "include_usage": True}
    return Written(body, tuple(dropped))


def _write_settings(request: Request, body: dict[str, Json], dropped: Dropped) -> None:
    for name in _AS_THEY_ARE:
        value = getattr(request, name)
        # The time of `functions` knew no other than one call.
        if value is not None and not (name == "parallel_tool_calls" and is_legacy(request)):
            body[name] = value
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        # This wire takes the one beside the other only.
        del body["top_logprobs"]
        dropped["top_logprobs"] = None
    if request.service_tier:
        body["service_tier"] = request.service_tier
    if request.user:
        body["user"] = user_of(request.user)
        if body["user"] != request.user:
            dropped["user"] = None


def _write_tools(request: Request, body: dict[str, Json], dropped: Dropped) -> None:
    written = [entry for tool in request.tools if (entry := _tool(tool, dropped)) is not None]
    legacy = is_legacy(request)
    if written:
        body["functions" if legacy else "tools"] = written
    if request.tool_choice is not None and (written or not request.tools):
        body["function_call" if legacy else "tool_choice"] = _choice(request, request.tool_choice)


def _tool(tool: ToolSpec, dropped: Dropped) -> Json:
    share = own(tool.opaque)
    if "tool" in share:
        return share["tool"]
    if tool.schema is None and tool.opaque and not share:
        # A tool that the other provider runs itself.
        dropped[f"tools.{tool.name}"] = None
        return None
    own_share(tool.opaque, "tools", dropped)
    function: dict[str, Json] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    if marked(tool.opaque):
        return function
    beside = share.get("beside") or {}
    others = {name: value for name, value in beside.items() if name != "function"}
    return {"type": "function", "function": {**function, **beside.get("function", {})}, **others}


def _choice(request: Request, choice: ToolChoice) -> Json:
    if is_legacy(request):
        # There was no "required" in that time; the nearest is "auto".
        word = "auto" if choice.mode == "required" else choice.mode
        return {"name": choice.name} if choice.mode == "named" else word
    if choice.mode == "named":
        return _reference(request, choice.name)
    if not choice.allowed or choice.mode == "none":
        return choice.mode
    tools = [_reference(request, name) for name in choice.allowed]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}


def _reference(request: Request, name: str) -> dict[str, Json]:
    for tool in request.tools:
        kept = own(tool.opaque).get("tool")
        if tool.name == name and isinstance(kept, dict):
            kind = str(kept.get("type"))
            return {"type": kind, kind: {"name": name}} if isinstance(kept.get(kind), dict) else {"type": kind}
    return {"type": "function", "function": {"name": name}}


def _output_format(form: OutputFormat) -> dict[str, Json]:
    if form.kind != "json_schema":
        return {"type": form.kind}
    inner: dict[str, Json] = {"name": form.name or "answer"}
    if form.description:
        inner["description"] = form.description
    if form.schema is not None:
        inner["schema"] = form.schema
    if form.strict is not None:
        inner["strict"] = form.strict
    return {"type": "json_schema", "json_schema": inner}


def _write_reasoning(asked: ReasoningRequest, body: dict[str, Json], dropped: Dropped) -> None:
    if asked.summary:
        dropped["reasoning.summary"] = None
    if asked.budget is not None:
        dropped["reasoning.budget"] = None
    if not asked.enabled and not asked.effort:
        # Models that do not think refuse `reasoning_effort`, and most that do know no "none".
        dropped["reasoning.enabled"] = None
    elif asked.nearest_effort:
        body["reasoning_effort"] = asked.nearest_effort
