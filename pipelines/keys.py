"""Callers' keys as values: what a key may do, what it may use, and how the ledger is asked about keys.

A key's secret is `psk-` and 256 random bits; only its SHA-256 is kept anywhere. No salt and no slow hash: those make
guesses of a password dear, and nobody guesses 256 bits (NIST SP 800-63B, section 5.1.2.2, asks for neither where a
secret has 112 bits of entropy).

Above it: `calls`, `allowance`, `actors.money.key_book`, `deployments`. Below it: msgspec, `options`.
Outside it: where keys are kept, clocks.
"""

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from pipelines.options import Recovery, RouteOptions

_SPECIAL = re.compile(r"[?\[]")
"""What `fnmatch` has besides `*`."""

Right = Literal["admin", "keys", "usage", "feedback", "approvals", "forward"]
"""What a key may do beyond asking models and looking at what is its own.

admin: everything; keys: make, change and revoke keys; usage: everybody's usage, how models do, metrics; feedback,
approvals: everybody's; forward: the paths of a provider's direct lane that Penstock does not know, which show whatever
is in the provider's account.
"""

Way = Literal["direct", "routed"]
WAYS: tuple[Way, ...] = get_args(Way)
"""The lanes that a caller can take."""

SECRET_PREFIX = "psk-"


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nano-dollars that may be spent in a day, in a month (UTC, both), and ever; None: as much as may be."""

    day: int | None = None
    month: int | None = None
    total: int | None = None


NO_BUDGET = Budget()


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key may use. A minute is any 60 seconds; streams: answers that are being streamed; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None
    budget: Budget = NO_BUDGET


NO_LIMITS = Limits()


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of a key that its maker decides. expires: seconds since 1970; None: never.

    models: patterns with `*` (`model_matcher`), or aliases; tools: patterns of names; None: all. lanes: those it may
    take. priority, recovery, keep_alive, explore, route, cache: as in `calls.Caller`.
    """

    name: str
    expires: float | None = None
    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    lanes: tuple[Way, ...] = WAYS
    limits: Limits = NO_LIMITS
    priority: int = 0
    recovery: Recovery = "error"
    explore: bool = True
    keep_alive: float = 0.0
    route: RouteOptions = RouteOptions()
    rights: tuple[Right, ...] = ()
    metadata: dict[str, str] = {}
    cache: float = 0.0


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it is kept. Times in seconds since 1970.

    hash: the SHA-256 of its secret in hexadecimal; old_hash: of the secret before that, which is valid until
    old_until. changed counts up with every change to any key.
    """

    id: str
    settings: Settings
    hash: str
    created: float
    changed: int
    old_hash: str = ""
    old_until: float = 0.0
    revoked: float | None = None

    def __repr__(self) -> str:
        return f"Key({self.id!r})"


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nano-dollars that a key has spent today, this month and ever, as far as the ledger's rows say."""

    day: int = 0
    month: int = 0
    total: int = 0


class MakeKey(msgspec.Struct, frozen=True, tag="make"):
    """Keep a new key."""

    id: str
    settings: Settings
    hash: str


class FindKey(msgspec.Struct, frozen=True, tag="find"):
    """One key."""

    id: str


class ListKeys(msgspec.Struct, frozen=True, tag="list"):
    """Keys in the order of their making, after the one named ("": from the first), `most` of them at the most."""

    after: str
    most: int
    revoked: bool = False


class ChangeKey(msgspec.Struct, frozen=True, tag="change"):
    """New settings for a key, if it is still as it was at `changed`."""

    id: str
    settings: Settings
    changed: int


class RevokeKey(msgspec.Struct, frozen=True, tag="revoke"):
    """The key is not valid any more. Its row stays."""

    id: str


class RotateKey(msgspec.Struct, frozen=True, tag="rotate"):
    """Another secret for a key; the present one is valid for `overlap` further seconds, one before it no longer."""

    id: str
    hash: str
    overlap: float


KeyChange = MakeKey | ChangeKey | RevokeKey | RotateKey
KeyRequest = KeyChange | FindKey | ListKeys
KeyProblem = Literal["", "missing", "conflict", "revoked"]


class KeyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Keys, each with what it has spent; more: there are further ones. problem: why there are none.

    missing: no such key; conflict: it was changed meanwhile; revoked: it is, and cannot be changed any more.
    """

    keys: tuple[tuple[Key, Spent], ...] = ()
    more: bool = False
    problem: KeyProblem = ""


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """What a replica knows of the keys: all changes up to this one; 0: nothing."""

    changed: int = 0


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Keys that have changed since, in the order of their changes. changed: what is known with these.

    whole: it is all that are valid, and others are to be forgotten.
    """

    changed: int
    keys: tuple[Key, ...] = ()
    whole: bool = False


def changed(asked: KeyChange, now: float, known: Key | None) -> Key | KeyProblem:
    """What a request makes of a key as it is (None: there is none of this id): the key itself where it is so already,
    or why nothing is made of it. Seconds since 1970; the change's number is for who writes it down.
    """
    if isinstance(asked, MakeKey):
        if known is not None:
            return known if known.hash == asked.hash else "conflict"
        return Key(asked.id, asked.settings, asked.hash, now, 0)
    if known is None:
        return "missing"
    if isinstance(asked, RevokeKey):
        if known.revoked is not None:
            return known
        return msgspec.structs.replace(known, revoked=now, old_hash="", old_until=0.0)
    if known.revoked is not None:
        return "revoked"
    if isinstance(asked, RotateKey):
        return msgspec.structs.replace(known, hash=asked.hash, old_hash=known.hash, old_until=now + asked.overlap)
    if asked.changed != known.changed:
        return "conflict"
    return msgspec.structs.replace(known, settings=asked.settings)


def may_use(patterns: tuple[str, ...] | None, name: str) -> bool:
    """Whether one of the patterns (`*` stands for anything; None: everything may be used) stands for the name."""
    return patterns is None or (bool(patterns) and matcher(patterns)(name) is not None)


@lru_cache(maxsize=1024)
def model_matcher(patterns: tuple[str, ...]) -> Callable[[str, str], bool]:
    """Tells of a provider and a model whether one of the patterns stands for it.

    One with a slash is meant by the provider. Without it is meant by the model at any provider; a model's own name may
    have a slash too, and `openai/*` is not for what another provider calls `openai/gpt-5`.
    """
    bare = tuple(pattern for pattern in patterns if "/" not in pattern)
    return lambda provider, model: may_use(patterns, f"{provider}/{model}") or may_use(bare, model)


@lru_cache(maxsize=1024)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Matches a name that one of the patterns stands for, case and all. `?` and `[` are themselves: some models' names
    have them (`claude-sonnet-4-5[1m]`).
    """
    return re.compile("|".join(translate(_SPECIAL.sub(r"[\g<0>]", pattern)) for pattern in patterns)).match
