"""The decisions of the last day, and what feedback says of them: `Decisions`, a bounded memory.

A decision is found by the caller's key and the id of his request, so that nobody rates another's. Each answer teaches
once by a rating, and each pair once by a comparison: who repeats himself is heard, and not counted.

Above it: the learner of the router actor. Below it: `evidence`, `repeats`, `record`, `feedback`. Outside it: clocks.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from pipelines.routing.feedback import Said, Verdict
from pipelines.routing.learning.evidence import Compared, Evidence, Kind, Rated
from pipelines.routing.learning.repeats import Repeats, left_open
from pipelines.routing.record import Record
from pipelines.routing.table import Decided
from pipelines.routing.tasks import Task

MOST = 20_000
"""Decisions that are kept; the oldest go first."""

LIFETIME = 86_400.0
"""Seconds after which a decision is forgotten."""

TOLD = 50
"""Answers of a model at a task, of which none is asked for again, after which it is told that there were so many."""

_records = msgspec.msgpack.Decoder(Record)

_Key = tuple[str, str]


class _Kept(msgspec.Struct):
    """When it came (seconds), the encoded Record, and whether it was rated."""

    at: float
    record: bytes
    rated: bool = False
    compared: tuple[str, ...] = ()


class Decisions:
    """The memory. `now` is in seconds, never going back."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._repeats = Repeats()
        self._answers: Counter[tuple[str, Task]] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def remember(self, decisions: Iterable[Decided], now: float) -> list[Decided]:
        """Keep more of them; returns those that were not told before.

        One that is told again, since another model has gone on with the answer, takes the old one's place.
        """
        new: list[Decided] = []
        for one in decisions:
            key = (one.caller, one.request)
            before = self._kept.pop(key, None)
            if before is None:
                new.append(one)
                self._kept[key] = _Kept(now, one.record)
            else:
                self._kept[key] = _Kept(now, one.record, before.rated, before.compared)
        while self._kept and (len(self._kept) > MOST or now - next(iter(self._kept.values())).at > LIFETIME):
            self._kept.popitem(last=False)
        return new

    def record(self, caller: str, request: str, now: float) -> Record | None:
        """The record of a request of this caller's key; None where there is none."""
        kept = self._find(caller, request, now)
        return _records.decode(kept.record) if kept is not None else None

    def repeated(self, one: Decided, now: float) -> tuple[Evidence, ...]:
        """What a new answer says of an earlier one, if the same was asked again (`repeats`), and of its own model.

        The counterpart is told, too: how many answers a model has given, each time that one of them is asked for again,
        and every TOLD answers.
        """
        if not one.conversation:
            return ()
        record = _records.decode(one.record)
        open_as = left_open(record.ask)
        if not open_as:
            return ()
        found: list[Evidence] = []
        conversation = one.conversation + open_as
        request = self._repeats.before(one.caller, conversation, one.request, record.at, now)
        before = self.record(one.caller, request, now) if request is not None else None
        if before is not None and self._repeats.counts(one.caller, before.model, now):
            found += [*self._content(before, 1), rated(before, "retry", 0.0)]
        self._answers[record.model, record.task] += 1
        found += self._content(record, TOLD)
        return tuple(found)

    def _content(self, record: Record, least: int) -> Iterator[Evidence]:
        """The answers of a model at a task that were not told of yet, if there are so many."""
        count = self._answers[record.model, record.task]
        if count >= least:
            del self._answers[record.model, record.task]
            yield msgspec.structs.replace(rated(record, "retry", 1.0), weight=float(count))

    def judge(self, said: Said, now: float) -> tuple[Verdict, Evidence | None]:
        """What feedback teaches, if anything."""
        feedback = said.feedback
        if feedback.preferred:
            return self._compared(said, now)
        kept = self._find(said.caller, feedback.request_id, now)
        if kept is None:
            return Verdict(missing=feedback.request_id), None
        record = _records.decode(kept.record)
        verdict = Verdict(not kept.rated, repeated=kept.rated, models=(record.model,), task=record.task)
        if kept.rated:
            return verdict, None
        kept.rated = True
        kind: Kind = "thumb" if feedback.thumb else "score"
        return verdict, rated(record, kind, feedback.value)

    def _compared(self, said: Said, now: float) -> tuple[Verdict, Evidence | None]:
        names = (said.feedback.preferred, said.feedback.over)
        first, second = (self._find(said.caller, name, now) for name in names)
        if first is None or second is None:
            return Verdict(missing=names[0] if first is None else names[1]), None
        winner, loser = _records.decode(first.record), _records.decode(second.record)
        repeated = names[1] in first.compared
        learned = not repeated and winner.model != loser.model
        verdict = Verdict(learned, repeated=repeated, models=(winner.model, loser.model), task=winner.task)
        if not learned:
            return verdict, None
        first.compared += (names[1],)
        second.compared += (names[0],)
        return verdict, Compared(winner.model, loser.model, winner.task, 1.0)

    def _find(self, caller: str, request: str, now: float) -> _Kept | None:
        kept = self._kept.get((caller, request))
        return kept if kept is not None and now - kept.at <= LIFETIME else None


def rated(record: Record, kind: Kind, value: float) -> Rated:
    """A rating of the answer to a recorded request."""
    return Rated(record.model, record.task, value, kind, record.features, record.expected)
