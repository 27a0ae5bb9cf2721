"""Secrets taken out of what tools answer, before a model, a caller or a log sees it.

Three ways to know one: its shape (keys of known services, `Authorization` headers, private keys, JSON Web Tokens),
a pattern that the operator configures, and its SHA-256, for values that are known but shall not lie around here.

Whoever wrote a text may have written it to be slow to look through, and it is looked through on a gateway's event loop:
a shape takes time in proportion to the text, so none of them goes through a whole run of characters from every place
at which it could begin.

Sources of shapes: GitHub, "Secret scanning patterns"; gitleaks' rules; RFC 7468 (PEM); RFC 7519 (JWT).

Above it: `turns`. Below it: the standard library.
"""

import hashlib
import re
from collections.abc import Iterable

TAKEN_OUT = "[redacted]"

_SHAPES = (
    r"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]*?(?:-----END (?P=label)-----|\Z)",
    r"(?i:\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|apikey|digest)\s+)?)[^\s\"',;]{6,}",
    r"(?i:\bbearer\s+)[A-Za-z0-9_\-.=+/~]{12,}",
    r"(?i:\b(?:x-)?api[-_]key[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]{8,}",
    r"\b(?:sk|pk|rk|psk|gsk|xai|r8|pplx|glpat|dop_v1|npm|pypi|hf|tgp_v1)[-_](?=[A-Za-z_\-]{0,40}\d)[A-Za-z0-9_\-]{20,}",
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_\-]{30,}|\bya29\.[A-Za-z0-9_\-]{20,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"(?<![A-Za-z0-9_\-])(?>[A-Za-z0-9_\-]*?eyJ)[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",
    r"(?<=://)[^\s/:@]{1,64}:[^\s/@]{3,256}(?=@)",
)
_WORD = re.compile(r"[A-Za-z0-9_\-.+/=~]{16,512}")


class Redactor:
    """Takes secrets out of texts.

    patterns: regular expressions of the operator's own; hashes: SHA-256, in hexadecimal, of values to be taken out
    where they stand as a word of at least 16 characters. Raises re.error for a pattern that is none.
    """

    def __init__(self, patterns: Iterable[str] = (), hashes: Iterable[str] = ()) -> None:
        self._shapes = re.compile("|".join(_SHAPES))
        self._own = [re.compile(pattern) for pattern in patterns]
        self.hashes = frozenset(hashes)

    def redacted(self, text: str) -> str:
        """`text` without secrets."""
        text = self._shapes.sub(TAKEN_OUT, text)
        for pattern in self._own:
            text = pattern.sub(TAKEN_OUT, text)
        return _WORD.sub(self._unless_known, text) if self.hashes else text

    def _unless_known(self, word: re.Match[str]) -> str:
        digest = hashlib.sha256(word[0].encode()).hexdigest()
        return TAKEN_OUT if digest in self.hashes else word[0]
