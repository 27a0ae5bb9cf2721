"""Stop sequences that begin in what was delivered and end in what follows.

A provider sees only its own half of such a sequence and does not stop at it. Whatever completes one stands right
after the seam, so an answer that is stopped here ends where the delivered text ends.

Above it: `continuation`. Below it: nothing. Outside it: sequences within one provider's text, which it stops at itself.
"""

from collections.abc import Iterable


class Stops:
    """Takes the text that follows `delivered`, returns it as far as no sequence of `stop` can be completed by it.

    found: the sequence that was completed, "" while none was. Held back is less than the longest sequence.
    """

    def __init__(self, stop: Iterable[str], delivered: str) -> None:
        halves = [
            (whole[cut:], whole) for whole in stop for cut in range(1, len(whole)) if delivered.endswith(whole[:cut])
        ]
        self._halves = sorted(halves, key=lambda half: len(half[0]))
        self._held = ""
        self.found = ""

    def feed(self, text: str) -> str:
        """More of what follows; returns what may be handed out. Nothing comes after a sequence was found."""
        if self.found or not self._halves:
            return "" if self.found else text
        self._held += text
        for half, whole in self._halves:
            if self._held.startswith(half):
                self.found, self._held = whole, ""
                return ""
        self._halves = [(half, whole) for half, whole in self._halves if half.startswith(self._held)]
        return "" if self._halves else self.close()

    def close(self) -> str:
        """Nothing follows any more; returns what was held back."""
        held, self._held = self._held, ""
        return held
