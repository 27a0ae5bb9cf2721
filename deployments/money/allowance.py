"""What a request takes of its key's limits, before it is answered and after.

    tokens   the question's likely length when it comes; what was used beyond that when it has ended
    money    reserved when it comes: the likely question, and as much output as it allows or the model usually gives, by
             the prices that are known of the model, for each answer that is wanted; else what such requests have cost.
             Then what it did cost
    streams  one, for as long as a streamed answer lasts

What nobody knows the price of spends nothing of a budget; it is for the list of models to keep such ones out.

Above it: `books`. Below it: `actors.money.allowance_client`, `pipelines.lease`. Outside it: who may ask at all.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from actors.money.allowance_client import AllowanceClient
from pipelines.allowance import Need
from pipelines.calls import COUNT_TOKENS, Answer, Call
from pipelines.errors import OverBudget, OverLimit
from pipelines.lease import Figures, Lease
from pipelines.pricing import Rates, likely_cost
from pipelines.prompt_tokens import BYTES_A_TOKEN, likely_input
from pipelines.routing.table import Outcome

USUAL_OUTPUT = 500
"""Tokens of an answer, before there was one."""

MOST = 2**62
"""Nano-dollars of one reservation, whatever `max_tokens` says: sums have 64 bits."""

MOST_MODELS = 1_000
"""Names that something is remembered of."""

SHARE = 0.2
"""Weight of the latest answer in what is usual."""


class _Usual(NamedTuple):
    """Decaying means: tokens of one answer of a model, nano-dollars of a request."""

    output: float
    nano: float


class _Permit(NamedTuple):
    lease: Lease
    need: Need


class Allowances:
    """One replica's. rates: the prices of a call's model, as far as they are known here."""

    def __init__(
        self, client: AllowanceClient, rates: Callable[[Call], Rates | None], now: Callable[[], float]
    ) -> None:
        self._client = client
        self._rates = rates
        self._now = now
        self._permits: dict[str, _Permit] = {}
        self._usual: OrderedDict[str, _Usual] = OrderedDict()

    async def admit(self, call: Call, received: int = 0) -> None:
        """Take what the call is likely to use, for a caller with limits. received: bytes of its body.

        Raises OverLimit, OverBudget, or Overloaded (503) where nobody can say.
        """
        limits = call.caller.limits
        if limits is None:
            return
        lease = self._client.lease(call.caller.id, limits)
        need = self._need(call, lease, received)
        try:
            if await self._client.take(lease, need):
                self._permits[call.account.entry] = _Permit(lease, need)
        except (OverLimit, OverBudget) as error:
            error.headers.update(_told(lease.figures(self._now())))
            raise

    def tell(self, call: Call, answer: Answer) -> None:
        """Put what is left into the answer's headers, in OpenAI's words.

        Source: OpenAI, "Rate limits", section "Rate limits in headers".
        """
        permit = self._permits.get(call.account.entry)
        if permit is not None:
            answer.headers.update(_told(permit.lease.figures(self._now())))

    def over(self, call: Call, outcome: Outcome | None, row: int) -> None:
        """The call has ended. row: the number of its last row."""
        permit = self._permits.pop(call.account.entry, None)
        if permit is None:
            return
        tokens, nano = 0, None
        if outcome is not None and outcome.bill is not None:
            bill = outcome.bill
            tokens, nano = bill.input + bill.output, bill.cost or 0
            self._learn(call.request.model, bill.output / _answers(call), nano)
        elif outcome is not None and outcome.cost == 0.0:
            nano = 0
        permit.lease.end(permit.need, tokens, nano, row, self._now())

    async def close(self) -> None:
        """Give back what is held."""
        await self._client.close()

    def _need(self, call: Call, lease: Lease, received: int) -> Need:
        requests, tokens, streams, money = lease.counted
        question = 1
        if (tokens or money) and call.operation != COUNT_TOKENS:
            question = received // BYTES_A_TOKEN if call.operation else likely_input(call.request)
        return Need(
            int(requests),
            max(1, question) if tokens else 0,
            int(streams and call.stream),
            self._price(call, question) if money else 0,
        )

    def _price(self, call: Call, question: int) -> int:
        """Nano-dollars that the call is likely to cost; 1 at least, so that an empty budget admits nothing."""
        if call.operation == COUNT_TOKENS:
            return 1
        usual = self._usual.get(call.request.model)
        answer = call.request.max_tokens or (int(usual.output) if usual is not None else USUAL_OUTPUT)
        answer *= 0 if call.operation == "/embeddings" else _answers(call)
        cost = likely_cost(self._rates(call), question, answer)
        if cost is None:
            cost = int(usual.nano) if usual is not None else 0
        return min(max(1, cost), MOST)

    def _learn(self, model: str, output: float, nano: int) -> None:
        before = self._usual.get(model)
        if before is None:
            self._usual[model] = _Usual(output, nano)
            if len(self._usual) > MOST_MODELS:
                self._usual.popitem(last=False)
        else:
            self._usual[model] = _Usual(
                before.output + SHARE * (output - before.output), before.nano + SHARE * (nano - before.nano)
            )


def _answers(call: Call) -> int:
    """How many answers are wanted to one question."""
    return max(1, call.request.n or 1)


def _told(figures: tuple[Figures | None, Figures | None]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, figure in zip(("requests", "tokens"), figures, strict=True):
        if figure is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(figure.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(figure.left)
            headers[f"x-ratelimit-reset-{name}"] = f"{figure.full:.3f}s"
    return headers
