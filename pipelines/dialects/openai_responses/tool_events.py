"""What our own executors do, on this wire: a call of a tool that ran here is an `mcp_call` item, as a provider's own
would be. `server_label` says that it is ours. Progress, for which the wire has no event, goes as one of a type that
begins with `penstock.`: OpenAI's clients pass over types that they do not know.

Source: https://platform.openai.com/docs/api-reference/responses-streaming (`response.mcp_call…`) and the `openai`
package's `McpCall`.

Above it: `encoder`, `decoder`, `output`, the readers. Below it: `events`, `own_runs`.
"""

from collections.abc import Mapping, Sequence

from pipelines.conversation import Json
from pipelines.dialects.openai_responses.fields import object_of, objects_of, text_of
from pipelines.dialects.own_runs import plain_name, unfolded
from pipelines.events import OURS, Event, Run, ToolEnded, ToolProgress, ToolStarted

PROGRESS = "penstock.tool_progress"
"""The type of a progress event."""

_KINDS = ("mcp_call", "mcp_approval_request")


def is_ours(item: Mapping[str, Json]) -> bool:
    """Whether an item is about a tool that ran here."""
    return item.get("type") in _KINDS and item.get("server_label") == OURS


def run_item(run: Run, status: str = "") -> dict[str, Json]:
    """A call of a tool that ran here as an output item. status: where it is not over."""
    over = not status
    return {
        "type": "mcp_call",
        "id": run.call_id,
        "status": status or ("failed" if run.error else "completed"),
        "approval_request_id": None,
        "server_label": OURS,
        "name": run.name,
        "arguments": run.arguments or "{}",
        "output": run.text if over else None,
        "error": _error(run.error) if run.error else None,
    }


def _error(text: str) -> dict[str, Json]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


def error_of(item: Mapping[str, Json]) -> str:
    """What an item says went wrong, in any of the forms of this field: an object with texts or a message, a string."""
    error = object_of(item, "error")
    texts = [text_of(content, "text") for content in objects_of(error, "content")]
    return "\n".join(filter(None, texts)) or text_of(error, "message") or text_of(item, "error")


class RunWriter:
    """The events of one such call. place: its `output_index`."""

    def __init__(self, event: ToolStarted, place: int) -> None:
        self.place = place
        self._run = Run(event.call_id, event.name, event.arguments)

    def start(self) -> list[dict[str, Json]]:
        """The events that announce it."""
        arguments = self._run.arguments or "{}"
        return [
            self._item("added", run_item(self._run, "in_progress")),
            self._about("mcp_call.in_progress"),
            self._about("mcp_call_arguments.delta", delta=arguments),
            self._about("mcp_call_arguments.done", arguments=arguments),
        ]

    def done(self, event: ToolEnded) -> tuple[list[dict[str, Json]], dict[str, Json]]:
        """The events that close it, and its item."""
        run = Run(self._run.call_id, self._run.name, self._run.arguments, event.text, event.error)
        item = run_item(run)
        return [self._about(f"mcp_call.{item['status']}"), self._item("done", item)], item

    def _about(self, kind: str, **fields: Json) -> dict[str, Json]:
        return {"type": f"response.{kind}", "item_id": self._run.call_id, "output_index": self.place, **fields}

    def _item(self, word: str, item: dict[str, Json]) -> dict[str, Json]:
        return {"type": f"response.output_item.{word}", "output_index": self.place, "item": item}


def write_progress(event: ToolProgress) -> dict[str, Json]:
    """More of what a running tool says."""
    return {"type": PROGRESS, "call_id": event.call_id, "text": event.text}


class RunReader:
    """Reads such items of one stream back to events."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._over: set[str] = set()

    def added(self, item: Mapping[str, Json]) -> list[Event]:
        """It was announced."""
        identity = text_of(item, "id")
        if item.get("type") != "mcp_call" or identity in self._begun:
            return []
        self._begun.add(identity)
        return [ToolStarted(identity, text_of(item, "name"), text_of(item, "arguments"))]

    def done(self, item: Mapping[str, Json]) -> list[Event]:
        """It is over, or stands whole in a whole answer."""
        begun, identity = self.added(item), text_of(item, "id")
        if item.get("type") != "mcp_call" or identity in self._over:
            return []
        self._over.add(identity)
        return [*begun, ToolEnded(identity, text_of(item, "output"), error_of(item))]

    def progress(self, event: Mapping[str, Json]) -> list[Event]:
        """More of what a running tool says."""
        identity = text_of(event, "call_id")
        is_open = identity in self._begun and identity not in self._over
        return [ToolProgress(identity, text_of(event, "text"))] if is_open else []


def without_ours(items: Sequence[Json], *, legal: bool = False) -> Sequence[Json]:
    """Input items with such calls taken apart, and what was asked of a person left out.

    legal: their names become such as a provider takes.
    """
    if not any(isinstance(item, dict) and is_ours(item) for item in items):
        return items

    def apart(item: dict[str, Json]) -> tuple[dict[str, Json], dict[str, Json]]:
        identity, name = text_of(item, "id"), text_of(item, "name")
        error = error_of(item)
        call = {"type": "function_call", "call_id": identity, "name": plain_name(name) if legal else name}
        output = text_of(item, "output") or (f"Error: {error}" if error else "")
        result = {"type": "function_call_output", "call_id": identity, "output": output}
        return {**call, "arguments": text_of(item, "arguments") or "{}"}, result

    kept = [item for item in items if not (isinstance(item, dict) and is_ours(item) and item["type"] != "mcp_call")]
    return unfolded(kept, is_ours, apart)
