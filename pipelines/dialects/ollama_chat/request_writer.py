"""A `Request` to the body that Ollama is sent, and the names of what it cannot say.

- what the model is told for sampling stands in `options`, under names of llama.cpp's
- there is no choice of tools: a choice of some offers these alone, "none" offers none, and a forced one is named
- an effort beyond the three words of the wire becomes the nearest of them, and is named
- `extra` of every dialect is named and left out, for callers do not come in this one

Sources: Ollama, docs/api.md, "Generate a chat completion", "Structured outputs"; docs/modelfile.md, "Valid Parameters
and Values"; docs.ollama.com, "Thinking" (`think` is a boolean or "low", "medium", "high").

Above it: `wire`. Below it: `message_writer`, `conversation`.
"""

from pipelines.conversation import Json, OutputFormat, Request, ToolChoice, ToolSpec
from pipelines.dialects.base import Written, unsaid
from pipelines.dialects.ollama_chat.message_writer import Dropped, note, write_messages
from pipelines.errors import BadRequest

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "max_tokens": "num_predict",
}
"""Settings by our name, and their name in `options`."""

_UNSAID = ("logprobs", "top_logprobs", "logit_bias", "user", "metadata")

_HARMONY = "gpt-oss"

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""Efforts, and the nearest words that such models take; other words are just thinking."""


def write_request(request: Request) -> Written:
    """The body and what was dropped. Raises BadRequest where nothing of the messages can be said."""
    dropped: Dropped = {}
    note(unsaid(request.extra, "ollama_chat"), "extra", dropped)
    messages = write_messages(request.messages, dropped)
    if not messages:
        # Ollama would load the model and answer nothing.
        raise BadRequest("`messages` holds nothing that can be sent", param="messages")
    members: dict[str, Json] = {
        "tools": _tools(request, dropped),
        "format": _format(request.output_format),
        "think": _think(request, dropped),
        "options": _options(request),
    }
    _name_unsaid(request, dropped)
    body = {"model": request.model, "messages": messages, "stream": request.stream}
    return Written(body | {name: value for name, value in members.items() if value is not None}, tuple(dropped))


def _options(request: Request) -> dict[str, Json] | None:
    given = {option: getattr(request, name) for name, option in _OPTIONS.items()}
    options: dict[str, Json] = {option: value for option, value in given.items() if value is not None}
    if request.stop:
        options["stop"] = list(request.stop)
    return options or None


def _name_unsaid(request: Request, dropped: Dropped) -> None:
    for name in _UNSAID:
        if getattr(request, name) not in (None, False, ""):
            dropped[name] = None
    if request.n not in (None, 1):
        dropped["n"] = None
    if request.service_tier not in ("", "auto", "default"):
        dropped["service_tier"] = None
    if request.parallel_tool_calls is False:
        dropped["parallel_tool_calls"] = None


def _tools(request: Request, dropped: Dropped) -> list[Json] | None:
    choice = request.tool_choice or ToolChoice()
    if choice.mode in ("required", "named"):
        dropped["tool_choice"] = None
    if choice.mode == "none":
        return None
    wanted = choice.allowed or ((choice.name,) if choice.mode == "named" else ())
    chosen = [tool for tool in request.tools if not wanted or tool.name in wanted]
    return [entry for tool in chosen if (entry := _tool(tool, dropped)) is not None] or None


def _tool(tool: ToolSpec, dropped: Dropped) -> Json:
    if tool.schema is None and tool.opaque:
        # A tool that the other provider runs itself.
        dropped[f"tools.{tool.name}"] = None
        return None
    note(tool.opaque, "tools", dropped)
    if tool.strict:
        dropped["tools.strict"] = None
    parameters = tool.schema or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _format(form: OutputFormat | None) -> Json:
    """A schema as it is, "json" for any JSON object, None for free text."""
    if form is None or form.kind == "text":
        return None
    return form.schema if form.kind == "json_schema" and form.schema else "json"


def _think(request: Request, dropped: Dropped) -> bool | str | None:
    """Whether to think, or how much; None leaves it to the model.

    A word is for models of OpenAI's Harmony format: others refuse it (Ollama, `server/routes.go`: "think value … is not
    supported for this model").
    """
    asked = request.reasoning
    if asked is None:
        return None
    for name in ("budget", "summary"):
        if getattr(asked, name):
            dropped[f"reasoning.{name}"] = None
    if not asked.enabled or asked.effort == "none":
        return False
    effort = asked.nearest_effort
    word = _EFFORTS.get(effort) if _HARMONY in request.model else None
    if word != (effort or None):
        dropped["reasoning.effort"] = None
    return word or True
