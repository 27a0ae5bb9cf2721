"""What the ledger is told: a row for each attempt at a provider and one for each request, and how rows add up.

A request's row names what the caller asked and got; its attempts' rows say what was used for it. Sums of tokens and
money are those of the attempts: failed, cancelled and hedged ones were paid for too. No row holds text of a prompt or
of an answer.

Most requests are answered by their first attempt: that one stands in its request's row (`FirstAttempt`), which costs
the ledger a third less than two rows. It is read with the id and the time of its request.

A row's `id` is made once, by whoever begins what it is about, so that a row that is sent twice counts once.
Provisional rows are sent ahead, as reservations: what is known at the beginning, with an estimate of the input. One
counts only if its maker dies before the row itself comes.

Above it: `actors.money.ledger`, `deployments`. Below it: `calls`, `prompt_tokens`, `pricing`. Outside it: databases,
clocks.
"""

from collections.abc import Iterable
from operator import add, sub
from typing import Literal, NamedTuple

import msgspec

from pipelines.calls import Call
from pipelines.conversation import Request, Usage
from pipelines.pricing import Cost
from pipelines.prompt_tokens import likely_input
from pipelines.routing.table import Bill, Outcome, Role

LOST = "lost"
"""The outcome of what was under way in a process that died."""

HOUR = 3600.0

LATE = 3600.0
"""Seconds, at most, from the beginning of a request until its row comes."""

By = Literal["key", "tag", "task", "provider", "model", "day", "hour"]
"""What sums can be grouped by."""

LONGEST_TAG = 128
"""Characters of a caller's tag."""

MOST_TOKENS = 10**9
"""Tokens of one kind in one answer: a provider that counts more counts nonsense."""


class _Value(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Frozen, compact on the wire, unknown fields passed over."""


class Entry(_Value, frozen=True):
    """What both kinds of row have. Times in seconds; `time` is the beginning, since 1970.

    request_id: the caller's `x-request-id`; key: the id of the key; task: what kind of request it was; provider,
    model: who was asked, "" where nobody was; queued: how long it waited for its turn; outcome: "ok", "cancelled",
    "lost", or the reason of the failure; retries: how often somebody was asked again.
    """

    id: str
    request_id: str = ""
    time: float = 0.0
    key: str = ""
    tag: str = ""
    task: str = ""
    provider: str = ""
    model: str = ""
    bill: Bill = Bill()
    queued: float = 0.0
    first_output: float | None = None
    seconds: float = 0.0
    outcome: str = "ok"
    retries: int = 0
    provisional: bool = False

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens a second from the first output on; None for what was no stream."""
        if self.first_output is None or self.seconds <= self.first_output or not self.bill.output:
            return None
        return self.bill.output / (self.seconds - self.first_output)


class AttemptRow(Entry, frozen=True, tag="attempt"):
    """One attempt at one provider. request: the id of the request's row; skipped: malformed frames passed over."""

    request: str = ""
    role: Role = "first"
    skipped: int = 0


class FirstAttempt(_Value, frozen=True):
    """The first attempt of a request that gave its answer, as far as it differs from the request's row.

    id: that of the row which it would have by itself, so that it counts once if that one comes too. The rest as in
    `AttemptRow`.
    """

    id: str
    queued: float = 0.0
    first_output: float | None = None
    seconds: float = 0.0
    outcome: str = "ok"
    skipped: int = 0


class RequestRow(Entry, frozen=True, tag="request"):
    """One request. asked: the model as the caller named it; route: the decision in words; received, sent: bytes of
    the two bodies. metadata is the caller's own, of its body; attempt: the one that stands in this row.
    """

    lane: str = ""
    dialect: str = ""
    operation: str = ""
    stream: bool = False
    asked: str = ""
    route: str = ""
    metadata: dict[str, str] | None = None
    status: int = 200
    received: int = 0
    sent: int = 0
    attempt: FirstAttempt | None = None


class ToolRow(Entry, frozen=True, tag="tool"):
    """One call of a tool that ran here, or was refused: `outcome` says which, `seconds` how long it ran.

    request: the id of the request's row; turn: from 0; call: its id in the answer; arguments: the SHA-256 of tool and
    arguments; preview: the beginning of the arguments without secrets; decisions: what each step of the policy said;
    size: bytes of the result before it was cut.
    """

    request: str = ""
    turn: int = 0
    call: str = ""
    tool: str = ""
    source: str = ""
    arguments: str = ""
    preview: str = ""
    decisions: str = ""
    size: int = 0
    cut: bool = False


Row = AttemptRow | RequestRow | ToolRow


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one reporter has for the ledger: rows, reservations, and the ids of reservations that are over."""

    reporter: str
    rows: tuple[Row, ...] = ()
    opened: tuple[Row, ...] = ()
    closed: tuple[str, ...] = ()


def billed(usage: Usage, cost: Cost, answered: str = "") -> Bill:
    """Usage and cost as a bill. answered: the model's name as the provider says it."""
    return Bill(
        input=min(usage.input, MOST_TOKENS),
        cached_read=min(usage.cached_read, MOST_TOKENS),
        cache_write=min(usage.cache_write, MOST_TOKENS),
        output=min(usage.output, MOST_TOKENS),
        reasoning=min(usage.reasoning, MOST_TOKENS),
        estimated=usage.estimated,
        cost=cost.nano,
        basis=cost.basis,
        prices=cost.prices,
        answered=answered,
    )


def counted(usage: Usage, request: Request) -> Usage:
    """The provider's counts; where it did not get to them, what was delivered, and the question's likely length."""
    if not usage.estimated or usage.input:
        return usage
    return msgspec.structs.replace(usage, input=likely_input(request))


def ids(row: Row) -> tuple[str, ...]:
    """Whose place a row takes: its own, and that of the attempt which stands in it."""
    if isinstance(row, RequestRow) and row.attempt is not None:
        return row.id, row.attempt.id
    return (row.id,)


def first_attempt(call: Call, outcome: Outcome) -> FirstAttempt | None:
    """The attempt that was made for `call`, as it stands in its request's row; None if it was not the first."""
    account = call.account
    if account.role != "first":
        return None
    return FirstAttempt(
        id=account.attempt,
        queued=account.queued,
        first_output=outcome.first_output,
        seconds=outcome.seconds,
        outcome=_result(outcome),
        skipped=outcome.skipped,
    )


def attempt_row(call: Call, outcome: Outcome) -> AttemptRow:
    """The row of one attempt at a provider, made for `call`."""
    account = call.account
    return AttemptRow(
        id=account.attempt,
        request=account.entry,
        request_id=call.id,
        time=account.asked,
        key=call.caller.id,
        tag=account.tag,
        task=account.task,
        provider=outcome.provider,
        model=outcome.model,
        role=account.role,
        bill=outcome.bill or Bill(),
        queued=account.queued,
        first_output=outcome.first_output,
        seconds=outcome.seconds,
        outcome=_result(outcome),
        retries=outcome.tries - 1,
        skipped=outcome.skipped,
    )


def _result(outcome: Outcome) -> str:
    return "cancelled" if outcome.cancelled else outcome.reason or "ok"


class Group(NamedTuple):
    """What rows are summed up by. hour: whole hours since 1970."""

    hour: int
    key: str
    tag: str
    task: str
    provider: str
    model: str


SUMS = (
    "requests", "failed", "attempts", "estimated", "unknown_cost", "input", "cached_read", "cache_write", "output",
    "reasoning", "cost", "sent",
)  # fmt: skip
"""Names of what is summed up. failed: requests that did not go well; those that their caller left are none, as in the
metrics; estimated, unknown_cost: attempts; cost: in nano-dollars, what is unknown left out; tokens and cost are those
of the attempts, sent of the requests."""


def summed(rows: Iterable[Row], sign: int = 1, into: dict[Group, list[int]] | None = None) -> dict[Group, list[int]]:
    """The sums of rows by group, in the order of `SUMS`, added to `into` if given. sign -1 takes rows away again."""
    sums = {} if into is None else into
    for row in rows:
        if isinstance(row, ToolRow):
            continue
        group = Group(int(row.time // HOUR), row.key, row.tag, row.task, row.provider, row.model)
        before = sums.get(group) or [0] * len(SUMS)
        sums[group] = list(map(add if sign > 0 else sub, before, _figures(row)))
    return sums


def _figures(row: AttemptRow | RequestRow) -> tuple[int, ...]:
    requests = failed = sent = 0
    if isinstance(row, RequestRow):
        requests, failed, sent = 1, int(row.outcome not in ("ok", "cancelled")), row.sent
        if row.attempt is None:
            return (1, failed, 0, 0, 0, 0, 0, 0, 0, 0, 0, sent)
    bill = row.bill
    unknown = bill.cost is None
    return (
        requests, failed, 1, int(bill.estimated), int(unknown), bill.input, bill.cached_read, bill.cache_write,
        bill.output, bill.reasoning, bill.cost or 0, sent,
    )  # fmt: skip


class Question(msgspec.Struct, frozen=True, omit_defaults=True, tag="sums"):
    """From `since` up to `until`, in seconds since 1970, each rounded down to its hour; by: what to group by.

    key: of one key only; "" for all of them. only: values of further columns of `Group`. most: groups at the most, the
    dearest ones; 0: all of them.
    """

    since: float
    until: float
    by: tuple[By, ...] = ()
    key: str = ""
    only: dict[str, str] = {}
    most: int = 0
