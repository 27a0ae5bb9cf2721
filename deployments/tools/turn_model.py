"""A model for one request's loop: each turn goes the way of every other call, and its events come back.

Over the hop a turn is said in our own words (`dialects.own_words`), so that nothing is lost between the provider's
dialect and the caller's. Each turn is decided, hedged, recovered and accounted for by itself (`routed_lane`); what all
of them used is the request's.

Above it: `tool_lane`. Below it: `paths`, `pipelines`. Outside it: what is asked, and tools.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec

from deployments.paths import TURNS
from pipelines.calls import Answer, Call
from pipelines.conversation import Request
from pipelines.dialects import own_words
from pipelines.errors import StreamBroken, UpstreamError
from pipelines.events import Event
from pipelines.ledger import AttemptRow, attempt_row
from pipelines.routing.table import Bill, Outcome

_NANO = 1e9
_SUMS = ("input", "cached_read", "cache_write", "output", "reasoning")

Ask = Callable[[Call], Awaitable[Answer]]


class TurnModel:
    """See `pipelines.turns.Model`. ask: the routed lane; keep: takes each attempt's row.

    headers: those of the first turn's answer.
    """

    def __init__(self, call: Call, ask: Ask, keep: Callable[[AttemptRow], None]) -> None:
        self.headers: dict[str, str] = {}
        self.answered = ""
        self._call = call
        self._ask = ask
        self._keep = keep
        self._outcomes: list[Outcome] = []

    @property
    def cost(self) -> float:
        """See `pipelines.turns.Model`."""
        return sum(outcome.bill.cost or 0 for outcome in self._outcomes if outcome.bill is not None) / _NANO

    async def ask(self, request: Request, pinned: str) -> AsyncGenerator[Event, None]:
        """See `pipelines.turns.Model`."""
        answer = await self._ask(self._turn(request, pinned))
        try:
            self.headers = self.headers or dict(answer.headers)
            provider, model = (answer.headers.get(f"x-penstock-{name}", "") for name in ("provider", "model"))
            self.answered = f"{provider}/{model}" if provider else ""
            async with aclosing(_events(answer)) as events:
                async for event in events:
                    yield event
        finally:
            await answer.close()
            self._account(answer)

    def total(self) -> Outcome | None:
        """All turns as one: who answered last, and what all of them used. None before the first."""
        if not self._outcomes:
            return None
        first, last = self._outcomes[0], self._outcomes[-1]
        costs = [outcome.cost for outcome in self._outcomes]
        return msgspec.structs.replace(
            last,
            seconds=sum(outcome.seconds for outcome in self._outcomes),
            first_output=first.first_output,
            input_tokens=sum(outcome.input_tokens for outcome in self._outcomes),
            output_tokens=sum(outcome.output_tokens for outcome in self._outcomes),
            cost=sum(cost for cost in costs if cost is not None) if None not in costs else None,
            tries=sum(outcome.tries - 1 for outcome in self._outcomes) + 1,
            bill=_sum([outcome.bill for outcome in self._outcomes if outcome.bill is not None]),
        )

    def _turn(self, request: Request, pinned: str) -> Call:
        """The call of one turn. Who is pinned has no fallback: nobody else can read what goes back to him."""
        kept = {name: self._call.body[name] for name in ("models", "penstock") if name in self._call.body}
        if pinned:
            kept.pop("models", None)
            request = msgspec.structs.replace(request, model=pinned)
        request = msgspec.structs.replace(request, stream=True)
        return msgspec.structs.replace(
            self._call,
            dialect=own_words.OWN_WORDS.name,
            path=TURNS.path,
            body=own_words.body_of(request, **kept),
            request=request,
            idempotency_key="",
            decision=None,
        )

    def _account(self, answer: Answer) -> None:
        outcome = answer.outcome
        if outcome is None or not outcome.provider:
            return
        self._outcomes.append(outcome)
        if answer.asked is not None:
            answer.booked = True
            self._keep(attempt_row(answer.asked, outcome))


async def _events(answer: Answer) -> AsyncGenerator[Event, None]:
    """The events of one turn's answer, which is read to its end: its account comes behind the last of them."""
    assert answer.frames is not None
    decoder = own_words.OWN_WORDS.decoder()
    failure: UpstreamError | None = None
    async with aclosing(answer.frames) as frames:
        async for data in frames:
            try:
                events = decoder.feed(data)
            except UpstreamError as error:
                failure, events = failure or error, []
            for event in events:
                yield event
    if isinstance(answer.error, UpstreamError):
        raise answer.error
    if failure is None and not decoder.done:
        failure = decoder.failure or StreamBroken("the provider's replica ended a turn before its answer did")
    if failure is not None:
        raise _accounted(failure, answer)


def _accounted(failure: UpstreamError, answer: Answer) -> UpstreamError:
    """A failure as the attempt itself knows it: the frame that tells of it says less."""
    outcome = answer.outcome
    if outcome is not None and outcome.reason is not None:
        failure.reason = outcome.reason
        failure.provider = failure.provider or outcome.provider
    return failure


def _sum(bills: list[Bill]) -> Bill | None:
    """Several bills as one; what nobody knows of one of them is not known of all."""
    if not bills:
        return None
    costs = [bill.cost for bill in bills]
    return msgspec.structs.replace(
        bills[-1],
        **{name: sum(getattr(bill, name) for bill in bills) for name in _SUMS},
        estimated=any(bill.estimated for bill in bills),
        cost=None if None in costs else sum(cost for cost in costs if cost is not None),
    )
