"""A `Request` to a provider's body: always `store: false`, encrypted reasoning asked for where there may be some.

Source: https://platform.openai.com/docs/api-reference/responses/create. What this wire has no field for is named in
`Written.dropped`: stop, n, seed, top_k, penalties, logit_bias, a user's name, sound, the error mark of a tool
result, reasoning of which this wire can carry nothing, and other dialects' own parts, tools and fields.

Above it: `dialect`, `request_reader` (the rule of what is included). Below it: `input_writer`, `opaque`.
"""

from typing import Final

from pipelines.conversation import (
    Json,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningRequest,
    Request,
    ToolChoice,
    ToolSpec,
)
from pipelines.dialects.base import Written, unsaid
from pipelines.dialects.identifiers import user_of
from pipelines.dialects.openai_responses.input_writer import write_input
from pipelines.dialects.openai_responses.opaque import NAME, own, owned

ENCRYPTED: Final = "reasoning.encrypted_content"
"""The `include` that makes a provider send reasoning in the form in which it can be carried back."""

LOGPROBS: Final = "message.output_text.logprobs"
"""The `include` that makes a provider send log probabilities."""

_UNKNOWN_HERE = (
    "stop",
    "seed",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
)


def wants_encrypted(request: Request) -> bool:
    """Whether reasoning is asked for, or carried from an earlier turn.

    Models that do not reason refuse the `include` (400 "Encrypted content is not supported with this model").
    """
    if request.reasoning is not None:
        return request.reasoning.enabled
    return any(
        own(part.opaque).get("encrypted_content")
        for message in request.messages
        for part in message.parts
        if isinstance(part, Reasoning)
    )


def write_request(request: Request) -> Written:
    """A request to a provider's body, and the names of what was left out."""
    opener, items, lost = write_input(request.messages)
    dropped = [name for name in _UNKNOWN_HERE if getattr(request, name) not in (None, ())]
    if request.n not in (None, 1):
        dropped.append("n")
    if user_of(request.user) != request.user:
        dropped.append("user")
    dropped += lost
    tools, more_lost = write_tools(request.tools)
    dropped += more_lost
    if request.reasoning is not None and request.reasoning.budget is not None:
        dropped.append("reasoning.budget")
    dropped += [f"{dialect}.{key}" for dialect, key in _foreign_extra(request)]
    fields: dict[str, Json] = {
        "instructions": opener or None,
        "tools": tools or None,
        "tool_choice": write_tool_choice(request),
        "text": write_text(request),
        "reasoning": write_reasoning(request),
        "include": _include(request) or None,
    }
    settings = _settings(request)
    body = {"model": request.model, "input": items, **own(request.extra), **settings}
    body |= {key: value for key, value in fields.items() if value is not None}
    body["store"] = False
    if request.stream:
        body["stream"] = True
    return Written(body, tuple(dict.fromkeys(dropped)))


def _settings(request: Request) -> dict[str, Json]:
    settings: dict[str, Json] = {
        "parallel_tool_calls": request.parallel_tool_calls,
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs,
        "service_tier": request.service_tier or None,
        "user": user_of(request.user) or None,
        "metadata": request.metadata,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _foreign_extra(request: Request) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for dialect, fields in unsaid(request.extra, NAME).items():
        found += [(dialect, key) for key in fields] if isinstance(fields, dict) else [(dialect, "extra")]
    return found


def _include(request: Request) -> list[str]:
    asked = own(request.extra).get("include")
    include = list(asked) if isinstance(asked, list) else []
    if request.logprobs:
        include.append(LOGPROBS)
    if wants_encrypted(request) and ENCRYPTED not in include:
        include.append(ENCRYPTED)
    return include


def write_tools(tools: tuple[ToolSpec, ...]) -> tuple[list[dict[str, Json]], list[str]]:
    """Tools in this wire's flat form, and the names of those that another dialect alone knows.

    `strict` is always said: left out, this API makes schemas strict by itself, which nobody asked for.
    """
    written: list[dict[str, Json]] = []
    lost = []
    for tool in tools:
        mine = own(tool.opaque)
        if "type" in mine:
            written.append(mine)
        elif tool.schema is None and tool.opaque and not mine:
            lost.append(f"tools.{tool.name}")
        else:
            form = {"type": "function", "name": tool.name, "parameters": tool.schema, "strict": bool(tool.strict)}
            if tool.description:
                form["description"] = tool.description
            written.append({**form, **mine})
    return written, lost


def write_tool_choice(request: Request) -> Json:
    """`tool_choice` as this wire has it; None where nothing was chosen."""
    choice: ToolChoice | None = request.tool_choice
    if choice is None:
        return own(request.extra).get("tool_choice")
    if choice.mode == "named":
        return {"type": "function", "name": choice.name}
    if choice.allowed and choice.mode != "none":
        allowed = [{"type": "function", "name": name} for name in choice.allowed]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": allowed}
    return choice.mode


def unforced(extra: Opaque | None) -> Opaque | None:
    """A request's `extra` without a choice that forces a call; which tools are allowed stays said."""
    choice = own(extra).get("tool_choice")
    if choice is None:
        return extra
    rest = {key: value for key, value in own(extra).items() if key != "tool_choice"}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        rest["tool_choice"] = {**choice, "mode": "auto"}
    others = {key: value for key, value in (extra or {}).items() if key != NAME}
    return {**others, **(owned(rest) or {})} or None


def write_text(request: Request) -> dict[str, Json] | None:
    """`text` (the form of the answer, verbosity) as this wire has it; None where nothing was asked."""
    more = own(request.extra).get("text")
    text = dict(more) if isinstance(more, dict) else {}
    form: OutputFormat | None = request.output_format
    if form is not None:
        written: dict[str, Json] = {"type": form.kind}
        if form.kind == "json_schema":
            written |= {"name": form.name or "answer", "schema": form.schema or {}}
            if form.description:
                written["description"] = form.description
            if form.strict is not None:
                written["strict"] = form.strict
        text["format"] = written
    return text or None


def write_reasoning(request: Request) -> dict[str, Json] | None:
    """`reasoning` as this wire has it; None where nothing was asked. A token budget becomes an effort word."""
    more = own(request.extra).get("reasoning")
    reasoning = dict(more) if isinstance(more, dict) else {}
    asked: ReasoningRequest | None = request.reasoning
    if asked is not None:
        effort = asked.nearest_effort if asked.enabled else "none"
        if effort:
            reasoning["effort"] = effort
        if asked.summary:
            reasoning["summary"] = asked.summary
    return reasoning or None
