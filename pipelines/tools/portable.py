"""A whole request as a provider's format takes it: safe names everywhere, valid schemas, strict where it can be held.

Tools that the provider runs itself (`ToolSpec.opaque` holds them whole) keep their names and stay as they are.

Source of the limits on strict tools: Anthropic docs, "Structured outputs", "Schema complexity limits".

Above it: `exchange`. Below it: `names`, `references`, `schemas`, `strictness`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pipelines.conversation import Json, Message, Opaque, Part, Request, ToolCall, ToolChoice, ToolSpec
from pipelines.tools.formats import FORMATS, PROPERTY_KEY, TOOL_NAME, Rules
from pipelines.tools.keywords import Path
from pipelines.tools.names import NameMap, safe_names
from pipelines.tools.references import References, noted, step_name
from pipelines.tools.schemas import convert
from pipelines.tools.strictness import holds_strictly

_STRICT_TOOLS, _STRICT_OPTIONAL, _STRICT_UNIONS = 20, 24, 16

_PROPERTY = "#/properties/"
_BY_NAME = frozenset((
    "propertyNames", "dependentRequired", "dependentSchemas", "dependencies", "if", "then", "else", "not",
))  # fmt: skip
"""Keywords of the top level that speak of arguments by their names."""

_EMPTY: dict[str, Json] = {"type": "object", "properties": {}}


class Portable(NamedTuple):
    """A request that a format takes, the way back to the caller's names, and names of what was lost."""

    request: Request
    names: NameMap
    dropped: tuple[str, ...] = ()


def offered_as_is(tools: Sequence[ToolSpec], format_name: str) -> bool:
    """Whether the dialect `format_name` takes these tools as they came from it: names and schemas."""
    rules = FORMATS[format_name]
    return all(_provider_side(tool) or _as_is(tool, rules, format_name) for tool in tools)


def portable(request: Request, format_name: str) -> Portable:
    """`request` for the dialect `format_name`: tools, tool choice and the calls of earlier turns.

    KeyError for a dialect that is not known.
    """
    called = list(_calls(request.messages))
    if not request.tools and not called and request.tool_choice is None:
        return Portable(request, NameMap({}))
    rules = FORMATS[format_name]
    sent = _sent_names(request, called)
    tools: list[ToolSpec] = []
    dropped: list[str] = []
    keys: dict[str, dict[str, str]] = {}
    for tool in request.tools:
        if _provider_side(tool):
            tools.append(tool)
            continue
        safe = sent.get(tool.name, tool.name)
        schema, lost = _schema(tool, rules, format_name)
        dropped += _lost(safe, lost)
        if schema is not None and rules.safe_keys:
            keys[tool.name] = safe_names(schema.get("properties") or (), legal=PROPERTY_KEY)
            schema, lost = _with_keys(schema, keys[tool.name])
            dropped += _lost(safe, lost)
        tools.append(replace(tool, name=safe, schema=schema))
    written = _strict(tools, format_name, dropped)
    names = NameMap(sent, keys)
    choice = _choice(request.tool_choice, names)
    messages = tuple(_message(message, names) for message in request.messages) if names else request.messages
    extra = _extra(request.extra, names)
    changed = replace(request, tools=tuple(written), tool_choice=choice, messages=messages, extra=extra)
    return Portable(changed, names, tuple(dict.fromkeys(dropped)))


def _as_is(tool: ToolSpec, rules: Rules, format_name: str) -> bool:
    if not TOOL_NAME.fullmatch(tool.name):
        return False
    schema = tool.schema
    if schema is None:
        return True
    if convert(schema, format_name).schema is not schema:
        return False
    return not rules.safe_keys or all(map(PROPERTY_KEY.fullmatch, schema.get("properties") or ()))


def _provider_side(tool: ToolSpec) -> bool:
    if tool.schema is not None or not tool.opaque:
        return False
    return any(isinstance(share, dict) and ("tool" in share or "type" in share) for share in tool.opaque.values())


def _calls(messages: Sequence[Message]) -> Iterator[ToolCall]:
    return (part for message in messages for part in message.parts if isinstance(part, ToolCall))


def _sent_names(request: Request, called: Sequence[ToolCall]) -> dict[str, str]:
    choice = request.tool_choice or ToolChoice()
    kept = {tool.name for tool in request.tools if _provider_side(tool)}
    own = {tool.name for tool in request.tools} - kept
    named = {choice.name, *choice.allowed} if choice.name else {*choice.allowed}
    return safe_names(own | named | {call.name for call in called}, kept)


def _schema(tool: ToolSpec, rules: Rules, format_name: str) -> tuple[dict[str, Json] | None, tuple[str, ...]]:
    if tool.schema is None:
        return (None if rules.bare else _EMPTY), ()
    return convert(tool.schema, format_name)


def _printable(path: str) -> str:
    return "".join(letter if " " < letter <= "~" and letter != "," else "_" for letter in path)


def _lost(tool: str, paths: Sequence[str]) -> list[str]:
    return [f"tools.{tool}.{_printable(path)}" for path in paths]


def _with_keys(schema: dict[str, Json], names: dict[str, str]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """`schema` with arguments of its top level renamed, and what else speaks of them by name taken out and named."""
    if not names:
        return schema, ()
    renamed = {key: value for key, value in schema.items() if key not in _BY_NAME}
    renamed["properties"] = {names.get(key, key): entry for key, entry in schema["properties"].items()}
    if schema.get("required"):
        renamed["required"] = [names.get(key, key) for key in schema["required"]]

    def moved(reference: str) -> str:
        own, slash, rest = reference.removeprefix(_PROPERTY).partition("/")
        safe = names.get(step_name(own)) if reference.startswith(_PROPERTY) else None
        return reference if safe is None else f"{_PROPERTY}{safe}{slash}{rest}"

    references = References()
    lost: list[Path] = [(key,) for key in schema if key in _BY_NAME]
    made: dict[str, Json] = noted(renamed, (), references)
    references.settle(made, moved, lost)
    return made, tuple(".".join(path) for path in lost)


def _strict(tools: Sequence[ToolSpec], format_name: str, dropped: list[str]) -> list[ToolSpec]:
    """The tools, `strict` taken off where it cannot be held or where the request has too much of it."""
    limited = format_name == "anthropic_messages"
    count = optional = unions = 0
    written = []
    for tool in tools:
        if tool.strict and not _provider_side(tool):
            more_optional, more_unions = _complexity(tool.schema or {})
            count, optional, unions = count + 1, optional + more_optional, unions + more_unions
            fits = count <= _STRICT_TOOLS and optional <= _STRICT_OPTIONAL and unions <= _STRICT_UNIONS
            if not holds_strictly(tool.schema, format_name) or (limited and not fits):
                count, optional, unions = count - 1, optional - more_optional, unions - more_unions
                dropped.append(f"tools.{tool.name}.strict")
                tool = replace(tool, strict=None)
        written.append(tool)
    return written


def _complexity(schema: Json) -> tuple[int, int]:
    """How many arguments are optional, and how many are unions.

    Values that are no schemas (a default, an unknown keyword's) are counted as if they were: anything may be in them.
    """
    optional = unions = 0
    waiting = [schema]
    while waiting:
        held = waiting.pop()
        if isinstance(held, list):
            waiting += held
        elif isinstance(held, dict):
            waiting += held.values()
            required, properties = held.get("required"), held.get("properties")
            names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
            optional += len(properties.keys() - names) if isinstance(properties, dict) else 0
            unions += isinstance(held.get("anyOf"), list) or isinstance(held.get("type"), list)
    return optional, unions


def _choice(choice: ToolChoice | None, names: NameMap) -> ToolChoice | None:
    if choice is None:
        return None
    return replace(choice, name=names.send(choice.name), allowed=tuple(map(names.send, choice.allowed)))


def _extra(extra: Opaque | None, names: NameMap) -> Opaque | None:
    """A choice that only the Responses dialect has may list functions beside the provider's own tools."""
    share = (extra or {}).get("openai_responses")
    if not names.sent or not isinstance(share, dict):
        return extra
    choice = share.get("tool_choice")
    if not isinstance(choice, dict) or not isinstance(choice.get("tools"), list):
        return extra
    tools = [
        {**tool, "name": names.send(tool["name"])}
        if isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("name"), str)
        else tool
        for tool in choice["tools"]
    ]
    return {**(extra or {}), "openai_responses": {**share, "tool_choice": {**choice, "tools": tools}}}


def _message(message: Message, names: NameMap) -> Message:
    """Calls of earlier turns under the sent names; a result's message may be named after its tool."""
    name = names.send(message.name) if message.role == "tool" else message.name
    return replace(message, name=name, parts=tuple(_part(part, names) for part in message.parts))


def _part(part: Part, names: NameMap) -> Part:
    if not isinstance(part, ToolCall):
        return part
    return replace(part, name=names.send(part.name), arguments=names.send_arguments(part.name, part.arguments))
