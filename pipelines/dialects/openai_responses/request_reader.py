"""A caller's body to a `Request`.

Source: https://platform.openai.com/docs/api-reference/responses/create. Nothing is stored here, so what needs an
earlier answer at the provider (`previous_response_id`, `conversation`, `background`) is refused by name; `store` is
read and has no effect. Fields that `Request` has no attribute for go to `extra`, whole.

Above it: `dialect`. Below it: `input_reader`, `fields`. Outside it: writing (`request_writer`).
"""

from collections.abc import Mapping

from pipelines.conversation import (
    Json,
    Message,
    OutputFormat,
    ReasoningRequest,
    Request,
    Text,
    ToolChoice,
    ToolSpec,
)
from pipelines.dialects.base import OUR_FIELDS, with_model
from pipelines.dialects.openai_responses.fields import an_object, optional, required, rest
from pipelines.dialects.openai_responses.input_reader import read_input
from pipelines.dialects.openai_responses.opaque import NAME, owned
from pipelines.dialects.openai_responses.request_writer import ENCRYPTED, LOGPROBS, wants_encrypted
from pipelines.dialects.own_runs import our_tool
from pipelines.errors import BadRequest
from pipelines.events import OURS

_STATEFUL = ("previous_response_id", "conversation", "background")

_READ = OUR_FIELDS | {
    *_STATEFUL,
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "service_tier",
    "user",
    "metadata",
    "stream",
    "store",
    "include",
}

_TOOL_FIELDS = frozenset({"type", "name", "description", "parameters", "strict"})


def read_request(body: Mapping[str, Json]) -> Request:
    """A body to a request. Raises BadRequest with `param` as a path to the field."""
    for key in _STATEFUL:
        if body.get(key):
            raise BadRequest(
                f"`{key}` needs answers stored at the provider, and nothing is stored here: send the whole "
                "conversation in `input`",
                param=key,
            )
    optional(body, "store", bool)
    extra = rest(body, frozenset(_READ))
    output_format, more_text = _text(body)
    reasoning, more_reasoning = _reasoning(body)
    tool_choice, more_choice = _tool_choice(body)
    for key, more in (("text", more_text), ("reasoning", more_reasoning), ("tool_choice", more_choice)):
        if more:
            extra[key] = more
    request = Request(
        model=required(with_model(body), "model", str),
        messages=_messages(body),
        tools=_tools(body),
        tool_choice=tool_choice,
        parallel_tool_calls=optional(body, "parallel_tool_calls", bool),
        output_format=output_format,
        reasoning=reasoning,
        max_tokens=optional(body, "max_output_tokens", int),
        temperature=optional(body, "temperature", float),
        top_p=optional(body, "top_p", float),
        logprobs=True if LOGPROBS in _include(body) else None,
        top_logprobs=optional(body, "top_logprobs", int),
        service_tier=optional(body, "service_tier", str) or "",
        user=optional(body, "user", str) or "",
        metadata=_metadata(body),
        stream=optional(body, "stream", bool) or False,
    )
    include = [name for name in _include(body) if name != LOGPROBS]
    if wants_encrypted(request):
        include = [name for name in include if name != ENCRYPTED]
    if include:
        extra["include"] = include
    return _with_extra(request, extra)


def _with_extra(request: Request, extra: Mapping[str, Json]) -> Request:
    fields = {name: getattr(request, name) for name in Request.__struct_fields__}
    return Request(**{**fields, "extra": owned(extra)})


def _messages(body: Mapping[str, Json]) -> tuple[Message, ...]:
    source = body.get("input")
    if source is None and body.get("prompt"):
        source = []
    if not isinstance(source, str | list):
        raise BadRequest("`input` must be a string or an array of items", param="input")
    instructions = optional(body, "instructions", str)
    opener = [Message("system", (Text(instructions),))] if instructions else []
    return (*opener, *read_input(source))


def _include(body: Mapping[str, Json]) -> list[str]:
    include = optional(body, "include", list) or []
    for number, name in enumerate(include):
        if not isinstance(name, str):
            raise BadRequest(f"`include.{number}` must be a string", param=f"include.{number}")
    return include


def _metadata(body: Mapping[str, Json]) -> dict[str, str] | None:
    metadata = optional(body, "metadata", dict)
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise BadRequest(f"`metadata.{key}` must be a string", param=f"metadata.{key}")
    return metadata or None


def _tools(body: Mapping[str, Json]) -> tuple[ToolSpec, ...]:
    tools = []
    for number, entry in enumerate(optional(body, "tools", list) or []):
        tool = an_object(entry, f"tools.{number}")
        path = f"tools.{number}."
        kind = required(tool, "type", str, path)
        if kind == OURS:
            tools.append(our_tool(tool))
            continue
        if kind != "function":
            name = tool.get("name")
            tools.append(ToolSpec(name if isinstance(name, str) else kind, opaque={NAME: tool}))
            continue
        tools.append(
            ToolSpec(
                name=required(tool, "name", str, path),
                description=optional(tool, "description", str, path) or "",
                schema=optional(tool, "parameters", dict, path),
                strict=optional(tool, "strict", bool, path),
                opaque=owned(rest(tool, _TOOL_FIELDS)),
            )
        )
    return tuple(tools)


def _tool_choice(body: Mapping[str, Json]) -> tuple[ToolChoice | None, Json]:
    """(the choice, None), or (None, the value) where only this dialect has such a choice."""
    choice = body.get("tool_choice")
    match choice:
        case None:
            return None, None
        case "auto" | "none" | "required":
            return ToolChoice(choice), None
        case {"type": "function"}:
            return ToolChoice("named", required(choice, "name", str, "tool_choice.")), None
        case {"type": "allowed_tools"}:
            return _allowed(choice)
        case {"type": str()}:
            return None, choice
    raise BadRequest("`tool_choice` must be auto, none, required or an object with a type", param="tool_choice")


def _allowed(choice: Mapping[str, Json]) -> tuple[ToolChoice | None, Json]:
    mode = required(choice, "mode", str, "tool_choice.")
    tools = required(choice, "tools", list, "tool_choice.")
    if mode not in ("auto", "required"):
        raise BadRequest("`tool_choice.mode` must be auto or required", param="tool_choice.mode")
    names = []
    for number, entry in enumerate(tools):
        tool = an_object(entry, f"tool_choice.tools.{number}")
        if tool.get("type") != "function":
            return None, choice
        names.append(required(tool, "name", str, f"tool_choice.tools.{number}."))
    return ToolChoice("auto" if mode == "auto" else "required", allowed=tuple(names)), None


def _text(body: Mapping[str, Json]) -> tuple[OutputFormat | None, dict[str, Json]]:
    """(the form of the answer, the other fields of `text`)."""
    text = optional(body, "text", dict) or {}
    form = optional(text, "format", dict, "text.")
    more = rest(text, frozenset({"format"}))
    if form is None:
        return None, more
    path = "text.format."
    match required(form, "type", str, path):
        case "text":
            return OutputFormat("text"), more
        case "json_object":
            return OutputFormat("json_object"), more
        case "json_schema":
            return OutputFormat(
                "json_schema",
                name=required(form, "name", str, path),
                description=optional(form, "description", str, path) or "",
                schema=required(form, "schema", dict, path),
                strict=optional(form, "strict", bool, path),
            ), more
    return None, {"format": form, **more}


def _reasoning(body: Mapping[str, Json]) -> tuple[ReasoningRequest | None, dict[str, Json]]:
    """(what is asked, the other fields of `reasoning`)."""
    reasoning = optional(body, "reasoning", dict)
    if reasoning is None:
        return None, {}
    effort = optional(reasoning, "effort", str, "reasoning.") or ""
    summary = optional(reasoning, "summary", str, "reasoning.") or ""
    more = rest(reasoning, frozenset({"effort", "summary"}))
    if effort == "none":
        return ReasoningRequest(enabled=False, summary=summary), more
    if not effort and not summary:
        return None, more
    return ReasoningRequest(effort=effort, summary=summary), more
