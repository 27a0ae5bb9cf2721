"""One turn of a model, as it is read: what the caller sees of it at once, and which calls are for us.

The caller's own calls and everything else pass as they come, under indexes that go on from turn to turn. A call of any
other name is ours: it is kept back until the turn is whole, since an unfinished one is never run.

Above it: `loop`. Below it: `events`.
"""

from msgspec.structs import replace

from pipelines.conversation import Message, ToolCall
from pipelines.errors import StreamBroken
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.turns.limits import Tally


class TurnReading:
    """One turn. theirs: names of the tools that the caller runs himself."""

    def __init__(self, theirs: frozenset[str], tally: Tally) -> None:
        self._theirs = theirs
        self._tally = tally
        self._events: list[Event] = []
        self._shown: dict[int, int] = {}
        self._kept: set[int] = set()
        self._first = tally.turns == 0
        self._waits = False
        self.finished: Finished | None = None

    def take(self, event: Event) -> list[Event]:
        """The next event of the model; what of it goes to the caller."""
        self._events.append(event)
        match event:
            case PartDelta() | PartEnded():
                return [] if event.index in self._kept else [replace(event, index=self._shown[event.index])]
            case PartStarted():
                return self._begun(event)
            case Started():
                return [event] if self._first else []
            case Finished():
                self.finished = event
                return []
            case _:
                return []

    def _begun(self, event: PartStarted) -> list[Event]:
        if event.kind == "tool_call" and event.name not in self._theirs:
            self._kept.add(event.index)
            return []
        self._waits = self._waits or (event.kind == "foreign" and bool(event.id))
        self._shown[event.index] = index = self._tally.parts
        self._tally.parts += 1
        return [replace(event, index=index)]

    def message(self) -> Message:
        """What the model said, each call with an id of its own. Raises StreamBroken where the turn is not whole."""
        if self.finished is None:
            raise StreamBroken("the model's turn ended before its answer did")
        message = assemble(self._events).message
        parts = tuple(
            replace(part, id=self._tally.unique(part.id))
            if isinstance(part, ToolCall) and part.name not in self._theirs
            else part
            for part in message.parts
        )
        return replace(message, parts=parts)

    def ours(self, message: Message) -> tuple[ToolCall, ...]:
        """The calls of a turn that are for us."""
        return tuple(call for call in message.tool_calls if call.name not in self._theirs)

    def has_theirs(self, message: Message) -> bool:
        """Whether the caller has something to run, or to answer that only his dialect has."""
        return self._waits or any(call.name in self._theirs for call in message.tool_calls)
