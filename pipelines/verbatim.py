"""A call that is no conversation (embeddings, legacy completions, token counts): the provider's bytes as they are.

A whole answer is looked at for an error and for usage. The chunks of a legacy completion have the members of a chat's
around their words, so the dialect's own decoder hears of failures, ends, usage and the sentinel in them.

Above it: the providers. Below it: `exchange`'s interface, the dialects, `sse`. Outside it: what the bodies mean.
"""

from collections.abc import Mapping

import msgspec

from pipelines.calls import Call
from pipelines.conversation import Json, Usage
from pipelines.dialects import DIALECTS, lenient
from pipelines.dialects.base import Dialect
from pipelines.dialects.content import bytes_of_content
from pipelines.dialects.openai_chat.failures import is_refusal, stream_failure
from pipelines.dialects.openai_chat.usage import read_usage
from pipelines.dialects.sse import Framer, frame, parse
from pipelines.errors import PenstockError, ProtocolError, StreamBroken
from pipelines.events import Finished, Started
from pipelines.exchange import Exchange


class Verbatim(Exchange):
    """See `exchange.Exchange`; `dialect` is the one whose errors the provider speaks."""

    dialect: Dialect

    def __init__(self, call: Call) -> None:
        dialect = DIALECTS[call.dialect]
        super().__init__(dialect, dialect.relay_request(call.body, call.request.model), stream=call.stream)
        self._call = call
        self._wanted = _answers_wanted(call.body)
        self._framer = Framer()

    @property
    def finished(self) -> Finished | None:
        """See `Exchange.finished`; None, too, while one of several answers that were asked for has not come."""
        finished = self.decoder.finished
        if finished is None or self.decoder.done or max(len(finished.choices), 1) >= self._wanted:
            return finished
        return None

    def feed(self, data: bytes) -> bytes:
        """Frames as they come, but for usage that the caller did not ask for; the sentinel only after the end."""
        if self.decoder.failure is not None:
            self.decoder.ask()
        said = self._each(self._framer.cut(data), self._pass)
        self.committed = self.committed or bool(said)
        return said

    def close(self) -> bytes:
        """Raises StreamBroken where an answer has no finish reason; writes the sentinel that was forgotten."""
        rest = self._framer.rest()
        said = self._pass(rest + b"\n\n") if rest.strip() else b""
        if self.decoder.done:
            return said
        if self.finished is None:
            raise StreamBroken("the provider's stream ended before its answer did")
        self.decoder.done = True
        return said + self.dialect.sentinel

    def whole(self, body: bytes) -> bytes:
        """The body itself, if it is a JSON object and no error; as a stream where a completion's was asked for."""
        value = lenient.read(body)
        if not isinstance(value, dict):
            raise ProtocolError("the provider's answer is not a JSON object")
        if is_refusal(value):
            raise stream_failure(value)
        said = body
        if self.stream and "choices" in value:
            said = self.feed(frame(msgspec.json.encode(value))) + self.dialect.sentinel
        self.decoder.finished = Finished("stop", usage=_usage(value))
        self.decoder.done = True
        return said

    def fail(self, error: PenstockError) -> bytes:
        """The error as a last frame, in OpenAI's form, the only one with streams of this kind."""
        return frame(msgspec.json.encode(self.dialect.write_error(error)))

    def _pass(self, raw: bytes) -> bytes:
        read = parse(raw)
        if self.decoder.done or not read.data:
            return b""
        skipped = self.decoder.skipped
        events = self.decoder.frame(read)
        if self.decoder.skipped > skipped:
            return b""
        if self.decoder.done:
            return self.dialect.sentinel
        self.progress += 1
        self.answered = next((event.model for event in events if isinstance(event, Started)), self.answered)
        passed = self.dialect.relay_frame(raw, self._call.body)
        self.pieces += bool(passed)
        self.content += max(0, bytes_of_content(raw))
        return passed


def _answers_wanted(body: Mapping[str, Json]) -> int:
    """How many answers a completion is asked for: `n` for each of its prompts."""
    prompt, count = body.get("prompt"), body.get("n")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1
    return prompts * (count if isinstance(count, int) and count > 0 else 1)


def _usage(answer: dict[str, Json]) -> Usage | None:
    """The usage of a whole answer: OpenAI's object, or Anthropic's count of tokens, which is the answer itself."""
    if "usage" in answer:
        return read_usage(answer["usage"], str(answer.get("model", "")))
    given = answer.get("input_tokens")
    return Usage(input=given) if isinstance(given, int) else None
