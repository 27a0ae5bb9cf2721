"""A caller's tools and his choice among them, today's and those of the time of `functions`.

Above it: `request_reader`. Below it: `fields`, `legacy`, `conversation`.
"""

from typing import Literal

from pipelines.conversation import Json, Opaque, ToolChoice, ToolSpec
from pipelines.dialects.openai_chat.fields import (
    Object,
    flag,
    items,
    kind,
    mapping,
    needed_mapping,
    needed_text,
    rest,
    text,
    wrong,
)
from pipelines.dialects.openai_chat.legacy import LEGACY
from pipelines.dialects.openai_chat.thoughts import KEY
from pipelines.dialects.own_runs import our_tool
from pipelines.events import OURS

_FUNCTION = frozenset(("name", "description", "parameters", "strict"))
_TOOL = frozenset(("type", "function"))
_MODES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
}
"""The words for a choice; "any" is Mistral's."""


def read_tools(body: Object) -> tuple[ToolSpec, ...]:
    """`tools`, then `functions`."""
    tools = [_tool(entry, f"tools.{place}") for place, entry in enumerate(items(body, "tools"))]
    for place, entry in enumerate(items(body, "functions")):
        path = f"functions.{place}"
        tools.append(_function(_object(entry, path), path, LEGACY))
    return tuple(tools)


def _tool(entry: Json, path: str) -> ToolSpec:
    """A function; any other kind is kept whole, under its own name or its type's."""
    tool = _object(entry, path)
    name = needed_text(tool, "type", path)
    if name == OURS:
        return our_tool(tool)
    if name != "function":
        inner = tool.get(name)
        own = inner.get("name") if isinstance(inner, dict) else tool.get("name")
        return ToolSpec(own if isinstance(own, str) and own else name, opaque={KEY: {"tool": tool}})
    function = needed_mapping(tool, "function", path)
    others = {**rest(tool, _TOOL)}
    inner_others = rest(function, _FUNCTION)
    if inner_others:
        others["function"] = inner_others
    return _function(function, f"{path}.function", {KEY: {"beside": others}} if others else None)


def _function(function: Object, path: str, opaque: Opaque | None) -> ToolSpec:
    return ToolSpec(
        needed_text(function, "name", path),
        text(function, "description", path),
        mapping(function, "parameters", path),
        flag(function, "strict", path),
        opaque,
    )


def read_tool_choice(body: Object) -> ToolChoice | None:
    """`tool_choice`, or `function_call`."""
    choice = body.get("tool_choice")
    if choice is not None:
        return _word(choice, "tool_choice") if isinstance(choice, str) else _chosen(choice)
    choice = body.get("function_call")
    if choice is None:
        return None
    if isinstance(choice, str):
        return _word(choice, "function_call")
    return ToolChoice("named", needed_text(_object(choice, "function_call"), "name", "function_call"))


def _word(choice: str, path: str) -> ToolChoice:
    mode = _MODES.get(choice)
    if mode is None:
        wrong(path, "must be 'none', 'auto', 'required' or an object")
    return ToolChoice(mode)


def _chosen(given: Json) -> ToolChoice:
    path = "tool_choice"
    choice = _object(given, path)
    name = needed_text(choice, "type", path)
    if name in ("function", "custom"):
        inner = needed_mapping(choice, name, path)
        return ToolChoice("named", needed_text(inner, "name", f"{path}.{name}"))
    if name != "allowed_tools":
        wrong(f"{path}.type", "must be 'function', 'custom' or 'allowed_tools'")
    inner = needed_mapping(choice, name, path)
    path = f"{path}.{name}"
    mode = needed_text(inner, "mode", path)
    if mode not in ("auto", "required"):
        wrong(f"{path}.mode", "must be 'auto' or 'required'")
    tools = items(inner, "tools", path)
    if not tools:
        wrong(f"{path}.tools", "must not be empty")
    names = [_allowed(entry, f"{path}.tools.{place}") for place, entry in enumerate(tools)]
    return ToolChoice("auto" if mode == "auto" else "required", allowed=tuple(names))


def _allowed(entry: Json, path: str) -> str:
    tool = _object(entry, path)
    name = needed_text(tool, "type", path)
    inner = tool.get(name)
    if isinstance(inner, dict):
        return needed_text(inner, "name", f"{path}.{name}")
    return text(tool, "name", path) or name


def _object(value: Json, path: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        wrong(path, f"must be an object, not {kind(value)}")
    return value
