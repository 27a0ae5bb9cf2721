"""Crossing from a gateway replica to a provider replica.

What crosses is the caller's own body, with the model decided, and back come the caller's own frames; the provider
replica translates. A stream's 200 comes with its first content, and a complete stream ends with a trailer, a
comment that carries its `Outcome`: one without it was cut off.

Above it: `gateway`. Below it: `link`, `front`'s headers, `pipelines`. Outside it: which replica, what next.
"""

import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import partial

import msgspec

from deployments.front import REASON_HEADER
from deployments.guard import CALLER_HEADER, PRIORITY_HEADER, Guard
from deployments.hop.link import Crossing, Links
from deployments.http.watchdog import Watchdog
from deployments.money.books import ACCOUNT_HEADER, written
from deployments.visit import OUTCOME_HEADER, TRAILER
from pipelines.calls import Answer, Call
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer
from pipelines.errors import Overloaded, PenstockError, Reason, StreamBroken, UpstreamError
from pipelines.rate_limits import rate_headers
from pipelines.resilience import RULES
from pipelines.routing.table import Outcome, ReplicaEntry

DOUBT = 1.0
"""Seconds of silence after which a stream of a replica that is in no table any more is lost too."""

MAX_WHOLE = 256 * 1024 * 1024
"""Bytes of a whole answer: a provider's 64 MiB may grow where they are written in another dialect."""

_OURS = frozenset((REASON_HEADER, OUTCOME_HEADER))
"""Headers of a provider replica's answer that are for the gateway alone."""

_OF_ERRORS = ("x-penstock-tries",)
"""Headers of ours that go on to the caller with an error too."""


class ReplicaLost(StreamBroken):
    """The provider's replica is gone: nothing is known against the provider, another replica may answer."""


class Hop:
    """Asks provider replicas. `lose` ends, with ReplicaLost, whatever is under way at replicas that are gone."""

    def __init__(self, guard: Guard) -> None:
        self._links = Links(lambda: guard.secret)
        self._under_way: dict[str, set[Watchdog]] = defaultdict(set)
        self._flowing: dict[str, set[Watchdog]] = defaultdict(set)
        self._lost: set[str] = set()

    async def ask(self, replica: ReplicaEntry, provider: str, model: str, call: Call) -> Answer:
        """The replica's answer, at its first content.

        Raises ReplicaLost where the replica could not be reached or went away before it answered, UpstreamError
        for whatever the replica itself answered instead (its own refusals too, as what they mean for us), Overloaded
        where it is full: that is nothing against its provider.
        """
        body: dict[str, Json] = {**call.body, "model": model}
        headers = {
            **call.headers,
            "content-type": "application/json",
            CALLER_HEADER: call.caller.id,
            PRIORITY_HEADER: str(call.caller.priority),
            ACCOUNT_HEADER: written(call.account),
            "x-request-id": call.id,
        }
        with self._guarded(self._under_way, replica, provider) as dog:
            dog.resume()
            try:
                try:
                    link = await self._links.to(replica.address)
                    upstream = await link.ask(call.path, call.query.encode(), headers, msgspec.json.encode(body))
                except UpstreamError as error:
                    raise ReplicaLost(error.message, provider=provider, code=error.code) from error
                try:
                    return await self._read(replica, upstream, provider, call)
                except BaseException:
                    await upstream.close()
                    raise
            finally:
                if (dogs := self._under_way.get(replica.replica)) is not None:
                    dogs.discard(dog)

    def lose(self, replicas: Iterable[str]) -> None:
        """These replicas are gone, or silent for so long that they must be.

        A stream that flows says otherwise (the replica, or the router, is short of CPU or cut off from the other): it
        ends as soon as it falls silent.
        """
        for gone in [replica for replica, dogs in self._flowing.items() if not dogs]:
            del self._flowing[gone]
        self._lost.intersection_update(self._flowing)
        for replica in replicas:
            for dog in self._under_way.pop(replica, set()):
                dog.bite(ReplicaLost("the provider's replica went away"))
            self._lost.add(replica)
            for dog in self._flowing.get(replica, set()):
                dog.doubt(ReplicaLost("the provider's replica went away"), DOUBT, partial(self._is_lost, replica))

    def regain(self, replicas: Iterable[str]) -> None:
        """These replicas are there."""
        if self._lost:
            self._lost.difference_update(replicas)

    def _is_lost(self, replica: str) -> bool:
        return replica in self._lost

    async def close(self) -> None:
        """Close every connection."""
        await self._links.close()

    def _guarded(self, kennel: dict[str, set[Watchdog]], replica: ReplicaEntry, provider: str) -> Watchdog:
        dog = Watchdog(provider)
        kennel[replica.replica].add(dog)
        return dog

    async def _read(self, replica: ReplicaEntry, upstream: Crossing, provider: str, call: Call) -> Answer:
        headers = {
            name: value
            for name, value in upstream.headers.items()
            if name == "content-type" or (name.startswith("x-penstock-") and name not in _OURS)
        }
        headers.update(rate_headers(upstream.headers))
        answer = Answer(status=upstream.status, headers=headers)
        if upstream.status == 200 and call.stream:
            answer.let_past(self._frames(replica, upstream, answer, provider, DIALECTS[call.dialect].last))
            answer.hold(upstream)
            return answer
        try:
            answer.body = await upstream.whole(MAX_WHOLE)
        except StreamBroken as error:
            raise ReplicaLost(error.message, provider=provider) from error
        await upstream.close()
        if upstream.status != 200:
            raise _refusal(upstream.status, upstream.headers, answer.body, provider, call)
        answer.outcome = _outcome(upstream.headers.get(OUTCOME_HEADER, "").encode())
        return answer

    async def _frames(
        self, replica: ReplicaEntry, upstream: Crossing, answer: Answer, provider: str, last: re.Pattern[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """The replica's frames, whole ones only, without the trailer. Raises ReplicaLost if that never comes."""
        framer = Framer()
        try:
            with self._guarded(self._flowing, replica, provider) as dog:
                upstream.pass_to(partial(_past, framer, last, dog, answer))
                async with aclosing(upstream.chunks()) as chunks:
                    while True:
                        dog.resume()
                        data = await anext(chunks, b"")
                        dog.rest()
                        if not data:
                            break
                        ready = framer.whole(data)
                        at = ready.rfind(TRAILER)
                        if at >= 0 and (at == 0 or ready[at - 1] == 10):
                            answer.outcome = _outcome(ready[at + len(TRAILER) :])
                            ready = ready[:at]
                        if ready:
                            yield ready
        except StreamBroken as error:
            if answer.outcome is None:
                raise ReplicaLost("the provider's replica went away in mid-stream", provider=provider) from error
        finally:
            self._flowing[replica.replica].discard(dog)
            await upstream.close()
        if answer.outcome is None:
            raise ReplicaLost("the provider's replica cut its answer off", provider=provider)


def _past(framer: Framer, last: re.Pattern[bytes], dog: Watchdog, answer: Answer, data: bytes) -> bool:
    """Let whole frames past the reader, who waits for them: neither the end of the stream nor its trailer."""
    outlet = answer.outlet
    if outlet is None or not outlet.free or not framer.passes(data) or TRAILER in data or last.search(data):
        return False
    outlet.put(data)
    dog.rest()
    dog.resume()
    return True


def _outcome(data: bytes) -> Outcome | None:
    try:
        return msgspec.json.decode(data, type=Outcome)
    except msgspec.DecodeError:
        return None


def _refusal(status: int, headers: Mapping[str, str], body: bytes, provider: str, call: Call) -> PenstockError:
    """A replica's refusal, in the caller's dialect, as an error that says what may be done next."""
    error = DIALECTS[call.dialect].read_error(status, headers, body)
    error.provider = provider
    error.status = status
    error.headers = {name: headers[name] for name in (*rate_headers(headers), *_OF_ERRORS) if name in headers}
    word = headers.get(REASON_HEADER, "")
    if word == Overloaded("").label:
        return Overloaded(error.message, status=status, retry_after=error.retry_after)
    if word in RULES:
        reason: Reason = word
        error.reason = reason
    elif word:
        error.reason = "server_error" if status >= 500 else "invalid_request"
        error.code = word
    return error
