"""What every adapter is: a name, dialects, an address, a key, and how one call is asked and answered.

Plain Python, no Ray:

    provider = OpenRouterProvider(api_key="…")
    async for text in provider.generate_stream([{"role": "user", "content": "Hello"}], model="…"):
        ...

Above it: `provider_replica`. Below it: `attempt`, `transport`, `pipelines`.
Outside it: callers' keys, limits, the router.
"""

import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from deployments.providers.attempt import Attempt, Target
from deployments.providers.counting import COUNT_TOKENS, estimated_tokens
from deployments.transport import HttpTransport
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json, Request
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Written
from pipelines.errors import BadRequest, ConfigurationError, UnknownModel, UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartStarted
from pipelines.exchange import Exchange, exchange
from pipelines.ports import Transport
from pipelines.resilience import RetryBudget, RetryPolicy, Timeouts
from pipelines.routing.table import ModelCard
from pipelines.verbatim import Verbatim

VERSION = "0.1.0"


class Provider:
    """An adapter. Subclasses set the class attributes and override what differs.

    api_key, base_url: taken from the environment (`KEY_VARIABLE`, `URL_VARIABLE`) where not given.
    key_variable: takes the place of `KEY_VARIABLE`.
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
        base_url: str | None = None,
        name: str | None = None,
        models: Sequence[ModelCard] = (),
        any_model: bool | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.name = name or self.KIND
        self.key_variable = key_variable or self.KEY_VARIABLE
        self.api_key = api_key if api_key is not None else os.environ.get(self.key_variable, "")
        address = base_url if base_url is not None else os.environ.get(self.URL_VARIABLE, "")
        self.base_url = self.normal_url(address or self.BASE_URL)
        self.models = tuple(models)
        self.any_model = self.ANY_MODEL if any_model is None else any_model
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or RetryPolicy()
        self.transport: Transport = transport or HttpTransport()
        self._budget = RetryBudget(time.monotonic())

    # What differs between kinds.

    def headers(self, call: Call) -> dict[str, str]:
        """The request headers beyond content type: credentials above all."""
        return self.list_headers()

    def normal_url(self, url: str) -> str:
        """The base URL without a trailing slash."""
        return url.rstrip("/")

    def address(self, call: Call, dialect: str) -> str:
        """Where a call goes that this provider is told in `dialect`."""
        path = call.operation or DIALECTS[dialect].path
        query = f"?{call.query}" if call.query and call.dialect == dialect else ""
        return f"{self.base_url}{path}{query}"

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """The body as this provider wants it, beyond what its dialect says, and the names of what that costs."""
        return Written(body)

    def missing(self) -> str:
        """What keeps this provider from working, "" if nothing does."""
        if self.NEEDS_KEY and not self.api_key:
            return f"no API key: set {self.key_variable}"
        if not self.base_url:
            return f"no address: set {self.URL_VARIABLE}"
        return ""

    def card(self, item: Mapping[str, Json]) -> ModelCard:
        """One entry of the provider's own model list as a card."""
        return ModelCard(name=str(item.get("id", "")))

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
            {"content-type": "application/json", "user-agent": f"penstock/{VERSION}", **self.headers(call)},
            self.timeouts,
            self.retry,
        )
        attempt = Attempt(call, target, self.transport, self._budget, lambda: self._exchange(call))
        answer = await attempt.ask()
        if attempt.dropped:
            answer.headers["x-penstock-dropped"] = ",".join(attempt.dropped)[:1000]
        if attempt.tries > 1:
            answer.headers["x-penstock-tries"] = str(attempt.tries)
        return answer

    def _exchange(self, call: Call) -> Exchange:
        if call.operation:
            return Verbatim(call)
        way = exchange(call, self.DIALECTS, call.request.model)
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
        dialect = DIALECTS[self.DIALECTS[0]]
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
        self.check()
        call_headers = {"user-agent": f"penstock/{VERSION}", **self.list_headers()}
        upstream = await self.transport.send("GET", f"{self.base_url}/models", call_headers, b"", self.timeouts)
        try:
            body = b"".join([chunk async for chunk in upstream.chunks()])
        finally:
            await upstream.close()
        if upstream.status != 200:
            dialect = DIALECTS[self.DIALECTS[0]]
            raise dialect.read_error(upstream.status, upstream.headers, body)
        try:
            items = msgspec.json.decode(body)["data"]
            return [self.card(item) for item in items]
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            raise UpstreamError(f"{self.name}: the model list cannot be read", reason="protocol") from None

    def list_headers(self) -> dict[str, str]:
        """The headers for reading the model list."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    async def aclose(self) -> None:
        """Close the connections."""
        close = getattr(self.transport, "close", None)
        if close is not None:
            await close()
