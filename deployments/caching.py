"""The exact cache: the very same request of the same key gets the answer that it got before, for as long as it said.

Off unless a key or a request asks for it (`cache`). "The very same" is: key, lane, path, body whatever its members'
order, and what of the headers a provider is told; a sampled answer counts as much as any. Stored is what is stored for
an `Idempotency-Key` too, and where it is: whole, successful answers of at most 8 MiB, streams as their frames; cached
ones have a bound of their own. Where the store is away, or somebody else just asks the same, the provider is asked.

A hit costs nothing: its row has no attempt and says `cached`. No answer of a request with tools of ours is cached.

Above it: `replica`. Below it: `replaying`, `actors.replaying.replay_client`. Outside it: who may cache, and for how
long.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from actors.replaying.replay_client import ReplayClient
from deployments.identity import new_id
from deployments.replaying import followed, free, led
from pipelines.calls import Answer, Call
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Dialect, amended
from pipelines.dialects.sse import Framer
from pipelines.idempotency import Opening, cache_name_of, fingerprint_of
from pipelines.routing.table import Bill, Outcome
from pipelines.tools.offers import names_ours

HEADER = "x-penstock-cache"
"""`hit` or `miss`."""

_OPERATIONS = frozenset(("", "/embeddings", "/completions"))
_LIMITS = ("x-ratelimit-", "anthropic-ratelimit-")
_COST = b'"cost'
"""Stands in whatever may state a cost: `cost`, OpenRouter's `cost_details`, xAI's `cost_in_usd_ticks`."""

_CACHED = Bill(cost=0, basis="cached")


class Caching:
    """Answers calls that may be cached. where: the lane and the provider, as part of what is asked."""

    def __init__(self, client: ReplayClient, where: str) -> None:
        self._client = client
        self._where = where

    async def answer(self, call: Call, ask: Callable[[Call], Awaitable[Answer]]) -> Answer:
        """The answer: stored, or that of `ask`, which is stored then. Raises what `ask` raises."""
        if call.operation not in _OPERATIONS or names_ours(call.request):
            return await ask(call)
        told = sorted((name, value) for name, value in call.headers.items() if name.startswith("anthropic-"))
        fingerprint = fingerprint_of(call, f"{self._where} {call.cache} {told}")
        opening = Opening(cache_name_of(call.caller.id, fingerprint), fingerprint, new_id(), call.cache)
        begun = await self._client.look(opening)
        if begun is not None and begun.verdict == "replay":
            stored = await followed(self._client, call, msgspec.structs.replace(opening, run=begun.run))
            if stored is not None:
                return _hit(call, stored)
        if begun is not None and begun.verdict == "run":
            answer = await led(call, ask, self._client.record(opening), _cached)
        else:
            answer = await ask(call)
        answer.headers[HEADER] = "miss"
        return answer


def _cached(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(free(outcome), bill=_CACHED)


def _hit(call: Call, answer: Answer) -> Answer:
    # What the provider said of its limits was true then.
    answer.headers = {name: value for name, value in answer.headers.items() if not name.startswith(_LIMITS)}
    answer.headers[HEADER] = "hit"
    if answer.frames is not None:
        answer.frames = _free_frames(call, answer.frames)
    elif _COST in answer.body:
        answer.body = _free_body(answer.body)
    return answer


def _free_body(body: bytes) -> bytes:
    """A stored whole answer, but for what it says of a cost; as it is where it cannot be read."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body
    return msgspec.json.encode(answer) if isinstance(answer, dict) and _zeroed(answer) else body


async def _free_frames(call: Call, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The stored frames, but for what they say of a cost: this time there is none."""
    framer, dialect = Framer(), DIALECTS[call.dialect]
    try:
        async for data in frames:
            if _COST in data:
                data = b"".join([amended(raw, lambda frame: _freed(dialect, frame)) for raw in framer.cut(data)])
            yield data
    finally:
        await frames.aclose()


def _freed(dialect: Dialect, frame: dict[str, Json]) -> bool:
    zeroed = _zeroed(frame)
    return dialect.set_cost(frame, 0.0) or zeroed


def _zeroed(said: dict[str, Json]) -> bool:
    """Make every cost that an answer or a frame states nothing; whether it states any. What makes it up goes."""
    stated = False
    for whole in (said, said.get("response"), said.get("message")):
        for part in (whole.get("usage"), whole.get("penstock")) if isinstance(whole, dict) else ():
            if not isinstance(part, dict):
                continue
            for name in [name for name in part if name.startswith("cost")]:
                stated = True
                if name == "cost":
                    part[name] = 0.0
                else:
                    del part[name]
    return stated
