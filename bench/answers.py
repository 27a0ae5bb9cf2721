"""Well-formed answers as providers send them, rendered once and ahead of time.

Three wires: OpenAI chat completions, OpenAI Responses and Anthropic Messages; streams as lists of frames, so that
whoever sends them can stop, spoil or leave out any of them.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming,
https://platform.openai.com/docs/api-reference/responses-streaming,
https://docs.anthropic.com/en/docs/build-with-claude/streaming.

Above it: `bench.upstream`, `tests.upstream`. Below it: msgspec. Outside it: HTTP and time.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

Wire = Literal["chat", "responses", "messages"]
"""OpenAI chat completions, OpenAI Responses, Anthropic Messages."""

CREATED = 1_750_000_000
"""The `created` of every answer, in seconds since 1970."""

_encode = msgspec.json.encode


class Tokens(NamedTuple):
    """What an answer says that it used."""

    input: int
    output: int


class Frames(NamedTuple):
    """One stream, in the order in which it is sent; each field holds whole server-sent events.

    opening: before the first text; pieces: one a piece of text; finish: why it stopped; usage: the frame that
    holds nothing else; sentinel: what marks the end (`[DONE]`, `message_stop`, `response.completed`).
    """

    opening: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    finish: tuple[bytes, ...]
    usage: tuple[bytes, ...]
    sentinel: tuple[bytes, ...]

    @property
    def closing(self) -> tuple[bytes, ...]:
        """Everything after the last piece."""
        return self.finish + self.usage + self.sentinel


def wire_of(path: str) -> Wire:
    """The wire that is spoken at a request's path."""
    if path.endswith("/messages"):
        return "messages"
    return "responses" if path.endswith("/responses") else "chat"


def stream(
    wire: Wire,
    model: str,
    texts: Sequence[str],
    *,
    tokens: Tokens | None,
    reason: str = "",
    include_usage: bool = True,
) -> Frames:
    """A stream that says `texts`, one frame each. tokens: None leaves every usage object out.

    reason: the wire's own finish reason, by default that of an answer that was done. include_usage: whether a chat
    stream ends in its usage frame (the caller's `stream_options.include_usage`).
    """
    if wire == "chat":
        return _chat_stream(model, texts, tokens if include_usage else None, reason or "stop")
    if wire == "messages":
        return _messages_stream(model, texts, tokens, reason or "end_turn")
    return _responses_stream(model, texts, tokens, reason or "completed")


def unary(wire: Wire, model: str, text: str, *, tokens: Tokens | None, reason: str = "") -> bytes:
    """A non-streaming answer's body."""
    body: dict[str, Any]
    if wire == "chat":
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason or "stop"}
        body = {**_chat_base(model, "chat.completion"), "choices": [choice]} | _usage(wire, tokens)
    elif wire == "messages":
        body = _message(model, [{"type": "text", "text": text}], reason or "end_turn") | _usage(wire, tokens)
    else:
        body = _response(model, reason or "completed", [_output_item(text, "completed")], tokens)
    return _encode(body)


TOOL_CALLS = (("call_0", "get_weather", '{"city": "Oslo"}'), ("call_1", "get_time", '{"zone": "Europe/Oslo"}'))
"""Id, name and arguments of what `tool_calls` asks for."""


def tool_calls(wire: Wire, model: str, *, tokens: Tokens | None) -> Frames:
    """A stream of two tool calls whose arguments come in turns. Raises ValueError on the Responses wire."""
    turns = [
        (n, piece) for pair in zip(*(_thirds(c[2]) for c in TOOL_CALLS), strict=True) for n, piece in enumerate(pair)
    ]
    if wire == "chat":
        plain = _chat_stream(model, [], tokens, "tool_calls")
        named = [
            {"index": n, "id": i, "type": "function", "function": {"name": name, "arguments": ""}}
            for n, (i, name, _) in enumerate(TOOL_CALLS)
        ]
        more = [{"index": n, "function": {"arguments": piece}} for n, piece in turns]
        return plain._replace(pieces=tuple(_chat_frame(model, {"tool_calls": [call]}) for call in named + more))
    if wire == "responses":
        raise ValueError("no tool calls on the Responses wire")
    plain = _messages_stream(model, [], tokens, "tool_use")
    starts = [
        _named(
            {
                "type": "content_block_start",
                "index": n,
                "content_block": {"type": "tool_use", "id": i, "name": name, "input": {}},
            }
        )
        for n, (i, name, _) in enumerate(TOOL_CALLS)
    ]
    deltas = [
        _named(
            {
                "type": "content_block_delta",
                "index": n,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
        )
        for n, piece in turns
    ]
    stops = [_named({"type": "content_block_stop", "index": n}) for n in range(len(TOOL_CALLS))]
    return plain._replace(opening=plain.opening[:1], pieces=(*starts, *deltas), finish=(*stops, *plain.finish[1:]))


def tool_calls_unary(wire: Wire, model: str, *, tokens: Tokens | None) -> bytes:
    """The same two tool calls in a non-streaming answer. Raises ValueError on the Responses wire."""
    if wire == "responses":
        raise ValueError("no tool calls on the Responses wire")
    if wire == "messages":
        blocks = [
            {"type": "tool_use", "id": i, "name": name, "input": msgspec.json.decode(arguments)}
            for i, name, arguments in TOOL_CALLS
        ]
        return _encode(_message(model, blocks, "tool_use") | _usage(wire, tokens))
    calls = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, name, arguments in TOOL_CALLS
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return _encode({**_chat_base(model, "chat.completion"), "choices": [choice]} | _usage(wire, tokens))


def _thirds(text: str) -> list[str]:
    step = len(text) // 3
    return [text[:step], text[step : 2 * step], text[2 * step :]]


def error(wire: Wire, kind: str, message: str, *, code: str | None = None, param: str | None = None) -> bytes:
    """An error's body in the words of the wire's provider."""
    if wire == "messages":
        return _encode({"type": "error", "error": {"type": kind, "message": message}})
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_frame(wire: Wire, kind: str, message: str) -> bytes:
    """An error inside a stream that began with a 200."""
    if wire == "responses":
        return _named({"type": "error", "code": kind, "message": message, "param": None, "sequence_number": 99})
    body = error(wire, kind, message)
    return b"event: error\ndata: " + body + b"\n\n" if wire == "messages" else b"data: " + body + b"\n\n"


def model_list(wire: Wire, names: Sequence[str]) -> bytes:
    """The answer to `GET /models`."""
    if wire == "messages":
        data: list[dict[str, Any]] = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-06-15T00:00:00Z"} for name in names
        ]
        return _encode({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "upstream"} for name in names]
    return _encode({"object": "list", "data": data})


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"


def _named(body: dict[str, Any]) -> bytes:
    return b"event: " + str(body["type"]).encode() + b"\n" + _frame(body)


def _usage(wire: Wire, tokens: Tokens | None) -> dict[str, Any]:
    if tokens is None:
        return {}
    if wire != "chat":
        return {"usage": {"input_tokens": tokens.input, "output_tokens": tokens.output}}
    total = tokens.input + tokens.output
    usage = {"prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": total}
    return {"usage": usage}


def _chat_base(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-upstream", "object": kind, "created": CREATED, "model": model}


def _chat_frame(model: str, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _frame({**_chat_base(model, "chat.completion.chunk"), "choices": [choice]})


def _chat_stream(model: str, texts: Sequence[str], tokens: Tokens | None, reason: str) -> Frames:
    usage: tuple[bytes, ...] = ()
    if tokens is not None:
        usage = (_frame(_chat_base(model, "chat.completion.chunk") | {"choices": []} | _usage("chat", tokens)),)
    return Frames(
        opening=(_chat_frame(model, {"role": "assistant", "content": ""}),),
        pieces=tuple(_chat_frame(model, {"content": text}) for text in texts),
        finish=(_chat_frame(model, {}, reason),),
        usage=usage,
        sentinel=(b"data: [DONE]\n\n",),
    )


def _message(model: str, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    base: dict[str, Any] = {"id": "msg_upstream", "type": "message", "role": "assistant", "model": model}
    return base | {"content": content, "stop_reason": reason, "stop_sequence": None}


def _messages_stream(model: str, texts: Sequence[str], tokens: Tokens | None, reason: str) -> Frames:
    first = None if tokens is None else Tokens(tokens.input, min(1, tokens.output))
    message = _message(model, [], None) | _usage("messages", first)
    last = {} if tokens is None else {"usage": {"output_tokens": tokens.output}}
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}
    block = {"type": "text", "text": ""}
    return Frames(
        opening=(
            _named({"type": "message_start", "message": message}),
            _named({"type": "content_block_start", "index": 0, "content_block": block}),
            _named({"type": "ping"}),
        ),
        pieces=tuple(
            _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
            for text in texts
        ),
        finish=(_named({"type": "content_block_stop", "index": 0}), _named(delta | last)),
        usage=(),
        sentinel=(_named({"type": "message_stop"}),),
    )


def _output_item(text: str, status: str) -> dict[str, Any]:
    content = [_output_text(text)] if status == "completed" else []
    return {"id": "msg_upstream", "type": "message", "role": "assistant", "status": status, "content": content}


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _response(model: str, status: str, output: list[dict[str, Any]], tokens: Tokens | None) -> dict[str, Any]:
    usage: dict[str, Any] | None = None
    if tokens is not None:
        usage = {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.input + tokens.output,
        }
    base = {"id": "resp_upstream", "object": "response", "created_at": CREATED, "model": model, "status": status}
    return base | {"output": output, "usage": usage, "error": None, "incomplete_details": None}


def _responses_stream(model: str, texts: Sequence[str], tokens: Tokens | None, reason: str) -> Frames:
    place = {"item_id": "msg_upstream", "output_index": 0, "content_index": 0}
    text, count = "".join(texts), len(texts)

    def numbered(number: int, kind: str, more: dict[str, Any]) -> bytes:
        return _named({"type": f"response.{kind}", "sequence_number": number} | more)

    running = {"response": _response(model, "in_progress", [], None)}
    began = {"output_index": 0, "item": _output_item("", "in_progress")}
    ended = {"output_index": 0, "item": _output_item(text, "completed")}
    whole = {"response": _response(model, reason, [_output_item(text, "completed")], tokens)}
    return Frames(
        opening=(
            numbered(0, "created", running),
            numbered(1, "in_progress", running),
            numbered(2, "output_item.added", began),
            numbered(3, "content_part.added", place | {"part": _output_text("")}),
        ),
        pieces=tuple(numbered(4 + i, "output_text.delta", place | {"delta": t}) for i, t in enumerate(texts)),
        finish=(
            numbered(4 + count, "output_text.done", place | {"text": text}),
            numbered(5 + count, "content_part.done", place | {"part": _output_text(text)}),
            numbered(6 + count, "output_item.done", ended),
        ),
        usage=(),
        sentinel=(numbered(7 + count, reason, whole),),
    )
