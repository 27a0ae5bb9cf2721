"""What may be recovered: plain text of one answer, broken off by a failure that another candidate may not have.

Not recovered, although text has been delivered:
- reasoning before it, signed or not: a second model did not think it, and signatures of one fit no other;
- tool calls, refusals, sound, provider-side tools: half of one cannot be completed by another model;
- citations and log probabilities: they belong to the words of the model that wrote them;
- several answers, JSON of any kind: a seam that is right for a reader may be wrong for a parser;
- more than `MOST_DELIVERED` characters: quoting them would be dear, and they have to be kept.

Above it: `stream`. Below it: `calls`, `events`, `resilience`. Outside it: what is done then.
"""

from pipelines.calls import Call
from pipelines.conversation import Request
from pipelines.errors import UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started
from pipelines.resilience import RULES

MOST_DELIVERED = 128 * 1024
"""Characters of delivered text up to which an answer is recovered."""


def recoverable(call: Call) -> bool:
    """Whether the call wants its stream continued, and nothing about it rules that out beforehand."""
    wanted = call.stream and not call.operation and call.recovery == "continue"
    return wanted and not forbidden(call.request)


def forbidden(request: Request) -> str:
    """Why no answer to this request is ever recovered; "" if one may be."""
    if request.n is not None and request.n > 1:
        return "several answers were asked for"
    if request.output_format is not None and request.output_format.kind != "text":
        return "JSON was asked for"
    if request.logprobs or request.top_logprobs:
        return "log probabilities were asked for"
    return ""


class Delivered:
    """What the caller has been given. part: the index of the text part that is open; finished: the answer is whole."""

    def __init__(self) -> None:
        self.part: int | None = None
        self.finished = False
        self._texts: list[str] = []
        self._length = 0
        self._plain = True

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self._texts)

    def note(self, event: Event) -> None:
        """The caller is given this event."""
        match event:
            case PartDelta():
                self._plain = self._plain and event.index == self.part and not event.opaque
                self._length += len(event.text)
                if self._plain and self._length <= MOST_DELIVERED:
                    self._texts.append(event.text)
                else:
                    self._texts.clear()
            case PartStarted():
                self._plain = self._plain and event.kind == "text" and not event.choice and self.part is None
                self.part = event.index
            case PartEnded():
                self._plain = self._plain and not event.opaque
                self.part = None
            case Finished():
                self.finished = True
            case Started():
                pass
            case _:
                self._plain = False

    def unfit(self) -> str:
        """Why it cannot be gone on with; "" if it can."""
        if self.finished:
            return "the answer is whole"
        if not self._plain:
            return "more than plain text was delivered"
        if self._length > MOST_DELIVERED:
            return "too much was delivered"
        if self.part is None or not any(text.strip() for text in self._texts):
            return "no text was delivered, or it was already said to be whole"
        return ""


def lasting(error: UpstreamError) -> str:
    """Why no other candidate is asked after this failure; "" if one may be."""
    if error.reason == "context_too_long":
        return "the next question is longer still"
    return "" if RULES[error.reason].fall_back else f"{error.reason} goes for every candidate"
