"""Models and tools that do as they are told, for the tests of the loop: no clock, no provider, no process."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from pipelines.conversation import Json, Message, Request, Text, ToolSpec, Usage
from pipelines.events import Event, Finished, FinishReason, Grammar, PartDelta, PartEnded, PartStarted, Started
from pipelines.tools.arguments import Checker
from pipelines.tools.catalogue import Catalogue, Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.tools.policy import Rights
from pipelines.tools.redaction import Redactor
from pipelines.turns import CallRecord, Limits, Paused, Resumed, Setting, turns

SUM = Tool(
    name="math.sum",
    description="Adds numbers up",
    schema={
        "type": "object",
        "properties": {"numbers": {"type": "array", "items": {"type": "number"}}},
        "required": ["numbers"],
        "additionalProperties": False,
    },
    source="python",
)
ECHO = Tool(name="echo", description="Says it again", schema={"type": "object"}, source="python")
ALONE = Tool(
    name="alone", description="Beside no other", schema={"type": "object"}, source="python",
    policy=ToolPolicy(sequential=True),
)  # fmt: skip
CAREFUL = Tool(
    name="careful", description="Asks a person", schema={"type": "object"}, source="python",
    policy=ToolPolicy(requires_approval=True),
)  # fmt: skip
TOOLS = (SUM, ECHO, ALONE, CAREFUL)

Script = Callable[[ToolRun], AsyncGenerator[Progress | Ran, None]]


def said(text: str) -> Ran:
    """A result of plain text."""
    return Ran(parts=(Text(text),), size=len(text))


async def answering(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
    """What every tool does unless a test says otherwise."""
    yield Progress("half-way")
    if run.tool == SUM.name:
        yield said(str(sum(run.arguments["numbers"])))
    else:
        yield said(msgspec.json.encode(run.arguments).decode())


class Tools:
    """A toolbox. runs: every run that began, in order; closed: those that ended, however."""

    def __init__(self, script: Script = answering, tools: Sequence[Tool] = TOOLS) -> None:
        self.catalogue = Catalogue("test", 1, tuple(tools))
        self.script = script
        self.runs: list[ToolRun] = []
        self.closed: list[str] = []

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `catalogue.Toolbox`."""
        self.runs.append(run)
        source = self.script(run)
        try:
            async for one in source:
                yield one
        finally:
            await source.aclose()
            self.closed.append(run.id)


def text(words: str, index: int = 0) -> list[Event]:
    """A part of plain text."""
    return [PartStarted(index, "text"), PartDelta(index, words), PartEnded(index)]


def calling(name: str, arguments: Any = None, call_id: str = "c1", index: int = 0) -> list[Event]:
    """A call, in two pieces."""
    written = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
    half = len(written) // 2
    start = PartStarted(index, "tool_call", id=call_id, name=name)
    return [start, PartDelta(index, written[:half]), PartDelta(index, written[half:]), PartEnded(index)]


def turn(*parts: list[Event], reason: FinishReason | None = None, usage: Usage | None = None) -> list[Event]:
    """A whole turn."""
    events = [event for part in parts for event in part]
    calls = any(isinstance(event, PartStarted) and event.kind == "tool_call" for event in events)
    ended = Finished(reason or ("tool_calls" if calls else "stop"), usage=usage or Usage(input=10, output=5, cost=0.01))
    return [Started("provider", "model", "id"), *events, ended]


class Model:
    """Says one turn after the other; the last one again and again. asked: the requests, with who was pinned."""

    def __init__(self, *turns: list[Event], cost: float = 0.0) -> None:
        self._turns = turns
        self.cost = 0.0
        self._price = cost
        self.answered = ""
        self.asked: list[tuple[Request, str]] = []
        self.closed = 0

    async def ask(self, request: Request, pinned: str) -> AsyncGenerator[Event, None]:
        """See `turns.Model`."""
        self.asked.append((request, pinned))
        number = min(len(self.asked), len(self._turns)) - 1
        try:
            for event in self._turns[number]:
                await asyncio.sleep(0)
                yield event
            self.answered = f"provider/model-{number}"
            self.cost += self._price
        finally:
            self.closed += 1

    @property
    def results(self) -> list[Any]:
        """The results that the last request brought, in order."""
        return [part for message in self.asked[-1][0].messages if message.role == "tool" for part in message.parts]


class Loop:
    """One request's loop with everything that it may be asked about afterwards."""

    def __init__(
        self,
        model: Any,
        tools: Tools | None = None,
        *,
        own: Iterable[str] = (),
        limits: Limits | None = None,
        request: Request | None = None,
        **setting: Any,
    ) -> None:
        self.model = model
        self.tools = tools or Tools()
        self.records: list[CallRecord] = []
        self.held: list[Paused] = []
        self.events: list[Event] = []
        given: dict[str, Any] = {
            "toolbox": self.tools,
            "tools": {tool.name: tool for tool in self.tools.catalogue.tools},
            "rights": Rights(),
            "limits": limits or Limits(),
            "checker": Checker(),
            "redactor": Redactor(),
            "now": lambda: 0.0,
            "record": self.records.append,
            "hold": self._hold,
            "id": "request",
        }
        self.setting = Setting(**{**given, **setting})
        specs = tuple(ToolSpec(name) for name in (*self.setting.tools, *own))
        message = Message("user", (Text("go"),))
        self.request = request or Request("some/model", (message,), tools=specs)

    async def _hold(self, paused: Paused) -> dict[str, Json]:
        self.held.append(msgspec.msgpack.decode(msgspec.msgpack.encode(paused), type=Paused))
        return {"id": "token"}

    async def run(self, resumed: Resumed | None = None) -> list[Event]:
        """The whole stream, checked against the grammar."""
        grammar = Grammar()
        self.events = []
        async for event in turns(self.request, self.model, self.setting, resumed):
            grammar.check(event)
            self.events.append(event)
        grammar.close()
        return self.events

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def end(self) -> Finished:
        """The last event."""
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last
