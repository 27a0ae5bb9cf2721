"""Tools and tool choice of a caller's body.

Source: Anthropic API reference, "Create a Message", `tools`, `tool_choice`.

Above it: `request_reader`. Below it: `conversation`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, ToolChoice, ToolSpec
from pipelines.dialects.anthropic_messages.opaque import NAME, owned, rest
from pipelines.dialects.openai_responses.fields import an_object, optional, required
from pipelines.dialects.own_runs import our_tool
from pipelines.errors import BadRequest
from pipelines.events import OURS

_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict"})


def read_tools(body: Mapping[str, Json]) -> tuple[ToolSpec, ...]:
    """`tools`. One with a type other than "custom" is the provider's own and is kept whole."""
    tools = optional(body, "tools", list) or []
    return tuple(_tool(an_object(tool, f"tools.{place}"), f"tools.{place}.") for place, tool in enumerate(tools))


def _tool(tool: dict[str, Json], path: str) -> ToolSpec:
    kind = optional(tool, "type", str, path)
    if kind == OURS:
        return our_tool(tool)
    if kind not in (None, "custom"):
        return ToolSpec(optional(tool, "name", str, path) or str(kind), opaque={NAME: dict(tool)})
    name = required(tool, "name", str, path)
    if not name:
        raise BadRequest(f"`{path}name` must not be empty", param=f"{path}name")
    return ToolSpec(
        name,
        description=optional(tool, "description", str, path) or "",
        schema=required(tool, "input_schema", dict, path),
        strict=optional(tool, "strict", bool, path),
        opaque=owned(rest(tool, _FIELDS)),
    )


def read_tool_choice(body: Mapping[str, Json]) -> ToolChoice | None:
    """`tool_choice`."""
    choice = optional(body, "tool_choice", dict)
    if choice is None:
        return None
    match required(choice, "type", str, "tool_choice."):
        case "auto":
            return ToolChoice("auto")
        case "any":
            return ToolChoice("required")
        case "none":
            return ToolChoice("none")
        case "tool":
            return ToolChoice("named", required(choice, "name", str, "tool_choice."))
    raise BadRequest("`tool_choice.type` must be auto, any, tool or none", param="tool_choice.type")


def parallel(body: Mapping[str, Json]) -> bool | None:
    """Whether several calls at once are wanted; None where `disable_parallel_tool_use` is not given."""
    choice = optional(body, "tool_choice", dict) or {}
    disabled = optional(choice, "disable_parallel_tool_use", bool, "tool_choice.")
    return None if disabled is None else not disabled
