"""Requests with an `Idempotency-Key`: asked once, answered as often as they are sent.

    first        asks the provider; what it hands out is recorded meanwhile
    repeated     while the first one is under way: the same frames, live; afterwards, for 24 hours: the same answer
    otherwise    another body under the same key is refused (422)

What was replayed or joined says so in `x-penstock-idempotency`, and costs nothing. Only a whole, successful answer
is kept. If the first request fails, is cut off, or its caller hangs up (which cancels the provider as ever), a
repeat asks anew; one that had joined does so too as long as it has been given nothing, and ends with an error
where it has. An answer of more than 8 MiB is not kept: `not-stored` where the header can still say so, that is
without a stream; meanwhile its key is refused (409). Where nobody can be asked about the key (503), nothing is done.

Above it: `replica`. Below it: `actors.replaying.replay_client`, `pipelines.idempotency`. Outside it: what is answered.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Literal

import msgspec

from actors.replaying.replay_client import Lost, Recording, ReplayClient
from deployments.identity import new_id
from pipelines.calls import Answer, Call
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, StreamBroken
from pipelines.idempotency import MAX_ANSWER, Head, Opening, Piece, Verdict, fingerprint_of, name_of
from pipelines.routing.table import Outcome

HEADER = "x-penstock-idempotency"

_WORDS: dict[Verdict, Literal["joined", "replayed"]] = {"join": "joined", "replay": "replayed"}


def free(outcome: Outcome) -> Outcome:
    """The outcome of a repetition: nothing was asked, nothing used."""
    return Outcome(outcome.provider, outcome.model, 0.0, cost=0.0)


class Replaying:
    """Answers calls that carry a key. where: the lane and the provider, as part of what is asked."""

    def __init__(self, client: ReplayClient, where: str) -> None:
        self._client = client
        self._where = where

    async def answer(self, call: Call, ask: Callable[[Call], Awaitable[Answer]]) -> Answer:
        """The answer: from `ask`, from one that is under way, or from the store.

        Raises BadRequest: 422 for a key that was used for something else, 409 for one whose answer under way cannot
        be joined; Overloaded (503) where the key cannot be looked up; what `ask` raises.
        """
        name = name_of(call.caller.id, call.idempotency_key)
        fingerprint = fingerprint_of(call, self._where)
        while True:
            opening = Opening(name, fingerprint, new_id())
            begun = await self._client.begin(opening)
            if begun.verdict == "run":
                return await led(call, ask, self._client.record(opening))
            if begun.verdict not in _WORDS:
                raise _refusal(begun.verdict)
            answer = await followed(self._client, call, msgspec.structs.replace(opening, run=begun.run))
            if answer is not None:
                answer.headers[HEADER] = _WORDS[begun.verdict]
                return answer


async def led(
    call: Call,
    ask: Callable[[Call], Awaitable[Answer]],
    recording: Recording,
    repeated: Callable[[Outcome], Outcome] = free,
) -> Answer:
    """The answer of `ask`, recorded while it is handed out. repeated: its outcome for those who get it again."""
    try:
        answer = await ask(call)
    except BaseException:
        recording.abandon()
        raise
    # Whatever becomes of the answer; once it is finished this means nothing.
    answer.on_close(recording.abandon)
    head = Head(answer.status, dict(answer.headers), framed=answer.frames is not None)
    if answer.frames is not None:
        recording.begin(head)
        answer.frames = _recorded(answer, answer.frames, recording, repeated)
    elif len(answer.body) > MAX_ANSWER:
        answer.headers[HEADER] = "not-stored"
    elif _succeeded(answer):
        recording.begin(head)
        recording.add(answer.body)
        recording.finish(answer.outcome and repeated(answer.outcome))
    return answer


async def followed(client: ReplayClient, call: Call, opening: Opening) -> Answer | None:
    """Another request's answer, a stream's at its first frames; None if it ended without any."""
    pieces = client.pieces(opening)
    held: list[bytes] = []
    try:
        async for piece in pieces:
            held.append(piece.data)
            head = piece.head
            if head is None or not (head.framed or piece.state == "whole"):
                continue
            answer = Answer(status=head.status, headers=dict(head.headers))
            if head.framed:
                answer.frames = _followed(call, answer, piece, pieces)
            else:
                answer.body, answer.outcome = b"".join(held), piece.outcome
                await pieces.aclose()
            return answer
    except Lost:
        return None
    return None


def _refusal(verdict: Verdict) -> BadRequest:
    if verdict == "conflict":
        message = "this Idempotency-Key was used for a request with another body"
        return BadRequest(message, status=422, code="idempotency_key_reused")
    message = "the request with this Idempotency-Key is still being answered, and its answer is too large to be shared"
    return BadRequest(message, status=409, code="idempotency_key_in_use", retry_after=1.0)


def _succeeded(answer: Answer) -> bool:
    if answer.status != 200 or answer.error is not None:
        return False
    if answer.outcome is None:
        # What is counted here without asking a provider has no outcome; a stream without one was cut off.
        return answer.frames is None
    return answer.outcome.reason is None and not answer.outcome.cancelled


async def _recorded(
    answer: Answer, frames: AsyncGenerator[bytes, None], recording: Recording, repeated: Callable[[Outcome], Outcome]
) -> AsyncGenerator[bytes, None]:
    try:
        async for data in frames:
            # Who follows is told of a break in his own words, and of no other's. Over the hop the outcome tells of it,
            # which comes with the frame that says it.
            broken = answer.error is not None or (answer.outcome is not None and answer.outcome.reason is not None)
            if not broken:
                recording.add(data)
            yield data
    finally:
        await frames.aclose()
    if _succeeded(answer):
        recording.finish(answer.outcome and repeated(answer.outcome))


async def _followed(
    call: Call, answer: Answer, first: Piece, pieces: AsyncGenerator[Piece, None]
) -> AsyncGenerator[bytes, None]:
    """The frames of another request's answer; if that is lost, an error frame ends them."""
    piece = first
    try:
        async with aclosing(pieces):
            while piece.state != "whole":
                yield piece.data
                piece = await anext(pieces)
            if piece.data:
                yield piece.data
            answer.outcome = piece.outcome
    except Lost:
        error = StreamBroken("the request that was first with this Idempotency-Key was broken off")
        answer.error = error
        yield DIALECTS[call.dialect].encoder(call.request).error(error)
