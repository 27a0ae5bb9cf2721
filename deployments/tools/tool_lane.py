"""Requests whose tools run here: the loop of models and tools, as one answer in the caller's dialect.

A request that names such tools (`{"type": "penstock", …}`) comes here from the gateway; every other one never does.
Each turn goes the way of any other call (`turn_model`), each run of a tool to the toolbox, each decision about a run
into the ledger and the log.

Above it: `gateway`. Below it: `turn_model`, `held_calls`, `pipelines.turns`, `pipelines.tools`. Outside it: routing a
turn, running a tool.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec

from actors.credentials import credentials
from actors.money.ledger_client import LedgerClient
from actors.tools.argument_guards import guarded
from deployments.guard import Guard
from deployments.identity import new_id
from deployments.settings.loop_settings import LoopSettings
from deployments.telemetry import spans
from deployments.telemetry.request_log import RequestLog
from deployments.tools.held_calls import HeldCalls
from deployments.tools.turn_model import Ask, TurnModel
from pipelines.calls import Answer, Call
from pipelines.conversation import Json, Request
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, Overloaded, PenstockError, ToolFailed
from pipelines.events import OURS, Event, assemble
from pipelines.keys import may_use
from pipelines.ledger import ToolRow
from pipelines.metering.recorder import Recorder
from pipelines.story import ToolRun as Told
from pipelines.story import Trace
from pipelines.tools.approvals import Conversation
from pipelines.tools.arguments import Checker
from pipelines.tools.catalogue import Catalogue, Progress, Ran, Tool, Toolbox, ToolRun
from pipelines.tools.offers import Offer, offered
from pipelines.tools.policy import Rights
from pipelines.tools.redaction import Redactor
from pipelines.turns import CallRecord, Paused, Resumed, Setting, turns

GRACE = 2.0
"""Seconds beyond its limit after which a run is given up, if nobody says what became of it."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 16


class NoTools:
    """The toolbox of a gateway without tools: that there are none is known."""

    catalogue = Catalogue(epoch="none")

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Nothing is run."""
        yield Ran(exit="refused", error="there are no tools")


class ToolLane:
    """One gateway replica's. toolbox: where tools are; it may be exchanged."""

    def __init__(
        self,
        settings: LoopSettings,
        ask: Ask,
        toolbox: Toolbox,
        ledger: LedgerClient,
        guard: Guard,
        log: RequestLog,
        recorder: Recorder | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.held = HeldCalls(ledger, settings.approval_seconds)
        self._settings = settings
        self._ask = ask
        self._ledger = ledger
        self._guard = guard
        self._log = log
        self._recorder = recorder
        self._checker = Checker()
        self._own_secrets = secrets_of(credentials())
        self._redactor = Redactor(settings.redact, values=self._own_secrets)

    async def answer(self, call: Call) -> Answer:
        """The answer, at its first output. Raises as the first turn does; BadRequest, Denied for tools that cannot be,
        Overloaded (503) while it is not known what there is.

        A call with a decision goes on with the conversation that waited for it. One that cannot go on waits further.
        """
        if not self.toolbox.catalogue.epoch:
            raise Overloaded("the tools are not known here yet", status=503, retry_after=1.0)
        decision = call.decision
        if decision is None:
            offer = offered(call.request, self.toolbox.catalogue, self._rights(call))
            return await self._spoken(call, offer, None)
        waiting = (await self.held.find(decision.id, decision.key, time.time())).conversation.paused
        if decision.allow:
            self._unchanged(waiting)
        paused = (await self.held.take(decision, time.time())).paused
        offer = Offer(paused.request, self._tools_of(call, paused))
        return await self._spoken(call, offer, Resumed(paused, decision.allow))

    def redactor(self) -> Redactor:
        """Takes secrets out, callers' keys as they are now among them."""
        if self._guard.hashes != self._redactor.hashes:
            self._redactor = Redactor(self._settings.redact, self._guard.hashes, self._own_secrets)
        return self._redactor

    async def _spoken(self, call: Call, offer: Offer, resumed: Resumed | None) -> Answer:
        model = TurnModel(call, self._ask, self._ledger.add)
        stream = turns(offer.request, model, self._setting(call, offer), resumed)
        try:
            first = await anext(stream)
        except BaseException:
            await stream.aclose()
            raise
        request = _shown(call.request)
        if call.stream:
            answer = Answer(headers={**model.headers, "content-type": "text/event-stream"})
            answer.frames = _frames(first, stream, answer, model, call.dialect, request)
            return answer
        async with aclosing(stream):
            events = [first, *[event async for event in stream]]
        body = DIALECTS[call.dialect].write_answer(assemble(events), request)
        headers = {**model.headers, "content-type": "application/json"}
        answer = Answer(headers=headers, body=msgspec.json.encode(body))
        answer.outcome = model.total()
        return answer

    def _setting(self, call: Call, offer: Offer) -> Setting:
        asked = call.options.tools
        approve = (*self._settings.approve, *asked.approve)
        redactor = self.redactor()

        def record(one: CallRecord) -> None:
            self._recorded(call, one)

        async def hold(paused: Paused) -> dict[str, Json]:
            own = Conversation(call.dialect, call.body, call.headers, call.path, call.account.tag, paused)
            return await self.held.keep(call.caller.id, own, redactor, time.time())

        return Setting(
            toolbox=_Patient(self.toolbox, call.story.trace),
            tools=offer.tools,
            rights=self._rights(call),
            limits=self._settings.limits(asked),
            checker=self._checker,
            redactor=redactor,
            now=time.monotonic,
            record=record,
            approves=lambda tool: tool.policy.requires_approval or may_use(approve, tool.name),
            guard=_guard,
            hold=hold,
            id=call.account.entry,
            request_id=call.id,
            key=call.caller.id,
            same_model=self._settings.same_model if asked.same_model is None else asked.same_model,
        )

    def _rights(self, call: Call) -> Rights:
        deny = (*self._settings.deny, *call.options.tools.deny)
        return Rights(call.caller.tools, deny, self._settings.allow)

    def _unchanged(self, paused: Paused) -> None:
        """Raises BadRequest (409) where the tool is not what is allowed; Overloaded (503) while it cannot be run."""
        name = paused.call.name
        tool = self.toolbox.catalogue.tool(name)
        if tool is None or tool.fingerprint != paused.definition:
            message = f"the tool {name!r} is not what it was when approval was asked for"
            raise BadRequest(message, status=409, code="tool_changed")
        if tool.health in ("starting", "away"):
            raise Overloaded(f"the tool {name!r} cannot be run now: it is {tool.health}", status=503, retry_after=1.0)

    def _tools_of(self, call: Call, paused: Paused) -> dict[str, Tool]:
        """The tools of a conversation that goes on. One that has gone stays ours: its calls are refused."""
        theirs = {spec.name for spec in call.request.tools if OURS not in (spec.opaque or {})}
        names = ({spec.name for spec in paused.request.tools} | {paused.call.name}) - theirs
        gone = {name: Tool(name=name, description="", schema={}, source="", health="away") for name in names}
        return gone | {tool.name: tool for tool in self.toolbox.catalogue.tools if tool.name in names}

    def _recorded(self, call: Call, one: CallRecord) -> None:
        """A row of the ledger, a line of the log, a word in the request's story, a number for `GET /metrics`."""
        seconds = round(one.seconds, 4)
        self._ledger.add(
            ToolRow(
                id=new_id(),
                request=call.account.entry,
                request_id=call.id,
                time=time.time() - one.seconds,
                key=call.caller.id,
                turn=one.turn,
                call=one.call,
                tool=one.tool,
                source=one.source,
                arguments=one.arguments,
                preview=one.preview,
                decisions=", ".join(one.decisions),
                outcome=one.exit,
                seconds=seconds,
                size=one.size,
                cut=one.cut,
            )
        )
        error = "" if one.exit == "ok" else one.exit
        call.story.ran(Told(one.tool, seconds, error))
        if self._recorder is not None and one.source:
            self._recorder.tool(one.tool, one.seconds, error)
        self._log.add(
            request=call.id,
            caller=call.caller.id,
            turn=one.turn,
            tool=one.tool[:200],
            arguments=one.arguments or None,
            decisions=list(one.decisions),
            seconds=seconds,
            bytes=one.size,
            result=one.exit,
        )


class _Patient:
    """A toolbox that always answers: a run of which nothing is heard is given up shortly after its time.

    Each run is a span of `trace`, where there is one.
    """

    def __init__(self, toolbox: Toolbox, trace: Trace | None) -> None:
        self._toolbox = toolbox
        self._trace = trace

    @property
    def catalogue(self) -> Catalogue:
        """See `Toolbox`."""
        return self._toolbox.catalogue

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `Toolbox`."""
        span = spans.running(self._trace, run) if self._trace is not None else None
        error = "cancelled"
        try:
            async with aclosing(self._run(run)) as source:
                async for said in source:
                    if isinstance(said, Ran):
                        error = "" if said.exit == "ok" else said.exit
                    yield said
        finally:
            if span is not None:
                span.end(error)

    async def _run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        until = asyncio.get_running_loop().time() + run.seconds + GRACE
        async with aclosing(self._toolbox.run(run)) as source:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        said = await anext(source, None)
                except TimeoutError:
                    said = Ran(exit="timeout", seconds=run.seconds)
                if said is None:
                    return
                yield said
                if isinstance(said, Ran):
                    return


async def _guard(tool: Tool, arguments: dict[str, Json]) -> str:
    """See `pipelines.turns.Guarding`. Where the tool runs its guards look again, at what it is given."""
    if not tool.policy.guards:
        return ""
    try:
        await guarded(arguments, tool.policy.guards)
    except ToolFailed as refused:
        return refused.message
    return ""


async def _frames(
    first: Event, stream: AsyncGenerator[Event, None], answer: Answer, model: TurnModel, dialect: str, request: Request
) -> AsyncGenerator[bytes, None]:
    """The caller's frames; an error that comes later ends them in his dialect's own form."""
    encoder = DIALECTS[dialect].encoder(request)
    try:
        async with aclosing(stream):
            yield encoder.encode(first)
            async for event in stream:
                if said := encoder.encode(event):
                    yield said
    except PenstockError as error:
        answer.error = error
        yield encoder.error(error)
    finally:
        answer.outcome = model.total()


def _shown(request: Request) -> Request:
    """The request as an answer may repeat it: without the words that ask for tools of ours."""
    own = tuple(spec for spec in request.tools if OURS not in (spec.opaque or {}))
    return msgspec.structs.replace(request, tools=own)


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """Every value of the environment that is likely to be a secret."""
    values = {value.strip() for name, value in environment.items() if _SECRET_NAME.search(name)}
    return frozenset(value for value in values if len(value) >= _SHORTEST_SECRET)
