"""What every adapter is: a name, dialects, an address, a key, and how one call is asked and answered.

Plain Python, no Ray:

    provider = OpenRouterProvider(api_key="…")
    async for text in provider.generate_stream([{"role": "user", "content": "Hello"}], model="…"):
        ...

Above it: `provider_replica`. Below it: `attempt`, `transport`, `pipelines`.
Outside it: callers' keys, limits, the router.
"""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from actors.credentials import credential
from deployments.http.outbound import outbound
from deployments.http.transport import HttpTransport
from deployments.providers.attempt import MAX_ANSWER, Attempt, Target
from deployments.providers.counting import estimated_tokens
from deployments.providers.tariff import Tariff
from pipelines.calls import COUNT_TOKENS, Answer, Call, Caller
from pipelines.conversation import Json, Request, Usage
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.base import Written
from pipelines.errors import BadRequest, ConfigurationError, UnknownModel, UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartStarted
from pipelines.exchange import Exchange, exchange
from pipelines.ledger import billed, counted
from pipelines.options import TimeoutOptions
from pipelines.ports import Transport
from pipelines.pricing import dollars
from pipelines.resilience import RetryBudget, RetryPolicy, Timeouts
from pipelines.routing.table import Bill, ModelCard
from pipelines.upstream_keys import UpstreamKey, UpstreamKeys
from pipelines.verbatim import Verbatim
from pipelines.version import VERSION

_logger = logging.getLogger("penstock")


class Provider:
    """An adapter. Subclasses set the class attributes and override what differs.

    api_key, base_url: taken from the environment (`KEY_VARIABLE`, `URL_VARIABLE`) where not given.
    key_variable: takes the place of `KEY_VARIABLE`. keys: several of them, in place of api_key.
    proxy, ca_file: the way out, as `outbound` takes it. model_timeouts: by model, over `timeouts`.
    name: under which it is announced, the kind's own name unless given.
    models: what is known of its models beforehand; any_model: names outside that list are taken too.
    """

    KIND: ClassVar[str]
    DIALECTS: ClassVar[tuple[str, ...]] = ("openai_chat",)
    KEY_VARIABLE: ClassVar[str]
    URL_VARIABLE: ClassVar[str]
    BASE_URL: ClassVar[str] = ""
    NEEDS_KEY: ClassVar[bool] = True
    ANY_MODEL: ClassVar[bool] = True
    SIMULATED: ClassVar[bool] = False
    FORWARDS: ClassVar[bool] = True
    OPERATIONS: ClassVar[frozenset[str]] = frozenset({"/embeddings", "/completions"})

    def __init__(
        self,
        *,
        api_key: str | None = None,
        key_variable: str | None = None,
        keys: Sequence[UpstreamKey] = (),
        base_url: str | None = None,
        name: str | None = None,
        models: Sequence[ModelCard] = (),
        any_model: bool | None = None,
        timeouts: Timeouts | None = None,
        model_timeouts: Mapping[str, TimeoutOptions] | None = None,
        retry: RetryPolicy | None = None,
        proxy: str = "",
        ca_file: Path | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.name = name or self.KIND
        if not keys:
            variable = key_variable or self.KEY_VARIABLE
            secret = api_key if api_key is not None else credential(variable)
            keys = (UpstreamKey(secret, variable),)
        address = base_url if base_url is not None else os.environ.get(self.URL_VARIABLE, "")
        self.base_url = self.normal_url(address or self.BASE_URL)
        self.models = tuple(models)
        self.tariff = Tariff(self.KIND, self.base_url, self.models)
        self.any_model = self.ANY_MODEL if any_model is None else any_model
        self.timeouts = timeouts or Timeouts()
        self.model_timeouts = dict(model_timeouts or {})
        self.retry = retry or RetryPolicy()
        self.transport: Transport = transport or HttpTransport(outbound(proxy, ca_file))
        self.keys = UpstreamKeys(self._usable(keys), self.retry, time.monotonic())
        self._wanted = " or ".join(key.label for key in keys)
        self._budget = RetryBudget(time.monotonic())

    def adapt(
        self, models: Sequence[ModelCard], timeouts: Timeouts, model_timeouts: Mapping[str, TimeoutOptions]
    ) -> None:
        """From the next call on other models, prices and patience; what its own list says is kept."""
        listed = self.tariff.listed
        self.models = tuple(models)
        self.tariff = Tariff(self.KIND, self.base_url, self.models)
        self.tariff.listed = listed
        self.timeouts, self.model_timeouts = timeouts, dict(model_timeouts)

    def renew(self, keys: Sequence[UpstreamKey]) -> None:
        """From the next attempt on other keys; those under way keep theirs."""
        self.keys = UpstreamKeys(self._usable(keys), self.retry, time.monotonic())

    def _usable(self, keys: Sequence[UpstreamKey]) -> Sequence[UpstreamKey]:
        """Those that have a secret; one without it where none has, for a provider that wants none."""
        usable = [key for key in keys if key.secret]
        for key in keys if usable else ():
            if not key.secret:
                _logger.warning("%s goes without its key %s, which is empty", self.name, key.label)
        return usable or keys[:1]

    # What differs between kinds.

    def headers(self, call: Call, key: str) -> dict[str, str]:
        """The request headers beyond content type: the key above all."""
        return self.list_headers(key)

    def normal_url(self, url: str) -> str:
        """The base URL without a trailing slash."""
        return url.rstrip("/")

    def address(self, call: Call, dialect: str) -> str:
        """Where a call goes that this provider is told in `dialect`."""
        path = call.operation or WIRES[dialect].path
        query = f"?{call.query}" if call.query and call.dialect == dialect else ""
        return f"{self.base_url}{path}{query}"

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """The body as this provider wants it, beyond what its dialect says, and the names of what that costs."""
        return Written(body)

    def missing(self) -> str:
        """What keeps this provider from working, "" if nothing does."""
        if self.NEEDS_KEY and not self.keys.first.secret:
            return f"no API key: set {self._wanted}"
        if not self.base_url:
            return f"no address: set {self.URL_VARIABLE}"
        return ""

    def card(self, item: Mapping[str, Json]) -> ModelCard:
        """One entry of the provider's own model list as a card."""
        return ModelCard(name=str(item.get("id", "")))

    def listed_as(self, model: str) -> str:
        """The name by which the provider's own list has a model that may be asked for by several."""
        return model

    # What all have in common.

    async def answer(self, call: Call) -> Answer:
        """Ask the provider. Returns at the first content; raises PenstockError before it.

        The frames of the answer are in the caller's dialect, whatever the provider speaks.
        """
        self.check()
        if call.operation == COUNT_TOKENS and COUNT_TOKENS not in self.OPERATIONS:
            return estimated_tokens(call)
        if call.operation and call.operation not in self.OPERATIONS:
            raise BadRequest(f"the provider {self.name} has no {call.operation}", status=404, code="not_found")
        target = Target(
            self.name,
            lambda dialect: self.address(call, dialect),
            lambda key: {
                "content-type": "application/json",
                "user-agent": f"penstock/{VERSION}",
                **_carried(call),
                **self.headers(call, key),
            },
            self.patience(call),
            self.retry,
            lambda exchange: self.bill(call, exchange.usage, exchange.answered),
        )
        attempt = Attempt(call, target, self.transport, self._budget, self.keys, lambda: self._exchange(call))
        try:
            answer = await attempt.ask()
        except UpstreamError as error:
            if attempt.tries > 1:
                error.headers["x-penstock-tries"] = str(attempt.tries)
            raise
        if attempt.dropped:
            answer.headers["x-penstock-dropped"] = ",".join(attempt.dropped)[:1000]
        if attempt.tries > 1:
            answer.headers["x-penstock-tries"] = str(attempt.tries)
        return answer

    def bill(self, call: Call, usage: Usage, answered: str = "") -> Bill:
        """What a call has used, and what that costs. answered: the model as the provider names it.

        A count of tokens uses none: those that it finds are of a question that nobody has asked yet.
        """
        if call.operation == COUNT_TOKENS:
            return Bill(basis="computed")
        usage = counted(usage, call.request)
        return billed(usage, self.tariff.cost(call.request.model, answered, usage), answered)

    def patience(self, call: Call) -> Timeouts:
        """The call's own timeouts, over the model's, over the provider's."""
        of_model = self.model_timeouts.get(call.request.model)
        timeouts = of_model.over(self.timeouts) if of_model is not None else self.timeouts
        return call.options.timeouts.over(timeouts)

    def _exchange(self, call: Call) -> Exchange:
        if call.operation:
            return Verbatim(call)
        way = exchange(call, self.DIALECTS, call.request.model)
        way.began = int(time.time())
        if call.stream:
            way.price = lambda exchange: _dollars(self.bill(call, exchange.usage, exchange.answered))
        way.body, dropped = self.prepare(way.body, call)
        way.dropped += dropped
        return way

    def check(self) -> None:
        """Raise ConfigurationError, saying what is missing, if this provider cannot work."""
        if why := self.missing():
            raise ConfigurationError(f"provider {self.name} is not configured: {why}")

    async def stream(self, request: Request) -> AsyncIterator[Event]:
        """The answer to `request` as events, `Finished` last.

        Raises ConfigurationError without a key, UnknownModel (a ValueError), RateLimited after the last retry,
        TimedOut (a TimeoutError) after silence, and any other PenstockError.
        """
        # Where callers speak none of the provider's wires, its answer is translated as for any of them.
        dialect = DIALECTS[next((name for name in self.DIALECTS if name in DIALECTS), "openai_chat")]
        request = msgspec.structs.replace(request, stream=True, include_usage=True)
        call = Call(
            id=uuid.uuid4().hex,
            dialect=dialect.name,
            body=dialect.write_request(request).body,
            request=request,
            caller=Caller("python"),
            lane="direct",
        )
        try:
            answer = await self.answer(call)
        except UpstreamError as error:
            if error.reason == "not_found":
                raise UnknownModel(f"{self.name}: {error.message}") from error
            raise
        decoder = dialect.decoder()
        assert answer.frames is not None
        try:
            async for data in answer.frames:
                try:
                    events = decoder.feed(data)
                except UpstreamError as error:
                    raise answer.error or error from None
                for event in events:
                    yield event
            for event in decoder.close() if not decoder.done else ():
                yield event
        finally:
            await answer.close()

    def generate_stream(
        self, messages: Sequence[Mapping[str, Any]], *, model: str, **settings: Any
    ) -> AsyncIterator[str]:
        """The text of an answer, piece by piece.

        messages and settings (temperature, max_tokens, …) are as in the OpenAI chat API. Raises what `stream`
        raises, and BadRequest for a malformed message or setting. Reasoning and tool calls are not text.
        """
        self.check()
        body = {"model": model, "messages": list(messages), **settings, "stream": True}
        return self._texts(DIALECTS["openai_chat"].read_request(body))

    async def _texts(self, request: Request) -> AsyncIterator[str]:
        texts: set[int] = set()
        async with contextlib.aclosing(self.stream(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, PartStarted) and event.kind == "text":
                    texts.add(event.index)
                elif isinstance(event, PartDelta) and event.index in texts and event.text:
                    yield event.text
                elif isinstance(event, Finished):
                    return

    async def list_models(self) -> list[ModelCard]:
        """The provider's own list of models. Raises UpstreamError if it cannot be read."""
        listed = await self.fetch("GET", f"{self.base_url}/models")
        try:
            return [self.card(item) for item in listed["data"]]
        except (KeyError, TypeError, AttributeError):
            raise self.unreadable() from None

    async def fetch(self, method: str, url: str, body: Json = None) -> dict[str, Json]:
        """A JSON object that is no answer to a call. Raises ConfigurationError without a key, UpstreamError."""
        self.check()
        headers = {"user-agent": f"penstock/{VERSION}", **self.list_headers(self.keys.first.secret)}
        sent = b"" if body is None else msgspec.json.encode(body)
        upstream = await self.transport.send(method, url, headers, sent, self.timeouts)
        try:
            read = await upstream.whole(MAX_ANSWER)
        finally:
            await upstream.close()
        if upstream.status != 200:
            raise WIRES[self.DIALECTS[0]].read_error(upstream.status, upstream.headers, read)
        try:
            return msgspec.json.decode(read, type=dict[str, Json])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.unreadable() from None

    def unreadable(self) -> UpstreamError:
        """What is raised for a model list that is none."""
        return UpstreamError(f"{self.name}: the model list cannot be read", reason="protocol")

    def list_headers(self, key: str) -> dict[str, str]:
        """The headers for reading the model list: the key, if there is one."""
        return {"authorization": f"Bearer {key}"} if key else {}

    async def aclose(self) -> None:
        """Close the connections."""
        close = getattr(self.transport, "close", None)
        if close is not None:
            await close()


def _dollars(bill: Bill) -> float | None:
    return None if bill.cost is None else dollars(bill.cost)


def _carried(call: Call) -> dict[str, str]:
    """What lets the provider's logs and traces be found again: the request's id, and W3C Trace Context."""
    carried: dict[str, str] = {
        name: call.headers[name] for name in ("traceparent", "tracestate") if name in call.headers
    }
    carried["x-request-id"] = call.id
    return carried
