"""What providers do wrong, and what is to come of it: values.

Expectations are those of the README ("When things fail"): 3 tries before the first output for what may pass, one for
silence and for what makes no sense, the next candidate where the table there says so, and after the first output an
error and no end.

Above it: `providers`. Below it: `tests.upstream`. Outside it: how a case is run and judged.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.ways import Way
from tests.upstream import Fault, text_of
from tests.upstream.fault import Cut

LEAST_BACKOFF = 0.125
"""Seconds: half of the first backoff (`RetryPolicy.wait`)."""


GAP = 0.03
"""Seconds between words where the fault must not overtake them on the way."""


class Want(NamedTuple):
    """result: how the caller's answer ends, as `judge.result_of` names it; tries: at the first provider."""

    result: str
    tries: int = 1


WHOLE = Want("whole")
BROKEN = Want("broken")


@dataclass(frozen=True)
class Case:
    """One fault of a provider.

    times: how many requests meet it, None all. stream: what is wanted of a stream; unary: of an answer that is
    unary upstream too (caller and provider speak the same dialect); translated: of one that is streamed upstream.
    falls_back: a refusal becomes the fallback's answer; spared: what else the lane with a fallback wants of a stream.
    gap: least seconds between tries. silent: the provider says nothing, so it may be asked once only. together:
    how many ways at once. model, spare: names in place of new ones. spare_fault: of the fallback.
    options: further fields of the body. lanes: those that the case makes sense in.
    """

    name: str
    fault: Fault
    stream: Want
    unary: Want
    translated: Want
    times: int | None = None
    falls_back: bool = True
    spared: Want | None = None
    gap: float = LEAST_BACKOFF
    silent: bool = False
    together: int = 24
    model: str = ""
    spare: str = ""
    spare_fault: Fault | None = None
    options: dict[str, Any] = field(default_factory=dict)
    lanes: tuple[Any, ...] = ()
    forms: tuple[bool, ...] = (True, False)

    def want(self, way: Way) -> Want:
        """What is wanted of one way."""
        if not way.stream:
            want = self.translated if way.translated else self.unary
        else:
            want = self.spared if self.spared and way.lane == "fallback" else self.stream
        if way.lane == "fallback" and self.falls_back and want.result.startswith("refused"):
            return Want("spare", want.tries)
        return want

    def text(self, way: Way, provider: str) -> str:
        """The whole text of `provider`'s answer; without a name it is the first one's."""
        if provider == way.spare.name:
            return text_of(Fault())
        return "" if self.fault.tools else text_of(self.fault)


def once(name: str, fault: Fault, *, gap: float = LEAST_BACKOFF) -> Case:
    """A fault that the second try does not meet."""
    want = Want("whole", 2)
    return Case(f"{name}, once", fault, want, want, want, times=1, gap=gap)


def always(name: str, fault: Fault, status: int, tries: int = 3, **more: Any) -> Case:
    """A fault before the first output that every try meets."""
    want = Want(f"refused {status}", tries)
    return Case(name, fault, want, want, want, **more)


def middle(name: str, fault: Fault, tries: int = 3, status: int = 502, **more: Any) -> Case:
    """A fault after the first output: a stream is broken, a unary answer is tried again."""
    refused = Want(f"refused {status}", tries)
    return Case(name, fault, BROKEN, refused, refused, **more)


def harmless(name: str, fault: Fault, result: str = "whole") -> Case:
    """What must not spoil an answer."""
    want = Want(result)
    return Case(name, fault, want, want, want)


def _cuts() -> list[Case]:
    ends: dict[Cut, str] = {"close": "close", "half_close": "half-close", "reset": "RST"}
    found = []
    for cut, name in ends.items():
        found.append(always(f"cut by {name} after 0 words", Fault(cut=cut, cut_after=0), 502))
        found += [middle(f"cut by {name} after {k}", Fault(cut=cut, cut_after=k)) for k in (1, 8)]
    return [*found, middle("a clean end after 3 of 8", Fault(cut="clean", cut_after=3))]


def _silences() -> list[Case]:
    once_only: dict[str, Any] = {"silent": True}
    return [
        always("accepts and never answers", Fault.never_answer(), 504, 1, **once_only),
        always("headers, then 20 s of silence", Fault.silence(20.0), 504, 1, **once_only),
        always("headers, then 20 s of pings", Fault.silence(20.0, ping=0.5), 504, 1, **once_only),
        always("stall after 0 words", Fault(cut="stall", cut_after=0), 504, 1, **once_only),
        middle("stall after 1", Fault(cut="stall", cut_after=1), 1, 504, **once_only),
        middle("stall after 8, before the end", Fault(cut="stall", cut_after=8), 1, 504, **once_only),
        middle("stall after 3, with pings", Fault(cut="stall", cut_after=3, ping=0.5), 1, 504, **once_only),
    ]


def _refusals() -> list[Case]:
    limited = Fault.rate_limited
    return [
        once("429", limited()),
        once("429, Retry-After: 1", limited(1.0), gap=1.0),
        once("429, Retry-After: a date in 2 s", limited(2.0, "date"), gap=2.0),
        once("429, retry-after-ms: 400", limited(0.4, "milliseconds"), gap=0.4),
        always("429", limited(), 429),
        always("429, Retry-After: 1", limited(1.0), 429, gap=1.0),
        always("429, Retry-After: an hour", limited(3600.0), 429, 1),
        once("500", Fault.server_error()),
        always("500", Fault.server_error(), 500),
        once("503", Fault.unavailable()),
        always("503", Fault.unavailable(), 503),
        once("529", Fault.overloaded()),
        always("529", Fault.overloaded(), 529),
        once("reset before headers", Fault.reset_before_headers()),
        always("reset before headers", Fault.reset_before_headers(), 502),
        once("closed before headers", Fault.close_before_headers()),
    ]


def _nonsense() -> list[Case]:
    refused = Want("refused 502")
    return [
        Case("a malformed event", Fault.malformed(3), WHOLE, refused, WHOLE),
        Case("a broken HTTP chunk after 3", Fault(broken_chunk_at=3, gap=GAP), BROKEN, WHOLE, Want("refused 502", 3)),
        harmless("no [DONE]", Fault.sentinel(0)),
        harmless("[DONE] twice", Fault.sentinel(2)),
        # An event has no status of its own; a unary answer of 200 that is an error object is no answer.
        always("an error event after 0 words", Fault.error_inside(0), 503),
        middle("an error event after 2", Fault(cut="error", cut_after=2, gap=GAP), status=503),
        harmless("no usage", Fault.no_usage()),
        harmless("zero usage", Fault.zero_usage()),
        Case("a line of 50 MB", Fault.long_line(), refused, WHOLE, refused, together=1),
        Case("a gzip bomb of 256 MB", Fault.gzip_bomb(), refused, refused, refused, together=2),
    ]


def _meanings() -> list[Case]:
    too_long, small = Fault.context_too_long(), "context-small"
    stops = Fault(cut="close", cut_after=3)
    # At last the same provider is asked to go on: twice.
    going_on: dict[str, Any] = {"options": {"penstock": {"recovery": "continue"}}, "forms": (True,)}
    alone = (stops, Want("broken", 3), BROKEN, BROKEN)
    return [
        always("context too long, a larger fallback", too_long, 400, 1, model=small, spare="context-large"),
        always(
            "context too long, a smaller one", too_long, 400, 1, model=small, spare="context-tiny", falls_back=False
        ),
        always("content filter: 400", Fault.content_filter(), 400, 1, falls_back=False),
        harmless("content filter inside", Fault.content_filter(inside=True), "filtered"),
        Case("cut after 3, to be continued", *alone, spared=Want("continued"), **going_on),
        Case(
            "the same, the fallback refuses a prefill",
            *alone,
            spared=Want("continued"),
            spare_fault=Fault.refuses_prefill(),
            **going_on,
        ),
        harmless("interleaved tool indexes", Fault.interleaved_tools(), "tools"),
    ]


def every_case() -> list[Case]:
    """All of them, in the order in which they are run."""
    return [harmless("none", Fault()), *_refusals(), *_silences(), *_cuts(), *_nonsense(), *_meanings()]
