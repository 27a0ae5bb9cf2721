"""Guardrails: somebody else looks at requests before they are asked, and at answers before they are given.

A guardrail, a function or an HTTP service, is told

    {"request_id", "key_id", "phase": "before" | "after", "dialect", "model", "messages": [{"role", "text"}, …]}

and answers one of

    {"action": "allow"}      {"action": "refuse", "reason": "…"}      {"action": "redact", "texts": ["…", …]}

with one text for each message. Several are asked one after the other, each about what the one before it left. They
stand before the stores of answers with a request, and behind them with an answer: what is stored is what was given.

A whole answer is looked at as it is; a stream only once it is whole, and is handed out then in one piece, or not at
all. Paths that Penstock does not know pass unseen.

Above it: `replica`. Below it: `transport`, `pipelines.guarding`. Outside it: what is allowed.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Literal

import msgspec

from actors.credentials import credential
from deployments.http.transport import HttpTransport
from deployments.settings.guardrail_settings import GuardrailSettings
from pipelines.calls import Answer, Call
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, ConfigurationError, PenstockError
from pipelines.events import Event, assemble
from pipelines.guarding import Said, Unredacted, answered, asked, redacted, rewritten, unreadable
from pipelines.ports import Transport
from pipelines.resilience import Timeouts

MOST_HELD = 16 * 1024 * 1024
"""Bytes of a stream that is held; a longer one is refused."""

MOST_ANSWER = 32 * 1024 * 1024
"""Bytes of a service's answer."""

Phase = Literal["before", "after"]
Guard = Callable[[dict[str, Any]], Awaitable[Any]]
_log = logging.getLogger("penstock.guardrails")


class Verdict(msgspec.Struct, frozen=True):
    """What a guardrail answers."""

    action: Literal["allow", "refuse", "redact"]
    reason: str = ""
    texts: tuple[str, ...] = ()


class Guardrails:
    """All that are configured. Raises ConfigurationError for a function that is not there."""

    def __init__(self, settings: Sequence[GuardrailSettings], transport: Transport | None = None) -> None:
        self._transport = transport or HttpTransport()
        guards = [(one, _function(one.function) if one.function else self._service(one)) for one in settings]
        self._before = [(one, guard) for one, guard in guards if one.when != "after"]
        self._after = [(one, guard) for one, guard in guards if one.when != "before"]

    async def before(self, call: Call) -> Call:
        """The call as it may be asked. Raises BadRequest (400, `content_policy`) where it may not."""
        if self._after and call.operation == "/completions":
            raise BadRequest("a guardrail looks at answers here, and cannot read those of legacy completions")
        numbers = unreadable(call) if self._before else ""
        if numbers:
            raise BadRequest(f"a guardrail looks at `{numbers}` here, and cannot read tokens: send text", param=numbers)
        for settings, guard in self._before:
            said = asked(call)
            verdict = await _ask(settings, guard, call, "before", said)
            if verdict.action == "redact" and list(verdict.texts) != [one.text for one in said]:
                try:
                    call = redacted(call, verdict.texts)
                except (Unredacted, BadRequest):
                    raise _refused(settings, "what it wants left out cannot be taken out of this request") from None
        return call

    async def after(self, call: Call, answer: Answer) -> Answer:
        """The answer as it may be given; a stream that is looked at is whole then. Raises BadRequest likewise."""
        guards = [one for one in self._after if not (call.stream and one[0].streams == "off")]
        if not guards or answer.status != 200 or call.operation:
            return answer
        try:
            if answer.frames is not None:
                await _hold(answer, answer.frames)
            await self._look(call, answer, guards)
        except BaseException:
            await answer.close()
            raise
        return answer

    async def close(self) -> None:
        """Close the connections to services."""
        close = getattr(self._transport, "close", None)
        if close is not None:
            await close()

    async def _look(self, call: Call, answer: Answer, guards: Sequence[tuple[GuardrailSettings, Guard]]) -> None:
        dialect = DIALECTS[call.dialect]
        framed = answer.frames is not None
        events: list[Event] = _decoded(call, answer.body) if framed else dialect.read_answer(answer.body)
        changed = False
        for settings, guard in guards:
            said = answered(events)
            verdict = await _ask(settings, guard, call, "after", said)
            if verdict.action == "redact" and list(verdict.texts) != [one.text for one in said]:
                try:
                    events = rewritten(events, verdict.texts)
                except Unredacted:
                    raise _refused(settings, "what it wants left out cannot be taken out of this answer") from None
                changed = True
        if changed and framed:
            encoder = dialect.encoder(call.request)
            answer.body = b"".join([encoder.encode(event) for event in events])
        elif changed:
            answer.body = msgspec.json.encode(dialect.write_answer(assemble(events), call.request))
        if framed:
            answer.frames, answer.body = _once(answer.body), b""

    def _service(self, settings: GuardrailSettings) -> Guard:
        async def ask(question: dict[str, Any]) -> Any:
            headers = {"content-type": "application/json"}
            if settings.key_variable:
                headers["authorization"] = f"Bearer {credential(settings.key_variable)}"
            body = msgspec.json.encode(question)
            upstream = await self._transport.send(
                "POST", settings.url, headers, body, Timeouts(connect=settings.timeout)
            )
            try:
                said = bytearray()
                async for chunk in upstream.chunks():
                    said += chunk
                    if len(said) > MOST_ANSWER:
                        raise ValueError("its answer is too large")
            finally:
                await upstream.close()
            if upstream.status != 200:
                raise ValueError(f"it answers {upstream.status}")
            return msgspec.json.decode(said)

        return ask


def _function(name: str) -> Guard:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"the guardrail {name} cannot be imported: {error}") from None

    async def ask(question: dict[str, Any]) -> Any:
        if asyncio.iscoroutinefunction(found):
            return await found(question)
        said = await asyncio.to_thread(found, question)
        return await said if isawaitable(said) else said

    return ask


async def _ask(settings: GuardrailSettings, guard: Guard, call: Call, phase: Phase, said: Sequence[Said]) -> Verdict:
    """What a guardrail says, or its policy where it says nothing. Raises BadRequest where it refuses."""
    question = {
        "request_id": call.id,
        "key_id": call.caller.id,
        "phase": phase,
        "dialect": call.dialect,
        "model": call.request.model,
        "messages": [{"role": one.role, "text": one.text} for one in said],
    }
    try:
        async with asyncio.timeout(settings.timeout):
            verdict = _read(await guard(question), len(said))
    except Exception as error:
        # Whatever a stranger's code raises. Its words may be those of the prompt.
        _log.warning("the guardrail %s failed on request %s: %s", settings.name, call.id, type(error).__name__)
        if settings.on_failure == "allow":
            return Verdict("allow")
        message = f"the guardrail {settings.name} does not answer"
        raise PenstockError(message, status=503, code="guardrail_unavailable", retry_after=1.0) from None
    if verdict.action == "refuse":
        raise _refused(settings, verdict.reason)
    return verdict


def _read(answer: Any, count: int) -> Verdict:
    """A guardrail's answer about so many texts. Raises ValueError."""
    verdict = msgspec.convert(answer, Verdict)
    if verdict.action == "redact" and len(verdict.texts) != count:
        raise ValueError("its texts are not as many as the messages")
    return verdict


def _refused(settings: GuardrailSettings, reason: str) -> BadRequest:
    words = f": {reason[:500]}" if reason else ""
    return BadRequest(f"refused by the guardrail {settings.name}{words}", code="content_policy")


async def _hold(answer: Answer, frames: AsyncGenerator[bytes, None]) -> None:
    """Read a stream to its end, into the answer's body. Raises what broke it: nothing of it has been given."""
    held = bytearray()
    async for data in frames:
        held += data
        if len(held) > MOST_HELD:
            raise BadRequest("the answer is too long to be looked at by a guardrail", code="content_policy")
    if answer.error is not None:
        raise answer.error
    answer.body = bytes(held)


def _decoded(call: Call, data: bytes) -> list[Event]:
    decoder = DIALECTS[call.dialect].decoder()
    events = decoder.feed(data)
    return events if decoder.done else events + decoder.close()


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
