"""Feedback, the decisions that it is about, the form of answers, and how the models stand."""

import random
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Message, OutputFormat, Part, Request, Text, ToolCall, ToolSpec
from pipelines.errors import BadRequest
from pipelines.events import Completion, Finished, FinishReason, Started
from pipelines.routing.ask import Ask, Bounds
from pipelines.routing.choose import choose
from pipelines.routing.estimate import Estimate, Known, read
from pipelines.routing.feedback import Feedback, Said, feedback_of
from pipelines.routing.form import asks_for_form, seen
from pipelines.routing.learning import decisions as decisions_module
from pipelines.routing.learning.decisions import LIFETIME, Decisions
from pipelines.routing.learning.evidence import Compared, Rated
from pipelines.routing.learning.features import width
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.tally import Interval
from pipelines.routing.learning.view import View, view
from pipelines.routing.learning.weights import SHIPPED
from pipelines.routing.record import Record, reproduced, without_unused
from pipelines.routing.standing import Point, frontier, standing
from pipelines.routing.strategies import STRATEGIES, Plan
from pipelines.routing.table import Decided, ModelCard, Table
from tests.pipelines.routing_tables import able, provider, table, tables
from tests.pipelines.test_routing_choose import asks

QUESTION = Request("auto", (Message("user", (Text("Write a Python function that sorts a list."),)),))
KNOWN = read(QUESTION)
WIDTH = width(len(SHIPPED.topics))


def record(model: str) -> Record:
    return Record(Ask(("auto",)), 1, 0.0, ("e", 1), ("e", 1), KNOWN.profile.task, KNOWN.features, model, 0.7)


def decided(caller: str, request: str, model: str = "p/m") -> Decided:
    return Decided(caller, request, msgspec.msgpack.encode(record(model)))


def thumb(request: str, caller: str = "k", up: bool = True) -> Said:
    return Said(caller, Feedback(request, thumb="up" if up else "down"))


# The body.


def test_feedback_is_read() -> None:
    assert feedback_of({"request_id": "r", "score": 0}).value == 0.0
    assert feedback_of({"request_id": "r", "thumb": "up"}).value == 1.0
    assert feedback_of({"preferred": "a", "over": "b"}) == Feedback(preferred="a", over="b")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"request_id": "r", "score": 1.1}, "score"),
        ({"request_id": "r", "score": "1"}, "score"),
        ({"request_id": "r", "thumb": "sideways"}, "thumb"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1, "thumb": "up"}, "score"),
        ({"thumb": "up"}, "request_id"),
        ({"request_id": "r" * 129, "thumb": "up"}, "request_id"),
        ({"preferred": "a"}, "preferred"),
        ({"preferred": "a", "over": "b", "score": 1}, "preferred"),
        ({"preferred": "a", "over": "a"}, "over"),
        ({"request_id": "r", "thumb": "up", "vote": 1}, None),
    ],
)
def test_feedback_that_makes_no_sense_is_refused_by_name(body: dict[str, Any], param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        feedback_of(body)
    assert caught.value.param == param


# The memory of decisions.


def test_a_thumb_teaches_what_was_decided_once() -> None:
    memory = Decisions()
    memory.remember([decided("k", "r")], 0.0)
    verdict, evidence = memory.judge(thumb("r"), 1.0)
    assert (verdict.learned, verdict.models, verdict.task) == (True, ("p/m",), "code")
    assert evidence == Rated("p/m", "code", 1.0, "thumb", KNOWN.features, 0.7)
    again, nothing = memory.judge(thumb("r", up=False), 2.0)
    assert (again.learned, again.repeated, nothing) == (False, True, None)


def test_another_keys_request_is_not_known() -> None:
    memory = Decisions()
    memory.remember([decided("k", "r"), decided("other", "s", "p/n")], 0.0)
    assert memory.judge(thumb("r", caller="thief"), 1.0)[0].missing == "r"
    assert memory.judge(Said("k", Feedback(preferred="r", over="s")), 1.0)[0].missing == "s"
    assert memory.judge(thumb("r"), 1.0)[0].learned


def test_a_preference_compares_the_models_that_answered() -> None:
    memory = Decisions()
    memory.remember([decided("k", "a", "p/m"), decided("k", "b", "p/n"), decided("k", "c", "p/m")], 0.0)
    said = Said("k", Feedback(preferred="b", over="a"))
    assert memory.judge(said, 1.0)[1] == Compared("p/n", "p/m", "code", 1.0)
    assert memory.judge(said, 1.0)[0].repeated
    assert memory.judge(Said("k", Feedback(preferred="a", over="b")), 1.0)[0].repeated
    assert not memory.judge(Said("k", Feedback(preferred="a", over="c")), 1.0)[0].learned


def test_who_went_on_with_an_answer_takes_the_place_of_who_began_it() -> None:
    memory = Decisions()
    assert len(memory.remember([decided("k", "r", "p/m")], 0.0)) == 1
    assert memory.remember([decided("k", "r", "p/n")], 1.0) == []
    assert memory.judge(thumb("r"), 2.0)[0].models == ("p/n",)


def test_the_memory_is_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions_module, "MOST", 3)
    memory = Decisions()
    for number in range(5):
        memory.remember([decided("k", str(number))], 0.0)
    assert len(memory) == 3
    assert memory.judge(thumb("1"), 0.0)[0].missing
    assert memory.judge(thumb("4"), LIFETIME + 1)[0].missing
    memory.remember([decided("k", "late")], LIFETIME + 1)
    assert len(memory) == 1


# Decisions, made again.


def _view(among: Table, seed: int) -> View:
    priors = {f"{entry.name}/{card.name}": card.quality for entry in among.providers for card in entry.models}
    if not priors:
        return View()
    learning = Learning(WIDTH)
    for name in sorted(priors)[:2]:
        learning = learning.update(Rated(name, "code", 1.0, features=KNOWN.features), 1.0)
    return view(learning, priors, numpy.random.default_rng(seed).standard_normal, 2.0)


plans = st.builds(
    Plan,
    st.sampled_from(sorted(STRATEGIES)),
    weights=st.just({"auto": 2.0}),
    canary=st.sampled_from(["", "beta/small"]),
    percent=st.sampled_from([0.0, 50.0]),
)
optional = st.none() | st.floats(0, 1)
full_asks = st.builds(
    lambda ask, plan, bounds, turn: msgspec.structs.replace(
        ask, plans={"alias": plan}, bounds=bounds, turn=turn, affinity="s"
    ),
    asks,
    plans,
    st.builds(Bounds, optional, optional.map(lambda one: one and 30 * one), optional),
    st.integers(0, 3),
)


@given(tables(), full_asks, st.integers(0, 9), st.booleans())
def test_a_decision_is_made_again_from_its_record(among: Table, ask: Ask, seed: int, explored: bool) -> None:
    learned = _view(among, seed)
    estimate = Estimate(learned, lambda: KNOWN, explores=explored)
    made = choose(among, ask, 100.0, random.Random(seed).random, estimate)
    kept = Record(
        without_unused(ask), seed, 100.0, ("e", 1), ("e", 1), KNOWN.profile.task, KNOWN.features, "p/m", None, explored
    )
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=Record)
    assert reproduced(again, among, learned) == made


@given(tables(), full_asks, st.booleans())
def test_whatever_was_learned_no_capability_is_violated_and_terms_add_up(
    among: Table, ask: Ask, explored: bool
) -> None:
    estimate = Estimate(_view(among, 1), lambda: KNOWN, explores=explored)
    decision = choose(among, ask, 100.0, random.Random(1).random, estimate)
    assert decision.candidates
    late = False
    for candidate in decision.candidates:
        entry = among.provider(candidate.provider)
        assert entry is not None
        assert entry.state == "ready"
        assert all(card.name != candidate.model or able(card, ask.needs) for card in entry.models)
        assert sum(candidate.terms.values()) == pytest.approx(candidate.score)
        assert -1e-9 <= candidate.score <= 1 + 1e-9
        breaker = entry.performance[candidate.model].breaker if candidate.model in entry.performance else "closed"
        if breaker == "closed":
            assert not (late and not candidate.beyond), "one within its bounds comes after one beyond them"
            late = late or bool(candidate.beyond)


def test_a_model_without_a_rival_is_not_read_for() -> None:
    among = table(provider("p", ModelCard("m"), ModelCard("n")))

    def reading() -> Known:
        raise AssertionError("nobody needed to know")

    for wanted in (("p/m",), ("m",), ("p/m", "p/n"), ("alias",)):
        ask = Ask(wanted, aliases={"alias": ("p/n", "p/m")}, plans={"alias": Plan("cheapest")})
        assert choose(among, ask, 0.0, random.random, Estimate(View(), reading, explores=True)).candidates
    with pytest.raises(AssertionError):
        choose(among, Ask(("auto",)), 0.0, random.random, Estimate(View(), reading))


# The form of an answer.

TOOL = ToolSpec("find", schema={"type": "object", "required": ["text"]})


def completion(*parts: Part, reason: FinishReason = "stop") -> Completion:
    return Completion(Started(), (Message("assistant", parts),), Finished(reason))


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [("find", '{"text": "a"}', 1.0), ("find", "{}", 0.0), ("find", '{"text": ', 0.0), ("lose", '{"text": "a"}', 0.0)],
)
def test_a_tool_call_is_well_formed_or_not(name: str, arguments: str, value: float) -> None:
    request = Request("m", (), tools=(TOOL,))
    assert asks_for_form(request)
    assert seen(request, completion(ToolCall("1", name, arguments), reason="tool_calls")) == ("tool_call", value)


def test_an_answer_in_json_is_json_or_not() -> None:
    request = Request("m", (), output_format=OutputFormat("json_schema", schema={"type": "object", "required": ["a"]}))
    assert seen(request, completion(Text('{"a": 1}'))) == ("parsed", 1.0)
    assert seen(request, completion(Text('{"b": 1}'))) == ("parsed", 0.0)
    assert seen(request, completion(Text("Sure! {"))) == ("parsed", 0.0)
    assert seen(request, completion(Text('{"a": '), reason="length")) is None
    assert seen(Request("m", (), tools=(TOOL,)), completion(Text("no call needed"))) is None
    odd = OutputFormat("json_schema", schema={"type": "object", "required": [{"a": 1}]})
    assert seen(Request("m", (), output_format=odd), completion(Text('{"a": 1}'))) == ("parsed", 1.0)
    assert not asks_for_form(QUESTION)


# How the models stand.


def point(model: str, quality: float, dollars: float | None, seconds: float) -> Point:
    return Point(model, Interval(quality, 0.0, 1.0, 1.0), dollars, seconds)


def test_the_frontier_is_whom_nobody_beats() -> None:
    points = [
        point("best", 0.9, 0.1, 5.0),
        point("cheap", 0.6, 0.01, 5.0),
        point("quick", 0.6, 0.1, 1.0),
        point("beaten", 0.6, 0.1, 6.0),
        point("unknown", 0.6, None, 1.0),
        point("twin", 0.9, 0.1, 5.0),
    ]
    assert {one.model for one in frontier(points) if one.frontier} == {"best", "cheap", "quick", "twin"}


def test_what_was_seen_moves_a_model_and_narrows_its_interval() -> None:
    among = table(
        provider("p", ModelCard("m", quality=0.5, input_price=1, output_price=1), ModelCard("n", quality=0.5))
    )
    learning = Learning(WIDTH)
    for _ in range(40):
        learning = learning.update(Rated("p/m", "code", 1.0), 1.0)
    told = standing(learning, among, 1.0)
    assert set(told.tasks) == {"all", "code"}
    first, second = told.tasks["code"]
    assert (first.model, first.frontier, second.dollars) == ("p/m", True, None)
    assert first.quality.share > 0.9 > 0.5 == second.quality.share
    assert first.quality.high - first.quality.low < second.quality.high - second.quality.low
    assert first.quality == told.win_rates[0].quality == told.tasks["all"][0].quality
    assert first.dollars == pytest.approx((1000 + 300) / 1e6)
