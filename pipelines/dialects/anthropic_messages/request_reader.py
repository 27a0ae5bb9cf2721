"""A caller's body of `POST /v1/messages` to a `Request`.

Types and required members are checked here; ranges and combinations that differ between models are left to the
provider. What no attribute stands for goes to `extra` and reaches a provider of this dialect unchanged: thinking that
is more than on or off, an effort, a container, MCP servers.

Source: Anthropic API reference, "Create a Message".

Above it: `dialect`. Below it: `content_reader`, `tool_reader`, `conversation`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Message, OutputFormat, ReasoningRequest, Request
from pipelines.dialects.anthropic_messages.content_reader import read_messages, system_parts
from pipelines.dialects.anthropic_messages.opaque import NAME, rest
from pipelines.dialects.anthropic_messages.tool_reader import parallel, read_tool_choice, read_tools
from pipelines.dialects.base import OUR_FIELDS, with_model
from pipelines.dialects.openai_responses.fields import fits, optional, required
from pipelines.errors import BadRequest

_KNOWN = OUR_FIELDS | {
    "model", "messages", "system", "max_tokens", "metadata", "output_config", "output_format", "service_tier",
    "stop_sequences", "stream", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
}  # fmt: skip

_TIERS = {"standard_only": "default"}


def read_request(body: Mapping[str, Json]) -> Request:
    """The request. Raises BadRequest whose `param` is the path of the member that is wrong."""
    extra = rest(body, _KNOWN)
    tier = optional(body, "service_tier", str) or ""
    return Request(
        model=_model(body),
        messages=_messages(body),
        tools=read_tools(body),
        tool_choice=read_tool_choice(body),
        parallel_tool_calls=parallel(body),
        output_format=_output_format(body, extra),
        reasoning=_reasoning(body, extra),
        max_tokens=_max_tokens(body),
        temperature=optional(body, "temperature", float),
        top_p=optional(body, "top_p", float),
        top_k=optional(body, "top_k", int),
        stop=_stop(body),
        service_tier=_TIERS.get(tier, tier),
        user=_user(body, extra),
        stream=optional(body, "stream", bool) or False,
        extra={NAME: extra} if extra else None,
    )


def _model(body: Mapping[str, Json]) -> str:
    model = required(with_model(body), "model", str)
    if not model:
        raise BadRequest("`model` must not be empty", param="model")
    return model


def _messages(body: Mapping[str, Json]) -> tuple[Message, ...]:
    messages = required(body, "messages", list)
    if not messages:
        raise BadRequest("`messages` must not be empty", param="messages")
    system = system_parts(body.get("system"), "system")
    leading = (Message("system", system),) if system else ()
    return (*leading, *read_messages(messages))


def _max_tokens(body: Mapping[str, Json]) -> int:
    """Zero is allowed: it fills the prompt cache."""
    count = required(body, "max_tokens", int)
    if count < 0:
        raise BadRequest("`max_tokens` must not be negative", param="max_tokens")
    return count


def _stop(body: Mapping[str, Json]) -> tuple[str, ...]:
    sequences = optional(body, "stop_sequences", list) or []
    for place, sequence in enumerate(sequences):
        if not isinstance(sequence, str):
            path = f"stop_sequences.{place}"
            raise BadRequest(f"`{path}` must be a string", param=path)
    return tuple(sequences)


def _user(body: Mapping[str, Json], extra: dict[str, Json]) -> str:
    metadata = optional(body, "metadata", dict) or {}
    more = rest(metadata, frozenset(("user_id",)))
    if more:
        extra["metadata"] = more
    return optional(metadata, "user_id", str, "metadata.") or ""


def _output_format(body: Mapping[str, Json], extra: dict[str, Json]) -> OutputFormat | None:
    """`output_config.format`, or `output_format`, which was its name in the beta."""
    config = optional(body, "output_config", dict) or {}
    more = rest(config, frozenset(("format",)))
    if more:
        extra["output_config"] = more
    path, form = "output_config.format", optional(config, "format", dict, "output_config.")
    if form is None:
        path, form = "output_format", optional(body, "output_format", dict)
    if form is None:
        return None
    if form.get("type") != "json_schema":
        raise BadRequest(f'`{path}.type` must be "json_schema"', param=f"{path}.type")
    return OutputFormat("json_schema", schema=required(form, "schema", dict, f"{path}."), strict=True)


def _reasoning(body: Mapping[str, Json], extra: dict[str, Json]) -> ReasoningRequest | None:
    """`thinking` and `output_config.effort`. Thinking that is not plainly on or off stays in `extra` whole too."""
    effort = _effort(extra.get("output_config"))
    thinking = optional(body, "thinking", dict)
    if thinking is None:
        return ReasoningRequest(effort=effort) if effort else None
    kind = required(thinking, "type", str, "thinking.")
    if kind == "enabled":
        budget = required(thinking, "budget_tokens", int, "thinking.")
        plain, asked = {"type", "budget_tokens"}, ReasoningRequest(effort=effort, budget=budget)
    elif kind == "disabled":
        plain, asked = {"type"}, ReasoningRequest(enabled=False)
    elif kind in ("adaptive", "between_tools"):
        plain, asked = set(), ReasoningRequest(enabled=kind == "adaptive", effort=effort)
    else:
        raise BadRequest("`thinking.type` must be enabled, disabled, adaptive or between_tools", param="thinking.type")
    if rest(thinking, frozenset(plain)):
        extra["thinking"] = dict(thinking)
    return asked


def _effort(config: Json) -> str:
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is not None and not fits(effort, str):
        raise BadRequest("`output_config.effort` must be a string", param="output_config.effort")
    return effort or ""
