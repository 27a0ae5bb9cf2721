"""One answer for one `Idempotency-Key`: who asks for it, who joins him, and what is kept for those who come later.

    state      a request begins with        the leader then
               its body     another body    pushes    pushes too much   finishes   abandons, or is silent
    absent     run          run             running   -                 -          -
    running    join         conflict        running   swollen           stored     absent
    swollen    busy         conflict        swollen   swollen           absent     absent
    stored     replay       conflict        and is absent again after LIFETIME, or when room is needed

The first request with a key leads: it asks, and says here what it hands out. Whoever comes meanwhile reads along.
Only a whole, successful answer is kept: its bytes, and of the request no more than a fingerprint. A leader that
is silent for LEASE seconds is lost. A swollen answer is larger than may be kept: nobody can read it any more.

A register that takes another's place hears of the runs under way from their leaders, who renew their leases all
the time (RENEWAL); until SETTLING seconds have passed it lets nobody lead who might be the second one.

Sources: draft-ietf-httpapi-idempotency-key-header-07, "Idempotency Fingerprint" and "Error Scenarios" (422 for a key
with another payload, 409 for one whose request is under way; instead of the latter we join where we can); Stripe's
API reference, "Idempotent requests" (24 hours, 255 characters, parameters compared). Unlike Stripe's, a failure is
not kept: a repeat asks anew.

Above it: `actors.replaying.replays`, `deployments.replaying`. Below it: `calls`, `routing.table`. Outside it: clocks,
files.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from pipelines.answer_shelf import CACHED, AnswerShelf
from pipelines.calls import Call
from pipelines.errors import BadRequest
from pipelines.routing.table import Outcome

MAX_KEY = 255
"""Characters of a key."""

LIFETIME = 24 * 3600.0
"""Seconds for which an answer is kept."""

RENEWAL = 1.0
"""Seconds between two signs of life of a leader, at most."""

LEASE = 5.0
"""Seconds after which a silent leader is lost."""

SETTLING = 2.5
"""Seconds in which a register that takes another's place hears of the runs under way."""

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of one answer; a larger one is not kept."""

MAX_HELD = 256 * 1024 * 1024
"""Bytes of answers in memory, that is of those under way; what would be more is not kept."""

MAX_STORED = 1024 * 1024 * 1024
"""Bytes of all stored answers; the oldest go first."""

MAX_CACHED = 256 * 1024 * 1024
"""Bytes of all cached answers, likewise."""

State = Literal["absent", "running", "swollen", "stored"]
Step = Literal["push", "swell", "finish", "abandon", "lapse"]
Verdict = Literal["run", "join", "replay", "conflict", "busy", "unsettled"]

VERDICTS: dict[State, Verdict] = {"absent": "run", "running": "join", "swollen": "busy", "stored": "replay"}
"""What a request hears that begins with the same fingerprint."""

NEXT: dict[tuple[State, Step], State] = {
    ("absent", "push"): "running",
    ("running", "push"): "running",
    ("running", "swell"): "swollen",
    ("running", "finish"): "stored",
    ("running", "abandon"): "absent",
    ("running", "lapse"): "absent",
    ("swollen", "push"): "swollen",
    ("swollen", "swell"): "swollen",
    ("swollen", "finish"): "absent",
    ("swollen", "abandon"): "absent",
    ("swollen", "lapse"): "absent",
    ("stored", "push"): "stored",
    ("stored", "swell"): "stored",
    ("stored", "finish"): "stored",
    ("stored", "abandon"): "stored",
    ("stored", "lapse"): "absent",
}
"""A push to an absent run comes from a leader of the register before this one."""


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """Frozen, compact on the wire."""


class Opening(_Value, frozen=True):
    """A request begins. name: of its key (`name_of`); fingerprint: of what it asks; run: its own, should it lead.

    lifetime: seconds for which its answer is kept, LIFETIME at the most.
    """

    name: str
    fingerprint: str
    run: str
    lifetime: float = LIFETIME


class Begun(_Value, frozen=True):
    """What a request is to do; run: the one that it leads or may read."""

    verdict: Verdict
    run: str = ""


class Head(_Value, frozen=True):
    """An answer without its bytes. framed: they are a stream's frames, and not one whole body."""

    status: int
    headers: dict[str, str]
    framed: bool


class Push(_Value, frozen=True):
    """A leader's sign of life, and what he has handed out since the last one.

    data stands at `offset` of the answer's bytes and ends where a frame does. finished: that was all, and the answer
    is whole; outcome: how it went. swollen: the leader himself has given up keeping it.
    """

    opening: Opening
    offset: int = 0
    data: bytes = b""
    head: Head | None = None
    finished: bool = False
    outcome: Outcome | None = None
    swollen: bool = False


class Progress(_Value, frozen=True):
    """What is known of a run: its first `have` bytes, whether it is `over`; leading: whether it is still the one."""

    have: int = 0
    leading: bool = True
    over: bool = False


class Piece(_Value, frozen=True):
    """What a reader gets: bytes from where he stands. "lost": the rest of the answer will never come."""

    state: Literal["running", "whole", "lost"]
    head: Head | None = None
    data: bytes = b""
    outcome: Outcome | None = None


class Kept(_Value, frozen=True):
    """A stored answer as a file lists it: `size` in bytes, `at` in seconds since 1970."""

    name: str
    fingerprint: str
    run: str
    at: float
    size: int


class Whole(NamedTuple):
    """A stored answer with all that belongs to it."""

    kept: Kept
    head: Head
    outcome: Outcome | None
    body: bytes


class Orders(NamedTuple):
    """Names of the answers that a file should drop, and of those that it should then take in (`Register.whole`)."""

    drop: tuple[str, ...]
    write: tuple[str, ...]


def checked(key: str) -> str:
    """A caller's key ("" without one). Raises BadRequest for one that is too long."""
    if len(key) > MAX_KEY:
        raise BadRequest(f"the Idempotency-Key is longer than {MAX_KEY} characters")
    return key


def name_of(caller: str, key: str) -> str:
    """The name of a caller's key. Another caller's same key has another name."""
    return hashlib.sha256(msgspec.json.encode([caller, key])).hexdigest()


def cache_name_of(caller: str, fingerprint: str) -> str:
    """The name under which a caller's answer to one very request is cached."""
    return CACHED + name_of(caller, fingerprint)


def fingerprint_of(call: Call, where: str) -> str:
    """What a call asks, as a hash: where (which lane, which provider), path, and body whatever its members' order."""
    asked = [where, call.path, call.query, call.dialect, call.operation, call.stream, call.request.model, call.body]
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


class _Entry:
    """What is known of one key. lease: until when it stands; body: None if swollen, or in the file alone."""

    def __init__(self, opening: Opening, lease: float) -> None:
        self.state: State = "running"
        self.fingerprint = opening.fingerprint
        self.run = opening.run
        self.lifetime = min(opening.lifetime, LIFETIME)
        self.lease = lease
        self.head: Head | None = None
        self.outcome: Outcome | None = None
        self.body: bytearray | None = bytearray()
        self.size = 0


class Register:
    """All keys. Times are seconds since 1970 and never step back; preceded: another register was there before."""

    def __init__(
        self,
        now: float,
        *,
        preceded: bool = False,
        max_answer: int = MAX_ANSWER,
        max_held: int = MAX_HELD,
        max_stored: int = MAX_STORED,
        max_cached: int = MAX_CACHED,
    ) -> None:
        self._settled_at = now + SETTLING if preceded else now
        self._max_answer = max_answer
        self._max_held = max_held
        self._shelf = AnswerShelf(max_stored, max_cached)
        self._running: dict[str, _Entry] = {}
        self._stored: dict[str, _Entry] = {}
        self._write: list[str] = []
        self._drop: list[str] = []
        self.held = 0

    @property
    def stored(self) -> int:
        """Bytes of stored answers."""
        return self._shelf.size

    def restore(self, kept: Iterable[Kept], now: float) -> None:
        """Take in what a file holds, in any order."""
        for item in sorted(kept, key=lambda item: item.at):
            entry = _Entry(Opening(item.name, item.fingerprint, item.run), item.at + LIFETIME)
            entry.state, entry.body, entry.size = "stored", None, item.size
            self._stored[item.name] = entry
            self._shelf.put(item.name, entry.size, entry.lease)
        self.expire(now)

    def state(self, name: str) -> State:
        """Where a key stands."""
        entry = self._entry(name)
        return entry.state if entry else "absent"

    def settled(self, now: float) -> bool:
        """Whether every run under way is known."""
        return now >= self._settled_at

    def begin(self, opening: Opening, now: float) -> Begun:
        """A request begins."""
        entry = self._entry(opening.name)
        if entry is not None and entry.lease < now:
            self._move(opening.name, entry, "lapse", now)
            entry = None
        if entry is None:
            if not self.settled(now):
                return Begun("unsettled")
            self._running[opening.name] = _Entry(opening, now + LEASE)
            return Begun("run", opening.run)
        if entry.run == opening.run and entry.state == "running":
            return Begun("run", opening.run)
        if entry.fingerprint != opening.fingerprint:
            return Begun("conflict")
        return Begun(VERDICTS[entry.state], entry.run)

    def push(self, push: Push, now: float) -> Progress:
        """A leader goes on. What it says twice counts once; where it leaves a gap, `have` says what is missing."""
        name = push.opening.name
        entry = self._entry(name)
        if entry is None:
            entry = self._running[name] = _Entry(push.opening, now)
        if entry.run != push.opening.run:
            return Progress(leading=False)
        if entry.state == "stored":
            return Progress(entry.size, over=True)
        entry.lease = now + LEASE
        entry.head = entry.head or push.head
        self._append(entry, push)
        if not push.finished or entry.size < push.offset + len(push.data):
            return Progress(entry.size)
        entry.outcome = push.outcome
        self._move(name, entry, "finish", now)
        return Progress(entry.size, over=True)

    def abandon(self, opening: Opening) -> None:
        """A leader gives up, or its answer is none to be kept."""
        entry = self._entry(opening.name)
        if entry is not None and entry.run == opening.run:
            self._move(opening.name, entry, "abandon", 0.0)

    def read(self, opening: Opening, offset: int, now: float) -> Piece | None:
        """What is there of a run from `offset` on; None where there is nothing yet.

        Of an answer that is in the file alone it says only that it is whole, and has no head.
        """
        entry = self._entry(opening.name)
        if entry is None and not self.settled(now):
            return None
        if entry is None or entry.run != opening.run or entry.state == "swollen":
            return Piece("lost")
        if entry.state == "stored":
            data = bytes(entry.body[offset:]) if entry.body is not None else b""
            return Piece("whole", entry.head, data, entry.outcome)
        if entry.body is None or len(entry.body) <= offset:
            return None
        return Piece("running", entry.head, bytes(entry.body[offset:]))

    def whole(self, name: str) -> Whole | None:
        """A stored answer that is still in memory, for the file."""
        entry = self._stored.get(name)
        if entry is None or entry.body is None or entry.head is None:
            return None
        kept = Kept(name, entry.fingerprint, entry.run, entry.lease - LIFETIME, entry.size)
        return Whole(kept, entry.head, entry.outcome, bytes(entry.body))

    def written(self, kept: Kept) -> None:
        """The file has this answer: it need not be kept in memory."""
        entry = self._stored.get(kept.name)
        if entry is not None and entry.run == kept.run and entry.body is not None:
            self.held -= len(entry.body)
            entry.body = entry.head = entry.outcome = None

    def forget(self, name: str) -> None:
        """This stored answer cannot be read: it is asked for anew."""
        entry = self._stored.get(name)
        if entry is not None:
            self._move(name, entry, "lapse", 0.0)

    def expire(self, now: float) -> list[str]:
        """Let time pass; returns the names of the runs that are lost with their leaders."""
        lost = [name for name, entry in self._running.items() if entry.lease < now]
        for name in lost:
            self._move(name, self._running[name], "lapse", now)
        while (old := self._shelf.leaving(now)) is not None:
            self._move(old, self._stored[old], "lapse", now)
        return lost

    def orders(self) -> Orders:
        """What the file has to do since the last call."""
        orders = Orders(tuple(self._drop), tuple(self._write))
        self._drop, self._write = [], []
        return orders

    def _entry(self, name: str) -> _Entry | None:
        return self._running.get(name) or self._stored.get(name)

    def _append(self, entry: _Entry, push: Push) -> None:
        if entry.state == "swollen" or entry.body is None:
            entry.size = max(entry.size, push.offset + len(push.data))
            return
        if push.offset <= entry.size:
            news = push.data[entry.size - push.offset :]
            entry.body += news
            entry.size += len(news)
            self.held += len(news)
        if push.swollen or entry.size > self._max_answer or self.held > self._max_held:
            self.held -= len(entry.body)
            entry.body = None
            entry.state = NEXT[entry.state, "swell"]

    def _move(self, name: str, entry: _Entry, step: Step, now: float) -> None:
        """Carry out a step that may end a state, with all that hangs on it."""
        before, entry.state = entry.state, NEXT[entry.state, step]
        if entry.state == before:
            return
        if entry.state == "stored":
            del self._running[name]
            entry.lease = now + entry.lifetime
            self._stored[name] = entry
            self._shelf.put(name, entry.size, entry.lease)
            self._write.append(name)
            self.expire(now)
            return
        if before == "stored":
            del self._stored[name]
            self._shelf.take(name)
            self._drop.append(name)
        else:
            del self._running[name]
        self.held -= len(entry.body or b"")
