"""What a replica tells the ledger: a row for each request that came in by its doors, one for each attempt it made.

A caller's answer ends when its rows are durable: `answered` waits for that. Whoever asks over the hop waits for
nothing here: he has the answer's outcome, and sends a copy of the attempt's row with his request's own. What came to
no end, or was refused, is written all the same.

Above it: `front`, `handles`, `provider_replica`, `routed_lane`. Below it: `actors.ledger_client`, `pipelines.ledger`.
Outside it: HTTP; what an attempt used.
"""

import asyncio
import base64
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import msgspec

from actors.ledger_client import LedgerClient
from deployments.identity import new_id
from pipelines.calls import Account, Answer, Call
from pipelines.conversation import Usage
from pipelines.errors import Overloaded, PenstockError, Reason, TimedOut, UpstreamError
from pipelines.ledger import LONGEST_TAG, AttemptRow, RequestRow, Row, attempt_row, counted
from pipelines.routing.table import Bill, Outcome, Role

TAG_HEADER = "x-penstock-tag"
"""A caller's word for what a request is for; the member `tag` of the body's `metadata` says the same."""

ACCOUNT_HEADER = "x-penstock-account"
"""On a hop, the call's account."""

LEDGER_HEADER = "x-penstock-ledger"
"""`behind`, where an answer went out before its rows were durable."""

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
    """An account as a header."""
    return base64.b64encode(msgspec.msgpack.encode(account)).decode()


def read(header: str) -> Account:
    """The account in a header; an empty one from a gateway that sends none."""
    with suppress(ValueError, msgspec.MsgspecError):
        return _accounts.decode(base64.b64decode(header, validate=True))
    return Account()


class Books:
    """One replica's bookkeeping."""

    def __init__(self, client: LedgerClient) -> None:
        self._client = client

    def begin(self, call: Call, received: int = 0) -> None:
        """A request came in. Raises Overloaded (503) where the ledger cannot take any more."""
        self._client.check()
        self._client.reserve(call.account.entry, partial(_request, call, "lost", Measures(0.0, received=received)))

    def announce(self, answer: Answer) -> None:
        """Say in the headers of a stream what is known already: that it will end before its rows are durable."""
        if self._client.when_away == "continue" and self._client.behind:
            answer.headers[LEDGER_HEADER] = "behind"

    async def answered(self, call: Call, answer: Answer, measures: Measures) -> None:
        """An answer is whole, or as whole as it will be: wait until that is durable. Raises Overloaded (503).

        Where answers go on without the ledger, the answer's headers say so if they have not gone out.
        """
        if not await self._client.settle(*_rows(call, answer, measures)):
            answer.headers[LEDGER_HEADER] = "behind"

    def ended(self, call: Call, answer: Answer, measures: Measures) -> None:
        """An answer has ended before its end, or whoever took it has gone."""
        self._client.add(*_rows(call, answer, measures))

    async def refused(self, call: Call, error: PenstockError, measures: Measures) -> None:
        """There is no answer: wait until that is durable, as far as can be."""
        with suppress(Overloaded):
            await self._client.settle(_request(call, error.label, measures, status=error.status))

    def left(self, call: Call, measures: Measures) -> None:
        """There is no answer, and nobody waits for one."""
        self._client.add(_request(call, "cancelled", measures))

    def forwarded(self, call: Call, provider: str, status: int, measures: Measures) -> None:
        """The provider answered at a path of its own. What that used, and what it costs, nobody here knows."""
        answer = Answer(status=status)
        answer.asked = attempted(call, "first")
        reason: Reason | None = None if status < 400 else "invalid_request"
        bill = Bill(cost=None, basis="unknown")
        answer.outcome = Outcome(provider, "", measures.seconds, reason=reason, bill=bill)
        self._client.add(*_rows(call, answer, measures))

    def attempt(self, call: Call) -> None:
        """An attempt at a provider begins."""
        self._client.reserve(call.account.attempt, partial(_attempt, call))

    def attempted(self, call: Call, answer: Answer) -> None:
        """It had an answer, and that is over."""
        if answer.booked:
            return
        if answer.outcome is not None and answer.outcome.provider:
            self._client.add(attempt_row(call, answer.outcome))
        else:
            self._client.release(call.account.attempt)

    def failed(self, call: Call, outcome: Outcome) -> None:
        """It had none."""
        self._client.add(attempt_row(call, outcome))


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


def _rows(call: Call, answer: Answer, measures: Measures) -> list[Row]:
    """The request's row, and before it that of the attempt which gave the answer."""
    outcome = answer.outcome
    row: Row = _request(call, answer.result, measures, answer)
    if outcome is None or answer.asked is None or not outcome.provider:
        return [row]
    answer.booked = True
    return [attempt_row(answer.asked, outcome), row]


def _request(
    call: Call, result: str, measures: Measures, answer: Answer | None = None, status: int | None = None
) -> RequestRow:
    outcome = answer.outcome if answer is not None else None
    return RequestRow(
        id=call.account.entry,
        request_id=call.id,
        time=call.account.began,
        key=call.caller.id,
        tag=call.account.tag,
        task=outcome.task if outcome is not None else "",
        provider=outcome.provider if outcome is not None else "",
        model=outcome.model if outcome is not None else "",
        bill=(outcome.bill if outcome is not None else None) or Bill(),
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
        route=answer.headers.get("x-penstock-route", "") if answer is not None else "",
        metadata=call.request.metadata,
        status=status or (answer.status if answer is not None else 0),
        received=measures.received,
        sent=measures.sent,
    )


def _attempt(call: Call) -> AttemptRow:
    """What is known of an attempt before it ends."""
    return attempt_row(call, Outcome("", call.request.model, 0.0))
