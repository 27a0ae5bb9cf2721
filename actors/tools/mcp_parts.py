"""What MCP servers say, as our values: tools from their lists, parts from their results.

A server's annotations (`readOnlyHint` and the like) are its own claims and decide nothing
(https://modelcontextprotocol.io/specification/2025-11-25/server/tools#security-considerations). A tool that can only
be run as a task is listed and cannot be used.

Above it: `mcp_source`. Below it: `mcp_answers`, `pipelines.tools.catalogue`. Outside it: asking the server.
"""

from collections.abc import Mapping

import mcp_types
import msgspec

from actors.tools.mcp_answers import given_schema
from pipelines.conversation import File, Image, Text
from pipelines.tools.catalogue import Tool, ToolPolicy

Part = Text | Image | File


def tool_of(listed: mcp_types.Tool, prefix: str, source: str, toolset: str, policies: Mapping[str, ToolPolicy]) -> Tool:
    """A server's tool under our name, "" where it has none. policies: by the server's own name, "" for all others."""
    tool = Tool(
        name=prefix + listed.name if listed.name.strip() else "",
        description=listed.description or listed.title or "",
        schema=given_schema(listed),
        source=source,
        toolset=toolset,
        policy=policies.get(listed.name, policies[""]),
    )
    if listed.execution is not None and listed.execution.task_support == "required":
        return msgspec.structs.replace(tool, health="failed", why="it can only be run as a task")
    return tool


def parts_of(result: mcp_types.CallToolResult) -> tuple[Part, ...]:
    """What a call gave: its content, which has what was structured only (`mcp_answers`)."""
    return tuple(_part(block) for block in result.content)


def _part(block: mcp_types.ContentBlock) -> Part:
    match block:
        case mcp_types.TextContent():
            return Text(block.text)
        case mcp_types.ImageContent():
            return Image(data=block.data, media_type=block.mime_type)
        case mcp_types.AudioContent():
            return File(name="audio", data=block.data, media_type=block.mime_type)
        case mcp_types.ResourceLink():
            return Text(f"{block.title or block.name}: {block.uri}")
        case mcp_types.EmbeddedResource():
            return _resource(block.resource)


def _resource(resource: mcp_types.TextResourceContents | mcp_types.BlobResourceContents) -> Part:
    if isinstance(resource, mcp_types.TextResourceContents):
        return Text(resource.text)
    media_type = resource.mime_type or "application/octet-stream"
    if media_type.startswith("image/"):
        return Image(data=resource.blob, media_type=media_type)
    name = str(resource.uri).rstrip("/").rpartition("/")[2]
    return File(name=name or "resource", data=resource.blob, media_type=media_type)


def text_of(parts: tuple[Part, ...]) -> str:
    """The text among the parts, for an error's words."""
    return "\n".join(part.text for part in parts if isinstance(part, Text) and part.text)
