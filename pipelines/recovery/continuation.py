"""A further attempt's events as events of the answer that it goes on with.

Its text goes into the text part that is open. Its reasoning is left out: it is about the question how to go on, and
the answer began without any. An attempt that brings anything else than text is refused.

Above it: `stream`. Below it: `seam`, `stops`, `events`. Outside it: bytes.
"""

from collections.abc import Iterable

from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted
from pipelines.recovery.seam import NoSeam, Seam
from pipelines.recovery.stops import Stops


class Continuation:
    """Goes on in part `index`, whose text so far is the end of `delivered`. stop: the request's stop sequences."""

    def __init__(self, index: int, delivered: str, stop: Iterable[str]) -> None:
        self._index = index
        self._seam = Seam(delivered)
        self._stops = Stops(stop, delivered)
        self._texts: set[int] = set()
        self._over = False

    def take(self, event: Event) -> list[Event]:
        """The new attempt's next event; returns the answer's. Raises NoSeam where it does not go on with it."""
        if self._over:
            return []
        match event:
            case PartStarted():
                self._start(event)
            case PartDelta() if event.index in self._texts:
                if event.opaque:
                    raise NoSeam("the new answer is more than plain text")
                return self._add(event.text)
            case Finished():
                self._seam.close()
                return [*self._said(self._stops.close()), PartEnded(self._index), event]
        return []

    def _start(self, start: PartStarted) -> None:
        if start.kind == "text" and not start.choice:
            self._texts.add(start.index)
        elif start.kind != "reasoning":
            raise NoSeam("the new answer is more than plain text")

    def _add(self, text: str) -> list[Event]:
        said = self._said(self._stops.feed(self._seam.feed(text)))
        if not self._stops.found:
            return said
        self._over = True
        # One dialect tells its callers which sequence it was.
        opaque = {"anthropic_messages": {"stop_sequence": self._stops.found}}
        return [PartEnded(self._index), Finished("stop", "stop_sequence", opaque=opaque)]

    def _said(self, text: str) -> list[Event]:
        return [PartDelta(self._index, text)] if text else []
