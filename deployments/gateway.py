"""The gateway: the routed lane's replica, with its pages, its metrics and the methods for other Ray jobs.

Above it: `app`. Below it: `replica`, `choosing`, `routed_lane`, `routing_pages`, `handles`.
Outside it: how a call is routed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec

from actors.money.ledger_link import LedgerConnector
from actors.replaying.replay_link import ReplaysConnector
from actors.routing.link import Connector
from actors.tools.registry_link import RegistryConnector
from actors.tools.toolbox import ToolboxClient
from deployments.choosing import Chooser
from deployments.config import GatewaySettings, state_directory
from deployments.dashboard import assets
from deployments.dashboard.live import LiveFeed
from deployments.guard import demand, may_ask, permit
from deployments.handles import HandleCalls, call_from_body
from deployments.hop.asking import Hop
from deployments.money.rates import ListedRates
from deployments.money.retention import Retention
from deployments.pages.approval_pages import APPROVAL_PAGES, ApprovalPages
from deployments.pages.key_pages import KEY_PAGES, KeyPages
from deployments.pages.metrics_page import MetricsPage
from deployments.pages.openapi import document
from deployments.pages.routing_pages import ROUTING_PAGES, RoutingPages
from deployments.pages.tool_pages import TOOL_PAGES, ToolPages
from deployments.pages.usage_pages import USAGE_PAGES, UsagePages
from deployments.replica import Replica
from deployments.routed_lane import RoutedLane
from deployments.telemetry.metrics import CONTENT_TYPE
from deployments.tools.tool_lane import NoTools, ToolLane
from deployments.trials import Trials
from deployments.visit import Visit
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json
from pipelines.pricing import Rates
from pipelines.routing.table import Published, Table
from pipelines.tools.offers import names_ours

_PAGES = {
    ("get", "/v1/providers"): "Every provider: name, state and why",
    ("get", "/v1/live"): "What happens now, as server-sent events, for the dashboard",
    ("get", "/metrics"): "The whole cluster's numbers in Prometheus' text form; wants the right `usage`",
}
"""For people: what there is beside the pages of other modules, by method and path."""


class Gateway(Replica):
    """A replica of the gateway. Its public methods are what other Ray jobs call over a handle."""

    def __init__(
        self,
        settings: GatewaySettings,
        connector: Connector | None = None,
        replays: ReplaysConnector | None = None,
        ledger: LedgerConnector | None = None,
        registry: RegistryConnector | None = None,
    ) -> None:
        super().__init__(settings, connector, replays, ledger, name="", title="Penstock", lane="routed")
        self._settings = settings
        self._hop = Hop(self.guard)
        self._chooser = Chooser(settings, self.router)
        self._lane = RoutedLane(settings, self._hop, self.router, self._chooser, self.recorder)
        if settings.trials.shadow or settings.trials.duel:
            replay, check = self._replaying.answer, self._guardrails.after if self._guardrails is not None else None
            self._lane.trials = Trials(settings.trials, self._chooser, self.router, self._lane.ask, replay, check)
        sources = settings.tools.sources()
        self.toolbox = ToolboxClient(sources, str(state_directory()), registry) if sources else None
        self._tool_pages = ToolPages(self.toolbox)
        self.tool_lane = ToolLane(
            settings.tools.loop,
            self._lane.answer,
            self.toolbox or NoTools(),
            self.ledger,
            self.guard,
            self._log,
            self.recorder,
        )
        self._approvals = ApprovalPages(self.tool_lane.held, self.guard, self.front.serve)
        self._pages = RoutingPages(self._chooser, self.router, self.lane)
        self._metrics = MetricsPage(self.router, self._pages)
        self._keys = KeyPages(self.ledger)
        self._listed_rates = ListedRates()
        self._usage = UsagePages(self.ledger)
        self._retention = Retention(settings.retention, self.ledger, time.time)
        self._sweeping: asyncio.Task[None] | None = None
        self._live = LiveFeed(self.router, self.ledger, lambda: not self.healthy())
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
            call = call_from_body(asked, caller, self.lane, idempotency_key)
            permit(call, "")
            return call

        return make

    # What the face asks for.

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """`auto`, the aliases, and every model of every provider that is ready; what the caller may ask of them."""
        aliases = self._chooser.aliases(caller)
        listed = [_listed("auto", "penstock"), *(_listed(alias, "penstock") for alias in aliases)]
        for entry in self.router.table.providers:
            if entry.state == "ready":
                cards = [card for card in entry.models if may_ask(caller, entry.name, card.name)]
                listed += [_listed(f"{entry.name}/{card.name}", entry.name) for card in cards]
        return listed

    def rates(self, call: Call) -> Rates | None:
        """See `Replica`."""
        return self._listed_rates.of(self.router.table, call, self._chooser.meanings)

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """Providers and the OpenAPI document."""
        return {
            "/v1/providers": lambda caller: {"object": "list", "data": self._providers(caller)},
            "/openapi.json": lambda _: document(
                "Penstock",
                pages=_PAGES | ROUTING_PAGES | TOOL_PAGES | USAGE_PAGES | KEY_PAGES | APPROVAL_PAGES,
            ),
        }

    async def open_page(self, visit: Visit) -> bool:
        """The dashboard's files."""
        return await assets.open_page(visit)

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """`GET /metrics` for Prometheus, and what `routing_pages` and `usage_pages` have."""
        if (visit.method, visit.path) != ("GET", "/metrics"):
            return (
                await self._pages.answer(visit, caller)
                or await self._usage.answer(visit, caller)
                or await self._tool_pages.answer(visit, caller)
                or await self._approvals.answer(visit, caller)
                or await self._live.answer(visit, caller)
                or await self._keys.answer(visit, caller)
            )
        demand(caller, "usage")
        await visit.reply(200, await self._metrics.read(), {"content-type": CONTENT_TYPE})
        return True

    def _providers(self, caller: Caller) -> list[dict[str, Json]]:
        """Who is there, with the models that the caller may ask; with the right `usage`, also how they do."""
        if not caller.may("usage"):
            return [
                {
                    "name": entry.name,
                    "state": entry.state,
                    "models": [card.name for card in entry.models if may_ask(caller, entry.name, card.name)],
                }
                for entry in self.router.table.providers
            ]
        return [
            {
                "name": entry.name,
                "state": entry.state,
                "why": entry.why,
                "replicas": len(entry.replicas),
                "in_flight": entry.in_flight,
                "queued": entry.queued,
                "limit": entry.limit,
                "models": [card.name for card in entry.models],
                "performance": {
                    model: msgspec.to_builtins(performance) for model, performance in entry.performance.items()
                },
            }
            for entry in self.router.table.providers
        ]

    async def respond(self, call: Call, queued: float) -> Answer:
        """The best candidate's answer (`routed_lane`), turn after turn where tools run here (`tool_lane`)."""
        if call.decision is not None or (call.request.tools and names_ours(call.request)):
            return await self.tool_lane.answer(call)
        return await self._lane.answer(call)

    def table_changed(self, before: Table, after: Table) -> None:
        """Give up what is under way at replicas that are gone; one that drains is still there."""
        there = _replicas(after)
        gone = _replicas(before) - there
        self._hop.regain(there)
        if gone:
            self._hop.lose(gone)

    def learned(self, published: Published) -> None:
        """Decide by it from now on."""
        self._chooser.learned(published)

    async def opened(self) -> None:
        """The tools are asked for; nothing waits for them."""
        if self.toolbox is not None:
            self.toolbox.start()
        if self._retention.wanted:
            self._sweeping = asyncio.create_task(self._retention.run())

    def adapt(self, settings: GatewaySettings) -> None:
        """Decide by other aliases, bounds and weights from the next call on."""
        self._settings = settings
        self._chooser.configure(settings)
        self._lane.configure(settings)

    async def closing(self) -> None:
        """What was learned is kept, for the cluster may end with us; the last connections."""
        if self.toolbox is not None:
            await self.toolbox.close()
        if self._lane.trials is not None:
            await self._lane.trials.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        with contextlib.suppress(Exception):  # whatever Ray raises where the router is away
            await self.router.keep()
        await self._hop.close()


def _replicas(table: Table) -> set[str]:
    ready = {replica.replica for entry in table.providers for replica in entry.replicas}
    return ready.union(*(entry.others for entry in table.providers))


def _listed(name: str, owner: str) -> dict[str, Json]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
