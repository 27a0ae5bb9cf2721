"""The gateway: the routed lane's replica, with its pages, its metrics and the methods for other Ray jobs.

Above it: `app`. Below it: `replica`, `choosing`, `routed_lane`, `routing_pages`, `handles`.
Outside it: how a call is routed.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec

from actors.ledger_link import LedgerConnector
from actors.link import Connector
from actors.replay_link import ReplaysConnector
from deployments.choosing import Chooser
from deployments.config import GatewaySettings
from deployments.handles import HandleCalls, call_from_body
from deployments.hop import Hop
from deployments.metrics import CONTENT_TYPE, exposition
from deployments.openapi import document
from deployments.replica import Replica
from deployments.routed_lane import RoutedLane
from deployments.routing_pages import RoutingPages
from deployments.visit import Visit
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json
from pipelines.errors import Overloaded
from pipelines.routing.learning.state import WinRate
from pipelines.routing.table import Published, Table


class Gateway(Replica):
    """A replica of the gateway. Its public methods are what other Ray jobs call over a handle."""

    def __init__(
        self,
        settings: GatewaySettings,
        connector: Connector | None = None,
        replays: ReplaysConnector | None = None,
        ledger: LedgerConnector | None = None,
    ) -> None:
        super().__init__(settings, connector, replays, ledger, name="", title="Penstock", lane="routed")
        self._settings = settings
        self._hop = Hop(self.guard)
        self._chooser = Chooser(settings, self.router)
        self._lane = RoutedLane(settings, self._hop, self.router, self._chooser)
        self._pages = RoutingPages(self._chooser, self.router, self.lane)
        self._handles = HandleCalls(self, self.books, self._log)

    # What other Ray jobs call. They may not have this code: only plain values cross.

    async def chat_stream(
        self, body: dict[str, Json], key: str | None = None, *, idempotency_key: str = ""
    ) -> AsyncGenerator[dict[str, Json], None]:
        """The chunks of a chat completion (OpenAI's form) as plain dicts.

        key attributes and limits the call; without it, it counts as the cluster's own. idempotency_key: as the header
        `Idempotency-Key`. An error is a last `{"error": {…}}`.
        """
        async for chunk in self._handles.stream(self._called(body, key, idempotency_key, stream=True)):
            yield chunk

    async def chat(
        self, body: dict[str, Json], key: str | None = None, *, idempotency_key: str = ""
    ) -> dict[str, Json]:
        """One chat completion (OpenAI's form), or `{"error": {…}}`. key, idempotency_key: as for `chat_stream`."""
        return await self._handles.whole(self._called(body, key, idempotency_key, stream=False))

    def _called(
        self, body: dict[str, Json], key: str | None, idempotency_key: str, *, stream: bool
    ) -> Callable[[], Call]:
        def make() -> Call:
            caller = self.guard.holder(key) if key is not None else Caller("internal")
            asked = {**body, "stream": stream} if isinstance(body, dict) else body
            return call_from_body(asked, caller, self.lane, idempotency_key)

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
            "/openapi.json": lambda _: document(
                "Penstock", pages=("/v1/providers", "/v1/performance"), actions=("/v1/route", "/v1/feedback")
            ),
        }

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """`GET /metrics` for Prometheus, and what `routing_pages` has."""
        if (visit.method, visit.path) != ("GET", "/metrics"):
            return await self._pages.answer(visit, caller)
        rates: tuple[WinRate, ...] = ()
        with contextlib.suppress(Overloaded):
            rates = (await self._pages.standing()).win_rates
        await visit.reply(200, exposition(await self._snapshot(), rates), {"content-type": CONTENT_TYPE})
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

    async def respond(self, call: Call, queued: float) -> Answer:
        """The best candidate's answer (`routed_lane`)."""
        return await self._lane.answer(call)

    def table_changed(self, before: Table, after: Table) -> None:
        """Give up what is under way at replicas that are gone; one that drains is still there."""
        gone = _replicas(before) - _replicas(after)
        if gone:
            self._hop.lose(gone)

    def learned(self, published: Published) -> None:
        """Decide by it from now on."""
        self._chooser.learned(published)

    async def closing(self) -> None:
        """What was learned is kept, for the cluster may end with us; the last connections."""
        with contextlib.suppress(Exception):  # whatever Ray raises where the router is away
            await self.router.keep()
        await self._hop.close()


def _replicas(table: Table) -> set[str]:
    ready = {replica.replica for entry in table.providers for replica in entry.replicas}
    return ready.union(*(entry.others for entry in table.providers))


def _listed(name: str, owner: str) -> dict[str, Json]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
