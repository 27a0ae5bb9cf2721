"""Who asks the same again: what counts as that, what does not, and what it teaches."""

import msgspec
import pytest

from pipelines.conversation import Image, Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.estimate import read
from pipelines.routing.learning import repeats
from pipelines.routing.learning.decisions import Decisions
from pipelines.routing.learning.evidence import Rated
from pipelines.routing.learning.repeats import MOST_TIMES, WINDOW, Repeats, conversation_hash
from pipelines.routing.record import Record
from pipelines.routing.table import Decided


def said(*texts: str) -> Request:
    roles = ("user", "assistant")
    return Request("auto", tuple(Message(roles[index % 2], (Text(text),)) for index, text in enumerate(texts)))  # type: ignore[arg-type]


def test_the_hash_is_that_of_one_callers_whole_conversation() -> None:
    mine = conversation_hash("k", said("Hello", "Hi", "Why?"))
    assert mine == conversation_hash("k", said("Hello", "Hi", "Why?"))
    others = [
        conversation_hash("other", said("Hello", "Hi", "Why?")),
        conversation_hash("k", said("Hello", "Hi", "Why not?")),
        conversation_hash("k", said("Hello", "Hey", "Why?")),
        conversation_hash("k", said("Hello", "Hi")),
    ]
    assert len({mine, *others}) == 5
    assert len(mine) == 16
    assert conversation_hash("k", Request("auto", (Message("user", (Image(url="https://h/p.png"),)),))) == b""


def test_the_same_after_the_answer_and_soon_is_a_second_try() -> None:
    memory = Repeats()
    assert memory.before("k", b"c", "first", 0.0, 10.0) is None
    assert memory.before("k", b"c", "second", 11.0, 12.0) == "first"
    assert memory.before("k", b"c", "third", 13.0, 14.0) == "second"


def test_what_is_no_second_try() -> None:
    memory = Repeats()
    memory.before("k", b"c", "first", 0.0, 10.0)
    assert memory.before("k", b"c", "beside it", 9.0, 12.0) is None
    assert memory.before("k", b"c", "long after", 12.0 + WINDOW + 1.0, 2000.0) is None
    assert memory.before("other", b"c", "somebody else", 2001.0, 2002.0) is None
    assert memory.before("k", b"d", "something else", 2001.0, 2002.0) is None


def test_a_program_that_asks_for_ever_counts_a_few_times() -> None:
    memory = Repeats()
    found = [memory.before("k", b"c", str(number), 10.0 * number, 10.0 * number + 1.0) for number in range(20)]
    assert [one for one in found if one is not None] == [str(number) for number in range(MOST_TIMES)]


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST", 5)
    memory = Repeats()
    for number in range(50):
        memory.before("k", str(number).encode(), "r", 0.0, 0.0)
    assert len(memory) == 5


def test_it_is_weak_evidence_against_the_model_that_answered_first() -> None:
    request = said("Write a Python function that sorts a list.")
    known, conversation = read(request), conversation_hash("k", request)

    def decided(name: str, model: str, at: float) -> Decided:
        record = Record(Ask(("auto",)), 1, at, ("e", 1), ("e", 1), known.profile.task, known.features, model, 0.7)
        return Decided("k", name, msgspec.msgpack.encode(record), b"", conversation)

    memory = Decisions()
    first, second = decided("a", "p/m", 0.0), decided("b", "p/n", 20.0)
    for one, now in ((first, 5.0), (second, 25.0)):
        memory.remember([one], now)
        found = memory.repeated(one, now)
    assert found == Rated("p/m", "code", 0.0, "retry", known.features, 0.7)
    assert memory.repeated(msgspec.structs.replace(second, conversation=b""), 50.0) is None
