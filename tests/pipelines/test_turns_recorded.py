"""The loop on recorded conversations: what the recorded client sent next is what our loop sends next.

A conversation is a run of recordings in each of which the client brings back what its tools said to the calls of the
answer before. Here those tools are ours, and say what they said then.
"""

from collections.abc import AsyncGenerator
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import pytest

from pipelines.conversation import Request, ToolCall, ToolResult
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.base import Wire
from pipelines.errors import PenstockError
from pipelines.events import Event, Finished, Grammar, assemble
from pipelines.tools.catalogue import Progress, Ran, Tool, ToolRun
from pipelines.turns import Limits
from tests import recordings
from tests.pipelines.scripted_turns import Loop, Tools
from tests.pipelines.test_recordings_cross import dialect_of
from tests.recordings import Recording


class Exchange(NamedTuple):
    """One recording, read."""

    request: Request
    events: list[Event]

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """What the model asked for."""
        return assemble(self.events).message.tool_calls


def events_of(recording: Recording, wire: Wire) -> list[Event]:
    """The events of a recorded answer."""
    if not recording.streaming:
        return wire.read_answer(recording.body)
    decoder = wire.decoder()
    return [*decoder.feed(recording.body), *([] if decoder.done else decoder.close())]


def read(recording: Recording) -> Exchange | None:
    """The recording, if it is of a conversation in a dialect whose requests we read."""
    wire = WIRES.get(dialect_of(recording))
    if wire is None or wire.name not in DIALECTS or recording.status != 200:
        return None
    try:
        exchange = Exchange(DIALECTS[wire.name].read_request(recording.request), events_of(recording, wire))
        return exchange if len(assemble(exchange.events).messages) == 1 else None
    except PenstockError:
        return None


def results_of(request: Request) -> list[ToolResult]:
    return [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]


def goes_on(before: Exchange, after: Exchange) -> bool:
    """Whether the second request brings back what the first answer asked for, and nothing else is new."""
    wanted = [call.id for call in before.calls]
    brought = results_of(after.request)[len(results_of(before.request)) :]
    return bool(wanted) and wanted == [result.call_id for result in brought]


def conversations() -> dict[str, list[Exchange]]:
    """Every run of at least two recordings, by its name."""
    found: dict[str, list[Exchange]] = {}
    every = sorted(recordings.shared(), key=lambda recording: recording.name)
    for stem, group in groupby(every, key=lambda recording: recording.name.rsplit(".", 2)[0]):
        run: list[Exchange] = []
        for exchange in map(read, group):
            if exchange is not None and run and goes_on(run[-1], exchange):
                run.append(exchange)
            else:
                run = [exchange] if exchange is not None and not run else run
        if len(run) > 1:
            found[stem] = run
    return found


CONVERSATIONS = conversations()


class Player:
    """Plays the recorded answers, one a turn."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.exchanges = exchanges
        self.answered = ""
        self.cost = 0.0
        self.asked: list[Request] = []

    async def ask(self, request: Request, pinned: str) -> AsyncGenerator[Event, None]:
        """See `turns.Model`."""
        self.asked.append(request)
        for event in self.exchanges[len(self.asked) - 1].events:
            yield event


def tools_of(exchanges: list[Exchange]) -> Tools:
    """The tools of a conversation, which say what they said then."""
    told = {result.call_id: result for result in results_of(exchanges[-1].request)}
    specs = {spec.name: spec for one in exchanges for spec in one.request.tools if spec.schema is not None}
    tools = [Tool(name=name, description="", schema=one.schema or {}, source="python") for name, one in specs.items()]

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Ran(parts=told[run.id.rpartition(".")[2]].parts)

    return Tools(script, tools)


def said(parts: Any) -> Any:
    """What a conversation holds of calls and results, without what only their places differ in."""
    made = [part for part in parts if isinstance(part, ToolCall)]
    calls = [(call.id, call.name, msgspec.json.decode(call.arguments or "{}")) for call in made]
    results = [
        (part.call_id, [msgspec.structs.replace(one, opaque=None) for one in part.parts])
        for part in parts
        if isinstance(part, ToolResult)
    ]
    return calls, results


@pytest.mark.skipif(not CONVERSATIONS, reason="the shared recordings are absent")
@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
async def test_the_next_question_is_the_recorded_one(name: str) -> None:
    exchanges = CONVERSATIONS[name]
    player = Player(exchanges)
    # An answer at the end that calls again has nobody who answers it.
    most = Limits(turns=len(exchanges) + (0 if exchanges[-1].calls else 1))
    loop = Loop(player, tools_of(exchanges), limits=most, request=exchanges[0].request)
    events = await loop.run()

    asked = [part for message in player.asked[-1].messages for part in message.parts]
    recorded = [part for message in exchanges[-1].request.messages for part in message.parts]
    assert said(asked) == said(recorded)
    assert len(player.asked) == len(exchanges)
    grammar = Grammar()
    for event in events:
        grammar.check(event)
    assert isinstance(events[-1], Finished)
    for dialect in DIALECTS.values():
        assert dialect.write_request(player.asked[-1]).body


def test_there_are_conversations_of_every_dialect() -> None:
    if recordings.shared():
        assert len(CONVERSATIONS) >= 15
