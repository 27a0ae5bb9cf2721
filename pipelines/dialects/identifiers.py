"""Identifiers of a caller's that a provider would refuse: they become digests, the same in every turn.

Above it: the dialects' writers. Below it: nothing.
"""

import hashlib
import re

LONGEST_USER = 64
"""Characters of `user` at most: OpenAI answers 400 (`string_above_max_length`) to more."""


def user_of(user: str) -> str:
    """A user's identifier as it is, or where it is too long its SHA-256 in 64 hexadecimal digits."""
    return user if len(user) <= LONGEST_USER else _digest(user)


def call_of(identity: str, legal: re.Pattern[str]) -> str:
    """The id of a call or of its result as it is, or one of 40 characters where it does not match `legal` in full."""
    return identity if legal.fullmatch(identity) else f"call_{_digest(identity)[:35]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
