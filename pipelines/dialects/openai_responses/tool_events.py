"""What our own executors do, on this wire: events of a type that begins with `penstock.`.

OpenAI's clients pass over events of a type that they do not know.

Above it: `encoder`, `decoder`. Below it: `events`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json
from pipelines.dialects.openai_responses.fields import text_of
from pipelines.events import Event, ToolEnded, ToolProgress, ToolStarted

TOOL_EVENTS = "penstock."
"""What the types of these events begin with."""


def write_tool_event(event: ToolStarted | ToolProgress | ToolEnded) -> dict[str, Json]:
    """The event's fields, `type` first."""
    match event:
        case ToolStarted():
            return {"type": "penstock.tool_started", "call_id": event.call_id, "name": event.name}
        case ToolProgress():
            return {"type": "penstock.tool_progress", "call_id": event.call_id, "text": event.text}
        case ToolEnded():
            return {
                "type": "penstock.tool_ended",
                "call_id": event.call_id,
                "text": event.text,
                "error": event.error,
            }


def read_tool_event(kind: str, event: Mapping[str, Json]) -> list[Event]:
    """The event of such a type; none where the type is unknown."""
    call_id = text_of(event, "call_id")
    match kind.removeprefix(TOOL_EVENTS):
        case "tool_started":
            return [ToolStarted(call_id, text_of(event, "name"))]
        case "tool_progress":
            return [ToolProgress(call_id, text_of(event, "text"))]
        case "tool_ended":
            return [ToolEnded(call_id, text_of(event, "text"), text_of(event, "error"))]
    return []
