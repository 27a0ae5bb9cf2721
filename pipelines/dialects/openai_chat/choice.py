"""One of the `n` answers of a stream: deltas to parts.

Text, reasoning and refusal follow each other: where one begins the one before it ends. Tool calls may overlap.
What comes beside the words (annotations, reasoning details, sound, pictures) is kept and handed out with the end
of its part.

Above it: the decoder. Below it: `calls`, `events`, `errors`.
"""

from collections.abc import Iterator

import msgspec

from pipelines.conversation import Json, Opaque
from pipelines.dialects.openai_chat.calls import ToolCalls
from pipelines.dialects.openai_chat.thoughts import KEY, joined, mark, thought, thoughts_in, words
from pipelines.errors import ProtocolError
from pipelines.events import Event, PartDelta, PartEnded, PartKind, PartStarted

_MEDIA = ("audio", "images")
_GROWING = frozenset(("data", "transcript"))


class _Open:
    """The part that is being said: its words are on their way, `kept` waits for its end."""

    def __init__(self, index: int, kind: PartKind) -> None:
        self.index = index
        self.kind = kind
        self.annotations: list[Json] = []
        self.details: list[Json] = []
        self.media: dict[str, Json] = {}
        self.signature = ""

    def kept(self) -> Opaque | None:
        """What goes with the part's end."""
        share: dict[str, Json] = dict(self.media)
        if self.annotations:
            share["annotations"] = self.annotations
        if self.details:
            share["reasoning_details"] = joined(self.details)
        if self.signature:
            share["signature"] = self.signature
        return {KEY: share} if share else None


class Choice:
    """Choice `number`. `indices` numbers the parts of the whole stream; `stream` is the stream's id.

    raw_reason: the provider's word for why it stopped, "" until it says so; the last word counts. resumed: more
    came after it (Together ends each of several tool calls with a finish reason).
    """

    def __init__(self, number: int, indices: Iterator[int], stream: str) -> None:
        self.number = number
        self.raw_reason = ""
        self.resumed = False
        self.calls = ToolCalls(number, indices, stream)
        self._indices = indices
        self._open: _Open | None = None
        self._worded = False
        self._modern = False

    def read(self, delta: dict[str, Json], logprobs: Json = None) -> list[Event]:
        """One delta. Raises ProtocolError where a member is not of the type that the wire has for it."""
        events: list[Event] = []
        field, text, details = thought(delta)
        if field:
            # Details come beside the words, or after them: those of a server that sends both are said once.
            self._worded = self._worded or bool(text)
            self._reason(field, text if self._worded else words(details), details, events)
        content = delta.get("content")
        if content:
            self._content(content, events)
        refusal = delta.get("refusal")
        if refusal:
            self._say("refusal", _string(refusal, "refusal"), events)
        annotations = delta.get("annotations")
        if isinstance(annotations, list) and annotations:
            self._turn_to("text", events).annotations += annotations
        for name in _MEDIA:
            if delta.get(name):
                self._show(name, delta[name], events)
        self._call(delta, events)
        if isinstance(logprobs, dict) and any(logprobs.values()):
            self._weigh(logprobs, events)
        self.resumed = self.resumed or bool(events)
        return events

    def stop(self, raw_reason: str) -> None:
        """The provider says why the answer stops, for now."""
        self.raw_reason = raw_reason
        self.resumed = False

    def end(self) -> list[Event]:
        """The answer is over: end what is open."""
        return [*self._shut(), *self.calls.end()]

    def _content(self, content: Json, events: list[Event]) -> None:
        """Text; or a list of text and thoughts (reasoning models of Mistral and Databricks)."""
        if isinstance(content, str):
            self._say("text", content, events)
            return
        if not isinstance(content, list):
            raise ProtocolError("content is neither text nor a list")
        for part in content:
            if not isinstance(part, dict):
                raise ProtocolError("a part of content is no object")
            thoughts = list(thoughts_in(part))
            for field, text, signature in thoughts:
                self._sign(field, text, signature, events)
            if thoughts:
                continue
            if isinstance(part.get("text"), str):
                self._say("text", part["text"], events)
            else:
                self._show("parts", [part], events)

    def _say(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if text:
            events.append(PartDelta(self._turn_to(kind, events).index, text))

    def _sign(self, field: str, text: str, signature: str, events: list[Event]) -> None:
        """A piece of thought in `content`: what follows on a signature is another thought."""
        if text and self._open is not None and self._open.signature:
            events += self._shut()
        self._reason(field, text, [], events)
        if signature and self._open is not None:
            self._open.signature = signature

    def _reason(self, field: str, text: str, details: list[Json], events: list[Event]) -> None:
        current = self._turn_to("reasoning", events, mark(field, []))
        current.details += details
        if text:
            events.append(PartDelta(current.index, text))

    def _show(self, name: str, value: Json, events: list[Event]) -> None:
        """Sound comes in pieces, whose base64 and transcript are joined; pictures come whole."""
        media = self._turn_to("foreign", events).media
        before = media.get(name)
        if isinstance(before, list) and isinstance(value, list):
            media[name] = [*before, *value]
        elif isinstance(before, dict) and isinstance(value, dict):
            grown = {key: (before.get(key) or "") + (value[key] or "") for key in _GROWING & value.keys()}
            media[name] = {**before, **value, **grown}
        else:
            media[name] = value

    def _call(self, delta: dict[str, Json], events: list[Event]) -> None:
        entries, legacy = delta.get("tool_calls"), delta.get("function_call")
        if not entries and not legacy:
            return
        if entries and not isinstance(entries, list):
            raise ProtocolError("tool_calls is no list")
        before = len(self.calls)
        said: list[Event] = []
        for entry in entries or ():
            said += self.calls.read(entry)
        # llama-cpp-python says each call twice, in the new form and in the old one.
        self._modern = self._modern or bool(entries)
        if isinstance(legacy, dict) and not self._modern:
            said += self.calls.read_legacy(legacy)
        if len(self.calls) > before:
            events += self._shut()
        events += said

    def _weigh(self, logprobs: dict[str, Json], events: list[Event]) -> None:
        """Put log probabilities on the delta that they came with."""
        opaque = {KEY: {"logprobs": {name: value for name, value in logprobs.items() if value}}}
        for place in range(len(events) - 1, -1, -1):
            event = events[place]
            if isinstance(event, PartDelta):
                events[place] = msgspec.structs.replace(event, opaque=opaque)
                return
        if self._open:
            events.append(PartDelta(self._open.index, "", opaque))

    def _turn_to(self, kind: PartKind, events: list[Event], opaque: Opaque | None = None) -> _Open:
        if self._open is None or self._open.kind != kind:
            events += self._shut()
            events += self.calls.settle()
            self._open = _Open(next(self._indices), kind)
            events.append(PartStarted(self._open.index, kind, choice=self.number, opaque=opaque))
        return self._open

    def _shut(self) -> list[Event]:
        ended, self._open = self._open, None
        return [PartEnded(ended.index, ended.kept())] if ended else []


def _string(value: Json, name: str) -> str:
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is no text")
    return value
