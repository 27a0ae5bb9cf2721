"""The loop: a model answers, the tools that it asks for run, it is told what they said, and answers again.

What the caller sees is one stream in the grammar of `events`: the parts of all turns, their indexes going on, the runs
of tools between them, one `Started`, and one `Finished` with the tokens of all turns. Calls of ours are no parts: they
are `ToolStarted` … `ToolEnded`.

How a turn ends the loop:

| the turn | ends as |
|---|---|
| calls nobody | the answer |
| calls tools of the caller's, alone or beside ours | `tool_calls`; ours are put off: not run, not shown |
| is unfinished, cut off or filtered | as it is; its calls are never run |
| calls a tool that a person must allow | `pause`, once its other calls are answered |
| is asked for behind a limit of calls, turns, repeats or mistakes | one more, without tools; then as it is |
| comes when time or money is used up | `length`, before another turn is asked for |

The caller's calls are also those that only his dialect has: foreign parts with an `id` (`events`).

Calls that are put off are asked for again by a model that still needs them: an answer that carried their results would
have to come back whole with the caller's next request, and a chat completion has no place for them.

Above it: the gateway's tool lane. Below it: `reading`, `running`, `limits`, `ports`, `dialects` (for choices in their
own words). Outside it: routing, wires, clocks.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from pipelines.conversation import Message, Opaque, Reasoning, Request, ToolChoice, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.events import OURS, Event, Finished, FinishReason, Started, merged
from pipelines.turns.judging import Allowed
from pipelines.turns.limits import Limit, Tally, total
from pipelines.turns.ports import Model, Paused, Resumed, Setting
from pipelines.turns.reading import TurnReading
from pipelines.turns.running import TurnCalls

_WHOLE = ("tool_calls", "stop")
"""Reasons with which a turn may end whose calls are run."""


def turns(
    request: Request, model: Model, setting: Setting, resumed: Resumed | None = None
) -> AsyncGenerator[Event, None]:
    """The caller's stream. request: with the tools of `setting` among its own; resumed: where it goes on, if it does.

    Raises what `model` and `setting.hold` raise. Closing it cancels whatever is under way: a turn, tools.
    """
    return _Loop(request, model, setting, resumed).events()


class _Loop:
    def __init__(self, request: Request, model: Model, setting: Setting, resumed: Resumed | None) -> None:
        self._request = resumed.paused.request if resumed else request
        self._model = model
        self._setting = setting
        self._resumed = resumed
        self._tally = resumed.paused.tally if resumed else Tally()
        self._started = resumed.paused.started if resumed else Started()
        self._theirs = frozenset(tool.name for tool in self._request.tools if tool.name not in setting.tools)
        self._pinned = resumed.paused.answered if resumed else ""
        self._limit: Limit | None = None
        self._end: Finished | None = None
        self._began = setting.now()

    async def events(self) -> AsyncGenerator[Event, None]:
        """See `turns`."""
        if self._resumed is not None:
            yield self._started
            async with aclosing(self._gone_on(self._resumed)) as answered:
                async for event in answered:
                    yield event
        while self._end is None:
            async with aclosing(self._turn()) as turn:
                async for event in turn:
                    yield event
        yield self._end

    async def _turn(self) -> AsyncGenerator[Event, None]:
        """One turn with the calls that it asks for."""
        reading = TurnReading(self._theirs, self._tally)
        closing = self._is_last()
        async with aclosing(self._model.ask(self._asked(closing), self._pinned)) as source:
            async for event in source:
                if isinstance(event, Started) and self._tally.turns == 0:
                    self._started = event
                for seen in reading.take(event):
                    yield seen
        message = reading.message()
        finished = reading.finished or Finished("other")
        if finished.usage is not None:
            self._tally.usages.append(finished.usage)
        self._tally.turns += 1
        if self._setting.same_model or _is_bound(message):
            self._pinned = self._model.answered
        calls = self._calls()
        ours = reading.ours(message)
        if not ours or closing or reading.has_theirs(message) or finished.reason not in _WHOLE:
            theirs = reading.has_theirs(message)
            calls.dropped(ours, "put off" if theirs else "turn: not to be gone on with")
            reason: FinishReason = finished.reason
            if reason == "tool_calls" and not theirs:
                reason = "length" if ours else "stop"
            self._finish(reason, finished.raw_reason, finished.opaque)
            return
        async with aclosing(self._answered(calls, message)) as answered:
            async for event in answered:
                yield event

    async def _gone_on(self, resumed: Resumed) -> AsyncGenerator[Event, None]:
        """The rest of the calls of a turn that waited."""
        paused = resumed.paused
        calls = self._calls()
        calls.results.update((result.call_id, result) for result in paused.results)
        allowed = Allowed(paused.call.id, paused.arguments) if resumed.allowed else None
        if allowed is None:
            for event in calls.denied(paused.call, paused.arguments):
                yield event
        async with aclosing(self._answered(calls, paused.message, allowed)) as answered:
            async for event in answered:
                yield event

    async def _answered(
        self, calls: TurnCalls, message: Message, allowed: Allowed | None = None
    ) -> AsyncGenerator[Event, None]:
        """Run a turn's calls; then the conversation is ready for the next one, or the loop has its end."""
        ours = [call for call in message.tool_calls if call.name not in self._theirs]
        async with aclosing(calls.answered(ours, allowed)) as answered:
            async for event in answered:
                yield event
        results = tuple(calls.results[call.id] for call in ours if call.id in calls.results)
        if calls.waiting is not None:
            await self._pause(calls, message, results)
            return
        self._limit = self._limit or calls.limit
        messages = (*self._request.messages, message, Message("tool", results))
        self._request = replace(self._request, messages=messages)
        limits = self._setting.limits
        if self._seconds() >= limits.seconds:
            self._limit = "seconds"
        elif limits.cost is not None and self._tally.cost + self._model.cost >= limits.cost:
            self._limit = "cost"
        if self._limit in ("seconds", "cost"):
            self._finish("length", f"penstock_{self._limit}")

    async def _pause(self, calls: TurnCalls, message: Message, results: tuple[ToolResult, ...]) -> None:
        waiting, hold = calls.waiting, self._setting.hold
        assert waiting is not None
        assert hold is not None
        usages, self._tally.usages = self._tally.usages, []
        self._tally.seconds, self._tally.cost = self._seconds(), self._tally.cost + self._model.cost
        paused = Paused(
            request=self._request,
            message=message,
            call=waiting.call,
            arguments=waiting.fingerprint,
            definition=waiting.tool.fingerprint,
            results=results,
            tally=self._tally,
            started=self._started,
            answered=self._pinned,
        )
        told = await hold(paused)
        self._tally.usages = usages
        self._finish("pause", "penstock_approval", {OURS: {"approval": told}})

    def _finish(self, reason: FinishReason, raw: str, opaque: Opaque | None = None) -> None:
        if self._limit is not None:
            opaque = merged(opaque, {OURS: {"limit": self._limit}})
        self._end = Finished(reason, raw, total(self._tally.usages), opaque=opaque)

    def _calls(self) -> TurnCalls:
        until = self._setting.now() + self._setting.limits.seconds - self._seconds()
        return TurnCalls(self._setting, self._tally, max(0, self._tally.turns - 1), until)

    def _seconds(self) -> float:
        return self._tally.seconds + self._setting.now() - self._began

    def _is_last(self) -> bool:
        """Whether no further turn may follow: it is asked for without tools, so that it is an answer."""
        if self._limit is None and self._tally.turns + 1 >= self._setting.limits.turns:
            self._limit = "turns"
        return self._limit is not None

    def _asked(self, closing: bool) -> Request:
        """The question of the next turn. A choice that forces a call holds for the first one only."""
        choice = self._request.tool_choice
        if closing:
            return replace(self._request, tool_choice=ToolChoice("none"))
        if not self._tally.turns:
            return self._request
        if choice is not None and choice.mode in ("required", "named"):
            choice = ToolChoice("auto", allowed=choice.allowed)
        extra = self._request.extra
        for dialect in DIALECTS.values():
            extra = dialect.unforced(extra)
        return replace(self._request, tool_choice=choice, extra=extra)


def _is_bound(message: Message) -> bool:
    """Whether what the model thought must go back to that very model: a signature, or a form that only it can read."""
    return any(isinstance(part, Reasoning) and part.opaque for part in message.parts)
