"""What a replica tells the ledger: a row for each request that came in by its doors, one for each attempt it made.

A caller's answer ends when its rows are durable: `answered` waits for that. Whoever asks over the hop waits for
nothing here: he has the answer's outcome, and sends a copy of the attempt's row with his request's own. What came to
no end, or was refused, is written all the same.

The same is counted for the metrics: a request where its row is made, an attempt by whoever asked the provider.

Above it: `front`, `handles`, `provider_replica`, `routed_lane`. Below it: `actors.money.ledger_client`,
`pipelines.ledger`, `pipelines.metering`. Outside it: HTTP; what an attempt used.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import msgspec

from actors.money.ledger_client import LedgerClient
from deployments.identity import new_id
from deployments.money.allowance import Allowances
from pipelines.calls import Account, Answer, Call
from pipelines.conversation import Usage
from pipelines.errors import Overloaded, PenstockError, Reason, TimedOut, UpstreamError
from pipelines.ledger import (
    LONGEST_TAG,
    LOST,
    AttemptRow,
    FirstAttempt,
    RequestRow,
    attempt_row,
    counted,
    first_attempt,
)
from pipelines.metering.recorder import Recorder
from pipelines.routing.table import Bill, Outcome, Role

TAG_HEADER = "x-penstock-tag"
"""A caller's word for what a request is for; the member `tag` of the body's `metadata` says the same."""

ACCOUNT_HEADER = "x-penstock-account"
"""On a hop, the call's account."""

LEDGER_HEADER = "x-penstock-ledger"
"""`behind`, where an answer went out before its rows were durable."""

COST_HEADER = "x-penstock-cost"
"""What a whole answer costs, in US dollars; not there where nobody knows."""

UNSEEN = Bill(estimated=True, cost=None, basis="unknown")
"""Of a request that was under way when its replica died."""

_accounts = msgspec.msgpack.Decoder(Account)


class Measures(NamedTuple):
    """What the face saw of a request: seconds in all and until the first output, bytes of both bodies."""

    seconds: float
    first_output: float | None = None
    received: int = 0
    sent: int = 0


def opened(headers: Mapping[str, str], metadata: Mapping[str, str] | None) -> Account:
    """A new request's account."""
    tag = headers.get(TAG_HEADER, "") or (metadata or {}).get("tag", "")
    return Account(new_id(), time.time(), tag[:LONGEST_TAG])


def attempted(call: Call, role: Role) -> Call:
    """The call as its next attempt has it."""
    account = msgspec.structs.replace(call.account, attempt=new_id(), asked=time.time(), role=role, queued=0.0)
    return msgspec.structs.replace(call, account=account)


def written(account: Account) -> str:
    """An account as a header of the hop, where values are bytes."""
    return msgspec.msgpack.encode(account).decode("latin-1")


def read(header: str) -> Account:
    """The account in a header; an empty one from a gateway that sends none."""
    with suppress(ValueError, msgspec.MsgspecError):
        return _accounts.decode(header.encode("latin-1"))
    return Account()


class Books:
    """One replica's bookkeeping. recorder: counts the same for the metrics; allowances: of keys with limits."""

    def __init__(
        self, client: LedgerClient, recorder: Recorder | None = None, allowances: Allowances | None = None
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._allowances = allowances

    async def begin(self, call: Call, received: int = 0) -> None:
        """A request came in. Raises Overloaded (503) where the ledger cannot take any more; OverLimit or OverBudget
        where its key may not: then it has no row.
        """
        self._client.check()
        if call.caller.limits is not None and self._allowances is not None:
            await self._allowances.admit(call, received)
        self._client.reserve(call.account.entry, partial(_request, call, LOST, Measures(0.0, received=received)))

    def tell(self, call: Call, answer: Answer) -> None:
        """Say in the answer's headers what its key has left."""
        if call.caller.limits is not None and self._allowances is not None:
            self._allowances.tell(call, answer)

    def announce(self, answer: Answer) -> None:
        """Say in the headers of a stream what is known already: that it will end before its rows are durable."""
        if self._client.when_away == "continue" and self._client.behind:
            answer.headers[LEDGER_HEADER] = "behind"

    async def answered(self, call: Call, answer: Answer, measures: Measures) -> None:
        """An answer is whole, or as whole as it will be: wait until that is durable. Raises Overloaded (503).

        Where answers go on without the ledger, the answer's headers say so if they have not gone out.
        """
        rows = _rows(call, answer, measures)
        try:
            if self._recorder is None:
                durable = await self._client.settle(*rows)
            else:
                self._recorder.request(rows[-1], overhead(call, answer, measures))
                began = time.monotonic()
                durable = await self._client.settle(*rows)
                self._recorder.ledger_wait.observe(time.monotonic() - began)
        finally:
            self._over(call, answer.outcome)
        if not durable:
            answer.headers[LEDGER_HEADER] = "behind"

    def ended(self, call: Call, answer: Answer, measures: Measures) -> None:
        """An answer has ended before its end, or whoever took it has gone."""
        self._add(_rows(call, answer, measures))
        self._over(call, answer.outcome)

    async def refused(self, call: Call, error: PenstockError, measures: Measures) -> None:
        """There is no answer: wait until that is durable, as far as can be."""
        named = call.story.last(error.provider) if isinstance(error, UpstreamError) else None
        row = _request(call, error.label, measures, status=error.status, named=named)
        if self._recorder is not None:
            self._recorder.request(row)
        try:
            with suppress(Overloaded):
                await self._client.settle(row)
        finally:
            self._over(call, None)

    def turned_away(self, error: PenstockError) -> None:
        """Somebody was refused before it was understood what he wanted: that has no row."""
        if self._recorder is not None:
            self._recorder.refused(error.label)

    def left(self, call: Call, measures: Measures) -> None:
        """There is no answer, and nobody waits for one."""
        self._add((_request(call, "cancelled", measures, named=call.story.last()),))
        self._over(call, None)

    def forwarded(self, call: Call, provider: str, status: int, measures: Measures) -> None:
        """The provider answered at a path of its own. What that used, and what it costs, nobody here knows."""
        answer = Answer(status=status)
        answer.asked = attempted(call, "first")
        reason: Reason | None = None if status < 400 else "invalid_request"
        bill = Bill(cost=None, basis="unknown")
        answer.outcome = Outcome(provider, "", measures.seconds, reason=reason, bill=bill)
        self._add(_rows(call, answer, measures))
        self._count(answer.asked, answer.outcome)

    def attempt(self, call: Call, begun: Callable[[], Outcome]) -> None:
        """An attempt at a provider begins. begun: what it used if nobody hears of it again."""
        self._client.reserve(call.account.attempt, lambda: attempt_row(call, begun()))

    def attempted(self, call: Call, answer: Answer) -> None:
        """It had an answer, and that is over."""
        if answer.outcome is not None and answer.outcome.provider:
            self._count(call, answer.outcome)
        if answer.booked:
            return
        if answer.outcome is not None and answer.outcome.provider:
            self._client.add(attempt_row(call, answer.outcome))
        else:
            self._client.release(call.account.attempt)

    def failed(self, call: Call, outcome: Outcome) -> None:
        """It had none."""
        self._client.add(attempt_row(call, outcome))
        self._count(call, outcome)

    def _over(self, call: Call, outcome: Outcome | None) -> None:
        if call.caller.limits is not None and self._allowances is not None:
            self._allowances.over(call, outcome, self._client.latest)

    def _add(self, rows: "_Rows") -> None:
        self._client.add(*rows)
        if self._recorder is not None:
            self._recorder.request(rows[-1])

    def _count(self, call: Call, outcome: Outcome) -> None:
        if self._recorder is not None:
            self._recorder.attempt(call, outcome)


def overhead(call: Call, answer: Answer, measures: Measures) -> float | None:
    """Seconds that were ours: up to the first output of a stream, up to the end of what is none.

    None where it cannot be told from the provider's: more than one attempt was needed, or none.
    """
    outcome, attempt = answer.outcome, answer.asked
    if outcome is None or attempt is None or attempt.account.role != "first" or outcome.reason is not None:
        return None
    queued = answer.queued + (outcome.queued if call.lane == "routed" else 0.0)
    if not call.stream:
        return max(0.0, measures.seconds - outcome.seconds - queued)
    if measures.first_output is None or outcome.first_output is None:
        return None
    return max(0.0, measures.first_output - outcome.first_output - queued)


def cost_of(answer: Answer) -> int | None:
    """What a whole answer cost, in nano-dollars: 0 where nobody was asked, None where nobody knows."""
    if answer.outcome is None:
        return None
    return 0 if answer.outcome.bill is None else answer.outcome.bill.cost


def unanswered(call: Call, provider: str, error: BaseException, seconds: float, bill: Bill) -> Outcome:
    """How an attempt without an answer went. bill: of the question alone.

    A provider that was at work on the question (it was silent, or the caller left) may charge for it.
    """
    tries = error.headers.get("x-penstock-tries", "1") if isinstance(error, UpstreamError) else "1"
    at_work = isinstance(error, asyncio.CancelledError) or (isinstance(error, TimedOut) and error.phase != "connect")
    return Outcome(
        provider,
        call.request.model,
        seconds,
        reason=error.reason if isinstance(error, UpstreamError) else None,
        cancelled=not isinstance(error, UpstreamError),
        tries=int(tries),
        bill=bill if at_work else None,
    )


def question(call: Call) -> Usage:
    """What the question alone is likely to use."""
    return counted(Usage(estimated=True), call.request)


_Rows = tuple[RequestRow] | tuple[AttemptRow, RequestRow]


def _rows(call: Call, answer: Answer, measures: Measures) -> _Rows:
    """The request's row, and before it that of the attempt which gave the answer, unless it stands in the request's."""
    outcome, asked = answer.outcome, answer.asked
    if outcome is None or asked is None or not outcome.provider:
        return (_request(call, answer.result, measures, answer, named=call.story.last()),)
    answer.booked = True
    attempt = first_attempt(asked, outcome)
    row = _request(call, answer.result, measures, answer, attempt=attempt)
    return (row,) if attempt is not None else (attempt_row(asked, outcome), row)


def _request(
    call: Call,
    result: str,
    measures: Measures,
    answer: Answer | None = None,
    status: int | None = None,
    attempt: FirstAttempt | None = None,
    named: Outcome | None = None,
) -> RequestRow:
    """named: the attempt whose provider and model stand in a row without an outcome; what it used is in its own."""
    outcome = answer.outcome if answer is not None else None
    named = outcome if outcome is not None and outcome.provider else named
    return RequestRow(
        id=call.account.entry,
        request_id=call.id,
        time=call.account.began,
        key=call.caller.id,
        tag=call.account.tag,
        task=(answer.asked if answer is not None and answer.asked is not None else call).account.task,
        provider=named.provider if named is not None else "",
        model=named.model if named is not None else "",
        bill=(outcome.bill if outcome is not None else None) or (UNSEEN if result == LOST else Bill()),
        queued=answer.queued if answer is not None else 0.0,
        first_output=measures.first_output,
        seconds=measures.seconds,
        outcome=result,
        retries=outcome.tries - 1 if outcome is not None else 0,
        lane=call.lane,
        dialect=call.dialect,
        operation=call.operation,
        stream=call.stream,
        asked=call.request.model,
        route=answer.headers.get("x-penstock-route", "") if answer is not None else call.story.route,
        metadata=call.request.metadata,
        status=status or (answer.status if answer is not None else 0),
        received=measures.received,
        sent=measures.sent,
        attempt=attempt,
    )
