"""What is learned of the models: posteriors, ratings, changes, the whole state and what is published of it."""

import math
import random
from collections.abc import Sequence

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.conversation import Message, Request, Text
from pipelines.routing.ask import NO_BOUNDS, Ask, Bounds
from pipelines.routing.learning.change import Change
from pipelines.routing.learning.evidence import WEIGHT, Compared, Evidence, Kind, Rated, pack, unpack
from pipelines.routing.learning.features import features, names, topics
from pipelines.routing.learning.rating import NEWCOMER, Rating, compared, expected
from pipelines.routing.learning.regression import Precision, Sums, fit
from pipelines.routing.learning.signs import LATEST, SIGNS
from pipelines.routing.learning.state import MAXIMUM_MODELS, Learning, decode, encode
from pipelines.routing.learning.tally import HALF_LIFE, Tally, wilson
from pipelines.routing.learning.view import KNEE, View, bounded, explores, qualities, view
from pipelines.routing.learning.weights import SHIPPED, Vector, Weights
from pipelines.routing.learning.weights import decode as decode_weights
from pipelines.routing.learning.weights import encode as encode_weights
from pipelines.routing.prompt import prompt_of
from pipelines.routing.table import ModelCard, Performance
from pipelines.routing.tasks import TASKS, Profile, Task, profile
from pipelines.routing.worth import beyond, worth

DAY = 86_400.0
LAW = "May the court dismiss the plaintiff's claim for breach of contract against the defendant, under the statute?"
SUMS = "Tom has 12 apples and buys 5 times as many each day for 3 days. How many apples does he have in total?"


def vector_of(text: str) -> tuple[Vector, Profile]:
    request = Request("auto", (Message("user", (Text(text),)),))
    prompt = prompt_of(request)
    about = profile(request, prompt)
    return features(prompt, about), about


LAW_VECTOR, LAW_PROFILE = vector_of(LAW)
SUMS_VECTOR, SUMS_PROFILE = vector_of(SUMS)
WIDTH = len(LAW_VECTOR)
PRIORS = {"p/one": 0.7, "p/two": 0.7}


def zeros(count: int) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]:
    return numpy.zeros(count)


def law(model: str, value: float) -> Rated:
    return Rated(model, LAW_PROFILE.task, value, features=pack(LAW_VECTOR))


def sums(model: str, value: float) -> Rated:
    return Rated(model, SUMS_PROFILE.task, value, features=pack(SUMS_VECTOR))


def learned(evidence: Sequence[Evidence], start: float = 1.0) -> Learning:
    learning = Learning(WIDTH)
    for step, one in enumerate(evidence):
        learning = learning.update(one, start + step)
    return learning


def published(learning: Learning, now: float = 1e3) -> View:
    return view(learning, PRIORS, zeros, now)


# Features.


def test_a_vector_is_as_wide_as_its_names_and_bounded() -> None:
    assert len(names(SHIPPED.topics)) == WIDTH == len(SHIPPED.references[0]) == len(SHIPPED.features)
    assert numpy.abs(LAW_VECTOR).max() <= 1.5
    assert names(SHIPPED.topics) == SHIPPED.features


@given(st.text(max_size=500))
def test_any_text_has_a_vector_and_topics_that_add_up(text: str) -> None:
    vector, about = vector_of(text)
    assert numpy.isfinite(vector).all()
    assert vector[0] == 1.0
    shares = topics(prompt_of(Request("auto", (Message("user", (Text(text),)),))))
    assert shares.sum() == pytest.approx(1.0, abs=1e-3)
    again, _ = vector_of(text)
    assert (vector == again).all()
    assert about.task in TASKS


def test_topics_are_guessed_from_words() -> None:
    assert "law" in SHIPPED.topics[int(LAW_VECTOR[1 : 1 + len(SHIPPED.topics)].argmax())]
    assert "math" in SHIPPED.topics[int(SUMS_VECTOR[1 : 1 + len(SHIPPED.topics)].argmax())]


def test_a_packed_vector_is_nearly_the_same_and_two_bytes_a_feature() -> None:
    assert len(pack(LAW_VECTOR)) == 2 * WIDTH
    assert unpack(pack(LAW_VECTOR)) == pytest.approx(LAW_VECTOR, abs=1e-3)


# Where a model starts.


def test_weights_come_back_from_their_bytes() -> None:
    assert decode_weights(encode_weights(SHIPPED)) == SHIPPED


def small(weak: Sequence[float], strong: Sequence[float], weak_quality: float, strong_quality: float) -> Weights:
    low, high = (numpy.array(one, numpy.float32).tobytes() for one in (weak, strong))
    return Weights((), 1, 1.0, b"", ("constant", "x"), low, high, weak_quality, strong_quality)


@pytest.mark.parametrize(
    ("quality", "coefficients"),
    [(0.6, [0.6, 0.2]), (0.8, [0.8, 0.4]), (0.7, [0.7, 0.3]), (0.9, [0.9, 0.4]), (0.1, [0.1, 0.2])],
)
def test_a_model_starts_between_the_references_and_beyond_them_only_the_level_moves(
    quality: float, coefficients: list[float]
) -> None:
    assert small([0.6, 0.2], [0.8, 0.4], 0.6, 0.8).prior(quality) == pytest.approx(coefficients)


def test_the_level_of_a_shipped_prior_is_its_quality() -> None:
    low, high = SHIPPED.prior(0.7) @ LAW_VECTOR, SHIPPED.prior(0.95) @ LAW_VECTOR
    assert high > low + 0.1


# The regression.

XS = numpy.random.default_rng(3).normal(size=(40, 4)).astype(numpy.float32)
HELD = Precision(numpy.array([1.0, 2.0, 3.0, 4.0]), numpy.array([5.0, 4.0, 3.0, 2.0]))


def test_the_posterior_is_that_of_the_joint_normal_equations() -> None:
    """Against the plain solution of the whole system, with a block for `common` and one for each model."""
    generator = numpy.random.default_rng(5)
    ys, models, priors = generator.random(40), generator.integers(0, 3, 40), generator.normal(size=(3, 4))
    rows, wanted = numpy.zeros((40, 16)), numpy.zeros(40)
    collected = [Sums(), Sums(), Sums()]
    for row, (x, y, model) in enumerate(zip(XS, ys, models, strict=True)):
        collected[model] = collected[model].add(x, float(y), 1.0)
        rows[row, :4] = rows[row, 4 + 4 * model : 8 + 4 * model] = x
        wanted[row] = y - x @ priors[model]
    held = numpy.diag(numpy.concatenate([HELD.common, HELD.own, HELD.own, HELD.own]))
    solved = numpy.linalg.solve(rows.T @ rows + held, rows.T @ wanted)
    starts = [prior.astype(numpy.float32) for prior in priors]
    found = fit(list(zip(collected, starts, strict=True)), HELD, zeros)
    for model in range(3):
        block = solved[4 + 4 * model : 8 + 4 * model]
        assert found.mean[model] == pytest.approx(priors[model] + solved[:4] + block, abs=1e-4)
    assert found.draw == pytest.approx(found.mean)


def test_draws_spread_less_with_evidence() -> None:
    normals = numpy.random.default_rng(1).standard_normal
    known = Sums()
    for x in XS:
        known = known.add(x, 0.5, 1.0)
    zero = numpy.zeros(4, numpy.float32)
    draws = numpy.array([fit([(known, zero), (Sums(), zero)], HELD, normals).draw for _ in range(300)])
    assert (draws[:, 0].std(axis=0) < draws[:, 1].std(axis=0)).all()


def test_one_model_teaches_about_the_other() -> None:
    seen = published(learned([law("p/one", 0.0)] * 60))
    start, after = (qualities(one, LAW_VECTOR, LAW_PROFILE.task) for one in (published(Learning(WIDTH)), seen))
    assert after["p/one"] < after["p/two"] < start["p/two"]


# Beta posteriors.


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    """Newcombe 1998, table I: 81 of 263 has the score interval 0.2553 to 0.3662."""
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 30 * DAY)), max_size=40), st.floats(0, 1))
def test_an_interval_holds_its_share_and_narrows_with_evidence(
    steps: list[tuple[float, float, float]], prior: float
) -> None:
    tally, now = Tally(), 0.0
    for value, weight, pause in steps:
        now += pause
        tally = tally.add(value, weight, now)
    found = tally.interval(prior, now)
    assert 0.0 <= found.low <= found.share <= found.high <= 1.0
    sure = Tally(tally.good * 100 + prior * 100, tally.bad * 100 + (1 - prior) * 100, now).interval(prior, now)
    assert sure.high - sure.low <= found.high - found.low + 1e-9


def test_after_a_half_life_an_observation_counts_half() -> None:
    tally = Tally().add(1.0, 1.0, 0.0)
    assert tally.count(HALF_LIFE) == pytest.approx(0.5)
    assert tally.add(0.0, 1.0, HALF_LIFE).beta(0.5, HALF_LIFE) == pytest.approx((2.5, 3.0))


def test_draws_follow_the_posterior() -> None:
    tally, source = Tally(90.0, 10.0), random.Random(1)
    draws = [tally.draw(0.5, 0.0, source.betavariate) for _ in range(500)]
    good, bad = tally.beta(0.5, 0.0)
    assert sum(draws) / 500 == pytest.approx(good / (good + bad), abs=0.01)


# Ratings.


def test_ratings_come_to_order_models_by_strength() -> None:
    strengths, source = {"a": 1.5, "b": 0.0, "c": -1.5}, random.Random(2)
    ratings = {name: Rating() for name in strengths}
    for _ in range(600):
        first, second = source.sample(sorted(strengths), 2)
        chance = 1 / (1 + math.exp(strengths[second] - strengths[first]))
        result = float(source.random() < chance)
        ratings[first], ratings[second] = compared(ratings[first], ratings[second], result, 0.0)
    assert ratings["a"].value > ratings["b"].value + 0.5
    assert ratings["b"].value > ratings["c"].value + 0.5
    assert expected(ratings["a"], ratings["c"]) > 0.8


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=60))
def test_a_comparison_moves_equals_apart_alike_and_makes_both_surer(results: list[float]) -> None:
    first, second = Rating(), Rating()
    for result in results:
        before = first, second
        first, second = compared(first, second, result, 0.0)
        assert first.value + second.value == pytest.approx(0.0, abs=1e-6)
        assert first.variance < before[0].variance
        assert second.variance < before[1].variance
        assert expected(first, second) + expected(second, first) == pytest.approx(1.0)


def test_an_old_rating_is_uncertain_again() -> None:
    rating = Rating(1.0, 0.1, 0.0)
    assert rating.aged(DAY).variance > 0.1
    assert rating.aged(1000 * DAY) == Rating(1.0, NEWCOMER, 1000 * DAY)
    assert rating.aged(1000 * DAY).certainty == 0.0


# Changes.


def surprises(quality: float, expected: float, count: int, seed: int) -> list[float]:
    source, spread = random.Random(seed), math.sqrt(expected * (1 - expected))
    return [(float(source.random() < quality) - expected) / spread for _ in range(count)]


def alarmed(values: Sequence[float]) -> int | None:
    change = Change()
    for index, value in enumerate(values):
        change = change.after(value)
        if change.alarm:
            return index
    return None


def test_a_model_that_is_as_expected_raises_no_alarm_and_one_that_fell_does_soon() -> None:
    assert alarmed(surprises(0.8, 0.8, 20_000, 1)) is None
    found = [alarmed(surprises(0.5, 0.8, 500, seed)) for seed in range(20)]
    assert all(index is not None and index < 150 for index in found)


def test_a_changed_model_is_seen_as_it_is_now() -> None:
    before = learned([law("p/one", float(step % 5 != 0)) for step in range(1000)])
    after = before
    for step in range(80):
        after = after.update(law("p/one", 0.0), 2000.0 + step)
    assert before.models["p/one"].changed == 0.0
    assert after.models["p/one"].changed >= 2000.0
    fell = qualities(published(after), LAW_VECTOR, LAW_PROFILE.task)["p/one"]
    assert fell < 0.45 < qualities(published(before), LAW_VECTOR, LAW_PROFILE.task)["p/one"]


# The state.

models = st.sampled_from(["p/one", "p/two", "q/three"])
tasks = st.sampled_from(TASKS)
evidence = st.builds(
    Rated,
    models,
    tasks,
    st.floats(-1, 2),
    kind=st.sampled_from(sorted([*WEIGHT, *SIGNS])),
    features=st.sampled_from([b"", pack(LAW_VECTOR), pack(SUMS_VECTOR), b"of another version"]),
    expected=st.none() | st.floats(0, 1),
    weight=st.floats(0, 3),
) | st.builds(Compared, models, models, tasks, st.floats(-1, 2), weight=st.floats(0, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(evidence, st.floats(0, 10 * DAY)), max_size=30))
def test_whatever_is_seen_the_state_stays_finite_and_comes_back_the_same(steps: list[tuple[Evidence, float]]) -> None:
    learning, now = Learning(WIDTH), 1.0
    for one, pause in steps:
        now += pause
        learning = learning.update(one, now)
    assert decode(encode(learning), WIDTH) == learning
    for rate in learning.win_rates(PRIORS, now):
        assert 0.0 <= rate.quality.low <= rate.quality.share <= rate.quality.high <= 1.0
        assert math.isfinite(rate.rating)
    seen = published(learning, now)
    for quality in qualities(seen, LAW_VECTOR, LAW_PROFILE.task).values():
        assert 0.0 <= quality <= 1.0


def test_an_update_leaves_the_value_before_it_alone() -> None:
    before = learned([law("p/one", 1.0)])
    kept = encode(before)
    before.update(law("p/one", 0.0), 9.0)
    assert encode(before) == kept


def test_evidence_is_learned_by_task_and_by_topic() -> None:
    good_at_law = [law("p/one", 1.0), sums("p/one", 0.0), law("p/two", 0.0), sums("p/two", 1.0)]
    seen = published(learned(good_at_law * 60))
    at_law = qualities(seen, LAW_VECTOR, LAW_PROFILE.task)
    at_sums = qualities(seen, SUMS_VECTOR, SUMS_PROFILE.task)
    assert at_law["p/one"] > at_law["p/two"] + 0.3
    assert at_sums["p/two"] > at_sums["p/one"] + 0.3


@pytest.mark.parametrize(("kind", "more"), [("score", "tool_call"), ("score", "judge"), ("tool_call", "retry")])
def test_what_says_more_counts_more(kind: Kind, more: Kind) -> None:
    def fallen(of: Kind) -> float:
        seen = learned([msgspec.structs.replace(law("p/one", 0.0), kind=of)] * 20)
        return qualities(published(seen), LAW_VECTOR, LAW_PROFILE.task)["p/one"]

    assert fallen(kind) < fallen(more)


def at(learning: Learning, task: Task, vector: Vector = LAW_VECTOR, now: float = 1e3) -> dict[str, float]:
    return qualities(published(learning, now), vector, task)


@pytest.mark.parametrize("sign", sorted(SIGNS))
def test_a_good_sign_teaches_nothing_of_other_tasks_and_little_of_its_own(sign: Kind) -> None:
    before = Learning(WIDTH)
    after = learned([Rated("p/one", "tool_use", 1.0, sign, pack(SUMS_VECTOR), 0.5)] * 300)
    for task in TASKS:
        moved = at(after, task)["p/one"] - at(before, task)["p/one"]
        assert 0.0 <= moved < 0.03 if task == "tool_use" else moved == 0.0, task
        assert at(after, task)["p/two"] == at(before, task)["p/two"]


def test_malformed_calls_lower_a_model_at_their_task_and_soon_though_many_good_ones_came_first() -> None:
    good, bad = (Rated("p/one", "tool_use", value, "tool_call", pack(SUMS_VECTOR), 0.7) for value in (1.0, 0.0))
    before = at(learned([good] * 1000), "tool_use")["p/one"]
    after = learned([good] * 1000 + [good, bad] * 30)
    assert at(after, "tool_use", now=2e3)["p/one"] < before - 0.08
    assert at(after, "mathematics", now=2e3) == at(Learning(WIDTH), "mathematics")


def test_what_all_models_show_alike_says_nothing_of_any() -> None:
    half = [Rated(model, "code", float(value), "retry") for value in (0, 1) for model in PRIORS]
    start, after = at(Learning(WIDTH), "code"), at(learned(half * 200), "code")
    assert after == pytest.approx(start, abs=0.02)


def test_one_retry_counts_a_little() -> None:
    start, after = at(Learning(WIDTH), "code"), at(learned([Rated("p/one", "code", 0.0, "retry")]), "code")
    assert start["p/one"] - 0.03 < after["p/one"] < start["p/one"]


def test_a_sign_of_many_answers_is_many_and_no_more_than_the_latest_are_kept() -> None:
    known = learned([Rated("p/one", "code", 1.0, "retry", weight=1e6)]).models["p/one"]
    assert known.signs["retry"]["code"].count(1.0) == pytest.approx(LATEST)
    twenty = learned([Rated("p/one", "code", 1.0, "retry", weight=20.0)]).models["p/one"]
    assert twenty.signs["retry"]["code"].count(1.0) == pytest.approx(20.0)


def test_a_state_without_signs_is_read() -> None:
    learning = learned([law("p/one", 0.0)])
    written = msgspec.msgpack.decode(encode(learning))
    assert "signs" not in written["models"]["p/one"]
    assert decode(encode(learning), WIDTH) == learning


def test_preferences_move_the_one_that_is_preferred_up_at_that_task_only() -> None:
    task = LAW_PROFILE.task
    before = qualities(published(Learning(WIDTH)), LAW_VECTOR, task)
    learning = learned([Compared("p/one", "p/two", task, 1.0)] * 30)
    after = qualities(published(learning, 40.0), LAW_VECTOR, task)
    assert after["p/one"] > before["p/one"] + 0.02
    assert after["p/two"] < before["p/two"] - 0.02
    assert qualities(published(learning, 40.0), LAW_VECTOR, "vision") == qualities(
        published(Learning(WIDTH)), LAW_VECTOR, "vision"
    )
    rates = {rate.model: rate for rate in learning.win_rates(PRIORS, 40.0)}
    assert rates["p/one"].wins is not None
    assert rates["p/one"].wins.low > 0.7
    assert rates["p/one"].rating > 0.0 > rates["p/two"].rating


def test_a_model_compared_with_itself_teaches_nothing() -> None:
    assert learned([Compared("p/one", "p/one", "chat", 1.0)]) == Learning(WIDTH)


def test_the_longest_unused_model_is_forgotten_and_the_size_is_bounded() -> None:
    learning = learned([law(f"p/{number}", 1.0) for number in range(MAXIMUM_MODELS + 5)])
    assert len(learning.models) == MAXIMUM_MODELS
    assert "p/4" not in learning.models
    assert "p/5" in learning.models
    for name in learning.models:
        for task in TASKS:
            learning = learning.update(Rated(name, task, 1.0), 100.0)
            learning = learning.update(Compared(name, "p/5", task, 1.0), 100.0)
    assert len(encode(learning)) < MAXIMUM_MODELS * (4 * WIDTH * (WIDTH + 1) + 4000)


def test_old_evidence_fades() -> None:
    learning = learned([law("p/one", 0.0)] * 60)
    task = LAW_PROFILE.task
    qualities_of = [
        qualities(view(learning, PRIORS, zeros, now), LAW_VECTOR, task)["p/one"] for now in (60.0, HALF_LIFE * 6)
    ]
    start = qualities(published(Learning(WIDTH)), LAW_VECTOR, task)["p/one"]
    assert qualities_of[0] < qualities_of[1] < start
    assert (
        learning.win_rates(PRIORS, HALF_LIFE * 6)[0].quality.share > learning.win_rates(PRIORS, 60.0)[0].quality.share
    )


def test_state_of_another_version_keeps_what_still_means_something() -> None:
    learning = learned([law("p/one", 0.0)] * 3)
    other = decode(encode(learning), WIDTH + 1)
    assert other.width == WIDTH + 1
    assert other.models["p/one"].tallies == learning.models["p/one"].tallies
    assert other.models["p/one"].sums == Sums()


# What is published.


def test_a_view_crosses_a_process_and_is_small() -> None:
    priors = {f"p/{number}": 0.5 + number / 100 for number in range(50)}
    seen = view(learned([law("p/3", 1.0)]), priors, numpy.random.default_rng(1).standard_normal, 9.0, 7)
    data = msgspec.msgpack.encode(seen)
    assert msgspec.msgpack.decode(data, type=View) == seen
    assert len(data) < 24_000


def test_a_quality_is_bounded_and_keeps_its_order() -> None:
    values = numpy.linspace(-0.5, 1.5, 41, dtype=numpy.float32)
    found = bounded(values)
    assert found.min() > 0.0
    assert found.max() < 1.0
    assert (numpy.diff(found) > 0).all()
    middle = (values > KNEE) & (values < 1 - KNEE)
    assert found[middle] == pytest.approx(values[middle])


def test_of_two_models_the_better_one_is_expected_to_be_better_at_anything() -> None:
    priors = {"low": 0.7, "high": 0.82}
    seen = view(Learning(WIDTH), priors, zeros, 1.0)
    for text in ("Hi", "Write a poem.", "Translate to French: good morning", LAW, SUMS, "word " * 3000):
        vector, about = vector_of(text)
        found = qualities(seen, vector, about.task)
        assert found["low"] + 0.005 < found["high"] < 1.0, text


def test_a_view_of_another_version_says_nothing() -> None:
    assert qualities(View(), LAW_VECTOR, "chat") == {}
    assert qualities(view(Learning(WIDTH), PRIORS, zeros, 1.0), LAW_VECTOR[1:], "chat") == {}


def test_exploring_draws_what_may_be_and_choosing_takes_the_mean() -> None:
    seen = view(Learning(WIDTH), PRIORS, numpy.random.default_rng(1).standard_normal, 1.0)
    task = LAW_PROFILE.task
    drawn = qualities(seen, LAW_VECTOR, task, drawn=True)
    assert drawn != qualities(seen, LAW_VECTOR, task)
    assert drawn["p/one"] != drawn["p/two"]


def test_a_share_of_the_traffic_explores() -> None:
    source = random.Random(1)
    assert sum(explores(source.random, 0.1) for _ in range(5000)) == pytest.approx(500, abs=80)
    assert not explores(lambda: 0.0, 0.0)
    assert explores(lambda: 0.999, 1.0)


def test_thompson_sampling_tries_the_unknown_more_than_the_known_to_be_worse() -> None:
    learning = learned([law("p/one", float(step % 4 != 0)) for step in range(300)] + [law("p/two", 0.4)] * 300)
    priors = PRIORS | {"p/new": 0.7}
    normals, tried = numpy.random.default_rng(4).standard_normal, []
    for _ in range(200):
        drawn = qualities(view(learning, priors, normals, 700.0), LAW_VECTOR, LAW_PROFILE.task, drawn=True)
        tried.append(max(drawn, key=lambda name: drawn[name]))
    assert tried.count("p/two") < 5
    assert tried.count("p/new") > 5
    assert tried.count("p/one") > 100


# What a candidate is worth.

CARD = ModelCard("m", input_price=1.0, output_price=2.0)
policies = st.sampled_from(["quality", "balanced", "cheap", "fast"])
performances = st.builds(
    Performance,
    error_rate=st.floats(0, 1),
    first_output=st.none() | st.floats(0, 60),
    tokens_per_second=st.none() | st.floats(0, 1000),
    output_tokens=st.none() | st.floats(0, 5000),
)


@given(
    performances, policies, st.floats(0, 1), st.none() | st.floats(0, 1), st.floats(0, 5), st.none() | st.floats(0, 99)
)
def test_terms_add_up_to_the_score(
    performance: Performance, policy: str, quality: float, drawn: float | None, queue: float, price: float | None
) -> None:
    card = ModelCard("m", input_price=price, output_price=price)
    ask = Ask(("auto",), policy=policy, prompt_tokens=1000)  # type: ignore[arg-type]
    found = worth(card, performance, ask, queue, quality, drawn)
    assert sum(found.terms.values()) == pytest.approx(found.score)
    assert -1e-9 <= found.score <= 1.0 + 1e-9
    assert ("exploration" in found.terms) == (drawn is not None)
    better = worth(card, performance, ask, queue, min(1.0, quality + 0.1))
    assert better.score >= worth(card, performance, ask, queue, quality).score


def test_a_policy_weighs_what_it_says() -> None:
    dear = ModelCard("dear", input_price=30.0, output_price=60.0)
    for policy, wins in (("quality", True), ("cheap", False)):
        ask = Ask(("auto",), policy=policy, prompt_tokens=1000)  # type: ignore[arg-type]
        assert (worth(dear, None, ask, 0.0, 0.95).score > worth(CARD, None, ask, 0.0, 0.5).score) == wins


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        (NO_BOUNDS, None),
        (Bounds(max_cost=0.1, max_latency=60.0, min_quality=0.5), None),
        (Bounds(max_cost=0.0001), "costs"),
        (Bounds(max_latency=0.5), "takes"),
        (Bounds(min_quality=0.8), "quality"),
    ],
)
def test_a_bound_that_is_not_kept_is_named(bounds: Bounds, word: str | None) -> None:
    found = beyond(worth(CARD, None, Ask(("auto",), prompt_tokens=1000), 0.0, 0.7), bounds)
    assert (found is None) if word is None else (found is not None and word in found)


def test_an_unknown_price_keeps_no_bound_on_cost() -> None:
    unknown = worth(ModelCard("m"), None, Ask(("auto",)), 0.0, 0.7)
    assert "unknown" in (beyond(unknown, Bounds(max_cost=1.0)) or "")
    assert beyond(unknown, Bounds(max_latency=100.0)) is None
