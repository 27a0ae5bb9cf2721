"""Who may come in: callers by their key, our own processes by the cluster's secret; and what a caller may ask for.

Keys are known only as SHA-256 hashes. What is presented is hashed, and its hash looked up: how long that takes may tell
something of the hashes that are there, which is of no use without a secret to any of them, and nobody can choose a
secret by the hash that it is to have. So no comparison over all keys is needed, which would take milliseconds where
there are thousands; the one that is found is compared in constant time. (The argument is that of hashing both sides
before they are compared: "double HMAC verification", NCC Group, 2011.)

Keys come from two places: `keys.json` (`admit`), and the ledger (`learn`). Until the ledger has told of its keys for
the first time a key that is in neither may be one of them.

Above it: `front`. Below it: `pipelines.calls`, `pipelines.keys`, `pipelines.errors`. Outside it: where keys are kept.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pipelines.calls import Call, Caller
from pipelines.errors import Denied, Overloaded
from pipelines.keys import NO_LIMITS, Feed, Key, Right, model_matcher
from pipelines.routing.table import HIGHEST_PRIORITY, LOWEST_PRIORITY, CallerKey

CALLER_HEADER = "x-penstock-caller"
"""Names the caller (the key's id) on a hop."""

PRIORITY_HEADER = "x-penstock-priority"
"""The caller's priority, on a hop."""

_NO_KEY = "no API key: send it as 'Authorization: Bearer …' or 'x-api-key'"


class _Known(NamedTuple):
    """A secret's hash, whose it is, and until when, in seconds since 1970."""

    digest: str
    caller: Caller
    until: float = math.inf


class Guard:
    """Tells callers from strangers. secret: the cluster's; clock: seconds since 1970; application: our own, by a
    name that no other of the cluster has.

    complete: the ledger has told of its keys, or never will.
    """

    def __init__(self, secret: str = "", clock: Callable[[], float] = time.time, application: str = "") -> None:
        self.secret = secret
        self._application = application
        self.complete = True
        self._clock = clock
        self._configured: dict[str, _Known] = {}
        self._kept: dict[str, _Known] = {}
        self._hashes: dict[str, tuple[str, ...]] = {}

    def admit(self, callers: Mapping[str, Caller]) -> None:
        """From now on let in exactly these beside the ledger's: SHA-256 of the key, in hexadecimal, to its caller."""
        self._configured = {digest: _Known(digest, caller) for digest, caller in callers.items()}

    def learn(self, feed: Feed) -> None:
        """These keys of the ledger are new, or have changed."""
        if feed.whole:
            self._kept, self._hashes = {}, {}
        for key in feed.keys:
            for digest in self._hashes.pop(key.id, ()):
                self._kept.pop(digest, None)
            if key.revoked is None:
                known = _known(key)
                self._kept.update((one.digest, one) for one in known)
                self._hashes[key.id] = tuple(one.digest for one in known)
        self.complete = True

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sent these headers (names in lower case). Raises as `holder` does."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key") or headers.get("api-key") or ""
        return self.holder(key.strip())

    def holder(self, key: str) -> Caller:
        """Whose key this is. Raises Denied (401), or Overloaded (503) where it may be one that is not known yet."""
        if not key:
            raise Denied(_NO_KEY)
        presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        known = self._configured.get(presented) or self._kept.get(presented)
        if known is None or not hmac.compare_digest(known.digest, presented):
            if not self.complete:
                raise Overloaded("the keys are not known here yet", status=503, retry_after=1.0)
            raise Denied("the API key is not known here")
        if known.until is not math.inf and known.until <= self._clock():
            raise Denied("the API key has expired")
        return known.caller

    def known(self, identity: str) -> Caller | None:
        """The caller whose key has that id, where it is valid now."""
        every = (*self._configured.values(), *self._kept.values())
        now = self._clock()
        return next((one.caller for one in every if one.caller.id == identity and one.until > now), None)

    @property
    def hashes(self) -> frozenset[str]:
        """The hashes of all keys, by which one is known where it stands in a text."""
        return frozenset((*self._configured, *self._kept))

    def knows(self, secret: bytes) -> bool:
        """Whether that is the cluster's secret, which our own processes say to each other."""
        return bool(self.secret) and hmac.compare_digest(secret, self.secret.encode())

    def proof(self, challenge: str) -> str:
        """Shows that we know the cluster's secret and are of this application, without saying the secret.

        It is the HMAC-SHA-256 of both.
        """
        shown = f"{self._application}:{challenge}".encode("utf-8", "replace")
        return hmac.new(self.secret.encode(), shown, "sha256").hexdigest()


def permit(call: Call, provider: str) -> None:
    """Raises Denied (403) where the caller may not take the call's lane, or at `provider` not ask its model.

    On the routed lane (provider "") the choice itself leaves out what he may not ask (`routing.choose`).
    """
    caller = call.caller
    if call.lane == "hop":
        return
    if call.lane not in caller.lanes:
        raise Denied(f"this key may not take the {call.lane} lane", status=403, code="permission")
    if provider and not may_ask(caller, provider, call.request.model):
        raise Denied("this key may not use this model", status=403, code="permission")


def may_ask(caller: Caller, provider: str, model: str) -> bool:
    """Whether the caller's list allows that model of that provider."""
    return caller.models is None or model_matcher(caller.models)(provider, model)


def demand(caller: Caller, right: Right) -> None:
    """Raises Denied (403) where the caller has not that right."""
    if not caller.may(right):
        raise Denied(f"this key may not do this: it wants the right `{right}`", status=403, code="permission")


def configured(key: CallerKey) -> Caller:
    """The caller that an entry of `keys.json` is."""
    return Caller(
        key.id,
        admin=key.admin,
        priority=key.priority,
        recovery=key.recovery,
        keep_alive=key.keep_alive,
        explore=key.explore,
        route=key.route,
        rights=key.rights,
    )


def _known(key: Key) -> list[_Known]:
    settings = key.settings
    caller = Caller(
        key.id,
        admin="admin" in settings.rights,
        priority=settings.priority,
        recovery=settings.recovery,
        keep_alive=settings.keep_alive,
        explore=settings.explore,
        route=settings.route,
        rights=settings.rights,
        models=settings.models,
        tools=settings.tools,
        lanes=settings.lanes,
        limits=None if settings.limits == NO_LIMITS else settings.limits,
        cache=settings.cache,
    )
    until = math.inf if settings.expires is None else settings.expires
    known = [_Known(key.hash, caller, until)]
    if key.old_hash:
        known.append(_Known(key.old_hash, caller, min(until, key.old_until)))
    return known


def sender(headers: Mapping[str, str]) -> Caller:
    """The caller on whose behalf one of our own processes asks."""
    return Caller(headers.get(CALLER_HEADER, "unknown"), priority=_priority(headers.get(PRIORITY_HEADER, "")))


def _priority(text: str) -> int:
    """The nearest priority that there is; 0 for what is no number."""
    try:
        return max(LOWEST_PRIORITY, min(HIGHEST_PRIORITY, int(text)))
    except ValueError:
        return 0
