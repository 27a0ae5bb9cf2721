"""The routed lane: decide, ask over the hop, fall back while nothing has been handed out, hedge, recover, relay.

Above it: `gateway`. Below it: `choosing`, `hop`, `racing`, `actors.routing.client`, `pipelines.routing`,
`pipelines.recovery`. Outside it: HTTP, and what providers do with a call.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from functools import partial

import msgspec

from actors.routing.client import RouterClient
from deployments.choosing import Chooser, Chosen
from deployments.config import GatewaySettings
from deployments.hop.asking import Hop, ReplicaLost
from deployments.http.pool import UNREACHABLE
from deployments.money.books import attempted
from deployments.racing import first_answer
from deployments.telemetry import spans
from deployments.trials import Trials
from pipelines.calls import Answer, Call
from pipelines.dialects import DIALECTS
from pipelines.errors import Overloaded, PenstockError, StreamBroken, TimedOut, UpstreamError
from pipelines.metering.recorder import Recorder
from pipelines.options import SHORTEST_TIMEOUT
from pipelines.recovery import recoverable, recovering
from pipelines.resilience import RetryBudget, RetryPolicy
from pipelines.routing.ask import Candidate
from pipelines.routing.replicas import pick
from pipelines.routing.table import ModelCard, Outcome, Performance, ReplicaEntry, Role
from pipelines.routing.walk import Walk
from pipelines.story import Trace

MOST_LOST = 5
"""Replicas, or connections to one, that may be lost under a call before it fails: one that kills them must end."""

LEAST_HEDGE = 0.05
"""Seconds of silence, at least, before a second candidate is asked."""

HEDGE_SHARE, HEDGE_FLOOR = 0.1, 0.5
"""Hedges allowed for each request, and a second: when everybody is slow, twice the load helps nobody."""


class RoutedLane:
    """One gateway replica's way from a call to an answer. trials: gives some calls to a second model too; or None."""

    def __init__(
        self,
        settings: GatewaySettings,
        hop: Hop,
        router: RouterClient,
        chooser: Chooser,
        recorder: Recorder | None = None,
    ) -> None:
        self._settings = settings
        self._hop = hop
        self._router = router
        self._chooser = chooser
        self._recorder = recorder
        self._hedges = RetryBudget(time.monotonic(), HEDGE_SHARE, HEDGE_FLOOR)
        self._sent: Counter[str] = Counter()
        self.trials: Trials | None = None

    def configure(self, settings: GatewaySettings) -> None:
        """Go by these settings from the next call on."""
        self._settings = settings

    async def answer(self, call: Call) -> Answer:
        """The best candidate's answer, at its first content; the next one's where a failure allows it.

        Raises the first meaningful error where nobody is left.
        """
        began = time.monotonic()
        chosen = await self._choose(call, began)
        if chosen.task:
            account = msgspec.structs.replace(call.account, task=chosen.task)
            call = msgspec.structs.replace(call, account=account)
        walk = Walk(
            chosen.decision,
            lambda candidate: _known(self._card(candidate)),
            fall_back=self._falls_back(call),
            reasons=self._settings.fall_back_reasons,
        )

        candidate, answer = await self._first(call, walk, chosen, began, "first")
        if recoverable(call):
            answer = self._recovering(call, walk, chosen, candidate, answer)
        if self.trials is not None:
            self.trials.begin(call, chosen, candidate, answer)
        return answer

    async def ask(self, call: Call, candidate: Candidate, role: Role) -> Answer:
        """This candidate's answer and no other's, for whoever has decided by himself."""
        return await self._ask(call, candidate, role, time.monotonic())

    async def _first(
        self, call: Call, walk: Walk, chosen: Chosen, began: float, role: Role
    ) -> tuple[Candidate, Answer]:
        """The first candidate of the walk that answers, and its answer with the headers that say so."""

        async def ask(candidate: Candidate, role: Role) -> Answer:
            return await self._ask(call if role == "first" else _in_time(call, began), candidate, role, began)

        def patience(candidate: Candidate) -> float | None:
            return self._patience(call, candidate)

        candidate, answer = await first_answer(walk, ask, patience, self._may_hedge, role)
        answer.headers["x-penstock-provider"] = candidate.provider
        answer.headers["x-penstock-model"] = candidate.model[:200]
        answer.headers["x-penstock-route"] = call.story.route
        answer.on_close(partial(self._chooser.answered, call, chosen, candidate, answer))
        return candidate, answer

    def _recovering(self, call: Call, walk: Walk, chosen: Chosen, candidate: Candidate, answer: Answer) -> Answer:
        """The answer, gone on with by the next candidates where it breaks."""
        last = (candidate, answer)
        backoff = RetryPolicy().backoff

        async def again(following: Call) -> Answer:
            nonlocal last
            broken, its = last
            error = its.error
            walk.broken(broken, error if isinstance(error, UpstreamError) else StreamBroken("the stream broke"))
            if walk.upcoming == broken:
                await asyncio.sleep(backoff(1, random.random()))
            last = await self._first(following, walk, chosen, time.monotonic(), "recovery")
            return last[1]

        return recovering(answer, call, again)

    async def _choose(self, call: Call, began: float) -> Chosen:
        """The decision; while every replica of what is wanted restarts, a little later."""
        span = spans.routing(call.story.trace) if call.story.trace is not None else None
        try:
            chosen = await self._chosen(call, began)
        except BaseException as error:
            if span is not None:
                span.end(error.label if isinstance(error, PenstockError) else "cancelled")
            raise
        call.story.route = chosen.decision.explain
        if span is not None:
            span.tell({"penstock.route": call.story.route})
            span.end()
        return chosen

    async def _chosen(self, call: Call, began: float) -> Chosen:
        while True:
            asked = time.perf_counter()
            try:
                chosen = self._chooser.choose(call)
                if self._recorder is not None:
                    self._recorder.decision.observe(time.perf_counter() - asked)
                return chosen
            except Overloaded:
                if time.monotonic() - began > self._settings.wait_for_replica:
                    raise
                await asyncio.sleep(0.05)

    def _falls_back(self, call: Call) -> bool:
        """Whether another candidate may be asked at all."""
        return self._settings.fall_back if call.options.fall_back is None else call.options.fall_back

    def _patience(self, call: Call, candidate: Candidate) -> float | None:
        """When to hedge: streams only, for an answer without a stream has no first output before its end."""
        wanted = self._settings.hedge if call.options.hedge is None else call.options.hedge
        if not wanted or not call.stream or call.operation or not self._falls_back(call):
            return None
        self._hedges.deposit(time.monotonic())
        slow = self._performance(candidate).slow_first_output
        return None if slow is None else max(LEAST_HEDGE, slow)

    def _may_hedge(self) -> bool:
        return self._hedges.withdraw(time.monotonic())

    async def _ask(self, call: Call, candidate: Candidate, role: Role, began: float) -> Answer:
        """One candidate's answer."""
        self._router.begin(candidate.provider, candidate.model)
        asked = time.monotonic()
        span: Trace | None = None
        if call.story.trace is not None:
            span = spans.attempting(call.story.trace, candidate.provider, candidate.model, role)
            call = msgspec.structs.replace(call, headers={**call.headers, **span.headers()})

        def ended(outcome: Outcome) -> None:
            self._ended(call, candidate, role, outcome)
            if span is not None:
                span.end(spans.ended(outcome))

        try:
            answer = await self._hopped(call, candidate, role, began)
        except BaseException as error:
            ended(self._failure(call, candidate, error, time.monotonic() - asked))
            raise
        answer.on_close(lambda: ended(_judged(answer, candidate, time.monotonic() - asked)))
        if answer.frames is not None:
            if self._performance(candidate).breaker != "closed":
                # Whoever finds out whether a provider is back knows it now, and not only at the stream's end.
                seconds = time.monotonic() - asked
                self._router.record(Outcome(candidate.provider, candidate.model, seconds, begun=True))
            answer.read_through(_with_error(answer, call, answer.frames))
        return answer

    async def _hopped(self, call: Call, candidate: Candidate, role: Role, began: float) -> Answer:
        """A replica's answer. One that is lost before it answers costs nothing but the next replica.

        A connection may be lost without its replica: where there is no other, it is asked again.
        """
        avoid: set[str] = set()
        lost = 0
        while True:
            replica = await self._replica(candidate, frozenset(avoid), began)
            self._sent[replica.replica] += 1
            own = attempted(call, role)
            try:
                answer = await self._hop.ask(replica, candidate.provider, candidate.model, own)
            except BaseException as error:
                self._returned(replica)
                avoid.add(replica.replica)
                if isinstance(error, ReplicaLost) and self._recorder is not None:
                    self._recorder.lost_replica(candidate.provider)
                lost += not (isinstance(error, ReplicaLost) and error.code == UNREACHABLE)
                if not isinstance(error, ReplicaLost) or lost > MOST_LOST:
                    raise
            else:
                answer.asked = own
                answer.on_close(partial(self._returned, replica))
                return answer

    def _returned(self, replica: ReplicaEntry) -> None:
        self._sent[replica.replica] -= 1
        if not self._sent[replica.replica]:
            del self._sent[replica.replica]

    def _ended(self, call: Call, candidate: Candidate, role: Role, outcome: Outcome) -> None:
        own = {"provider": candidate.provider, "model": candidate.model, "role": role}
        named = msgspec.structs.replace(outcome, bill=None, **own)
        self._router.end(named)
        call.story.attempted(named)

    async def _replica(self, candidate: Candidate, avoid: frozenset[str], began: float) -> ReplicaEntry:
        while True:
            entry = self._router.table.provider(candidate.provider)
            replica = pick(entry, random.random, avoid, self._sent) if entry is not None else None
            if replica is not None:
                return replica
            avoid = frozenset()
            if time.monotonic() - began > self._settings.wait_for_replica:
                message = f"no replica of the provider {candidate.provider} can be reached"
                raise Overloaded(message, status=503, retry_after=1.0)
            await asyncio.sleep(0.05)

    def _failure(self, call: Call, candidate: Candidate, error: BaseException, seconds: float) -> Outcome:
        """An attempt without an answer. A caller who left, and our own fullness, are not the provider's failures.

        A stream that was given up after more than its usual time counts as one whose first output took that long:
        if only those who answer were measured, nobody would ever be slow.
        """
        if isinstance(error, UpstreamError):
            return Outcome(candidate.provider, candidate.model, seconds, reason=error.reason)
        slow = self._performance(candidate).slow_first_output
        given_up = isinstance(error, asyncio.CancelledError) and call.stream and slow is not None and seconds >= slow
        return Outcome(
            candidate.provider, candidate.model, seconds, cancelled=True, first_output=seconds if given_up else None
        )

    def _performance(self, candidate: Candidate) -> Performance:
        entry = self._router.table.provider(candidate.provider)
        return (entry.performance.get(candidate.model) if entry is not None else None) or Performance()

    def _card(self, candidate: Candidate) -> ModelCard | None:
        entry = self._router.table.provider(candidate.provider)
        return entry.card(candidate.model) if entry is not None else None


def _in_time(call: Call, began: float) -> Call:
    """The call with what is left of the total time that it asked for itself. Raises TimedOut where nothing is.

    It goes to the provider in its body.
    """
    timeouts = call.options.timeouts
    if timeouts.total is None:
        return call
    left = timeouts.total - (time.monotonic() - began)
    if left <= 0.0:
        raise TimedOut(f"the request's {timeouts.total:g} s are over", phase="total")
    timeouts = msgspec.structs.replace(timeouts, total=max(left, SHORTEST_TIMEOUT))
    ours = {**call.body["penstock"], "timeouts": {**call.body["penstock"]["timeouts"], "total": timeouts.total}}
    options = msgspec.structs.replace(call.options, timeouts=timeouts)
    return msgspec.structs.replace(call, options=options, body={**call.body, "penstock": ours})


def _known(card: ModelCard | None) -> int:
    """The context length in tokens, 0 where it is unknown."""
    return card.context if card is not None else 0


def _judged(answer: Answer, candidate: Candidate, seconds: float) -> Outcome:
    """How an answer went. Without the provider replica's own word the caller left, or the replica was lost."""
    if answer.outcome is not None:
        return answer.outcome
    reason = answer.error.reason if isinstance(answer.error, UpstreamError) else None
    return Outcome(candidate.provider, candidate.model, seconds, reason=reason, cancelled=answer.error is None)


async def _with_error(answer: Answer, call: Call, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The hop's frames; if the provider's replica is lost, an error frame ends them, unless they were whole already."""
    dialect = DIALECTS[call.dialect]
    data = b""
    try:
        async for data in frames:
            yield data
    except UpstreamError as error:
        if dialect.last.search(data):
            return
        answer.error = error
        yield dialect.encoder(call.request).error(error)
    finally:
        await frames.aclose()
