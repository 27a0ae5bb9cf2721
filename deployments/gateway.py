"""The routed lane: decide, ask over the hop, fall back while nothing has been handed out, relay.

Above it: `app`. Below it: `replica`, `hop`, `actors.client`, `pipelines`. Outside it: what providers do with a call.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec

from actors.link import Connector
from deployments.config import GatewaySettings
from deployments.handles import HandleCalls, call_from_body
from deployments.hop import Hop, ReplicaLost
from deployments.metrics import CONTENT_TYPE, exposition
from deployments.openapi import document
from deployments.reading import body_of, json_object
from deployments.replica import Replica
from deployments.visit import Visit
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, Overloaded, PenstockError, UpstreamError
from pipelines.resilience import RULES
from pipelines.routing.ask import Ask, Candidate, Decision, needs_of
from pipelines.routing.choose import choose
from pipelines.routing.replicas import pick
from pipelines.routing.table import Outcome, ReplicaEntry, Table

MAX_FALLBACKS = 16
"""Length of the caller's `models`."""

_BYTES_PER_TOKEN = 4


class Gateway(Replica):
    """A replica of the gateway. Its public methods are what other Ray jobs call over a handle."""

    def __init__(self, settings: GatewaySettings, connector: Connector | None = None) -> None:
        super().__init__(settings, connector, name="", title="Penstock", lane="routed")
        self._settings = settings
        self._hop = Hop(self.guard)
        self._handles = HandleCalls(self, self._log)

    # What other Ray jobs call. They may not have this code: only plain values cross.

    async def chat_stream(self, body: dict[str, Json], key: str | None = None) -> AsyncGenerator[dict[str, Json], None]:
        """The chunks of a chat completion (OpenAI's form) as plain dicts.

        key attributes and limits the call; without it, it counts as the cluster's own. An error is a last
        `{"error": {…}}`.
        """
        async for chunk in self._handles.stream(self._called(body, key, stream=True)):
            yield chunk

    async def chat(self, body: dict[str, Json], key: str | None = None) -> dict[str, Json]:
        """One chat completion (OpenAI's form), or `{"error": {…}}`."""
        return await self._handles.whole(self._called(body, key, stream=False))

    def _called(self, body: dict[str, Json], key: str | None, *, stream: bool) -> Callable[[], Call]:
        def make() -> Call:
            caller = self.guard.holder(key) if key is not None else Caller("internal")
            asked = {**body, "stream": stream} if isinstance(body, dict) else body
            return call_from_body(asked, caller, self.lane)

        return make

    # What the face asks for.

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """`auto`, the aliases, and every model of every provider that is ready."""
        listed = [_listed("auto", "penstock"), *(_listed(alias, "penstock") for alias in self._settings.aliases)]
        for entry in self.router.table.providers:
            if entry.state == "ready":
                listed += [_listed(f"{entry.name}/{card.name}", entry.name) for card in entry.models]
        return listed

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """Providers and the OpenAPI document."""
        return {
            "/v1/providers": lambda _: {"object": "list", "data": self._providers()},
            "/openapi.json": lambda _: document("Penstock", pages=("/v1/providers",)),
        }

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """`GET /metrics` for Prometheus, and `POST /v1/route`, which explains a decision without making it."""
        if (visit.method, visit.path) == ("GET", "/metrics"):
            await visit.reply(200, exposition(await self._snapshot()), {"content-type": CONTENT_TYPE})
        elif (visit.method, visit.path) == ("POST", "/v1/route"):
            body = json_object(await body_of(visit.receive, visit.headers))
            call = call_from_body(body, caller, self.lane)
            decision = choose(self.router.table, self._question(call), time.time(), random.random)
            await visit.reply(200, msgspec.json.encode(explained(decision)), {})
        else:
            return False
        return True

    async def _snapshot(self) -> Table:
        """The router's latest word, or while it is away the last table."""
        try:
            return await self.router.snapshot()
        except Exception:  # Ray raises many classes when an actor is away; each means the same here.
            return self.router.table

    def _providers(self) -> list[dict[str, Json]]:
        return [
            {
                "name": entry.name,
                "state": entry.state,
                "why": entry.why,
                "replicas": len(entry.replicas),
                "models": [card.name for card in entry.models],
                "performance": {
                    model: msgspec.to_builtins(performance) for model, performance in entry.performance.items()
                },
            }
            for entry in self.router.table.providers
        ]

    # The routed lane.

    async def respond(self, call: Call) -> Answer:
        """The best candidate's answer, at its first content; the next one's where a failure allows it.

        Raises the first meaningful error where nobody is left.
        """
        began = time.monotonic()
        decision = await self._decide(call, began)
        first: PenstockError | None = None
        for candidate in decision.candidates:
            if first is not None and not self._may_follow(candidate, first, decision, call):
                continue
            try:
                answer = await self._ask(call, candidate, began)
            except PenstockError as error:
                first = _more_meaningful(first, error)
                if not self._falls_back(error):
                    raise
            else:
                answer.headers["x-penstock-provider"] = candidate.provider
                answer.headers["x-penstock-model"] = candidate.model[:200]
                answer.headers["x-penstock-route"] = decision.explain
                return answer
        raise first or Overloaded("no candidate is left", status=503, retry_after=1.0)

    async def _decide(self, call: Call, began: float) -> Decision:
        """The decision; while every replica of what is wanted restarts, a little later."""
        ask = self._question(call)
        while True:
            try:
                return choose(self.router.table, ask, time.time(), random.random)
            except Overloaded:
                if time.monotonic() - began > self._settings.wait_for_replica:
                    raise
                await asyncio.sleep(0.05)

    def _question(self, call: Call) -> Ask:
        request = call.request
        prompt = sum(len(message.text) for message in request.messages) // _BYTES_PER_TOKEN
        return Ask(
            wanted=(request.model, *_fallbacks(call.body)),
            needs=needs_of(request),
            policy=self._settings.policy,
            aliases=self._settings.aliases,
            prompt_tokens=prompt,
            max_tokens=request.max_tokens,
            gateway=self.router.reporter,
            in_flight=self.router.in_flight,
        )

    async def _ask(self, call: Call, candidate: Candidate, began: float) -> Answer:
        """One candidate's answer. A replica that is lost before it answers costs nothing but the next replica."""
        avoid: frozenset[str] = frozenset()
        self.router.begin(candidate.provider, candidate.model)
        asked = time.monotonic()
        try:
            while True:
                replica = await self._replica(candidate, avoid, began)
                try:
                    answer = await self._hop.ask(replica, candidate.provider, candidate.model, call)
                    break
                except ReplicaLost:
                    avoid |= {replica.replica}
        except BaseException as error:
            self._ended(candidate, _failure(candidate, error, time.monotonic() - asked))
            raise
        answer.on_close(lambda: self._ended(candidate, _judged(answer, candidate, time.monotonic() - asked)))
        if answer.frames is not None:
            answer.frames = _with_error(answer, call, answer.frames)
        return answer

    def _ended(self, candidate: Candidate, outcome: Outcome) -> None:
        named = msgspec.structs.replace(outcome, provider=candidate.provider, model=candidate.model)
        self.router.end(named)

    async def _replica(self, candidate: Candidate, avoid: frozenset[str], began: float) -> ReplicaEntry:
        while True:
            entry = self.router.table.provider(candidate.provider)
            replica = pick(entry, random.random, avoid) if entry is not None else None
            if replica is not None:
                return replica
            if time.monotonic() - began > self._settings.wait_for_replica:
                message = f"no replica of the provider {candidate.provider} can be reached"
                raise Overloaded(message, status=503, retry_after=1.0)
            await asyncio.sleep(0.05)

    def _falls_back(self, error: PenstockError) -> bool:
        if not self._settings.fall_back:
            return False
        return RULES[error.reason].fall_back if isinstance(error, UpstreamError) else error.retryable

    def _may_follow(self, candidate: Candidate, first: PenstockError, decision: Decision, call: Call) -> bool:
        """After "context too long" only a model that is known to take more comes into question."""
        if not isinstance(first, UpstreamError) or first.reason != "context_too_long":
            return True
        return self._context(candidate) > self._context(decision.candidates[0])

    def _context(self, candidate: Candidate) -> int:
        entry = self.router.table.provider(candidate.provider)
        cards = entry.models if entry is not None else ()
        return next((card.context for card in cards if card.name == candidate.model), 0)

    def table_changed(self, before: Table, after: Table) -> None:
        """Give up what is under way at replicas that are gone from the table."""
        gone = _replicas(before) - _replicas(after)
        if gone:
            self._hop.lose(gone)

    async def closing(self) -> None:
        """The last connections."""
        await self._hop.close()


def explained(decision: Decision) -> dict[str, Json]:
    """A decision for a person: every candidate with the terms of its score, and why the others are none."""
    candidates = [
        {"model": candidate.name, "score": candidate.score, "terms": candidate.terms}
        for candidate in decision.candidates
    ]
    return {
        "object": "route",
        "wanted": decision.wanted,
        "explanation": decision.explain,
        "candidates": candidates,
        "excluded": decision.excluded,
    }


def _replicas(table: Table) -> set[str]:
    return {replica.replica for entry in table.providers for replica in entry.replicas}


def _fallbacks(body: dict[str, Any]) -> tuple[str, ...]:
    """The caller's own list of further models (`models`, as OpenRouter has it)."""
    models = body.get("models", [])
    if models is None:
        return ()
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise BadRequest("`models` must be a list of model names", param="models")
    if len(models) > MAX_FALLBACKS:
        raise BadRequest(f"`models` has more than {MAX_FALLBACKS} names", param="models")
    return tuple(models)


def _more_meaningful(first: PenstockError | None, error: PenstockError) -> PenstockError:
    """The first error that says something about the request or its provider; our own fullness says less."""
    if first is None or (isinstance(first, Overloaded) and not isinstance(error, Overloaded)):
        return error
    return first


def _failure(candidate: Candidate, error: BaseException, seconds: float) -> Outcome:
    """An attempt without an answer. A caller who left, and our own fullness, are not the provider's failures."""
    reason = error.reason if isinstance(error, UpstreamError) else None
    return Outcome(
        candidate.provider, candidate.model, seconds, reason=reason, cancelled=not isinstance(error, UpstreamError)
    )


def _judged(answer: Answer, candidate: Candidate, seconds: float) -> Outcome:
    """How an answer went. Without the provider replica's own word the caller left, or the replica was lost."""
    if answer.outcome is not None:
        return answer.outcome
    reason = answer.error.reason if isinstance(answer.error, UpstreamError) else None
    return Outcome(candidate.provider, candidate.model, seconds, reason=reason, cancelled=answer.error is None)


async def _with_error(answer: Answer, call: Call, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The hop's frames; if the provider's replica is lost, an error frame ends them."""
    try:
        async for data in frames:
            yield data
    except UpstreamError as error:
        answer.error = error
        yield DIALECTS[call.dialect].encoder(call.request).error(error)
    finally:
        await frames.aclose()


def _listed(name: str, owner: str) -> dict[str, Json]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
