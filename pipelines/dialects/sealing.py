"""How one dialect's `opaque` values travel through a caller of another: sealed in a string that he keeps unread.

Nothing in the seal is secret or trusted: it is the caller's own history. It only has to come back unchanged, and to
be told from a provider's own string.

Above it: the dialects that have such a string (a signature, encrypted content). Below it: `conversation`.
"""

import base64

import msgspec

from pipelines.conversation import Json, Opaque

SEAL = "penstock.1."
"""What a sealed string begins with."""


def sealed(shares: Opaque) -> str:
    """The string that holds `shares`; "" if there are none."""
    return SEAL + base64.urlsafe_b64encode(msgspec.json.encode(shares)).decode() if shares else ""


def opened(text: str) -> dict[str, Json] | None:
    """What `sealed` put into the string; None where it is somebody else's, or damaged."""
    if not text.startswith(SEAL):
        return None
    try:
        shares = msgspec.json.decode(base64.urlsafe_b64decode(text[len(SEAL) :]))
    except (ValueError, RecursionError):
        return None
    return shares if isinstance(shares, dict) else None
