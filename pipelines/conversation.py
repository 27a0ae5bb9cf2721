"""What a caller asks, in no provider's words: messages made of parts, tools, and settings.

Values are frozen msgspec structs, tagged where they form a union, so that the same type serves in memory,
across a process, in the ledger and in a fixture.

`opaque` carries what only one dialect understands (signatures, encrypted reasoning, citations, cache marks),
keyed by that dialect's name, and is handed back to that dialect unchanged.

Above it: everything. Below it: msgspec. Outside it: wire formats (`dialects`).
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of them."""

Opaque = dict[str, Json]
"""What one dialect alone understands, keyed by the dialect's name."""

Role = Literal["system", "developer", "user", "assistant", "tool"]


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """Frozen, compact on the wire."""


class Text(_Value, frozen=True, tag="text"):
    """Plain text."""

    text: str
    opaque: Opaque | None = None


class Image(_Value, frozen=True, tag="image"):
    """A picture: `url` (http or https), or `data` (base64) with its `media_type`."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    detail: str = ""
    opaque: Opaque | None = None


class File(_Value, frozen=True, tag="file"):
    """A document: by `url`, by base64 `data`, by a provider's `file_id`, or as `text`."""

    name: str = ""
    url: str = ""
    data: str = ""
    text: str = ""
    file_id: str = ""
    media_type: str = ""
    opaque: Opaque | None = None


class Audio(_Value, frozen=True, tag="audio"):
    """Sound: base64 `data` in `format` (wav, mp3, …), or the `id` of an earlier answer's audio."""

    data: str = ""
    format: str = ""
    id: str = ""
    opaque: Opaque | None = None


class Reasoning(_Value, frozen=True, tag="reasoning"):
    """What a model thought. Signatures and encrypted forms are in `opaque`."""

    text: str = ""
    opaque: Opaque | None = None


class Refusal(_Value, frozen=True, tag="refusal"):
    """The model declined, in these words."""

    text: str


class ToolCall(_Value, frozen=True, tag="tool_call"):
    """The model asks for a tool. `arguments` is JSON text as the model wrote it (it may not parse)."""

    id: str
    name: str
    arguments: str = ""
    opaque: Opaque | None = None


class ToolResult(_Value, frozen=True, tag="tool_result"):
    """What a tool answered to the call `call_id`."""

    call_id: str
    parts: tuple["Text | Image | File", ...] = ()
    is_error: bool = False
    opaque: Opaque | None = None


class Foreign(_Value, frozen=True, tag="foreign"):
    """Something that one dialect alone has (a provider-side tool call, its result): kept for it whole."""

    opaque: Opaque


Part = Text | Image | File | Audio | Reasoning | Refusal | ToolCall | ToolResult | Foreign


class Message(_Value, frozen=True):
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    opaque: Opaque | None = None

    @property
    def text(self) -> str:
        """All plain text of the message, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the message asks for, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


def parts_of(messages: Iterable[Message]) -> list[Part]:
    """All parts of these messages, and after them what their tool results hold."""
    parts = [part for message in messages for part in message.parts]
    if ToolResult in map(type, parts):
        parts += [inner for part in parts if isinstance(part, ToolResult) for inner in part.parts]
    return parts


def is_picture(part: Part) -> bool:
    """Whether it takes a model that sees: an image, or a file that is one."""
    return isinstance(part, Image) or (isinstance(part, File) and part.media_type.startswith("image/"))


class ToolSpec(_Value, frozen=True):
    """A tool that the model may call. `schema` is the JSON Schema of its arguments.

    A provider-side tool (web search, code execution) has no schema and stands in `opaque` whole.
    """

    name: str
    description: str = ""
    schema: dict[str, Json] | None = None
    strict: bool | None = None
    opaque: Opaque | None = None


class ToolChoice(_Value, frozen=True):
    """Which tools may or must be called: `mode` and, for "named", the tool's `name`.

    `allowed`, where not empty, narrows "auto" and "required" to these tools.
    """

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    allowed: tuple[str, ...] = ()


class OutputFormat(_Value, frozen=True):
    """The form of the answer: free text, any JSON object, or JSON by `schema`."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    description: str = ""
    schema: dict[str, Json] | None = None
    strict: bool | None = None


_EFFORTS = ((2048, "low"), (8192, "medium"))
"""Tokens of thought up to which an effort is meant, where only a budget is known; above them "high"."""


class ReasoningRequest(_Value, frozen=True):
    """How much to think: an `effort` word, a token `budget`, or switched off. `summary`: how to show it."""

    enabled: bool = True
    effort: str = ""
    budget: int | None = None
    summary: str = ""

    @property
    def nearest_effort(self) -> str:
        """The effort, or the one that is nearest to the budget; "" where neither is asked for."""
        if self.effort or self.budget is None:
            return self.effort
        return next((word for most, word in _EFFORTS if self.budget <= most), "high")


class Request(_Value, frozen=True):
    """One request for an answer.

    max_tokens counts output tokens; temperature, top_p and the rest are as the OpenAI API defines them.
    `extra` holds the fields that no attribute here stands for, keyed by the dialect they came in.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    reasoning: ReasoningRequest | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    service_tier: str = ""
    user: str = ""
    metadata: dict[str, str] | None = None
    stream: bool = False
    include_usage: bool = False
    extra: Opaque | None = None


class Usage(_Value, frozen=True):
    """Tokens of one answer.

    input includes cached_read and cache_write; output includes reasoning. cost is in US dollars and only
    there when the provider itself said it. raw is the provider's own object.

    What some of them cost more for: cache_write_long, of cache_write, stays cached for an hour; input_audio and
    output_audio are of input and output; searches are the provider's own, on the web. tier: the class of service that
    was charged ("flex", "priority", "batch", "fast"), "" for the usual one.
    """

    input: int = 0
    output: int = 0
    cached_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: float | None = None
    estimated: bool = False
    raw: dict[str, Json] | None = None
    cache_write_long: int = 0
    input_audio: int = 0
    output_audio: int = 0
    searches: int = 0
    tier: str = ""
