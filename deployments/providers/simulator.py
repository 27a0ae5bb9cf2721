"""A provider that needs no key and no network: several models of different price, speed and quality.

It speaks all three dialects from behind a transport of its own, so that everything above the wire is exercised:
decoders, retries, timeouts, fallback. It can be told to fail by its model's name:

    simulator/fast?fault=429&retry_after=2&times=1      refuse once, ask for two seconds
    simulator/fast?fault=cut&after=3                    break the stream after three tokens
    simulator/fast?tokens=100&first=500&gap=20          100 tokens, the first after 500 ms, 20 ms apart

Faults: a status (400, 401, 403, 404, 429, 500, 502, 503, 529), `context`, `content`, `reset` (before headers),
`silent` (never answers), and after `after` tokens: `cut`, `stall`, `malformed`, `error`; at the end: `no_done`,
`no_usage`. `times` limits a fault to the first so many requests of that very name.

Above it: `providers`. Below it: `script`, `pipelines`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec

from deployments.http.arriving import whole
from deployments.providers import script
from deployments.providers.base import Provider
from pipelines.conversation import Request
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Dialect
from pipelines.dialects.sse import frame
from pipelines.errors import PenstockError, StreamBroken, UnknownModel, UpstreamError
from pipelines.events import Event, Finished, PartDelta, assemble
from pipelines.resilience import Timeouts
from pipelines.routing.table import ModelCard


class Speed(msgspec.Struct, frozen=True):
    """Milliseconds to the first token and between tokens; whether the model thinks first."""

    first: float
    gap: float
    reasoning: bool = False


SPEEDS: dict[str, Speed] = {
    "fast": Speed(first=15, gap=2),
    "balanced": Speed(first=40, gap=5),
    "clever": Speed(first=120, gap=12),
    "thinking": Speed(first=60, gap=6, reasoning=True),
}

CARDS = (
    ModelCard("fast", context=32_000, input_price=0.1, output_price=0.4, quality=0.55),
    ModelCard("balanced", context=128_000, vision=True, input_price=0.5, output_price=2.0, quality=0.7),
    ModelCard("clever", context=200_000, vision=True, input_price=3.0, output_price=15.0, quality=0.85),
    ModelCard("thinking", context=200_000, vision=True, reasoning=True, input_price=5, output_price=25, quality=0.92),
)

STATUSES: dict[str, tuple[str, str]] = {
    "400": ("invalid_request_error", "simulated: the request is not understood"),
    "401": ("authentication_error", "simulated: the key is not accepted"),
    "403": ("permission_error", "simulated: the key may not use this model"),
    "404": ("model_not_found", "simulated: there is no such model"),
    "429": ("rate_limit_exceeded", "simulated: too many requests"),
    "500": ("server_error", "simulated: internal error"),
    "502": ("server_error", "simulated: bad gateway"),
    "503": ("server_error", "simulated: unavailable"),
    "529": ("overloaded_error", "simulated: overloaded"),
    "context": ("context_length_exceeded", "simulated: maximum context length exceeded"),
    "content": ("content_filter", "simulated: the prompt is filtered"),
}


class Wish(msgspec.Struct, frozen=True):
    """What a model's name asks for beyond the model."""

    model: str
    fault: str = ""
    after: int = 0
    times: int = 1 << 30
    retry_after: str = ""
    tokens: int | None = None
    first: float | None = None
    gap: float | None = None


def wish(name: str) -> Wish:
    """Read `model?fault=…&after=…`. Raises UnknownModel for a model or an option that is not there."""
    model, _, query = name.partition("?")
    options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if model not in SPEEDS or not options.keys() <= set(Wish.__struct_fields__) - {"model"}:
        raise UnknownModel(f"the simulator has no model {name[:100]!r}; it has {', '.join(SPEEDS)}")
    try:
        return msgspec.convert({"model": model, **options}, Wish, strict=False)
    except msgspec.ValidationError as error:
        raise UnknownModel(f"the simulator cannot read {name[:100]!r}: {error}") from None


class Played:
    """An answer of the simulator. See `pipelines.ports.UpstreamAnswer`."""

    def __init__(self, status: int, headers: Mapping[str, str], body: AsyncGenerator[bytes, None]) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body."""
        return self._body

    async def whole(self, most: int) -> bytes:
        """See `pipelines.ports.UpstreamAnswer.whole`."""
        return await whole(self._body, most)

    def pass_to(self, take: Callable[[bytes], bool]) -> None:
        """See `pipelines.ports.UpstreamAnswer.pass_to`: what is played is played to the reader."""

    async def close(self, *, whole: bool = False) -> None:
        """Stop playing."""
        await self._body.aclose()


class Stage:
    """Plays answers in place of the network. See `pipelines.ports.Transport`."""

    def __init__(self) -> None:
        self._played: Counter[str] = Counter()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Played:
        """Answer one request as its model's name wishes."""
        assert isinstance(body, bytes)
        if method == "GET":
            listed = {"object": "list", "data": [{"id": card.name, "object": "model"} for card in CARDS]}
            return _said(200, listed)
        operation = url.removeprefix(SimulatorProvider.BASE_URL)
        if operation in SimulatorProvider.OPERATIONS:
            return _operated(operation, msgspec.json.decode(body))
        dialect = next(d for d in DIALECTS.values() if url.endswith(d.path))
        try:
            request = dialect.read_request(msgspec.json.decode(body))
            asked = wish(request.model)
        except PenstockError as error:
            return _said(error.status, dialect.write_error(error))
        self._played[request.model] += 1
        fault = asked.fault if self._played[request.model] <= asked.times else ""
        if fault == "reset":
            raise StreamBroken("simulated: the connection was reset")
        if fault == "silent":
            await asyncio.Event().wait()
        if fault in STATUSES:
            return _refused(fault, asked, dialect)
        return self._play(request, asked, fault, dialect)

    def _play(self, request: Request, asked: Wish, fault: str, dialect: Dialect) -> Played:
        speed = SPEEDS[asked.model]
        request = msgspec.structs.replace(request, model=asked.model)
        events = list(script.answer(request, reasoning=speed.reasoning, length=asked.tokens))
        if fault == "no_usage":
            events = [msgspec.structs.replace(e, usage=None) if isinstance(e, Finished) else e for e in events]
        first = speed.first if asked.first is None else asked.first
        gap = speed.gap if asked.gap is None else asked.gap
        if not request.stream:
            waits = first + gap * sum(isinstance(event, PartDelta) for event in events)
            return _said(200, dialect.write_answer(assemble(events), request), waits / 1e3)
        frames = _frames(events, dialect, request, (first / 1e3, gap / 1e3), fault, asked.after)
        return Played(200, {"content-type": "text/event-stream"}, frames)


async def _frames(
    events: list[Event],
    dialect: Dialect,
    request: Request,
    pace: tuple[float, float],
    fault: str,
    after: int,
) -> AsyncGenerator[bytes, None]:
    encoder = dialect.encoder(request)
    told = 0
    for event in events:
        if isinstance(event, PartDelta):
            if fault in ("cut", "stall", "malformed", "error") and told == after:
                async for piece in _broken(fault, dialect, request):
                    yield piece
            await asyncio.sleep(pace[0] if told == 0 else pace[1])
            told += 1
        frames = encoder.encode(event)
        if fault == "no_done" and isinstance(event, Finished):
            frames = frames.removesuffix(dialect.sentinel)
        if frames:
            yield frames


async def _broken(fault: str, dialect: Dialect, request: Request) -> AsyncGenerator[bytes, None]:
    if fault == "malformed":
        yield b'data: {"choices":[{"delta":{"cont\n\n'
    elif fault == "stall":
        await asyncio.Event().wait()
    elif fault == "error":
        yield dialect.encoder(request).error(UpstreamError("simulated: the model broke down", reason="server_error"))
        await asyncio.Event().wait()
    else:
        raise StreamBroken("simulated: the connection was cut")


def _refused(fault: str, asked: Wish, dialect: Dialect) -> Played:
    kind, message = STATUSES[fault]
    status = int(fault) if fault.isdigit() else 400
    headers = {"retry-after": asked.retry_after} if asked.retry_after else {}
    error = UpstreamError(message, status=status, code=kind, upstream_type=kind, upstream_code=kind)
    return _said(status, dialect.write_error(error), headers=headers)


def _operated(name: str, body: dict[str, Any]) -> Played:
    try:
        wish(body["model"])
    except UnknownModel as error:
        return _said(404, DIALECTS["openai_chat"].write_error(error))
    answer = script.operation(name, body)
    if name != "/completions" or body.get("stream") is not True:
        return _said(200, answer)
    choice = answer["choices"][0]
    pieces = [{**choice, "text": piece, "finish_reason": None} for piece in script.tokens(choice["text"])]
    chunks = [{**answer, "choices": [piece]} for piece in [*pieces, {**choice, "text": ""}]]

    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield frame(msgspec.json.encode(chunk))
        yield frame(b"[DONE]")

    return Played(200, {"content-type": "text/event-stream"}, stream())


def _said(status: int, body: Mapping[str, Any], wait: float = 0.0, headers: Mapping[str, str] | None = None) -> Played:
    async def once() -> AsyncGenerator[bytes, None]:
        if wait:
            await asyncio.sleep(wait)
        yield msgspec.json.encode(body)

    return Played(status, {"content-type": "application/json", **(headers or {})}, once())


class SimulatorProvider(Provider):
    """The simulator as a provider."""

    KIND: ClassVar[str] = "simulator"
    DIALECTS: ClassVar[tuple[str, ...]] = ("openai_chat", "anthropic_messages", "openai_responses")
    KEY_VARIABLE: ClassVar[str] = "SIMULATOR_API_KEY"
    URL_VARIABLE: ClassVar[str] = "SIMULATOR_BASE_URL"
    BASE_URL: ClassVar[str] = "simulator:"
    NEEDS_KEY: ClassVar[bool] = False
    SIMULATED: ClassVar[bool] = True
    FORWARDS: ClassVar[bool] = False
    OPERATIONS: ClassVar[frozenset[str]] = frozenset({"/embeddings", "/completions", "/messages/count_tokens"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"models": CARDS, "transport": Stage(), **settings})
