"""What an upstream is told to do with a request: a plain value, so that it can be sent to another process.

`Fault()` is no fault: a well-formed answer of eight words. The class methods name what providers do wrong; their
fields combine with `msgspec.structs.replace`.

Above it: tests, `make faults`. Below it: msgspec. Outside it: how it is carried out (`script`, `server`).
"""

from typing import Literal

import msgspec

from tests.recordings import Recording

ErrorKind = Literal["rate_limited", "server_error", "unavailable", "overloaded", "context", "content", "prefill"]
"""An error response, in the words of the wire's provider (`script.ERRORS`)."""

Cut = Literal["close", "half_close", "reset", "clean", "stall", "error"]
"""How an answer stops early.

close: FIN without the body's end; half_close: the same, but the socket stays and reads on; reset: RST; clean: a
proper end of the HTTP body, though the answer is not whole; stall: silence; error: the provider's error event.
"""

RetryForm = Literal["seconds", "date", "milliseconds"]
"""`Retry-After: 2`, `Retry-After: Sun, 06 Nov 1994 08:49:37 GMT`, `retry-after-ms: 2000`."""

_HOP_BY_HOP = {"connection", "content-encoding", "content-length", "date", "keep-alive", "transfer-encoding"}


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to do with one request. Times in seconds, sizes in bytes.

    name: for the log.
    instead: no HTTP at all: hang for ever, reset or close before any header.
    status, headers, body: sent as they are where `body` is given; `piece` cuts it (and any stream) into pieces of
    so many bytes, `piece_gap` apart.
    error: an error response; retry_after and retry_form: its wait; only_on_prefill: only for a request whose last
    message is the assistant's, any other is answered.
    words, word_size: the answer's length, and the least size of a word; endless: words without end; reason: the
    wire's own finish reason.
    delay_headers: before the headers; delay: between them and the first frame; gap: between words; ping: every so
    often during `delay` and a stall.
    cut, cut_after: how and after how many words the answer stops.
    malformed_at: a broken frame before this word; broken_chunk_at: a broken HTTP chunk there.
    sentinels: how often the stream's end is said; usage: true, left out, or zeros; tools: two interleaved tool
    calls instead of text.
    bomb: bytes that a small gzip body unpacks to. framing: how the body's end is told, by chunks or by closing.
    """

    name: str = "answer"
    instead: Literal["", "hang", "reset", "close"] = ""
    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | None = None
    piece: int = 0
    piece_gap: float = 0.0
    error: ErrorKind | None = None
    retry_after: float | None = None
    retry_form: RetryForm = "seconds"
    only_on_prefill: bool = False
    words: int = 8
    word_size: int = 0
    endless: bool = False
    reason: str = ""
    delay_headers: float = 0.0
    delay: float = 0.0
    gap: float = 0.0
    ping: float = 0.0
    cut: Cut | None = None
    cut_after: int = 0
    malformed_at: int | None = None
    broken_chunk_at: int | None = None
    sentinels: int = 1
    usage: Literal["true", "none", "zero"] = "true"
    tools: bool = False
    bomb: int = 0
    framing: Literal["chunked", "close"] = "chunked"

    @classmethod
    def answer(cls, words: int = 8, *, gap: float = 0.0, delay: float = 0.0, word_size: int = 0) -> "Fault":
        """A well-formed answer; with `delay` a slow first token."""
        return cls(words=words, gap=gap, delay=delay, word_size=word_size)

    @classmethod
    def replay(cls, recording: Recording, *, piece: int = 0, piece_gap: float = 0.0, newline: bytes = b"\n") -> "Fault":
        """A recorded response, with other line ends if asked, in pieces of `piece` bytes."""
        headers = {name: value for name, value in recording.headers.items() if name not in _HOP_BY_HOP}
        headers.setdefault("content-type", "text/event-stream" if recording.streaming else "application/json")
        body = recording.body
        if newline != b"\n":
            body = body.replace(b"\r\n", b"\n").replace(b"\n", newline)
        return cls(
            name=f"replay {recording.name}",
            status=recording.status,
            headers=headers,
            body=body,
            piece=piece,
            piece_gap=piece_gap,
        )

    @classmethod
    def rate_limited(cls, retry_after: float | None = None, form: RetryForm = "seconds") -> "Fault":
        """429, with the wait in one of three forms or without one."""
        return cls(name="rate_limited", error="rate_limited", retry_after=retry_after, retry_form=form)

    @classmethod
    def server_error(cls) -> "Fault":
        """500."""
        return cls(name="server_error", error="server_error")

    @classmethod
    def unavailable(cls, retry_after: float | None = None) -> "Fault":
        """503."""
        return cls(name="unavailable", error="unavailable", retry_after=retry_after)

    @classmethod
    def overloaded(cls) -> "Fault":
        """529, Anthropic's."""
        return cls(name="overloaded", error="overloaded")

    @classmethod
    def context_too_long(cls) -> "Fault":
        """400: the prompt does not fit."""
        return cls(name="context_too_long", error="context")

    @classmethod
    def content_filter(cls, *, inside: bool = False) -> "Fault":
        """400 for the prompt; `inside`: a 200 whose text stops with the finish reason of a filter."""
        if inside:
            return cls(name="content_filter", reason="content_filter")
        return cls(name="content_filter", error="content")

    @classmethod
    def refuses_prefill(cls) -> "Fault":
        """400 where the last message is the assistant's, an answer otherwise."""
        return cls(name="refuses_prefill", error="prefill", only_on_prefill=True)

    @classmethod
    def reset_before_headers(cls) -> "Fault":
        """RST as soon as the request is read."""
        return cls(name="reset_before_headers", instead="reset")

    @classmethod
    def close_before_headers(cls) -> "Fault":
        """FIN as soon as the request is read."""
        return cls(name="close_before_headers", instead="close")

    @classmethod
    def never_answer(cls) -> "Fault":
        """The request is read, and nothing ever comes."""
        return cls(name="never_answer", instead="hang")

    @classmethod
    def silence(cls, seconds: float, *, ping: float = 0.0) -> "Fault":
        """Headers, then nothing for so long, then the answer. ping: with comments meanwhile."""
        return cls(name="silence", delay=seconds, ping=ping)

    @classmethod
    def cut_off(cls, after: int, how: Cut = "close", *, words: int = 8, gap: float = 0.0) -> "Fault":
        """`after` words, then the end: 0 is after the opening frames, `words` before the finish reason."""
        return cls(name=f"cut_{how}", cut=how, cut_after=after, words=words, gap=gap)

    @classmethod
    def stall(cls, after: int, *, ping: float = 0.0) -> "Fault":
        """`after` words, then silence for ever, with comments every `ping` seconds if asked."""
        return cls(name="stall", cut="stall", cut_after=after, ping=ping)

    @classmethod
    def error_inside(cls, after: int = 2) -> "Fault":
        """A 200 whose stream holds an error after so many words."""
        return cls(name="error_inside", cut="error", cut_after=after)

    @classmethod
    def malformed(cls, at: int = 3) -> "Fault":
        """A frame that is no JSON, in an answer that is whole otherwise."""
        return cls(name="malformed", malformed_at=at)

    @classmethod
    def broken_chunk(cls, at: int = 3) -> "Fault":
        """An HTTP chunk whose size is no number."""
        return cls(name="broken_chunk", broken_chunk_at=at)

    @classmethod
    def sentinel(cls, times: int) -> "Fault":
        """The stream's end said 0 times, or twice."""
        return cls(name=f"sentinel_{times}", sentinels=times)

    @classmethod
    def no_usage(cls) -> "Fault":
        """No usage anywhere."""
        return cls(name="no_usage", usage="none")

    @classmethod
    def zero_usage(cls) -> "Fault":
        """A usage of zeros."""
        return cls(name="zero_usage", usage="zero")

    @classmethod
    def long_line(cls, size: int = 50 * 2**20) -> "Fault":
        """One word, and so one line, of `size` bytes."""
        return cls(name="long_line", words=1, word_size=size)

    @classmethod
    def gzip_bomb(cls, size: int = 2**28) -> "Fault":
        """A body that unpacks to `size` bytes of blank and then the answer."""
        return cls(name="gzip_bomb", bomb=size)

    @classmethod
    def without_end(cls, *, gap: float = 0.0, word_size: int = 0) -> "Fault":
        """Words for ever: for cancellation (with a gap) and backpressure (without)."""
        return cls(name="endless", endless=True, gap=gap, word_size=word_size)

    @classmethod
    def interleaved_tools(cls) -> "Fault":
        """Two tool calls whose arguments come in turns."""
        return cls(name="interleaved_tools", tools=True)
