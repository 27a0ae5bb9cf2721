"""A caller's body of `POST /v1/chat/completions` to a `Request`.

Types and required members are checked here; ranges and combinations that differ between providers are left to
them. What is not known goes to `extra` and reaches a provider of this dialect unchanged.

Source: OpenAI API reference, "Create chat completion"; OpenRouter (`reasoning`).

Above it: `dialect`. Below it: `message_reader`, `tool_reader`, `fields`, `conversation`.
"""

from pipelines.conversation import Json, OutputFormat, ReasoningRequest, Request
from pipelines.dialects.base import OUR_FIELDS, with_model
from pipelines.dialects.openai_chat.fields import (
    Object,
    flag,
    items,
    kind,
    mapping,
    needed_mapping,
    needed_text,
    number,
    rest,
    text,
    whole,
    wrong,
)
from pipelines.dialects.openai_chat.message_reader import read_messages
from pipelines.dialects.openai_chat.thoughts import KEY
from pipelines.dialects.openai_chat.tool_reader import read_tool_choice, read_tools

_KNOWN = OUR_FIELDS | {
    "model", "messages", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls",
    "response_format", "reasoning_effort", "reasoning", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "stop", "seed", "n", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs",
    "logit_bias", "service_tier", "user", "metadata", "stream", "stream_options",
}  # fmt: skip
_OPTIONS = frozenset(("include_usage",))
_FEW = frozenset(("model", "messages", "stream", "temperature", "top_p"))
"""What most bodies have and nothing else: their readers need not look for the rest."""


def read_request(body: Object) -> Request:
    """The request. Raises BadRequest whose `param` is the path of the member that is wrong."""
    messages = items(body, "messages")
    if not messages:
        wrong("messages", "is missing" if body.get("messages") is None else "must not be empty")
    if body.keys() <= _FEW:
        return Request(
            model=needed_text(body, "model", ""),
            messages=read_messages(messages),
            temperature=number(body, "temperature"),
            top_p=number(body, "top_p"),
            stream=flag(body, "stream") or False,
        )
    extra = rest(body, _KNOWN)
    options = mapping(body, "stream_options") or {}
    if rest(options, _OPTIONS):
        extra["stream_options"] = rest(options, _OPTIONS)
    _check_ours(body)
    return Request(
        model=needed_text(with_model(body), "model", ""),
        messages=read_messages(messages),
        tools=read_tools(body),
        tool_choice=read_tool_choice(body),
        # An answer to `functions` has room for one call.
        parallel_tool_calls=False if body.get("functions") else flag(body, "parallel_tool_calls"),
        output_format=_output_format(body, extra),
        reasoning=_reasoning(body, extra),
        max_tokens=_max_tokens(body, extra),
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        top_k=whole(body, "top_k"),
        stop=_stop(body),
        seed=whole(body, "seed"),
        n=whole(body, "n", least=1),
        frequency_penalty=number(body, "frequency_penalty"),
        presence_penalty=number(body, "presence_penalty"),
        logprobs=flag(body, "logprobs"),
        top_logprobs=whole(body, "top_logprobs", least=0),
        logit_bias=_logit_bias(body),
        service_tier=text(body, "service_tier", ""),
        user=text(body, "user", ""),
        metadata=_metadata(body),
        stream=flag(body, "stream") or False,
        include_usage=flag(options, "include_usage", "stream_options") or False,
        extra={KEY: extra} if extra else None,
    )


def _check_ours(body: Object) -> None:
    for place, name in enumerate(items(body, "models")):
        if not isinstance(name, str) or not name:
            wrong(f"models.{place}", "must be the name of a model")
    mapping(body, "penstock")


def _max_tokens(body: Object, extra: dict[str, Json]) -> int | None:
    """Either name. The older one is noted in `extra`: some servers know only it, some refuse it."""
    older = _limit(body, "max_tokens")
    newer = _limit(body, "max_completion_tokens")
    if older is not None and newer is None:
        extra["max_tokens"] = older
    return newer if newer is not None else older


def _limit(body: Object, name: str) -> int | None:
    """None for -1 too, which llama.cpp and LM Studio take for no limit; other servers say that it is none."""
    return None if body.get(name) == -1 else whole(body, name, least=1)


def _stop(body: Object) -> tuple[str, ...]:
    value = body.get("stop")
    if isinstance(value, str):
        return (value,)
    for place, entry in enumerate(items(body, "stop")):
        if not isinstance(entry, str):
            wrong(f"stop.{place}", f"must be a string, not {kind(entry)}")
    return tuple(value or ())


def _logit_bias(body: Object) -> dict[str, float] | None:
    given = mapping(body, "logit_bias")
    if given is None:
        return None
    return {token: number(given, token, "logit_bias") or 0.0 for token in given}


def _metadata(body: Object) -> dict[str, str] | None:
    given = mapping(body, "metadata")
    if given is None:
        return None
    for name, value in given.items():
        if not isinstance(value, str):
            wrong(f"metadata.{name}", f"must be a string, not {kind(value)}")
    return given


def _output_format(body: Object, extra: dict[str, Json]) -> OutputFormat | None:
    """OpenAI's three; a form that only a provider knows (a grammar) is kept whole in `extra`."""
    given = mapping(body, "response_format")
    if given is None:
        return None
    path = "response_format"
    name = needed_text(given, "type", path)
    if name == "json_schema":
        inner = needed_mapping(given, name, path)
        path = f"{path}.{name}"
        return OutputFormat(
            "json_schema",
            needed_text(inner, "name", path),
            text(inner, "description", path),
            mapping(inner, "schema", path),
            flag(inner, "strict", path),
        )
    if len(given) > 1 or name not in ("text", "json_object"):
        extra["response_format"] = given
    if name == "json_object":
        return OutputFormat("json_object")
    return OutputFormat("text") if name == "text" else None


def _reasoning(body: Object, extra: dict[str, Json]) -> ReasoningRequest | None:
    """`reasoning_effort`, or OpenRouter's `reasoning` object, which is kept whole too."""
    given = mapping(body, "reasoning")
    effort = text(body, "reasoning_effort", "")
    if given is None:
        return ReasoningRequest(enabled=effort != "none", effort=effort) if effort else None
    extra["reasoning"] = given
    effort = text(given, "effort", "reasoning") or effort
    enabled = flag(given, "enabled", "reasoning")
    return ReasoningRequest(
        enabled=effort != "none" if enabled is None else enabled,
        effort=effort,
        budget=whole(given, "max_tokens", "reasoning", least=0),
        summary=text(given, "summary", "reasoning"),
    )
