"""Secrets taken out of what tools answer, before a model, a caller or a log sees it.

Four ways to know one: its shape, a pattern that the operator configures, the value itself where this process has it
anyway, and its SHA-256 where nobody here knows more: callers' keys. A hash tells of whole words only, so these are
found where a word or a piece of one is the secret, a value wherever it stands.

Above it: `turns`. Below it: `keys`, `secret_shapes`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from pipelines.keys import SECRET_PREFIX
from pipelines.secret_shapes import HEX, TAKEN_OUT, shapes

_BEHIND = rf"(?:(?<=[=:])|(?<=\\[nrtbf])|(?<=\\u{HEX}{{4}})|(?<=%{HEX}{{2}}))"
_WORDS = (
    # Ours first, wherever they stand: as they are made, then of any length.
    re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9_\-]{{43}}"),
    re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9_\-]{{12,508}}"),
    re.compile(r"[A-Za-z0-9_\-.+/=~]{16,512}"),
    re.compile(_BEHIND + r"[A-Za-z0-9_\-.+/=~]{16,512}"),
    re.compile(r"[^\s=/.?&:,;\"']{16,512}"),
    re.compile(rf"(?<!\\(?=[nrtbf]|u{HEX}{{4}}))[^\s=/.?&:,;\"'\\]{{16,512}}"),
    re.compile(r"[A-Za-z0-9]{16,512}"),
)
"""What is hashed: keys of Penstock's own shape, words, what a name is given (`NAME=value`) or an escape stands before,
and what stands between the signs of a longer word."""


class Redactor:
    """Takes secrets out of texts.

    patterns: regular expressions of the operator's own; hashes: SHA-256, in hexadecimal, of values to be taken out
    where they stand as a word of at least 16 characters; values: to be taken out wherever they stand, as they are, in
    JSON or in a URL. It stays in the process that made it: nothing sends it anywhere. Raises re.error for a pattern
    that is none.
    """

    def __init__(self, patterns: Iterable[str] = (), hashes: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self._patterns = [*shapes(), *((re.compile(pattern), TAKEN_OUT) for pattern in patterns)]
        self.hashes = frozenset(hashes)
        # One may begin another: what is left of the longer one would stay.
        self._values = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)

    def redacted(self, text: str) -> str:
        """`text` without secrets."""
        for value in self._values:
            text = text.replace(value, TAKEN_OUT)
        for pattern, replacement in self._patterns:
            text = pattern.sub(replacement, text)
        for words in _WORDS if self.hashes else ():
            text = words.sub(self._unless_known, text)
        return text

    def _unless_known(self, word: re.Match[str]) -> str:
        digest = hashlib.sha256(word[0].encode("utf-8", "surrogatepass")).hexdigest()
        return TAKEN_OUT if digest in self.hashes else word[0]


def _forms(value: str) -> tuple[str, ...]:
    return value, json.dumps(value)[1:-1], quote(value, safe="", errors="surrogateescape")
