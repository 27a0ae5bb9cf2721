"""Who asks the same again: what counts as that, what does not, and what it teaches."""

import msgspec
import numpy
import pytest

from pipelines.conversation import Image, Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.estimate import read
from pipelines.routing.learning import repeats
from pipelines.routing.learning.decisions import Decisions
from pipelines.routing.learning.evidence import Evidence, Rated, unpack
from pipelines.routing.learning.repeats import MOST_AN_HOUR, MOST_TIMES, WINDOW, Repeats, conversation_hash
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.view import qualities, view
from pipelines.routing.learning.weights import SHIPPED
from pipelines.routing.record import Record
from pipelines.routing.strategies import Plan
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


class Scene:
    """Answered requests of one caller, a few seconds after each other."""

    def __init__(self) -> None:
        self.memory = Decisions()
        self.learning = Learning(len(SHIPPED.features))
        self.now = 1e6
        self.found: list[Evidence] = []

    def asks(self, text: str, ask: Ask, model: str) -> tuple[Evidence, ...]:
        request = said(text)
        known, conversation = read(request), conversation_hash("k", request)
        record = Record(ask, 1, self.now, ("e", 1), ("e", 1), known.profile.task, known.features, model, 0.7)
        one = Decided("k", f"r{self.now}", msgspec.msgpack.encode(record), b"", conversation)
        self.memory.remember([one], self.now + 2.0)
        found = self.memory.repeated(one, self.now + 2.0)
        for evidence in found:
            self.learning = self.learning.update(evidence, self.now)
        self.now += 5.0
        return found

    def quality(self, model: str, text: str) -> float:
        known = read(said(text))
        seen = view(self.learning, {"p/m": 0.7, "p/n": 0.7}, numpy.zeros, self.now)
        return qualities(seen, unpack(known.features), known.profile.task)[model]


AUTO = Ask(("auto",))
SEVERAL = Ask(("smart",), aliases={"smart": ("p/m", "p/n")})
CANARY = Ask(("new",), aliases={"new": ("p/m",)}, plans={"new": Plan(canary="p/n", percent=50.0)})
CODE = "Write a Python function that sorts a list."


@pytest.mark.parametrize(
    "ask", [AUTO, SEVERAL, CANARY, Ask(("best",), aliases={"best": ("smart",), **SEVERAL.aliases})]
)
def test_it_is_weak_evidence_against_the_model_that_answered_first(ask: Ask) -> None:
    scene = Scene()
    features = read(said(CODE)).features
    assert scene.asks(CODE, ask, "p/m") == ()
    before = scene.quality("p/m", CODE)
    assert scene.asks(CODE, ask, "p/n") == (
        Rated("p/m", "code", 1.0, "retry", features, 0.7),
        Rated("p/m", "code", 0.0, "retry", features, 0.7),
    )
    assert before - 0.03 < scene.quality("p/m", CODE) < before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Ask(("p/m",)), Ask(("p/n",))),
        (Ask(("p/m",)), Ask(("p/m",))),
        (AUTO, Ask(("p/n",))),
        (Ask(("p/m",)), AUTO),
        (Ask(("one",), aliases={"one": ("p/m",)}), Ask(("one",), aliases={"one": ("p/m",)})),
        (Ask(("p/m", "p/n")), Ask(("p/m", "p/n"))),
        (AUTO, SEVERAL),
        (AUTO, Ask(("auto",), policy="cheap")),
    ],
)
def test_who_names_a_model_or_asks_in_another_way_compares_and_does_not_complain(first: Ask, second: Ask) -> None:
    scene = Scene()
    assert scene.asks(CODE, first, "p/m") == ()
    assert scene.asks(CODE, second, "p/n") == ()


def test_a_list_of_questions_asked_twice_costs_a_model_little() -> None:
    scene = Scene()
    for _ in range(2):
        for number in range(60):
            scene.asks(f"{CODE} Number {number}.", AUTO, "p/m")
    assert sum(tally.bad for tally in scene.learning.models["p/m"].signs["retry"].values()) <= MOST_AN_HOUR
    assert scene.quality("p/m", CODE) > Scene().quality("p/m", CODE) - 0.03


def test_the_model_that_is_asked_again_for_more_often_is_expected_to_be_worse() -> None:
    scene, start = Scene(), Scene().quality("p/m", CODE)
    for number in range(200):
        scene.asks(f"{CODE} Number {number}.", AUTO, "p/m" if number % 2 else "p/n")
        if number % 8 == 1:
            scene.asks(f"{CODE} Number {number}.", AUTO, "p/n")
            scene.now += 300.0
    assert start - 0.2 < scene.quality("p/m", CODE) < start - 0.01 < scene.quality("p/n", CODE)


def test_what_counts_within_an_hour_is_bounded_by_caller_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST", 5)
    memory = Repeats()
    assert [memory.counts("k", "p/m", 60.0 * minute) for minute in range(8)] == [True] * MOST_AN_HOUR + [False] * 3
    assert memory.counts("k", "p/n", 500.0)
    assert memory.counts("other", "p/m", 500.0)
    assert memory.counts("k", "p/m", 3600.0)


def test_a_conversation_that_was_not_hashed_says_nothing() -> None:
    record = Record(AUTO, 1, 0.0, ("e", 1), ("e", 1), "code", b"", "p/m")
    assert Decisions().repeated(Decided("k", "r", msgspec.msgpack.encode(record), b"", b""), 5.0) == ()
