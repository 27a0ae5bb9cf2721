"""Who asks the same again was not content: `Repeats`, a bounded memory of conversations by their hashes.

The same key sends the same conversation once more, up to its last message, after it was answered and within WINDOW:
that is a "regenerate" button, or a caller who tries again, and weak evidence against whoever answered first
(`signs`). Only requests that leave the choice of the model open in the same way count (`left_open`): who names
another model compares, and who names the same one has nobody else to ask. Requests that were under way at the same time
say nothing: a caller who draws several answers at once sends those. Nor does a program that asks the same for ever, or
runs through a list of questions once more: MOST_TIMES of one conversation count, and MOST_AN_HOUR of one caller
against one model.

No text is kept, and the hash is keyed with the caller's id, so that equal questions of two callers look different.

Above it: `decisions`, the gateway (`conversation_hash`). Below it: `conversation`. Outside it: clocks; times are in
seconds since 1970.
"""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from pipelines.conversation import Part, Reasoning, Refusal, Request, Text, ToolCall, ToolResult
from pipelines.routing.ask import Ask
from pipelines.routing.choose import AUTO

WINDOW = 600.0
"""Seconds after an answer in which the same question is taken for a second try."""

MOST_TIMES = 3
"""Repetitions of one conversation that count."""

MOST_AN_HOUR = 5
"""Repetitions that count against one model within an hour of the first of them, by caller."""

HOUR = 3600.0

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


def left_open(ask: Ask) -> bytes:
    """How a request leaves the choice of the model open: equal for those that do in the same way, empty if it does not.

    Open is `auto`, and an alias that leads to several models; the further names are for when the first one fails.
    """
    reached: set[str] = set()
    waiting = list(ask.wanted[:1])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            plan = ask.plans.get(name)
            waiting += [*ask.aliases.get(name, ()), *([plan.canary] if plan and plan.canary else [])]
    if AUTO not in reached and len(reached - ask.aliases.keys()) < 2:
        return b""
    return msgspec.msgpack.encode((ask.wanted, ask.policy, ask.bounds))


class _Asked(NamedTuple):
    """The last request of a conversation, when its answer was reported, and how many repetitions have counted."""

    request: str
    at: float
    times: int


class _Counted(NamedTuple):
    """How many repetitions have counted in the hour that began then."""

    began: float
    times: int


class Repeats:
    """The memory."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[str, bytes], _Asked] = OrderedDict()
        self._counted: OrderedDict[tuple[str, str], _Counted] = OrderedDict()

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

    def counts(self, caller: str, model: str, now: float) -> bool:
        """Whether one more repetition of this caller counts against this model; if so, it has."""
        last = self._counted.pop((caller, model), _Counted(now, 0))
        if now - last.began >= HOUR:
            last = _Counted(now, 0)
        counts = last.times < MOST_AN_HOUR
        self._counted[caller, model] = last._replace(times=last.times + counts)
        while len(self._counted) > MOST:
            self._counted.popitem(last=False)
        return counts
