"""Secrets taken out of what tools answer, before a model, a caller or a log sees it.

Four ways to know one: its shape (keys of known services, `Authorization` headers, private keys, JSON Web Tokens), a
pattern that the operator configures, the value itself where this process has it anyway, and its SHA-256 where nobody
here knows more: callers' keys. A hash tells of whole words only, so these are found where a word or a piece of one is
the secret, a value wherever it stands.

Whoever wrote a text may have written it to be slow to look through, and it is looked through on a gateway's event loop:
a shape takes time in proportion to the text, so none of them goes through a whole run of characters from every place
at which it could begin.

Sources of shapes: GitHub, "Secret scanning patterns"; gitleaks' rules; RFC 7468 (PEM); RFC 7519 (JWT).

Above it: `turns`. Below it: the standard library.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

TAKEN_OUT = "[redacted]"

_SHAPES = (
    r"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]*?(?:-----END (?P=label)-----|\Z)",
    r"(?i:\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|apikey|digest)\s+)?)[^\s\"',;]{6,}",
    r"(?i:\bbearer\s+)(?=[A-Za-z_\-.=+/~]{0,64}\d)[A-Za-z0-9_\-.=+/~]{12,}",
    r"(?i:(?<![a-z])(?:(?:x-)?api[-_]?key|access[-_]?token|client[-_]?secret|secret[-_]?access[-_]?key|password)"
    r"[\"']?\s*[:=]\s*[\"']?)(?=[^\s\"',;&\d]{0,64}\d)[^\s\"',;&]{8,}",
    r"\b(?:sk|pk|rk|psk|gsk|xai|pplx|glpat|dop_v1|tgp_v1|nvapi)[-_](?=[A-Za-z_\-]{0,40}\d)[A-Za-z0-9_\-]{20,}",
    r"\b(?:npm|hf|r8|sbp)_[A-Za-z0-9]{30,}|\bpypi-AgE[A-Za-z0-9_\-]{20,}|\bdckr_pat_[A-Za-z0-9_\-]{20,}",
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bxapp-\d-[A-Za-z0-9-]{10,}|\bwhsec_[A-Za-z0-9+/=]{20,}|\bSG\.[A-Za-z0-9_\-]{16,64}\.[A-Za-z0-9_\-]{16,64}",
    r"\bhttps://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_\-]{20,}",
    r"\b(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{40,}={0,2}",
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_\-]{30,}|\bya29\.[A-Za-z0-9_\-]{20,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bGOCSPX-[A-Za-z0-9_\-]{24,}|\bAGE-SECRET-KEY-1[A-Z0-9]{50,}",
    r"\bshp(?:at|ca|pa|ss)_[0-9a-f]{32}|\bdapi[0-9a-f]{32}|\bkey-[0-9a-f]{32}\b|\bSK[0-9a-f]{32}\b",
    r"\b(?:glsa|ntn|pscale_tkn|pscale_pw|lin_api|rubygems|PMAK)[_-](?=[A-Za-z_\-]{0,40}\d)[A-Za-z0-9_\-]{30,}",
    r"\bhv[sb]\.[A-Za-z0-9_\-]{20,}|\bdp\.(?:pt|st|sa|ct)\.[A-Za-z0-9]{40,}|\bATATT3[A-Za-z0-9_\-=]{40,}",
    r"\b\d{8,10}:AA[A-Za-z0-9_\-]{33}\b|\bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b|\bsq0(?:atp|csp)-[A-Za-z0-9_\-]{22,}",
    r"(?<![A-Za-z0-9_\-])(?>[A-Za-z0-9_\-]*?eyJ)[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",
    r"(?<=://)[^\s/?#:@]{0,64}:[^\s/?#@]{3,256}(?=@)",
)
_WORDS = (
    re.compile(r"[A-Za-z0-9_\-.+/=~]{16,512}"),
    re.compile(r"(?<=[=:])[A-Za-z0-9_\-.+/=~]{16,512}"),
    re.compile(r"[^\s=/.?&:,;\"']{16,512}"),
)
"""What is hashed: words, what a name is given (`NAME=value`), and what stands between the signs of a longer word."""


class Redactor:
    """Takes secrets out of texts.

    patterns: regular expressions of the operator's own; hashes: SHA-256, in hexadecimal, of values to be taken out
    where they stand as a word of at least 16 characters; values: to be taken out wherever they stand, as they are, in
    JSON or in a URL. It stays in the process that made it: nothing sends it anywhere. Raises re.error for a pattern
    that is none.
    """

    def __init__(self, patterns: Iterable[str] = (), hashes: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        # One after the other: as one expression they take twice the time.
        self._patterns = [re.compile(pattern) for pattern in (*_SHAPES, *patterns)]
        self.hashes = frozenset(hashes)
        # One may begin another: what is left of the longer one would stay.
        self._values = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)

    def redacted(self, text: str) -> str:
        """`text` without secrets."""
        for value in self._values:
            text = text.replace(value, TAKEN_OUT)
        for pattern in self._patterns:
            text = pattern.sub(TAKEN_OUT, text)
        for words in _WORDS if self.hashes else ():
            text = words.sub(self._unless_known, text)
        return text

    def _unless_known(self, word: re.Match[str]) -> str:
        digest = hashlib.sha256(word[0].encode("utf-8", "surrogatepass")).hexdigest()
        return TAKEN_OUT if digest in self.hashes else word[0]


def _forms(value: str) -> tuple[str, ...]:
    return value, json.dumps(value)[1:-1], quote(value, safe="", errors="surrogateescape")
