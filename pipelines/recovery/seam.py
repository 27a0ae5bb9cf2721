"""Where a new answer joins the text that a caller already has.

The new text must show how it goes on, in one of two ways:
- it repeats all that was delivered, from the start: then the caller ends up with exactly the new answer;
- it begins with the last words delivered: a piece of the delivered text, from the beginning of a word to the end, of
  at least `LEAST` characters of which `VARIED` are different. Less may be chance, and so may a ruler (`-------`).

Both are compared code point by code point; only white space around the whole may differ. Text that shows neither is
refused, and so is text that shows both, or two overlaps of different lengths: which of them is meant decides how much
of it is new, and nothing tells (`ha ha ha`).

What is held back until then is never longer than what was delivered and one piece.

Above it: `continuation`, `question`. Below it: `errors`. Outside it: events, and who wrote the text.
"""

import re

from pipelines.errors import UpstreamError

LEAST = 16
"""Characters that an overlap must have."""

VARIED = 8
"""Different characters that an overlap must have."""

_BEGINNING = re.compile(r"\b(?=\w)|(?=[^\W\x00-\u0dff])|(?=[^\w\s])")
"""Where a word may begin. From Thai on (U+0E00) some scripts put nothing between words: any letter will do."""


class NoSeam(UpstreamError):
    """A new answer that cannot be shown to go on with the old one. It never leaves this package."""

    reason = "protocol"


def begins_word(text: str, place: int) -> bool:
    """Whether a word, or a sign that is no part of one, begins at `place` of `text`."""
    return _BEGINNING.match(text, place) is not None


def last_telling(text: str) -> int:
    """The last place in `text` from which on it is long and varied enough to be evidence; 0 if there is none."""
    seen: set[str] = set()
    for place in range(len(text) - 1, 0, -1):
        seen.add(text[place])
        if len(text) - place >= LEAST and len(seen) >= VARIED:
            return place
    return 0


def _readings(text: str) -> list[int]:
    """Every place of `text` at which a new answer may begin."""
    last = last_telling(text)
    return [0, *(found.start() for found in _BEGINNING.finditer(text, 1, last + 1) if found.start() <= last)]


class Seam:
    """Takes a new answer's text, returns what of it comes after `delivered` (which is not blank).

    joined: how it goes on has been shown.
    """

    def __init__(self, delivered: str) -> None:
        self._old = delivered.strip()
        self._space = delivered[len(delivered.rstrip()) :]
        self._readings: list[int] | None = None
        self._held = ""
        self.joined = False

    def feed(self, text: str) -> str:
        """More of the new answer; returns what is new in it. Raises NoSeam where none can be shown."""
        if self.joined:
            return self._past_space(text)
        compared = len(self._held)
        self._held += text if self._held else text.lstrip()
        if not self._held:
            return ""
        if self._readings is None:
            self._readings = _readings(self._old)
        self._readings = [start for start in self._readings if self._agrees(start, compared)]
        if any(len(self._old) - start > len(self._held) for start in self._readings):
            return ""
        if len(self._readings) != 1:
            raise NoSeam("the new answer cannot be shown to go on where the first one stopped")
        self.joined = True
        new = self._held[len(self._old) - self._readings[0] :]
        self._held = ""
        return self._past_space(new)

    def close(self) -> None:
        """The new answer is over. Raises NoSeam if it ended before it had shown how it goes on."""
        if not self.joined:
            raise NoSeam("the new answer ended before it had come to where the first one stopped")

    def _agrees(self, start: int, compared: int) -> bool:
        """Whether what is held, of which `compared` characters were looked at before, is the old text from `start`."""
        expected = self._old[start + compared : start + len(self._held)]
        return self._held.startswith(expected, compared)

    def _past_space(self, text: str) -> str:
        """`text` without the white space at its start that the caller has from the end of the old text."""
        shared = 0
        while shared < min(len(text), len(self._space)) and text[shared] == self._space[shared]:
            shared += 1
        self._space = self._space[shared:] if shared == len(text) else ""
        return text[shared:]
