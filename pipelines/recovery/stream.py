"""A caller's stream that goes on after its provider failed: one answer, of one or more attempts.

All attempts' frames are decoded, and one encoder writes the caller's: ids, indexes and sequence numbers go on through
the seam. What no event stands for (unknown members, comments, pings) is therefore lost, from the start: only streams
that may be recovered should pass through here. The last frames tell of a recovery in a member `penstock`:

    {"recovered": {"attempts": 2, "model": "provider/model"}}

and count the tokens of all attempts, those of broken ones as an estimate. A stream that cannot be gone on with ends
with the first failure's error frame.

Above it: the gateway and the providers. Below it: every other module of this package.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec

from pipelines.calls import Answer, Call
from pipelines.conversation import Usage
from pipelines.dialects import DIALECTS
from pipelines.errors import PenstockError, UpstreamError
from pipelines.events import Event, Finished, merged
from pipelines.recovery.continuation import Continuation
from pipelines.recovery.question import asked_again
from pipelines.recovery.reading import Reading
from pipelines.recovery.rules import Delivered, forbidden, lasting
from pipelines.recovery.seam import NoSeam

MOST_RECOVERIES = 2
"""How often one answer is gone on with."""

Again = Callable[[Call], Awaitable[Answer]]
"""Asks the next candidate. Raises PenstockError where there is none, or it has no answer."""


def recovering(answer: Answer, call: Call, again: Again) -> Answer:
    """`answer`, gone on with by `again` where it breaks and the rules allow it.

    Each attempt's answer is closed as soon as it has ended, `answer` too; the one that is returned has the outcome of
    the last attempt, and the first failure as its error where it could not be gone on with. Closing it closes whatever
    attempt is open. An UpstreamError of the frames and a PenstockError of `again` become frames; others are raised.
    """
    assert answer.frames is not None
    whole = Answer(status=answer.status, headers=answer.headers)
    whole.hold(answer)
    whole.frames = _Recovery(call, again, whole).frames(answer, answer.frames)
    return whole


class _Recovery:
    """One caller's stream."""

    def __init__(self, call: Call, again: Again, whole: Answer) -> None:
        self._call = call
        self._again = again
        self._whole = whole
        self._dialect = DIALECTS[call.dialect]
        self._encoder = self._dialect.encoder(call.request)
        self._delivered = Delivered()
        self._spent: list[Usage] = []
        self._model = ""

    async def frames(self, answer: Answer, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The caller's frames."""
        reading = Reading(answer, source, self._dialect.decoder(), lambda event: [event])
        first: UpstreamError | None = None
        try:
            while True:
                try:
                    async with aclosing(self._told(reading)) as told:
                        async for said in told:
                            yield said
                    return
                except UpstreamError as failure:
                    first = first or failure
                    on = self._may_go_on(reading, failure)
                self._spent.append(reading.spent)
                await answer.close()
                further = await self._asked() if on else None
                answer = further or answer
                if further is None or further.frames is None or self._delivered.part is None:
                    self._whole.error = first
                    yield self._encoder.error(first)
                    return
                self._model = _name(further, self._call)
                seam = Continuation(self._delivered.part, self._delivered.text, self._call.request.stop)
                reading = Reading(further, further.frames, self._dialect.decoder(), seam.take)
        finally:
            await answer.close()
            self._whole.outcome, self._whole.asked = answer.outcome, answer.asked

    async def _told(self, reading: Reading) -> AsyncGenerator[bytes, None]:
        """One attempt's share of the caller's frames. Raises UpstreamError where it breaks."""
        async with aclosing(reading.events()) as batches:
            async for events in batches:
                said = b"".join([self._say(event, reading) for event in events])
                if said:
                    yield said
                if self._delivered.finished and not reading.done:
                    return

    def _say(self, event: Event, reading: Reading) -> bytes:
        self._delivered.note(event)
        if isinstance(event, Finished) and self._spent:
            event = self._finished(event, reading)
        return self._encoder.encode(event)

    def _finished(self, event: Finished, reading: Reading) -> Finished:
        """The end of a recovered answer: all that it used, and that it was recovered."""
        usage = _total([*self._spent, event.usage or reading.spent])
        recovered = {"attempts": len(self._spent) + 1, "model": self._model}
        opaque = merged(event.opaque, {"penstock": {"recovered": recovered}})
        return msgspec.structs.replace(event, usage=usage, opaque=opaque)

    def _may_go_on(self, reading: Reading, failure: UpstreamError) -> bool:
        if isinstance(failure, NoSeam) or reading.stopped or len(self._spent) == MOST_RECOVERIES:
            return False
        return not (forbidden(self._call.request) or self._delivered.unfit() or lasting(failure))

    async def _asked(self) -> Answer | None:
        try:
            return await self._again(asked_again(self._call, self._delivered.text))
        except PenstockError:
            return None


def _name(answer: Answer, call: Call) -> str:
    """Who answers: `provider/model` where the answer says so."""
    provider = answer.headers.get("x-penstock-provider", "")
    model = answer.headers.get("x-penstock-model", call.request.model)
    return f"{provider}/{model}" if provider else model


def _total(usages: list[Usage]) -> Usage:
    """Several attempts' tokens as one; the cost is known only if each one's is."""
    costs = [usage.cost for usage in usages if usage.cost is not None]
    return Usage(
        input=sum(usage.input for usage in usages),
        output=sum(usage.output for usage in usages),
        cached_read=sum(usage.cached_read for usage in usages),
        cache_write=sum(usage.cache_write for usage in usages),
        reasoning=sum(usage.reasoning for usage in usages),
        cost=sum(costs) if len(costs) == len(usages) else None,
        estimated=any(usage.estimated for usage in usages),
    )
