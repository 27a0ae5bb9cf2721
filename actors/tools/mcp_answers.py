"""What MCP servers answer, put right before the client reads it: it throws a whole list away for one odd tool.

    the server --Streams--> as_read --Streams--> the client

Each tool of a list is looked at alone, and what is used here of it is handed on: nothing reads its annotations, and an
output schema would only lose results that do not keep to it. An input schema that does not fit the protocol travels in
`_meta`, where `given_schema` finds it; whether a tool can be used is not decided here. A call that is answered has been
made, so each part of its result is looked at alone, too: one that is not known leaves a word in its place.

Source: https://modelcontextprotocol.io/specification/2025-11-25/schema (ListToolsResult, Tool, CallToolResult).

Above it: `mcp_source`, `mcp_parts`. Below it: `mcp_stdio`, `mcp_types`. Outside it: making schemas usable
(`pipelines.tools.admission`).
"""

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import mcp_types
from mcp.shared.message import SessionMessage
from mcp_types.methods import parse_server_result
from pydantic import ValidationError

from actors.tools.mcp_stdio import Streams
from pipelines.conversation import Json

_REVISION = "2025-11-25"
"""The revision whose schemas are the strictest: what fits them fits every one."""

_GIVEN = "penstock/inputSchema"
_EMPTY: dict[str, Json] = {"type": "object"}
_WORDS = ("name", "title", "description")

_UNREAD = ("annotations", "_meta", "icons", "size")
"""What nothing here reads of a result's part."""

_MOST_KIND = 40
"""Characters that are told of a kind of part that is not known."""


@asynccontextmanager
async def as_read(way: AbstractAsyncContextManager[Streams]) -> AsyncGenerator[Streams, None]:
    """The streams of a session, with what the server answers put right."""
    async with way as (read, write):
        yield _Answers(read), write


class _Answers:
    """A stream of messages (`mcp.shared._stream_protocols.ReadStream`), each put right on its way."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages

    @property
    def last_context(self) -> Any:
        """The sender's context of the last message, where the stream keeps it."""
        return getattr(self._messages, "last_context", None)

    async def receive(self) -> Any:
        return _put_right(await self._messages.receive())

    async def aclose(self) -> None:
        await self._messages.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return _put_right(await anext(self._messages))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _put_right(said: Any) -> Any:
    """What came from the server: a message, or an exception of its stream."""
    if isinstance(said, SessionMessage) and isinstance(said.message, mcp_types.JSONRPCResponse):
        result = said.message.result
        if isinstance(result.get("tools"), list):
            said.message.result = {**result, "tools": [_tool(entry) for entry in result["tools"]]}
        elif "content" in result or "structuredContent" in result:
            said.message.result = _call_result(result)
    return said


def given_schema(listed: mcp_types.Tool) -> dict[str, Json]:
    """The input schema of a tool as its server gave it; an empty one for what is no object."""
    given = (listed.meta or {}).get(_GIVEN, listed.input_schema)
    return given if isinstance(given, dict) else {}


def _tool(entry: Json) -> dict[str, Json]:
    """One entry of a list, fit to be read. Its name is empty where it has none."""
    given: dict[str, Json] = entry if isinstance(entry, dict) else {}
    found: dict[str, Json] = {"name": "", **{word: given[word] for word in _WORDS if isinstance(given.get(word), str)}}
    if "execution" in given and _fits({**found, "execution": given["execution"]}):
        found["execution"] = given["execution"]
    schema = given.get("inputSchema")
    if _fits({**found, "inputSchema": schema}):
        return {**found, "inputSchema": schema}
    # Of a schema without its `type` the client still needs what it says of headers.
    typed = {**schema, **_EMPTY} if isinstance(schema, dict) else _EMPTY
    shown = typed if _fits({**found, "inputSchema": typed}) else _EMPTY
    return {**found, "inputSchema": shown, "_meta": {_GIVEN: schema}}


def _fits(tool: dict[str, Json]) -> bool:
    """Whether the client reads this tool."""
    return _is_read("tools/list", {"tools": [{"inputSchema": _EMPTY, **tool}]})


def _call_result(result: dict[str, Json]) -> dict[str, Json]:
    """A call's result with nothing but content: where there is none, what is structured as JSON."""
    found = {key: value for key, value in result.items() if key not in ("structuredContent", "_meta")}
    if found.get("isError", False) is None:
        del found["isError"]
    content, structured = result.get("content") or [], result.get("structuredContent")
    if not content and structured is not None:
        content = [_text(json.dumps(structured, ensure_ascii=False))]
    found["content"] = [_block(block) for block in content] if isinstance(content, list) else content
    return found


def _block(given: Json) -> dict[str, Json]:
    """One part of a result, fit to be read: as it is, or its text, or a word in its place."""
    block = {key: value for key, value in given.items() if key not in _UNREAD} if isinstance(given, dict) else {}
    inner = block.get("resource")
    if isinstance(inner, dict):
        inner = block["resource"] = {key: value for key, value in inner.items() if key not in _UNREAD}
    if _is_read("tools/call", {"content": [block]}):
        return block
    for text in (given, block.get("text"), inner.get("text") if isinstance(inner, dict) else None):
        if isinstance(text, str):
            return _text(text)
    kind = block.get("type")
    return _text(f"[a part of the kind {str(kind)[:_MOST_KIND]!r} that cannot be read]")


def _text(words: str) -> dict[str, Json]:
    return {"type": "text", "text": words}


def _is_read(method: str, result: dict[str, Json]) -> bool:
    """Whether the client reads this answer."""
    try:
        parse_server_result(method, _REVISION, result)
    except ValidationError:
        return False
    return True
