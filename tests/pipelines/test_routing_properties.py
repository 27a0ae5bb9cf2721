"""What is true of every decision: hard filters, reproducibility from its record, an explanation that adds up.

Each case is made so that what it forbids would happen at once if the code let it: tables have models with and without
the capability, and scores that are equal, so that chance decides.
"""

import random
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Message, Request, Text
from pipelines.errors import PenstockError
from pipelines.routing.ask import Ask, Decision, Needs, Policy
from pipelines.routing.choose import choose
from pipelines.routing.estimate import Estimate, Known, read
from pipelines.routing.learning.evidence import Rated
from pipelines.routing.learning.features import width
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.view import View, view
from pipelines.routing.learning.weights import SHIPPED
from pipelines.routing.record import Record, reproduced, without_unused
from pipelines.routing.strategies import STRATEGIES, Plan
from pipelines.routing.table import ModelCard, Table
from pipelines.routing.worth import WEIGHTS
from tests.pipelines.routing_tables import able, provider, table, tables

CAPABILITIES = ("vision", "audio", "tools", "json_schema")
KNOWN = read(Request("auto", (Message("user", (Text("Write a Python function that sorts a list."),)),)))
TWINS = table(*(provider(name, ModelCard("m", quality=0.5)) for name in "abcdef"))


def asked(among: Table, ask: Ask) -> set[str]:
    """Who would be asked; nobody where the question is refused."""
    try:
        decision = choose(among, ask, 100.0, random.Random(1).random)
    except PenstockError:
        return set()
    return {candidate.name for candidate in decision.candidates}


@given(tables(), st.sampled_from(CAPABILITIES), st.sampled_from(sorted(WEIGHTS)))
def test_auto_asks_exactly_those_that_have_the_capability(among: Table, capability: str, policy: Policy) -> None:
    needs = Needs(**{capability: True})
    ready = [entry for entry in among.providers if entry.state == "ready" and entry.replicas]
    wanted = {f"{entry.name}/{card.name}" for entry in ready for card in entry.models if able(card, needs)}
    assert asked(among, Ask(("auto",), needs=needs, policy=policy)) == wanted


@given(tables(), st.sampled_from([500, 5000, 9000]))
def test_auto_asks_exactly_those_that_are_long_enough(among: Table, tokens: int) -> None:
    ready = [entry for entry in among.providers if entry.state == "ready" and entry.replicas]
    wanted = {f"{e.name}/{card.name}" for e in ready for card in e.models if not card.context or card.context >= tokens}
    assert asked(among, Ask(("auto",), prompt_tokens=tokens)) == wanted


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_best_model_is_left_out_where_it_cannot(capability: str) -> None:
    """By `auto`, and by an alias of each strategy that names it first."""
    having: dict[str, Any] = dict.fromkeys(CAPABILITIES, True)
    best = ModelCard("best", quality=1.0, input_price=0.0, output_price=0.0, **(having | {capability: False}))
    worst = ModelCard("worst", quality=0.0, input_price=99.0, output_price=99.0, **having)
    among, needs = table(provider("p", best, worst)), Needs(**{capability: True})
    for strategy in STRATEGIES:
        ask = Ask(
            ("alias", "auto"),
            needs=needs,
            aliases={"alias": ("p/best", "p/worst")},
            plans={"alias": Plan(strategy, canary="p/best", percent=100.0)},
        )
        found = choose(among, ask, 100.0, random.Random(1).random).candidates
        assert [candidate.model for candidate in found] == ["worst"]


def learned(among: Table, seed: int) -> View:
    """A view with some feedback in it."""
    source, learning = random.Random(seed), Learning(width(len(SHIPPED.topics)))
    priors = {f"{entry.name}/{card.name}": card.quality for entry in among.providers for card in entry.models}
    for name in priors:
        for _ in range(source.randrange(4)):
            rated = Rated(name, KNOWN.profile.task, float(source.random() < 0.5), features=KNOWN.features)
            learning = learning.update(rated, 1.0)
    return view(learning, priors, numpy.random.default_rng(seed).standard_normal, 1.0)


def decided(among: Table, seen: View, ask: Ask, seed: int, explored: bool) -> tuple[Decision, Record]:
    """A decision, and its record after it was kept."""

    def known() -> Known:
        return KNOWN

    estimate = Estimate(seen, known, explores=explored)
    decision = choose(among, ask, 100.0, random.Random(seed).random, estimate)
    about = (("e", 1), ("e", 1), KNOWN.profile.task, KNOWN.features, "p/m", None, explored)
    kept = Record(without_unused(ask), seed, 100.0, *about)
    return decision, msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=Record)


def asks_of_chance(explored: bool) -> list[Ask]:
    """Questions whose answer is drawn: equal scores, and the strategies of chance."""
    names = tuple(f"{letter}/m" for letter in "abcdef")
    plans = [Plan("weighted", dict.fromkeys(names, 1.0)), Plan("least_busy"), Plan("ordered", {}, "f/m", 50.0)]
    other = {"unused": ("a/m",)}
    asks = [Ask(("alias",), aliases={"alias": names, **other}, plans={"alias": plan}) for plan in plans]
    return asks if explored else [Ask(("auto",)), Ask(("m",)), *asks]


@pytest.mark.parametrize("explored", [False, True])
def test_what_was_drawn_is_drawn_again_from_the_record(explored: bool) -> None:
    seen = learned(TWINS, 1) if explored else View()
    for ask in asks_of_chance(explored):
        firsts = set()
        for seed in range(30):
            decision, record = decided(TWINS, seen, ask, seed, explored)
            assert reproduced(record, TWINS, seen) == decision
            firsts.add(decision.candidates[0].name)
        assert len(firsts) > 1, "chance had no part in it"


@given(tables(), st.integers(0, 5), st.booleans(), st.sampled_from(sorted(WEIGHTS)))
def test_a_learned_decision_comes_again_and_adds_up(among: Table, seed: int, explored: bool, policy: Policy) -> None:
    seen = learned(among, seed)
    try:
        decision, record = decided(among, seen, Ask(("auto",), policy=policy), seed, explored)
    except PenstockError:
        return
    assert reproduced(record, among, seen) == decision
    for candidate in decision.candidates:
        assert sum(candidate.terms.values()) == pytest.approx(candidate.score)
        if "exploration" in candidate.terms:
            assert explored
        elif explored:
            assert len(decision.candidates) == 1, "only one that has no rival is not explored"
