"""The calls of one turn: judged in order, run side by side, answered in order.

A call whose tool is sequential runs alone, behind those before it and ahead of those after it. Each call of ours has
its `ToolStarted` and its `ToolEnded`, whatever became of it.

Above it: `loop`. Below it: `judging`, `stages`, `tools`. Outside it: where tools run.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import msgspec

from pipelines.conversation import ToolCall, ToolResult
from pipelines.events import Event, ToolEnded, ToolProgress, ToolStarted
from pipelines.stages import merged
from pipelines.tools.catalogue import Progress, Ran, Tool, ToolRun
from pipelines.tools.cutting import MOST_DATA, sizes_of
from pipelines.tools.results import failed, result_of, shown, text_of
from pipelines.turns.judging import Allowed, Ready, Refused, Waiting, judged
from pipelines.turns.limits import Limit, Tally
from pipelines.turns.ports import CallRecord, Setting

PREVIEW = 200
"""Bytes of a call's arguments that the log shows."""

DENIED = "the person who was asked has denied this call"

_SAID = 4_096
"""Bytes of one progress event."""


class TurnCalls:
    """The calls of one turn. results: of those that are answered, by their ids; until: when the loop's time is over.

    waiting: the first call that a person has to allow; limit: what ends the loop.
    """

    def __init__(self, setting: Setting, tally: Tally, turn: int, until: float) -> None:
        self.results: dict[str, ToolResult] = {}
        self.waiting: Ready | None = None
        self.limit: Limit | None = None
        self._setting = setting
        self._tally = tally
        self._turn = turn
        self._until = until

    async def answered(self, calls: Sequence[ToolCall], allowed: Allowed | None = None) -> AsyncGenerator[Event, None]:
        """Answer those calls that are not answered, but for those that wait. allowed: see `judged`."""
        ready: list[Ready] = []
        for call in calls:
            if call.id in self.results:
                continue
            verdict = await judged(call, self._setting, self._tally, allowed)
            match verdict:
                case Ready():
                    ready.append(verdict)
                case Waiting():
                    self.waiting = self.waiting or verdict.ready
                case Refused():
                    self.limit = self.limit or verdict.limit
                    for event in self._refused(verdict):
                        yield event
        for group in _groups(ready):
            runs = [self._run(one) for one in group]
            async with aclosing(merged(runs, self._setting.limits.parallel)) as running:
                async for event in running:
                    yield event

    def denied(self, call: ToolCall, arguments: str) -> list[Event]:
        """A person has denied this call; arguments: its fingerprint."""
        tool = self._setting.tools.get(call.name)
        return self._refused(Refused(call, DENIED, ("approval: no",), tool, arguments))

    def dropped(self, calls: Iterable[ToolCall], why: str) -> None:
        """These calls are not run, nor is the model told: only the log is."""
        for call in calls:
            tool = self._setting.tools.get(call.name)
            self._record(Refused(call, "", (why,), tool), Ran(exit="refused"))

    def _refused(self, refused: Refused) -> list[Event]:
        call = refused.call
        self.results[call.id] = result = failed(call.id, refused.why)
        self._record(refused, Ran(exit="refused"))
        return [ToolStarted(call.id, call.name, call.arguments), ToolEnded(call.id, text_of(result), refused.why)]

    async def _run(self, ready: Ready) -> AsyncGenerator[Event, None]:
        call, setting = ready.call, self._setting
        yield ToolStarted(call.id, call.name, call.arguments)
        ran = Ran(exit="cancelled")
        began = setting.now()
        limit = min(ready.tool.policy.result, setting.limits.result)
        try:
            async with aclosing(setting.toolbox.run(self._asked(ready, began))) as run:
                async for said in run:
                    if isinstance(said, Ran):
                        ran = said
                        break
                    yield self._progress(call, said)
                else:
                    ran = Ran(exit="crash", error="the tool ended without a result")
        except Exception as failure:
            # Of the place where tools run, not of the tool: its words are not for the model.
            ran = Ran(exit="crash", error=f"the tool cannot be run now ({type(failure).__name__})")
        finally:
            seconds = ran.seconds or setting.now() - began
            room = max(0, min(MOST_DATA, setting.limits.data - self._tally.data))
            text, data = sizes_of(ran.error, ran.parts)
            is_cut = ran.cut or text > limit or data > room
            self._record(ready, msgspec.structs.replace(ran, seconds=seconds, cut=is_cut))
        self.results[call.id] = result = result_of(call.id, ran, limit, setting.redactor, room)
        self._tally.data += sizes_of("", result.parts)[1]
        error = text_of(result).removeprefix("Error: ") if result.is_error else ""
        yield ToolEnded(call.id, text_of(result), error)

    def _asked(self, ready: Ready, now: float) -> ToolRun:
        setting = self._setting
        return ToolRun(
            id=f"{setting.id}.{self._turn}.{ready.call.id}",
            tool=ready.tool.name,
            arguments=ready.arguments,
            request_id=setting.request_id,
            turn=self._turn,
            key=setting.key,
            seconds=max(0.0, min(ready.tool.policy.seconds, setting.limits.call_seconds, self._until - now)),
        )

    def _progress(self, call: ToolCall, said: Progress) -> Event:
        return ToolProgress(call.id, shown(said.text, _SAID, self._setting.redactor))

    def _record(self, about: Ready | Refused, ran: Ran) -> None:
        call, tool = about.call, about.tool
        self._setting.record(
            CallRecord(
                turn=self._turn,
                call=call.id,
                tool=tool.name if tool is not None else call.name,
                source=tool.source if tool is not None else "",
                arguments=about.fingerprint,
                preview=shown(call.arguments, PREVIEW, self._setting.redactor),
                decisions=about.decisions,
                exit=ran.exit,
                seconds=ran.seconds,
                size=ran.size,
                cut=ran.cut,
            )
        )


def _is_alone(tool: Tool) -> bool:
    return tool.policy.sequential


def _groups(ready: Sequence[Ready]) -> list[list[Ready]]:
    """Calls that may run side by side, group after group."""
    groups: list[list[Ready]] = []
    for one in ready:
        if not groups or _is_alone(one.tool) or _is_alone(groups[-1][-1].tool):
            groups.append([])
        groups[-1].append(one)
    return groups
