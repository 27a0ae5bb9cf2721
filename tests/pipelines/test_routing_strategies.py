"""Strategies of aliases: shares, order, and that nobody moves who has no reason to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Message, Request, Role, Text
from pipelines.routing.choose import Ask, choose
from pipelines.routing.strategies import STRATEGIES, Option, Plan, Situation, Strategy, affinity_of, takes_canary
from pipelines.routing.table import ModelCard, Performance
from tests.pipelines.routing_tables import provider, table

A, B, C = (Option(name, 1.0, 0, 1.0, 1.0) for name in "abc")


def order(strategy: Strategy, options: list[Option], situation: Situation) -> list[str]:
    ranks = STRATEGIES[strategy](options, situation)
    return [options[index].target for index in sorted(range(len(options)), key=lambda index: ranks[index])]


def firsts(strategy: Strategy, options: list[Option], rounds: int = 4000) -> Counter[str]:
    source = random.Random(1)
    return Counter(
        order(strategy, options, Situation(source.random, turn, f"session {turn}"))[0] for turn in range(rounds)
    )


@pytest.mark.parametrize("strategy", ["weighted", "sticky"])
def test_shares_follow_the_weights(strategy: Strategy) -> None:
    options = [
        A._replace(weight=6.0),
        B._replace(weight=3.0),
        C._replace(weight=1.0),
        A._replace(target="never", weight=0),
    ]
    counts = firsts(strategy, options)
    assert counts["a"] / 4000 == pytest.approx(0.6, abs=0.03)
    assert counts["b"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert counts["never"] == 0


def test_round_robin_gives_each_its_turn() -> None:
    assert firsts("round_robin", [A, B, C], 300) == Counter(a=100, b=100, c=100)
    assert order("round_robin", [A, B, C], Situation(random.random, 1)) == ["b", "c", "a"]


def test_the_least_of_a_figure_is_first_and_an_unknown_price_is_last() -> None:
    situation = Situation(random.Random(1).random)
    assert order("least_busy", [A._replace(busy=2), B, C._replace(busy=1)], situation) == ["b", "c", "a"]
    assert order("lowest_latency", [A._replace(seconds=3.0), B, C._replace(seconds=2.0)], situation) == ["b", "c", "a"]
    options = [A._replace(dollars=None), B._replace(dollars=0.2), C._replace(dollars=0.1)]
    assert order("cheapest", options, situation) == ["c", "b", "a"]
    assert order("ordered", options, situation) == ["a", "b", "c"]


@given(st.text(max_size=20), st.integers(0, 2))
def test_a_session_stays_where_it_is_while_another_target_goes(session: str, gone: int) -> None:
    situation = Situation(random.random, 0, session)
    before = order("sticky", [A, B, C], situation)
    left = [option for index, option in enumerate((A, B, C)) if index != gone]
    assert order("sticky", left, situation) == [name for name in before if name != "abc"[gone]]


def test_a_canary_gets_its_share_and_a_session_is_in_it_or_not() -> None:
    source = random.Random(1)
    plan = Plan(canary="new", percent=5.0)
    taken = sum(takes_canary(plan, Situation(source.random)) for _ in range(10_000))
    assert taken / 10_000 == pytest.approx(0.05, abs=0.01)
    sticky = Plan("sticky", canary="new", percent=50.0)
    for session in ("one", "two", "three"):
        assert len({takes_canary(sticky, Situation(source.random, 0, session)) for _ in range(20)}) == 1
    assert not takes_canary(Plan(canary="new"), Situation(lambda: 0.0))


def test_a_session_is_the_callers_word_or_the_beginning_of_the_prompt() -> None:
    def request(first: str, last: str, **more: str) -> Request:
        turns = (Message("system", (Text(first),)), Message("user", (Text("Hi"),)), Message("assistant", (Text(last),)))
        return Request("m", turns, **more)  # type: ignore[arg-type]

    assert affinity_of(request("s", "a", user="u1")) == "u1"
    assert affinity_of(request("s", "a")) == affinity_of(request("s", "b")) != affinity_of(request("t", "a"))
    assert affinity_of(Request("m", ())) == ""


_turns = st.lists(
    st.tuples(st.sampled_from(list[Role](["assistant", "user", "tool", "developer"])), st.text(min_size=1, max_size=5)),
    max_size=6,
)


@given(st.lists(st.sampled_from(list[Role](["system", "developer"])), max_size=3), st.booleans(), _turns)
def test_a_session_is_the_same_at_every_turn(
    instructions: list[Role], greeted: bool, turns: list[tuple[Role, str]]
) -> None:
    leading = [Message(role, (Text(f"Be {number}"),)) for number, role in enumerate(instructions)]
    greeting = [Message("assistant", (Text("Welcome"),))] if greeted else []
    beginning = [*leading, *greeting, Message("user", (Text("Hello"),))]
    later = [Message(role, (Text(said),)) for role, said in turns]
    sessions = {affinity_of(Request("m", (*beginning, *later[:count]))) for count in range(len(later) + 1)}
    assert len(sessions) == 1
    other = (*beginning[:-1], Message("user", (Text("Goodbye"),)), *later)
    assert affinity_of(Request("m", other)) not in sessions


TABLE = table(
    provider("p", ModelCard("dear", input_price=9, output_price=9), ModelCard("cheap", input_price=1, output_price=1)),
    provider("q", ModelCard("new"), performance={"new": Performance(in_flight=3)}),
)


def asked(plan: Plan, turn: int = 0, *models: str) -> list[str]:
    ask = Ask(("alias",), aliases={"alias": models or ("p/dear", "p/cheap")}, plans={"alias": plan}, turn=turn)
    return [candidate.name for candidate in choose(TABLE, ask, 0.0, random.Random(2).random).candidates]


def test_an_alias_is_asked_in_the_order_of_its_strategy() -> None:
    assert asked(Plan()) == ["p/dear", "p/cheap"]
    assert asked(Plan("cheapest")) == ["p/cheap", "p/dear"]
    assert [asked(Plan("round_robin"), turn)[0] for turn in range(4)] == ["p/dear", "p/cheap", "p/dear", "p/cheap"]
    assert asked(Plan("least_busy"), 0, "q/new", "p/dear") == ["p/dear", "q/new"]
    assert asked(Plan("cheapest"), 0, "auto") == ["p/cheap", "p/dear", "q/new"]


def test_a_canary_is_first_for_its_share_and_else_not_asked() -> None:
    assert asked(Plan(canary="q/new", percent=100.0)) == ["q/new", "p/dear", "p/cheap"]
    assert asked(Plan(canary="q/new", percent=0.0)) == ["p/dear", "p/cheap"]
