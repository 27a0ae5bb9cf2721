"""Who may come in: callers by their key, our own processes by the cluster's secret.

Keys are known only as SHA-256 hashes (`actors.keyring`); what is presented is hashed and compared in constant time.

Above it: `front`. Below it: `pipelines.calls`, `pipelines.errors`. Outside it: where the keys come from.
"""

import hashlib
import hmac
from collections.abc import Mapping

from pipelines.calls import Caller
from pipelines.errors import Denied
from pipelines.routing.table import HIGHEST_PRIORITY, LOWEST_PRIORITY

HOP_HEADER = "x-penstock-hop"
"""Carries the cluster's secret between our own processes."""

CALLER_HEADER = "x-penstock-caller"
"""Names the caller (the key's id) on a hop."""

PRIORITY_HEADER = "x-penstock-priority"
"""The caller's priority, on a hop."""

_NO_KEY = "no API key: send it as 'Authorization: Bearer …' or 'x-api-key'"


class Guard:
    """Tells callers from strangers. `admit` replaces the keys, `secret` is the cluster's."""

    def __init__(self, secret: str = "") -> None:
        self.secret = secret
        self._callers: dict[str, Caller] = {}

    def admit(self, callers: Mapping[str, Caller]) -> None:
        """From now on let in exactly these: SHA-256 of the key, in hexadecimal, to its caller."""
        self._callers = dict(callers)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sent these headers (names in lower case). Raises Denied."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key") or headers.get("api-key") or ""
        return self.holder(key.strip())

    def holder(self, key: str) -> Caller:
        """Whose key this is. Raises Denied."""
        if not key:
            raise Denied(_NO_KEY)
        presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, presented):
                found = caller
        if found is None:
            raise Denied("the API key is not known here")
        return found

    def hop(self, headers: Mapping[str, str]) -> Caller:
        """The caller on whose behalf one of our own processes asks. Raises Denied."""
        presented = headers.get(HOP_HEADER, "").encode("utf-8", "surrogateescape")
        if not self.secret or not hmac.compare_digest(presented, self.secret.encode()):
            raise Denied("this port is for the cluster's own processes")
        return Caller(headers.get(CALLER_HEADER, "unknown"), priority=_priority(headers.get(PRIORITY_HEADER, "")))

    def proof(self, challenge: str) -> str:
        """Shows that we know the cluster's secret, without saying it (HMAC-SHA-256 of the challenge)."""
        return hmac.new(self.secret.encode(), challenge.encode("utf-8", "replace"), "sha256").hexdigest()


def _priority(text: str) -> int:
    """The nearest priority that there is; 0 for what is no number."""
    try:
        return max(LOWEST_PRIORITY, min(HIGHEST_PRIORITY, int(text)))
    except ValueError:
        return 0
