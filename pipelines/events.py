"""The stream grammar: the one vocabulary between every two parts of the system.

    stream := Started item* Finished
    item   := PartStarted PartDelta* PartEnded          one part of the answer; parts may interleave by index
            | ToolStarted ToolProgress* ToolEnded       from our executors; may interleave by call
    kinds of part: text, reasoning, refusal, tool_call, foreign

A stream is complete only if it ends in `Finished`. `Grammar` is that rule as a table, `assemble` folds a whole
stream into a `Completion`; both raise instead of passing a truncated stream for an answer.

Above it: everything that streams. Below it: `conversation`, `errors`. Outside it: wire formats.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from pipelines.conversation import (
    Foreign,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    Usage,
)
from pipelines.errors import ProtocolError, StreamBroken

OURS = "penstock"
"""Our own share of `opaque`, and our member of bodies and frames."""

PartKind = Literal["text", "reasoning", "refusal", "tool_call", "foreign"]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "other"]
"""Why a model stopped: it was done, out of tokens, wants tools, was filtered, declined, or rests."""


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event"):
    """Frozen, tagged by `event`."""


class Started(_Event, frozen=True, tag="started"):
    """The answer begins. `created` is in seconds since 1970; `opaque` holds a dialect's own fields."""

    provider: str = ""
    model: str = ""
    id: str = ""
    created: int = 0
    opaque: Opaque | None = None


class PartStarted(_Event, frozen=True, tag="part_started"):
    """Part `index` of the answer begins. `id` and `name` belong to tool calls.

    A foreign part has an `id` where it is a call that the caller must answer before the model goes on.
    choice: which of the `n` answers it belongs to.
    """

    index: int
    kind: PartKind
    id: str = ""
    name: str = ""
    choice: int = 0
    opaque: Opaque | None = None


class PartDelta(_Event, frozen=True, tag="part_delta"):
    """More of part `index`: text, or a piece of a tool call's arguments."""

    index: int
    text: str
    opaque: Opaque | None = None


class PartEnded(_Event, frozen=True, tag="part_ended"):
    """Part `index` is whole. `opaque` holds what came with it: signatures, citations, the foreign block."""

    index: int
    opaque: Opaque | None = None


class ToolStarted(_Event, frozen=True, tag="tool_started"):
    """A call of a tool that runs here begins. arguments: JSON text, as the model wrote it."""

    call_id: str
    name: str
    arguments: str = ""


class ToolProgress(_Event, frozen=True, tag="tool_progress"):
    """Something that the running tool yielded."""

    call_id: str
    text: str


class ToolEnded(_Event, frozen=True, tag="tool_ended"):
    """The call is over: text is its result, `error` is empty where it went well."""

    call_id: str
    text: str = ""
    error: str = ""


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole call of a tool that ran here, with its result, as an answer shows it."""

    call_id: str
    name: str
    arguments: str = ""
    text: str = ""
    error: str = ""


class ChoiceEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why one of several answers (n > 1) ended."""

    choice: int
    reason: FinishReason
    raw_reason: str = ""


class Finished(_Event, frozen=True, tag="finished"):
    """The answer is whole. `reason` is ours, `raw_reason` the provider's word.

    usage is None where the provider gave none. `choices` is only filled for n > 1.
    """

    reason: FinishReason
    raw_reason: str = ""
    usage: Usage | None = None
    choices: tuple[ChoiceEnd, ...] = ()
    opaque: Opaque | None = None


Event = Started | PartStarted | PartDelta | PartEnded | ToolStarted | ToolProgress | ToolEnded | Finished


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole answer: one message for each of the `n` choices (usually one)."""

    started: Started
    messages: tuple[Message, ...]
    finished: Finished

    @property
    def message(self) -> Message:
        """The first choice."""
        return self.messages[0]


class Grammar:
    """Checks a stream event by event.

    States: "before" → (Started) → "within" → (Finished) → "after".

    | event | before | within | after |
    |---|---|---|---|
    | Started | → within | error | error |
    | PartStarted, ToolStarted | error | opens its index or call | error |
    | PartDelta, ToolProgress | error | index or call must be open | error |
    | PartEnded, ToolEnded | error | closes it | error |
    | Finished | error | nothing may be open; → after | error |
    """

    def __init__(self) -> None:
        self.state: Literal["before", "within", "after"] = "before"
        self._open: set[int | str] = set()
        self._seen: set[int | str] = set()

    def check(self, event: Event) -> None:
        """Take the next event; ProtocolError if the grammar has no place for it here."""
        expected = "before" if isinstance(event, Started) else "within"
        if self.state != expected:
            raise ProtocolError(f"{type(event).__name__} {self.state} the stream's body")
        match event:
            case Started():
                self.state = "within"
            case PartStarted(index=key) | ToolStarted(call_id=key):
                if key in self._seen:
                    raise ProtocolError(f"{type(event).__name__} twice for {key!r}")
                self._seen.add(key)
                self._open.add(key)
            case PartDelta(index=key) | ToolProgress(call_id=key):
                self._must_be_open(key, event)
            case PartEnded(index=key) | ToolEnded(call_id=key):
                self._must_be_open(key, event)
                self._open.discard(key)
            case Finished():
                if self._open:
                    raise ProtocolError(f"finished with {sorted(map(str, self._open))} open")
                self.state = "after"

    def close(self) -> None:
        """The stream ended: StreamBroken unless it ended in `Finished`."""
        if self.state != "after":
            raise StreamBroken("the stream ended before the answer did")

    def _must_be_open(self, key: int | str, event: Event) -> None:
        if key not in self._open:
            raise ProtocolError(f"{type(event).__name__} for {key!r}, which is not open")


class _OpenPart:
    """A part of an answer while its deltas come."""

    def __init__(self, start: PartStarted) -> None:
        self.start = start
        self.texts: list[str] = []
        self.opaque = merged(None, start.opaque)

    def part(self) -> Part:
        """The part, whole."""
        text = "".join(self.texts)
        match self.start.kind:
            case "text":
                return Text(text, self.opaque)
            case "reasoning":
                return Reasoning(text, self.opaque)
            case "refusal":
                return Refusal(text)
            case "tool_call":
                return ToolCall(self.start.id, self.start.name, text, self.opaque)
            case "foreign":
                return Foreign(self.opaque or {})


class _Run:
    """A call of a tool that ran here. behind: the highest index of a part that had begun before it."""

    def __init__(self, behind: int, start: ToolStarted) -> None:
        self.behind = behind
        self.start = start
        self.end = ToolEnded(start.call_id)

    def part(self) -> Part:
        """The call with its result, as `run_of` reads it."""
        run = Run(self.start.call_id, self.start.name, self.start.arguments, self.end.text, self.end.error)
        return Foreign({OURS: {"run": msgspec.to_builtins(run)}})


def run_of(part: Part) -> "Run | None":
    """The call of a tool that ran here, where the part is one."""
    share = part.opaque.get(OURS) if isinstance(part, Foreign) else None
    return msgspec.convert(share["run"], Run) if isinstance(share, dict) and "run" in share else None


def merged(old: Opaque | None, new: Opaque | None) -> Opaque | None:
    """Two opaque bags as one: objects are merged key by key, lists are joined, anything else is replaced."""
    if not new:
        return old
    result = dict(old or {})
    for key, value in new.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            result[key] = [*before, *value]
        else:
            result[key] = value
    return result


def assemble(events: Iterable[Event]) -> Completion:
    """Fold a whole stream into the answer.

    Raises StreamBroken if it does not end in `Finished`, ProtocolError if it breaks the grammar.
    Parts stand in order of their index, whatever order they ended in. A call of a tool that ran here is a `Foreign` of
    ours (`run_of`), behind the parts that had begun before it.
    """
    grammar = Grammar()
    parts: dict[int, _OpenPart] = {}
    runs: dict[str, _Run] = {}
    started, finished = Started(), Finished("other")
    for event in events:
        grammar.check(event)
        match event:
            case Started():
                started = event
            case PartStarted():
                parts[event.index] = _OpenPart(event)
            case PartDelta():
                parts[event.index].texts.append(event.text)
                parts[event.index].opaque = merged(parts[event.index].opaque, event.opaque)
            case PartEnded():
                parts[event.index].opaque = merged(parts[event.index].opaque, event.opaque)
            case ToolStarted():
                runs[event.call_id] = _Run(max(parts, default=-1), event)
            case ToolEnded():
                runs[event.call_id].end = event
            case Finished():
                finished = event
            case _:
                pass
    grammar.close()
    return Completion(started, _messages(parts, list(runs.values()), finished), finished)


def _messages(parts: dict[int, _OpenPart], runs: list[_Run], finished: Finished) -> tuple[Message, ...]:
    """One assistant message a choice; a choice with no part at all is an empty message. Runs are of the first."""
    choices = {part.start.choice for part in parts.values()} | {0}
    choices |= {end.choice for end in finished.choices}
    placed = [(index, 0, part.start.choice, part.part()) for index, part in parts.items()]
    placed += [(run.behind, number, 0, run.part()) for number, run in enumerate(runs, start=1)]
    ordered = sorted(placed, key=lambda one: one[:2])
    return tuple(
        Message("assistant", tuple(part for _, _, own, part in ordered if own == choice))
        for choice in range(max(choices) + 1)
    )
