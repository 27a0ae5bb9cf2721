"""A fault and a request to what goes over the wire: steps that `server` carries out. No I/O, no clock.

Error texts are the vendors' own: OpenAI's and Azure's, and Anthropic's
(https://docs.anthropic.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes).

Above it: `server`. Below it: `fault`, `bench.answers`. Outside it: sockets.
"""

import zlib
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec

from bench import answers
from bench.answers import Frames, Tokens, Wire
from tests.upstream.fault import ErrorKind, Fault

Ending = Literal["keep", "close", "half_close", "reset", "hang"]
"""What becomes of the connection."""


class Send(NamedTuple):
    """Bytes to write."""

    data: bytes


class Wait(NamedTuple):
    """Do nothing for so long."""

    seconds: float


class End(NamedTuple):
    """Nothing more is sent for this request."""

    how: Ending


Step = Send | Wait | End


class Asked(NamedTuple):
    """What matters of a request. now: seconds since 1970."""

    wire: Wire
    model: str
    streaming: bool
    include_usage: bool
    prefilled: bool
    now: float


class _Error(NamedTuple):
    status: int
    kind: str
    message: str
    code: str | None = None
    param: str | None = None


_TOO_LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."
_FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
_NO_PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."

ERRORS: dict[ErrorKind, tuple[_Error, _Error]] = {
    "rate_limited": (
        _Error(429, "requests", "Rate limit reached for requests", "rate_limit_exceeded"),
        _Error(429, "rate_limit_error", "This request would exceed your organization's rate limit"),
    ),
    "server_error": (
        _Error(500, "server_error", "The server had an error while processing your request"),
        _Error(500, "api_error", "Internal server error"),
    ),
    "unavailable": (
        _Error(503, "server_error", "The engine is currently overloaded, please try again later"),
        _Error(503, "api_error", "Service unavailable"),
    ),
    "overloaded": (
        _Error(529, "overloaded_error", "Overloaded"),
        _Error(529, "overloaded_error", "Overloaded"),
    ),
    "context": (
        _Error(400, "invalid_request_error", _TOO_LONG, "context_length_exceeded", "messages"),
        _Error(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"),
    ),
    "content": (
        _Error(400, "invalid_request_error", _FILTERED, "content_filter", "prompt"),
        _Error(400, "invalid_request_error", "Output blocked by content filtering policy"),
    ),
    "prefill": (
        _Error(400, "invalid_request_error", _NO_PREFILL, None, "messages"),
        _Error(400, "invalid_request_error", _NO_PREFILL),
    ),
}
"""Each error as OpenAI and as Anthropic say it."""

_BLOCK = b" " * 2**20


def word(number: int, size: int = 0) -> str:
    """The answer's word `number`, followed by a space, at least `size` bytes."""
    return f"word{number} ".rjust(size, "=")


def text_of(fault: Fault) -> str:
    """The text of the complete answer of `fault`."""
    return "".join(word(i, fault.word_size) for i in range(fault.words))


def script(fault: Fault, asked: Asked) -> Iterator[Step]:
    """What to do with the request; the last step is an `End`."""
    if fault.only_on_prefill and not asked.prefilled:
        fault = Fault()
    if fault.delay_headers:
        yield Wait(fault.delay_headers)
    if fault.instead:
        yield End(fault.instead)
    elif fault.body is not None:
        yield from _given(fault, fault.body)
    elif fault.error is not None:
        yield from _refusal(fault, fault.error, asked)
    elif fault.bomb:
        yield from _bomb(fault, asked)
    elif asked.streaming:
        yield from _stream(fault, asked)
    else:
        yield from _unary(fault, asked)


def head(status: int, headers: dict[str, str]) -> bytes:
    """Status line and headers."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A response with a length."""
    return head(status, {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})) + body


def _given(fault: Fault, body: bytes) -> Iterator[Step]:
    if fault.status in (204, 304):
        # These have no body by definition (RFC 9110, sections 15.3.5 and 15.4.5).
        yield Send(head(fault.status, fault.headers))
        yield End("keep")
        return
    yield Send(_stream_head(fault, fault.headers))
    yield from _pieces(fault, body)
    yield from _body_end(fault)


def _refusal(fault: Fault, kind: ErrorKind, asked: Asked) -> Iterator[Step]:
    error = ERRORS[kind][asked.wire == "messages"]
    body = answers.error(asked.wire, error.kind, error.message, code=error.code, param=error.param)
    yield Send(whole(error.status, body, {**_retry_header(fault, asked.now), **fault.headers}))
    yield End("keep")


def _retry_header(fault: Fault, now: float) -> dict[str, str]:
    wait = fault.retry_after
    if wait is None:
        return {}
    if fault.retry_form == "milliseconds":
        return {"retry-after-ms": f"{wait * 1000:.0f}"}
    if fault.retry_form == "date":
        # A date is read against the response's own, which a server with a clock must send (RFC 9110, section 6.6.1).
        return {"retry-after": formatdate(now + wait, usegmt=True), "date": formatdate(now, usegmt=True)}
    return {"retry-after": f"{wait:g}"}


def _bomb(fault: Fault, asked: Asked) -> Iterator[Step]:
    """Blank space is legal before JSON, and in a comment of a stream."""
    frames = _frames(fault, asked, [word(i) for i in range(fault.words)])
    answer = [*frames.opening, *frames.pieces, *frames.closing] if asked.streaming else [_whole_answer(fault, asked)]
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    kind = "text/event-stream" if asked.streaming else "application/json"
    yield Send(_stream_head(fault, {"content-type": kind, "content-encoding": "gzip"}))
    blanks = [b":"] if asked.streaming else []
    for data in (*blanks, *(_BLOCK for _ in range(fault.bomb // len(_BLOCK))), b"\n\n", *answer):
        yield from _pieces(fault, packer.compress(data))
    yield from _pieces(fault, packer.flush())
    yield from _body_end(fault)


def _tokens(fault: Fault) -> Tokens | None:
    return {"none": None, "zero": Tokens(0, 0), "true": Tokens(16, fault.words)}[fault.usage]


def _reason(fault: Fault, asked: Asked) -> str:
    named = {"messages": "refusal", "responses": "incomplete"}
    return named.get(asked.wire, fault.reason) if fault.reason == "content_filter" else fault.reason


def _frames(fault: Fault, asked: Asked, texts: list[str]) -> Frames:
    return answers.stream(
        asked.wire,
        asked.model,
        texts,
        tokens=_tokens(fault),
        reason=_reason(fault, asked),
        include_usage=asked.include_usage,
    )


def _whole_answer(fault: Fault, asked: Asked) -> bytes:
    if fault.tools:
        return answers.tool_calls_unary(asked.wire, asked.model, tokens=_tokens(fault))
    reason = _reason(fault, asked)
    return answers.unary(asked.wire, asked.model, text_of(fault), tokens=_tokens(fault), reason=reason)


def _unary(fault: Fault, asked: Asked) -> Iterator[Step]:
    if fault.endless:
        # Blank space before JSON is legal, for ever too.
        yield Send(_stream_head(fault, {"content-type": "application/json"}))
        yield from (Send(chunk(_BLOCK)) for _ in count())
    body = _whole_answer(fault, asked)
    if fault.cut == "error":
        error = ERRORS["overloaded"][asked.wire == "messages"]
        body = answers.error(asked.wire, error.kind, error.message)
    if fault.malformed_at is not None:
        body = body[: len(body) // 2]
    response = whole(200, body, fault.headers)
    start = len(response) - len(body)
    yield Send(response[:start])
    yield from _silence(fault, asked)
    if fault.cut is None or fault.cut == "error":
        yield Send(response[start:])
        yield End("keep")
        return
    part = len(body) * min(fault.cut_after, fault.words) // (fault.words + 1)
    yield Send(response[start : start + part])
    yield from _cut_end(fault, asked)


def _stream(fault: Fault, asked: Asked) -> Iterator[Step]:
    yield Send(_stream_head(fault, {"content-type": "text/event-stream", "cache-control": "no-cache"} | fault.headers))
    yield from _silence(fault, asked)
    if fault.tools:
        frames = answers.tool_calls(asked.wire, asked.model, tokens=_tokens(fault))
    else:
        texts = [] if fault.endless else [word(i, fault.word_size) for i in range(fault.words)]
        frames = _frames(fault, asked, texts)
    for frame in frames.opening:
        yield from _pieces(fault, frame)
    for number, frame in enumerate(_endless(fault, asked) if fault.endless else frames.pieces):
        if fault.cut is not None and number == fault.cut_after:
            break
        if number and fault.gap:
            yield Wait(fault.gap)
        yield from _spoilt(fault, number)
        yield from _pieces(fault, frame)
    if fault.cut is not None:
        yield from _cut_end(fault, asked)
        return
    for frame in (*frames.finish, *frames.usage, *frames.sentinel * fault.sentinels):
        yield from _pieces(fault, frame)
    yield from _body_end(fault)


def _endless(fault: Fault, asked: Asked) -> Iterator[bytes]:
    return (_frames(fault, asked, [word(i, fault.word_size)]).pieces[0] for i in count())


def _spoilt(fault: Fault, number: int) -> Iterator[Step]:
    if number == fault.malformed_at:
        yield from _pieces(fault, b'data: {"id": "chatcmpl-upstream", "choi\n\n')
    if number == fault.broken_chunk_at:
        yield Send(b"no-size\r\nnothing\r\n")


def _ping(wire: Wire) -> bytes:
    return b'event: ping\ndata: {"type": "ping"}\n\n' if wire == "messages" else b": PROCESSING\n\n"


def _silence(fault: Fault, asked: Asked) -> Iterator[Step]:
    left = fault.delay
    while fault.ping and asked.streaming and left > fault.ping:
        yield Wait(fault.ping)
        yield from _pieces(fault, _ping(asked.wire))
        left -= fault.ping
    if left:
        yield Wait(left)


def _cut_end(fault: Fault, asked: Asked) -> Iterator[Step]:
    if fault.cut == "error":
        yield from _pieces(fault, answers.error_frame(asked.wire, "overloaded_error", "Overloaded"))
    if fault.cut in ("error", "clean"):
        # A unary body has promised a length: its only end is to close.
        yield from _body_end(fault) if asked.streaming else [End("close")]
        return
    while fault.cut == "stall" and fault.ping and asked.streaming:
        yield Wait(fault.ping)
        yield from _pieces(fault, _ping(asked.wire))
    endings: dict[Any, Ending] = {"half_close": "half_close", "reset": "reset", "stall": "hang"}
    yield End(endings.get(fault.cut, "close"))


def _stream_head(fault: Fault, headers: dict[str, str]) -> bytes:
    framing = {"transfer-encoding": "chunked"} if fault.framing == "chunked" else {"connection": "close"}
    return head(fault.status, {"server": "upstream"} | headers | framing)


def _pieces(fault: Fault, data: bytes) -> Iterator[Step]:
    size = fault.piece or max(len(data), 1)
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        yield Send(chunk(piece) if fault.framing == "chunked" else piece)
        if fault.piece_gap:
            yield Wait(fault.piece_gap)


def _body_end(fault: Fault) -> Iterator[Step]:
    if fault.framing == "chunked":
        yield Send(b"0\r\n\r\n")
    yield End("keep" if fault.framing == "chunked" else "close")


def read_asked(path: str, body: Any, now: float) -> Asked:
    """What matters of a request's path and JSON body (None where it is no JSON)."""
    body = body if isinstance(body, dict) else {}
    messages = body.get("messages") or body.get("input")
    last = messages[-1] if isinstance(messages, list) and messages else None
    options = body.get("stream_options")
    return Asked(
        wire=answers.wire_of(path),
        model=str(body.get("model", "")),
        streaming=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        prefilled=isinstance(last, dict) and last.get("role") == "assistant",
        now=now,
    )


def read_json(raw: bytes) -> Any:
    """A body as JSON; None where it is none."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
