"""Hypothesis strategies for the two vocabularies: `conversation.Request` and streams of `events.Event`.

Everything generated is sensible: conversations alternate, every tool call is answered, streams keep the grammar.
A dialect's tests switch off what that dialect cannot express; what is left must survive a round trip.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from pipelines.conversation import (
    Audio,
    File,
    Image,
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningRequest,
    Refusal,
    Request,
    Role,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
    Usage,
)
from pipelines.events import (
    ChoiceEnd,
    Event,
    Finished,
    FinishReason,
    Grammar,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Started,
)

TEXTS = st.text(min_size=1, max_size=12) | st.sampled_from(["data: x\n\n", '"\\', "日本語", "🎈", "[DONE]", "\r\n"])
"""Texts that are never empty, among them ones that a careless framer or encoder would trip over."""

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ_-0123456789", min_size=1, max_size=10)
"""Names that every provider takes for a tool."""

"""Ids of tool calls."""

BASE64 = st.sampled_from(["aGk=", "iVBORw0KGgo=", "AAAA"])

JSON_VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)

SCHEMAS: st.SearchStrategy[dict[str, Json]] = st.dictionaries(NAMES, st.just({"type": "string"}), max_size=2).map(
    lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)}
)

ARGUMENTS = st.dictionaries(NAMES, JSON_VALUES, max_size=2).map(json.dumps)
"""Arguments of tool calls: JSON text of an object."""

URLS = NAMES.map("https://example.com/{}.png".format)

SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "parallel_tool_calls": st.booleans(),
    "max_tokens": st.integers(1, 100_000),
    "temperature": st.sampled_from([0.0, 0.5, 1.0]),
    "top_p": st.sampled_from([0.1, 0.9, 1.0]),
    "top_k": st.integers(1, 100),
    "stop": st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
    "seed": st.integers(-1000, 1000),
    "n": st.integers(2, 4),
    "frequency_penalty": st.sampled_from([-2.0, 0.5, 2.0]),
    "presence_penalty": st.sampled_from([-2.0, 0.5, 2.0]),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "logit_bias": st.dictionaries(
        st.integers(0, 99999).map(str), st.integers(-100, 100).map(float), min_size=1, max_size=2
    ),
    "service_tier": st.sampled_from(["auto", "default", "flex", "priority"]),
    "user": NAMES,
    "metadata": st.dictionaries(NAMES, TEXTS, min_size=1, max_size=2),
    "stream": st.booleans(),
    "include_usage": st.booleans(),
}
"""A strategy for each plain setting of a Request, by the attribute's name."""

IMAGES = st.builds(Image, url=URLS) | st.builds(
    Image, data=BASE64, media_type=st.sampled_from(["image/png", "image/jpeg"])
)

FILES = st.builds(File, name=NAMES, data=BASE64, media_type=st.just("application/pdf"))

AUDIOS = st.builds(Audio, data=BASE64, format=st.sampled_from(["wav", "mp3"]))

OUTPUT_FORMATS = st.sampled_from([OutputFormat("text"), OutputFormat("json_object")]) | st.builds(
    OutputFormat, st.just("json_schema"), name=NAMES, schema=SCHEMAS, strict=st.none() | st.booleans()
)

EFFORTS = ("low", "medium", "high")


def user_parts(*, images: bool = True, files: bool = True, audio: bool = True) -> st.SearchStrategy[tuple[Part, ...]]:
    """What a user sends: one or more texts, pictures, documents, sounds."""
    kinds: list[st.SearchStrategy[Any]] = [st.builds(Text, TEXTS)]
    kinds += [strategy for wanted, strategy in ((images, IMAGES), (files, FILES), (audio, AUDIOS)) if wanted]
    return st.lists(st.one_of(kinds), min_size=1, max_size=3).map(tuple)


@st.composite
def _answers(draw: st.DrawFn, reasoning: bool, refusals: bool, tools: bool, ids: list[str]) -> tuple[Part, ...]:
    """An assistant's turn in the order that every wire keeps: reasoning, words, tool calls."""
    parts: list[Part] = []
    if reasoning and draw(st.booleans()):
        parts.append(Reasoning(draw(TEXTS)))
    if refusals and draw(st.integers(0, 5)) == 0:
        return (*parts, Refusal(draw(TEXTS)))
    calls = draw(st.integers(0, 3)) if tools else 0
    if not calls or draw(st.booleans()):
        parts.append(Text(draw(TEXTS)))
    for _ in range(calls):
        identity = f"call_{len(ids)}"
        ids.append(identity)
        parts.append(ToolCall(identity, draw(NAMES), draw(ARGUMENTS)))
    return tuple(parts)


@st.composite
def conversations(
    draw: st.DrawFn,
    *,
    leading: Sequence[Role] = ("system", "developer"),
    images: bool = True,
    files: bool = True,
    audio: bool = True,
    reasoning: bool = True,
    refusals: bool = True,
    tools: bool = True,
    result_images: bool = True,
    result_errors: bool = True,
    names: bool = True,
    grouped_results: bool = False,
) -> tuple[Message, ...]:
    """A conversation that ends with the user or with tool results.

    leading: roles that may open it. result_images, result_errors: what tool results may hold. names: whether
    users have names. grouped_results: all results of a turn in one message, not one message each.
    """
    messages: list[Message] = []
    if draw(st.booleans()) and leading:
        opener: Role = draw(st.sampled_from(leading))
        messages.append(Message(opener, (Text(draw(TEXTS)),)))
    ids: list[str] = []
    said = user_parts(images=images, files=files, audio=audio)
    messages.append(Message("user", draw(said), name=draw(NAMES) if names and draw(st.booleans()) else ""))
    for _ in range(draw(st.integers(0, 2))):
        answer = draw(_answers(reasoning, refusals, tools, ids))
        messages.append(Message("assistant", answer))
        calls = [part for part in answer if isinstance(part, ToolCall)]
        results = [draw(_results(call.id, result_images, result_errors)) for call in calls]
        if grouped_results and results:
            messages.append(Message("tool", tuple(results)))
        else:
            messages += [Message("tool", (result,)) for result in results]
        if not results:
            messages.append(Message("user", draw(said)))
    return tuple(messages)


@st.composite
def _results(draw: st.DrawFn, call_id: str, images: bool, errors: bool) -> ToolResult:
    texts = st.builds(Text, TEXTS)
    parts = draw(st.lists(texts | IMAGES if images else texts, min_size=1, max_size=2))
    return ToolResult(call_id, tuple(parts), is_error=errors and draw(st.booleans()))


TOOL_SPECS = st.lists(
    st.builds(ToolSpec, NAMES, description=st.just("") | TEXTS, schema=SCHEMAS, strict=st.none() | st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: spec.name,
).map(tuple)


@st.composite
def tool_choices(draw: st.DrawFn, tools: tuple[ToolSpec, ...], *, allowed: bool = True) -> ToolChoice:
    """A choice that fits `tools` (not empty). allowed: whether the choice may be narrowed to some of them."""
    mode = draw(st.sampled_from(["auto", "none", "required", "named"]))
    if mode == "named":
        return ToolChoice("named", draw(st.sampled_from(tools)).name)
    if allowed and mode in ("auto", "required") and draw(st.booleans()):
        return ToolChoice("auto" if mode == "auto" else "required", allowed=(tools[0].name,))
    return ToolChoice("auto" if mode == "auto" else "none" if mode == "none" else "required")


@st.composite
def requests(
    draw: st.DrawFn,
    *,
    settings: Iterable[str] = tuple(SETTINGS),
    tools: bool = True,
    strict_tools: bool = True,
    allowed_tools: bool = True,
    output_format: bool = True,
    reasoning_request: bool = True,
    parts: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Request:
    """A request.

    settings: which plain settings may appear (names of `SETTINGS`). parts: switches of `conversations`.
    fixed: attributes with the value that they always have.
    """
    values: dict[str, Any] = {}
    for name in settings:
        if draw(st.booleans()):
            values[name] = draw(SETTINGS[name])
    if tools and draw(st.booleans()):
        specs = draw(TOOL_SPECS)
        if not strict_tools:
            specs = tuple(ToolSpec(s.name, s.description, s.schema) for s in specs)
        values["tools"] = specs
        if draw(st.booleans()):
            values["tool_choice"] = draw(tool_choices(specs, allowed=allowed_tools))
    if output_format and draw(st.booleans()):
        values["output_format"] = draw(OUTPUT_FORMATS)
    if reasoning_request and draw(st.booleans()):
        values["reasoning"] = ReasoningRequest(effort=draw(st.sampled_from(EFFORTS)))
    talk = draw(conversations(**{"tools": tools, **(parts or {})}))
    return Request(**{"model": draw(NAMES), "messages": talk, **values, **(fixed or {})})


USAGES = st.builds(
    lambda plain, cached, written, said, thought: Usage(
        input=plain + cached + written,
        output=said + thought,
        cached_read=cached,
        cache_write=written,
        reasoning=thought,
    ),
    *[st.integers(0, 10_000)] * 5,
)
"""Counts that fit together: cached ones are part of input, reasoning is part of output."""

RAW_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}
"""How the OpenAI chat dialect names the reasons that every dialect has."""


@st.composite
def _pieces(draw: st.DrawFn, kind: PartKind, empty: bool) -> list[str]:
    """The deltas of a part. Only a part that may be empty has none."""
    if kind == "tool_call":
        whole = draw(ARGUMENTS)
        cut = draw(st.integers(0, len(whole)))
        return [piece for piece in (whole[:cut], whole[cut:]) if piece]
    return draw(st.lists(TEXTS, min_size=0 if empty else 1, max_size=3))


@st.composite
def _choice_parts(
    draw: st.DrawFn, kinds: Sequence[PartKind], adjacent: bool, empty: bool
) -> list[tuple[PartKind, str, str, list[str]]]:
    """(kind, id, name, deltas) of each part of one answer."""
    parts: list[tuple[PartKind, str, str, list[str]]] = []
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        if not adjacent and parts and parts[-1][0] == kind and kind != "tool_call":
            continue
        called = kind == "tool_call"
        name = draw(NAMES) if called else ""
        parts.append((kind, "call" if called else "", name, draw(_pieces(kind, empty))))
    return parts


def _part_events(index: int, choice: int, part: tuple[PartKind, str, str, list[str]]) -> list[Event]:
    kind, prefix, name, deltas = part
    identity = f"{prefix}_{choice}_{index}" if prefix else ""
    return [
        PartStarted(index, kind, id=identity, name=name, choice=choice),
        *(PartDelta(index, text) for text in deltas),
        PartEnded(index),
    ]


@st.composite
def event_streams(
    draw: st.DrawFn,
    *,
    kinds: Sequence[PartKind] = ("text", "reasoning", "refusal", "tool_call"),
    raw_reasons: Mapping[FinishReason, str] = RAW_REASONS,
    choices: int = 1,
    adjacent: bool = False,
    empty: bool = False,
    usage: bool = True,
    created: bool = True,
) -> list[Event]:
    """A whole stream that keeps the grammar, parts one after the other.

    kinds: of parts that may appear. raw_reasons: the reasons that may end it, and the dialect's word for each;
    an answer that calls tools always ends in "tool_calls". choices: answers at most (n). adjacent: whether two
    parts of one kind (but tool calls) may follow each other. empty: whether a part may have no delta.
    usage: whether `Finished` may have one. created: whether `Started` has a time.
    """
    started = Started(model=draw(NAMES), id=draw(NAMES), created=draw(st.integers(1, 2**31)) if created else 0)
    events: list[Event] = [started]
    ends: list[ChoiceEnd] = []
    index = 0
    for choice in range(draw(st.integers(1, choices))):
        parts = draw(_choice_parts(kinds, adjacent, empty))
        for part in parts:
            events += _part_events(index, choice, part)
            index += 1
        calls = any(part[0] == "tool_call" for part in parts)
        plain = [reason for reason in raw_reasons if reason != "tool_calls"]
        reason: FinishReason = "tool_calls" if calls else draw(st.sampled_from(plain))
        ends.append(ChoiceEnd(choice, reason, raw_reasons[reason]))
    first = ends[0]
    counted = draw(st.none() | USAGES) if usage else None
    events.append(Finished(first.reason, first.raw_reason, usage=counted, choices=tuple(ends) if len(ends) > 1 else ()))
    grammar = Grammar()
    for event in events:
        grammar.check(event)
    grammar.close()
    return events
