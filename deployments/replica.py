"""What every Serve replica of ours is: a face on up to three ports, in touch with the router, drained before it goes.

Serve sees only what comes through its ingress and handles. What it does not see it is told here: streams in
flight on the own listeners (`record_autoscaling_stats`), whether they listen (`check_health`), and that they must
end first (`stop`).

Above it: `gateway`, `provider_replica`. Below it: `front`, `listener`, `guard`, `actors.routing.client`.
Outside it: what is answered.
"""

import asyncio
import contextlib
import logging
import math
import os
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import serve

from actors import collector
from actors.money.allowance_client import AllowanceClient
from actors.money.key_watcher import KeyWatcher
from actors.money.ledger_client import LedgerClient
from actors.money.ledger_link import LedgerConnector
from actors.replaying.replay_client import ReplayClient
from actors.replaying.replay_link import ReplaysConnector
from actors.routing.client import RouterClient
from actors.routing.link import Connector
from deployments.caching import Caching
from deployments.config import LedgerSettings, ObservabilitySettings, ReplicaSettings, state_directory
from deployments.front import Front
from deployments.guard import Guard, configured
from deployments.guardrails import Guardrails
from deployments.hop.door import Door
from deployments.http.listener import Listener
from deployments.load.limiter import Limiter
from deployments.load.scaling import IN_FLIGHT
from deployments.money.allowance import Allowances
from deployments.money.books import Books
from deployments.replaying import Replaying
from deployments.settings.live_settings import altered
from deployments.telemetry.request_log import RequestLog
from deployments.telemetry.tracing import tracing
from deployments.telemetry.trouble_log import write_troubles
from deployments.visit import Visit
from pipelines.calls import Answer, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.errors import ConfigurationError, PenstockError
from pipelines.metering import instruments
from pipelines.metering.meter import Meter
from pipelines.metering.recorder import Recorder
from pipelines.pricing import Rates
from pipelines.routing.table import Announcement, Published, Table, Welcome

FIRST_TABLE_SECONDS = 10.0

CUT_SECONDS = 3.0
"""How long the error that ends a stream may take to reach its caller when a replica leaves, and then its connections
to close."""

MEANT = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
"""Variables that are meant to be "1" in the environment of every `ray start`."""

_logger = logging.getLogger("penstock")


class Replica:
    """One replica. name: the provider's, "" for the gateway; title: for people.

    connector, replays, ledger: how to find the router, the replays and the ledger; the cluster's own actors unless
    given.
    """

    def __init__(
        self,
        settings: ReplicaSettings,
        connector: Connector | None,
        replays: ReplaysConnector | None,
        ledger: LedgerConnector | None,
        *,
        name: str,
        title: str,
        lane: Lane,
    ) -> None:
        self._common = settings
        self.name = name
        self.title = title
        self.lane: Lane = lane
        self.guard = Guard(application=_application() or f"{lane} {name}")
        self.limiter = Limiter(settings.concurrent, settings.queued, settings.patience)
        self.id = _replica_id()
        self._log_name = f"{name or 'gateway'}-{os.getpid()}"
        self._observe(settings.observability)
        self._keep_books(settings.ledger, ledger)
        self.front = Front(
            self,
            self,
            self.guard,
            self.books,
            name=name,
            lane=lane,
            origins=settings.origins,
            log=self._log,
            tracing=self.tracing,
        )
        if self.meter is not None:
            self._gauge(self.meter)
        self.router = RouterClient(
            self.id,
            str(state_directory()),
            self.announcement if name else None,
            on_welcome=self._welcomed,
            on_table=self.table_changed,
            on_view=None if name else self.learned,
            meter=self.meter,
            connector=connector,
        )
        self._replays = ReplayClient(str(state_directory()), replays)
        self._replaying = Replaying(self._replays, f"{lane} {name}")
        self._guardrails = Guardrails(settings.guardrails) if settings.guardrails else None
        self._caching = Caching(self._replays, f"{lane} {name}")
        self._ports: list[Door | Listener] = []
        self._leaving = False

    def _observe(self, wanted: ObservabilitySettings) -> None:
        """Make what watches: the log, the traces, the metrics."""
        logs = state_directory() / "logs" if wanted.request_log else None
        self._log = RequestLog(logs, self._log_name, content=wanted.log_content)
        self.tracing = tracing(self.name or "gateway", self.id)
        self.meter = Meter(f"{self.id}-{secrets.token_hex(4)}", self.name or "gateway") if wanted.metrics else None
        self.recorder = Recorder(self.meter, self.listed) if self.meter is not None else None

    def _keep_books(self, settings: LedgerSettings, connector: LedgerConnector | None) -> None:
        """Make what the ledger is told and asked through: rows, keys, and what they may use."""
        self.ledger = LedgerClient(
            f"{self.id}-{secrets.token_hex(4)}",
            str(state_directory()),
            settings.place(),
            when_away=settings.when_away,
            most_waiting=settings.waiting,
            connector=connector,
        )
        self.guard.complete = False
        self._watcher = KeyWatcher(self.ledger, self.guard.learn)
        self.allowances = Allowances(AllowanceClient(self.ledger, time.monotonic), self.rates, time.monotonic)
        self.books = Books(self.ledger, self.recorder, self.allowances)

    async def __serve_build_asgi_app__(self) -> Callable[..., Any]:
        """Serve calls this once, on the replica's loop, after the constructor: start everything, give the face."""
        write_troubles(state_directory() / "logs", self._log_name)
        missing = [name for name in MEANT if os.environ.get(name) != "1"]
        if missing:
            _logger.warning("Serve runs without %s: slower, and streams of its ingress are not bounded", missing)
        await self.start()
        collector.settle()
        return self.front.door("caller", behind_serve=True, on_shutdown=self.stop)

    async def start(self) -> None:
        """Meet the router, learn the secret and the keys, listen. Raises ConfigurationError for a taken port."""
        self._log.start()
        await self.router.start()
        self._replays.start()
        self.ledger.start()
        self._watcher.start()
        if self.name:
            door = Door(self.front.door("hop"))
            await door.start(ray.util.get_node_ip_address(), self.guard)
            self._ports.append(door)
            host, port = door.address
            self.hop_address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        listen = self._common.listen
        if listen is not None and listen.port:
            listener = Listener(self.front.door("caller"))
            await listener.start(listen.host, listen.port, self.guard)
            self._ports.append(listener)
        await self.opened()
        if self.name:
            await self.router.announce()
        else:
            await self.router.first_table(FIRST_TABLE_SECONDS)

    def _gauge(self, meter: Meter) -> None:
        meter.gauge(instruments.IN_FLIGHT, lambda: self.front.visits)
        meter.gauge(instruments.QUEUED, lambda: self.limiter.waiting)
        meter.gauge(instruments.WAITING_ROWS, lambda: self.ledger.waiting)
        meter.gauge(instruments.LEDGER_LAG, lambda: self.ledger.lag)
        meter.watch(instruments.LOST_ROWS, lambda: self.ledger.lost)

    def _welcomed(self, welcome: Welcome) -> None:
        """The router's secret and keys, at the start and whenever they change."""
        self.guard.secret = welcome.secret
        self.guard.admit({key.hash: configured(key) for key in welcome.keys})

    # What subclasses give.

    hop_address = ""

    def listed(self, provider: str, model: str) -> bool:
        """Whether the provider has a model of that name in its list."""
        entry = self.router.table.provider(provider)
        return entry is not None and entry.card(model) is not None

    async def answer(self, call: Call) -> Answer:
        """Answer one call within the limits. See `pipelines.calls.Answering`. Raises Overloaded.

        One with an `Idempotency-Key` takes a place only where it is not answered already.
        """
        if self._guardrails is not None and call.lane != "hop":
            call = await self._guardrails.before(call)
        if call.idempotency_key:
            return await self._replaying.answer(call, self._cached)
        return await self._cached(call)

    async def _cached(self, call: Call) -> Answer:
        if call.cache and call.lane != "hop":
            return await self._caching.answer(call, self._guarded)
        return await self._guarded(call)

    async def _guarded(self, call: Call) -> Answer:
        answer = await self._placed(call)
        if self._guardrails is None or call.lane == "hop":
            return answer
        return await self._guardrails.after(call, answer)

    async def _placed(self, call: Call) -> Answer:
        self.check(call)
        total = call.options.timeouts.total
        began = time.monotonic()
        await self.limiter.acquire(call.caller.priority, math.inf if total is None else total)
        queued = time.monotonic() - began
        try:
            answer = await self.respond(call, queued)
        except BaseException:
            self.limiter.release()
            raise
        answer.on_close(self.limiter.release)
        answer.queued = queued
        return answer

    def check(self, call: Call) -> None:
        """Refuse, before it waits for its turn, a call that cannot be answered here. Raises PenstockError."""

    async def respond(self, call: Call, queued: float) -> Answer:
        """Answer one call that has a place, after `queued` seconds."""
        raise NotImplementedError

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """See `front.Desk`."""
        raise NotImplementedError

    def model_name(self, asked: str) -> str:
        """See `front.Desk`."""
        return asked

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """See `front.Desk`."""
        raise NotImplementedError

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """See `front.Desk`."""
        return False

    def rates(self, call: Call) -> Rates | None:
        """The prices of the call's model, as far as they are known here."""
        return None

    async def open_page(self, visit: Visit) -> bool:
        """See `front.Desk`."""
        return False

    def announcement(self) -> Announcement:
        """What a provider tells the router every second."""
        raise NotImplementedError

    def table_changed(self, before: Table, after: Table) -> None:
        """A newer table came."""

    def learned(self, published: Published) -> None:
        """A newer view of what was learned came, to a gateway."""

    async def opened(self) -> None:
        """The ports are open; the router does not know of us yet."""

    def adapt(self, settings: Any) -> None:
        """Go on by other values of what is LIVE in the settings. Raises ConfigurationError."""

    async def closing(self) -> None:
        """Everything has ended; close what is left."""

    # What Serve asks.

    _configured = False

    def healthy(self) -> bool:
        """Whether new work is welcome."""
        return not self._leaving

    def unready(self) -> str:
        """Why new work should go elsewhere; "" where it is welcome.

        A ledger that is away counts only where calls are refused without it.
        """
        if self._leaving:
            return "leaving"
        if not self.router.settled:
            return "no routing table yet"
        if self.ledger.when_away == "refuse" and not self._watcher.hearing:
            return "the ledger is away"
        if not all(port.alive for port in self._ports):
            return "an own listener has stopped"
        return ""

    async def check_health(self) -> None:
        """Serve's health check: the own listeners serve. Raises if one does not."""
        if not self._leaving and not all(port.alive for port in self._ports):
            raise PenstockError("an own listener has stopped")

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's `user_config`: values over the arguments, at the start and, without a restart, whenever they change.

        Raises ConfigurationError at the start only: Serve would take a running replica for broken.
        """
        try:
            self.adapt(altered(self._common, user_config))
        except ConfigurationError as error:
            if not self._configured:
                raise
            _logger.warning("the configuration stays as it was: %s", error.message)
        self._configured = True

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Calls in flight over every port and handle, for `scaling`."""
        return {IN_FLIGHT: float(max(self.front.visits, self.limiter.in_flight + self.limiter.waiting))}

    async def stop(self) -> None:
        """Leave the table and the callers' port, let the streams end, close.

        Serve ends the face's lifespan when a replica has to go. What has not ended after `drain` seconds ends with an
        error. The hop's port stays open till then: a gateway may have an older table for a moment.
        """
        if self._leaving:
            return
        self._leaving = True
        await self.router.leave()
        await asyncio.gather(*(port.leave() for port in self._ports if isinstance(port, Listener)))
        await self._emptied(self._common.drain)
        self.front.close()
        await self._emptied(CUT_SECONDS)
        await asyncio.gather(*(port.stop(CUT_SECONDS) for port in self._ports), return_exceptions=True)
        await self._replays.close()
        await self.closing()
        if self._guardrails is not None:
            await self._guardrails.close()
        await self._watcher.close()
        await self.allowances.close()
        await self.ledger.close()
        await self.router.close()
        await self._log.close()
        if self.tracing is not None:
            await self.tracing.close()

    async def _emptied(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.front.empty()


def _application() -> str:
    """The name that Serve has for our application; "" outside of Serve."""
    try:
        return str(serve.get_replica_context().app_name)
    except Exception:
        return ""


def _replica_id() -> str:
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except Exception:
        return uuid.uuid4().hex[:12]
