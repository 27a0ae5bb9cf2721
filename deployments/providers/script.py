"""What the simulator says: a deterministic answer to a request, as events.

The same request gives the same answer, token for token. A tool on offer is called once, with arguments made from
its schema; a JSON schema is answered with JSON that fits it; anything else with a sentence that quotes the
question, and words.

Above it: `simulator`. Below it: `pipelines`. Outside it: time, faults, wire formats.
"""

import hashlib
import re
from collections.abc import Iterator

import msgspec

from pipelines.conversation import Json, Request, Text, ToolSpec, Usage
from pipelines.events import Event, Finished, FinishReason, PartDelta, PartEnded, PartStarted, Started

WORDS = (
    "water",
    "river",
    "gate",
    "valve",
    "wheel",
    "stream",
    "pipe",
    "head",
    "flow",
    "mill",
    "turbine",
    "channel",
    "sluice",
    "weir",
    "lock",
    "spring",
    "delta",
    "bank",
    "current",
    "level",
    "pressure",
    "reservoir",
    "dam",
    "bridge",
    "ford",
    "rapid",
    "eddy",
    "pool",
    "well",
    "basin",
    "course",
    "source",
    "mouth",
    "tide",
)

DEFAULT_TOKENS = 48
"""Length of an answer whose length nobody says."""

_TOKEN = re.compile(r"\s*\S+")


def tokens(text: str) -> list[str]:
    """`text` in pieces that join to it again: one word each, with the space before it."""
    return _TOKEN.findall(text)


def prompt_tokens(request: Request) -> int:
    """How many tokens the simulator counts for a request: its words, and four a message."""
    return sum(4 + len(tokens(message.text)) for message in request.messages)


def answer(request: Request, *, reasoning: bool = False, length: int | None = None) -> Iterator[Event]:
    """The events of the answer to `request`, from `Started` to `Finished`; length is in tokens."""
    seed = hashlib.sha256(msgspec.json.encode((request.messages, request.tools, request.seed))).digest()
    yield Started(model=request.model, id=f"sim-{seed.hex()[:24]}")
    index, spoken = 0, 0
    if reasoning:
        thought = tokens("The question is short. An answer that quotes it will do.")
        yield from _part(index, "reasoning", thought)
        index, spoken = 1, len(thought)
    called = _tools_to_call(request)
    reason: FinishReason = "stop"
    if called:
        reason = "tool_calls"
        for offset, tool in enumerate(called):
            arguments = msgspec.json.encode(example(tool.schema or {}, tool.name)).decode()
            pieces = [arguments[at : at + 8] for at in range(0, len(arguments), 8)]
            spoken += len(pieces)
            call_id = f"call_{seed.hex()[offset * 2 : offset * 2 + 20]}"
            yield from _part(index + offset, "tool_call", pieces, call_id, tool.name)
    else:
        said, reason = _limited(_text(request, seed, length), request)
        spoken += len(said)
        yield from _part(index, "text", said)
    usage = Usage(
        input=prompt_tokens(request),
        output=spoken,
        reasoning=0 if not reasoning else len(thought),
    )
    yield Finished(reason, usage=usage)


def _part(index: int, kind: str, pieces: list[str], call_id: str = "", name: str = "") -> Iterator[Event]:
    yield PartStarted(index, kind, id=call_id, name=name)  # type: ignore[arg-type]
    for piece in pieces:
        yield PartDelta(index, piece)
    yield PartEnded(index)


def _tools_to_call(request: Request) -> list[ToolSpec]:
    """The tools to call: none once a result is there; two where the question asks for both."""
    offered = [tool for tool in request.tools if tool.schema is not None]
    choice = request.tool_choice
    if not offered or (choice and choice.mode == "none"):
        return []
    if request.messages and request.messages[-1].role == "tool":
        return []
    if choice and choice.mode == "named":
        return [tool for tool in offered if tool.name == choice.name]
    both = "both" in request.messages[-1].text and request.parallel_tool_calls is not False
    return offered[:2] if both else offered[:1]


def _text(request: Request, seed: bytes, length: int | None) -> list[str]:
    if request.output_format is not None and request.output_format.kind != "text":
        schema = request.output_format.schema or {"type": "object"}
        return tokens(msgspec.json.encode(example(schema, "answer")).decode())
    question = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
    result = next((m for m in reversed(request.messages) if m.role == "tool"), None)
    if result is not None:
        told = "".join(p.text for part in result.parts for p in getattr(part, "parts", ()) if isinstance(p, Text))
        opening = f"The tool says: {told[:200]}."
    else:
        opening = f"You said: {question[:200]}" if question else "You said nothing."
    pieces = tokens(opening)
    wanted = DEFAULT_TOKENS if length is None else length
    while len(pieces) < wanted:
        place = len(pieces)
        word = WORDS[(seed[place % 32] + place * 7) % len(WORDS)]
        pieces.append(f" {word}")
    return pieces[:wanted] if length is not None else pieces


def _limited(pieces: list[str], request: Request) -> tuple[list[str], FinishReason]:
    """The answer cut where the request's `stop` or `max_tokens` cuts it."""
    text = "".join(pieces)
    cuts = [text.find(stop) for stop in request.stop if stop in text]
    if cuts:
        pieces = tokens(text[: min(cuts)])
    if request.max_tokens is not None and len(pieces) > request.max_tokens:
        return pieces[: request.max_tokens], "length"
    return pieces, "stop"


def example(schema: dict[str, Json], name: str, depth: int = 0) -> Json:
    """A value that fits a JSON Schema (its common subset: type, enum, const, properties, items, anyOf, bounds)."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return example(schema[union][0], name, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind in ("object", "dict"):
        properties = schema.get("properties") or {}
        wanted = schema.get("required", list(properties)) if depth < 8 else []
        return {key: example(properties.get(key) or {}, key, depth + 1) for key in wanted}
    if kind in ("array", "list", "tuple"):
        least = int(schema.get("minItems", 1))
        return [example(schema.get("items") or {}, name, depth + 1) for _ in range(least if depth < 8 else 0)]
    if kind in ("integer", "number", "float"):
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return {"boolean": True, "null": None}.get(kind, name)


def operation(name: str, body: dict[str, Json]) -> dict[str, Json]:
    """The whole answer to a call that is no conversation: embeddings, a legacy completion, a token count."""
    model = body["model"]
    if name == "/embeddings":
        given = body.get("input", "")
        texts = given if isinstance(given, list) else [given]
        data = [{"object": "embedding", "index": at, "embedding": _vector(text)} for at, text in enumerate(texts)]
        used = sum(len(tokens(str(text))) for text in texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return {"object": "list", "model": model, "data": data, "usage": usage}
    if name == "/messages/count_tokens":
        return {"input_tokens": sum(4 + len(tokens(str(m.get("content", "")))) for m in body.get("messages", ()))}
    prompt = str(body.get("prompt", ""))
    said = tokens(f"You said: {prompt[:200]}")[: int(body.get("max_tokens") or DEFAULT_TOKENS)]
    counts = {"prompt_tokens": len(tokens(prompt)), "completion_tokens": len(said)}
    return {
        "id": "cmpl-simulator",
        "object": "text_completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "text": "".join(said), "logprobs": None, "finish_reason": "stop"}],
        "usage": {**counts, "total_tokens": sum(counts.values())},
    }


def _vector(text: Json) -> list[float]:
    """Eight numbers between -1 and 1 that depend on the text alone."""
    digest = hashlib.sha256(msgspec.json.encode(text)).digest()
    return [round(byte / 127.5 - 1, 4) for byte in digest[:8]]
