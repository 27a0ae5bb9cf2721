"""A provider on the cluster: one adapter, its limiter, its announcements, the direct lane.

Above it: `app`. Below it: `replica`, `forwarding`, the adapters. Outside it: the router's decisions.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from actors.money.ledger_link import LedgerConnector
from actors.replaying.replay_link import ReplaysConnector
from actors.routing.link import Connector
from deployments.config import ProviderSettings, state_directory
from deployments.forwarding import forward
from deployments.guard import demand, may_ask, permit
from deployments.load.pressure import Pressure
from deployments.money.books import attempted, opened, question, unanswered
from deployments.money.price_refresh import PriceRefresh
from deployments.pages.openapi import document
from deployments.providers import KINDS, key_files
from deployments.providers.key_files import KeyFiles
from deployments.providers.tariff import price_list
from deployments.replica import Replica
from deployments.telemetry import spans
from deployments.telemetry.content import Listener
from deployments.visit import Visit
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json, Request
from pipelines.errors import BadRequest, ConfigurationError, PenstockError, TimedOut, UpstreamError
from pipelines.pricing import Rates
from pipelines.recovery import recoverable, recovering
from pipelines.routing.ask import needs_of
from pipelines.routing.choose import lacking
from pipelines.routing.table import Announcement, ModelCard, Outcome, ProviderState
from pipelines.story import Trace
from pipelines.tools.offers import names_ours

REFRESH_SECONDS = 30.0
"""How often the model list of a provider is read that has one to be read."""

RETRY_SECONDS = 3.0
"""How soon it is read again when that failed."""

NOTICED = 0.001
"""Seconds of waiting for a place that are told of."""

PRICES_SECONDS = 60.0
"""How often the file with newer prices is looked for."""

LISTED_KINDS = frozenset({"local", "ollama", "openrouter"})
"""Kinds whose models are read from the provider itself."""

SHY_KINDS = frozenset({"local"})
"""Kinds that are not asked for their models while they answer: llama.cpp's Python server breaks off the stream that
it is in the middle of as soon as another request comes, whatever it is for."""

_logger = logging.getLogger("penstock")


class ProviderReplica(Replica):
    """A replica of one provider."""

    def __init__(
        self,
        settings: ProviderSettings,
        connector: Connector | None = None,
        replays: ReplaysConnector | None = None,
        ledger: LedgerConnector | None = None,
    ) -> None:
        name = settings.provider
        super().__init__(settings, connector, replays, ledger, name=name, title=f"Penstock: {name}", lane="direct")
        self._settings = settings
        self._key_files = KeyFiles(settings)
        self.provider = KINDS[settings.kind](**settings.arguments())
        self._pressure = Pressure(self.limiter, settings.least_concurrent) if settings.adaptive else None
        self._cards: tuple[ModelCard, ...] = self.provider.models
        self._unlisted = self.provider.models
        self._written = settings.models
        self._unreachable = ""
        self._reading: asyncio.Task[None] | None = None
        self._pricing: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    def check(self, call: Call) -> None:
        """Raises ConfigurationError without a key, BadRequest for what the model is known not to take."""
        self.provider.check()
        if call.lane == "direct" and call.request.tools and names_ours(call.request):
            raise BadRequest("tools that Penstock runs want the routed lane: post to /v1", param="tools")
        card = next((card for card in self._cards if card.name == call.request.model), None)
        if card is not None and (wrong := lacking(card, needs_of(call.request))):
            raise wrong

    async def respond(self, call: Call, queued: float) -> Answer:
        """Ask the provider; on the direct lane again where its answer breaks and may be recovered.

        Raises UpstreamError.
        """
        if call.lane == "hop":
            return await self._ask(call, queued)
        answer = await self._ask(attempted(call, "first"), queued)
        if not recoverable(call):
            return answer
        last = answer

        async def again(following: Call) -> Answer:
            nonlocal last
            if isinstance(last.error, TimedOut):
                raise last.error  # a silent provider is not asked again
            await asyncio.sleep(self.provider.retry.backoff(1, random.random()))
            last = await self._ask(attempted(following, "recovery"))
            return last

        return recovering(answer, call, again)

    async def _ask(self, call: Call, queued: float = 0.0) -> Answer:
        """One attempt. What the gateway does not see itself, the router hears from us."""
        began = time.monotonic()
        if queued >= NOTICED:
            call = msgspec.structs.replace(call, account=msgspec.structs.replace(call.account, queued=queued))
        self.books.attempt(call, partial(self._begun, call))
        span: Trace | None = None
        listener: Listener | None = None
        if call.story.trace is not None:
            call, span = spans.asking(call.story.trace, call, self.name, self.provider.base_url)
        try:
            answer = await self.provider.answer(call)
        except BaseException as error:
            self._failed(call, error, began, span)
            raise
        if self._pressure is not None:
            self._pressure.answered(call, answer, began)
        answer.asked = call
        if span is not None and span.captures:
            listener = Listener(call, answer)
        answer.on_close(lambda: self._ended(call, answer, span, listener))
        return answer

    def _begun(self, call: Call) -> Outcome:
        """What is known of an attempt that has no answer yet: the question's likely length."""
        return Outcome(self.name, call.request.model, 0.0, bill=self.provider.bill(call, question(call)))

    def _failed(self, call: Call, error: BaseException, began: float, span: Trace | None) -> None:
        seconds = time.monotonic() - began
        bill = self.provider.bill(call, question(call))
        outcome = unanswered(call, self.name, error, seconds, bill)
        self._told(call, outcome, span)
        self.books.failed(call, outcome)
        if not isinstance(error, UpstreamError):
            return
        if self._pressure is not None:
            self._pressure.failed(call, error.reason, began)
        if call.lane != "hop":
            self.router.record(Outcome(self.name, call.request.model, seconds, reason=error.reason))

    def _ended(self, call: Call, answer: Answer, span: Trace | None, listener: Listener | None) -> None:
        if answer.outcome is not None:
            self._told(call, answer.outcome, span, listener)
        self.books.attempted(call, answer)
        if call.lane != "hop" and answer.outcome is not None and not call.operation:
            self.router.record(msgspec.structs.replace(answer.outcome, bill=None))

    def _told(self, call: Call, outcome: Outcome, span: Trace | None, listener: Listener | None = None) -> None:
        """To the log's line, where it is written here, and to the trace."""
        if call.lane != "hop":
            call.story.attempted(msgspec.structs.replace(outcome, role=call.account.role))
        if span is not None:
            spans.asked(span, outcome, listener)

    def listed(self, provider: str, model: str) -> bool:
        """See `Replica`: what is announced may be in no table yet."""
        return any(card.name == model for card in self._cards)

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """The provider's models that are known of, as far as the caller may ask them."""
        cards = [card for card in self._cards if may_ask(caller, self.name, card.name)]
        return [{"id": card.name, "object": "model", "created": 0, "owned_by": self.name} for card in cards]

    def rates(self, call: Call) -> Rates | None:
        """See `Replica`."""
        return self.provider.tariff.rates(call.request.model)

    def model_name(self, asked: str) -> str:
        """Without our own prefix, unless the provider itself has a model of the whole name."""
        own = f"{self.name}/"
        if asked.startswith(own) and all(card.name != asked for card in self._cards):
            return asked.removeprefix(own)
        return asked

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """The OpenAPI document of the direct lane."""
        return {"/openapi.json": lambda _: document(self.title, prefix=f"/{self.name}")}

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """Every other path is the provider's own, under the same limits, for those with the right `forward`."""
        if visit.hop or not self.provider.FORWARDS or not visit.path.startswith("/v1/"):
            return False
        demand(caller, "forward")
        self.provider.check()
        account = opened(visit.headers, None)
        call = Call(visit.id, "", {}, Request("", ()), caller, self.lane, operation=visit.path, account=account)
        permit(call, "")
        await self.allowances.admit(call)
        try:
            await self.limiter.acquire(caller.priority)
            try:
                status = await forward(self.provider, visit, caller)
            finally:
                self.limiter.release()
        finally:
            self.allowances.over(call, None, 0)
        if visit.method == "POST":
            self.books.forwarded(call, self.name, status, visit.measures())
        self._log.add(
            request=visit.id,
            caller=caller.id,
            lane=self.lane,
            method=visit.method,
            path=visit.path[:200],
            provider=self.name,
            seconds=round(time.monotonic() - visit.began, 4),
            status=status,
            result="forwarded",
        )
        return True

    def announcement(self) -> Announcement:
        """This replica as it is now."""
        state, why = self._state()
        return Announcement(
            provider=self.name,
            replica=self.id,
            address=self.hop_address,
            state=state,
            why=why,
            dialects=self.provider.DIALECTS,
            models=self._cards,
            any_model=self.provider.any_model,
            simulated=self.provider.SIMULATED,
            in_flight=self.limiter.in_flight,
            queued=self.limiter.waiting,
            limit=self.limiter.concurrent,
        )

    def _state(self) -> tuple[ProviderState, str]:
        if missing := self.provider.missing():
            return "unconfigured", missing
        return ("unreachable", self._unreachable) if self._unreachable else ("ready", "")

    async def opened(self) -> None:
        """Read the prices; read the provider's models, where it has a list, and go on reading them."""
        await asyncio.to_thread(price_list)
        self._pricing = asyncio.create_task(self._read_prices())
        self._begin_reading()
        if self._key_files:
            self._renewing = asyncio.create_task(self._renew_keys())

    def _begin_reading(self) -> None:
        if self._reading is None and self._settings.kind in LISTED_KINDS and not self.provider.missing():
            self._unreachable = "its model list is being read"
            self._reading = asyncio.create_task(self._read_models())

    def adapt(self, settings: ProviderSettings) -> None:
        """Other models, prices and timeouts from the next call on; the next announcement tells of them."""
        models = tuple(model.value() for model in settings.models) or self._unlisted
        patient = {model.name: model.timeouts.value() for model in settings.models if model.timeouts}
        self.provider.adapt(models, settings.timeouts.value(), patient)
        self._written = settings.models
        self._cards = self._known()

    def _known(self) -> tuple[ModelCard, ...]:
        """Every model: what the operator wrote of one is better known than what a list says, which has the rest."""
        listed = self.provider.tariff.listed
        own = {card.name: card for card in self.provider.models}
        for model in self._written:
            if (card := listed.get(model.name) or listed.get(self.provider.listed_as(model.name))) is not None:
                own[model.name] = model.over(card)
        return tuple({**listed, **own}.values())

    async def closing(self) -> None:
        """Close the provider's connections."""
        for task in (self._reading, self._pricing, self._renewing):
            if task is not None:
                task.cancel()
        await self.provider.aclose()

    async def _read_prices(self) -> None:
        newer = PriceRefresh(self._settings.prices, self.provider.transport, state_directory())
        while True:
            await newer.fetch(time.time())
            await asyncio.to_thread(price_list().refresh)
            await asyncio.sleep(PRICES_SECONDS)

    async def _renew_keys(self) -> None:
        while True:
            await asyncio.sleep(key_files.LOOKING)
            try:
                keys = await asyncio.to_thread(self._key_files.changed)
                if keys is not None:
                    self.provider.renew(keys)
                    self._begin_reading()
                    await self.router.announce()
            except Exception:
                # The next key is to be found all the same.
                _logger.exception("%s could not look at its key files", self.name)

    async def _read_models(self) -> None:
        while True:
            before = self._unreachable
            try:
                async with asyncio.timeout(10.0):
                    listed = await self.provider.list_models()
                self.provider.tariff.listed = {card.name: card for card in listed}
                self._cards = self._known()
                self._unreachable = ""
            except ConfigurationError as error:
                self._unreachable = error.message
            except (PenstockError, TimeoutError) as error:
                self._unreachable = f"its model list cannot be read: {error}"[:200]
            if self._unreachable != before:
                await self.router.announce()
            await asyncio.sleep(RETRY_SECONDS if self._unreachable else REFRESH_SECONDS)
            if self._settings.kind in SHY_KINDS:
                await self.limiter.idle()
