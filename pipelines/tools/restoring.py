"""A provider's events with the caller's own names, tools' and arguments'.

Above it: `exchange`. Below it: `names`, `events`.
"""

import msgspec

from pipelines.events import Event, PartDelta, PartEnded, PartStarted
from pipelines.tools.names import NameMap


class Restorer:
    """One object a stream.

    The arguments of a tool of which an argument was renamed are held until they are whole, since a name may be split
    anywhere; those of every other tool pass as they come.
    """

    def __init__(self, names: NameMap) -> None:
        self._names = names
        self._held: dict[int, tuple[str, list[str]]] = {}

    def restore(self, events: list[Event]) -> list[Event]:
        """Events as the caller is to see them, in their order."""
        if not self._names:
            return events
        restored: list[Event] = []
        for event in events:
            restored += self._restored(event)
        return restored

    def _restored(self, event: Event) -> list[Event]:
        match event:
            case PartStarted(kind="tool_call"):
                event = self._names.restore(event)
                if isinstance(event, PartStarted) and event.name in self._names.keys:
                    self._held[event.index] = (event.name, [])
            case PartDelta() if event.index in self._held:
                self._held[event.index][1].append(event.text)
                return [msgspec.structs.replace(event, text="")] if event.opaque else []
            case PartEnded() if event.index in self._held:
                name, pieces = self._held.pop(event.index)
                arguments = self._names.own_arguments(name, "".join(pieces))
                return [PartDelta(event.index, arguments), event] if arguments else [event]
            case _:
                pass
        return [event]
