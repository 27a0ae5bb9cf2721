"""Who asks the same again was not content: `Repeats`, a bounded memory of conversations by their hashes.

The same key sends the same conversation once more, up to its last message, after it was answered and within WINDOW:
that is a "regenerate" button, or a caller who tries again, and weak evidence against whoever answered first
(`signs`). Requests that were under way at the same time say nothing: a caller who draws several
answers at once sends those. Nor does a program that asks the same for ever: MOST_TIMES of one conversation count.

No text is kept, and the hash is keyed with the caller's id, so that equal questions of two callers look different.

Above it: `decisions`, the gateway (`conversation_hash`). Below it: `conversation`. Outside it: clocks; times are in
seconds since 1970.
"""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

from pipelines.conversation import Part, Reasoning, Refusal, Request, Text, ToolCall, ToolResult

WINDOW = 600.0
"""Seconds after an answer in which the same question is taken for a second try."""

MOST_TIMES = 3
"""Repetitions of one conversation that count."""

MOST = 20_000
"""Conversations that are remembered; the oldest go first."""


def conversation_hash(caller: str, request: Request) -> bytes:
    """16 bytes that are the same for the same conversation of the same caller (the key's id).

    Empty for a conversation with more than text and tool calls in it: pictures are too large to be hashed in passing.
    """
    digest = hashlib.blake2b(digest_size=16, key=caller.encode("utf-8", "replace")[:64])
    for message in request.messages:
        digest.update(f"\1{message.role}".encode())
        for part in message.parts:
            said = _said(part)
            if said is None:
                return b""
            digest.update(f"\0{said}".encode("utf-8", "replace"))
    return digest.digest()


def _said(part: Part) -> str | None:
    if isinstance(part, Text | Reasoning | Refusal):
        return part.text
    if isinstance(part, ToolCall):
        return f"{part.name}\2{part.arguments}"
    if isinstance(part, ToolResult):
        texts = [inner.text for inner in part.parts if isinstance(inner, Text)]
        return "\2".join(texts) if len(texts) == len(part.parts) else None
    return None


class _Asked(NamedTuple):
    """The last request of a conversation, when its answer was reported, and how many repetitions have counted."""

    request: str
    at: float
    times: int


class Repeats:
    """The memory."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[str, bytes], _Asked] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def before(self, caller: str, conversation: bytes, request: str, began: float, now: float) -> str | None:
        """The id of the request whose answer this one asks for again, if it does; this one is remembered.

        began: when this request was decided; now: when its answer was reported.
        """
        key = (caller, conversation)
        last = self._asked.pop(key, None)
        again = last is not None and last.at < began <= last.at + WINDOW and last.times < MOST_TIMES
        self._asked[key] = _Asked(request, now, (last.times if last is not None else 0) + again)
        while len(self._asked) > MOST:
            self._asked.popitem(last=False)
        return last.request if last is not None and again else None
