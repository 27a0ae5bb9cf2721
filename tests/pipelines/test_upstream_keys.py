"""Which key goes with a request: room counted, rests kept, on a clock that only the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rate_limits import Quota, RateLimits
from pipelines.resilience import RetryPolicy
from pipelines.upstream_keys import ASIDE_SECONDS, LONGEST_REST, MOST_MODELS, Lease, Rest, UpstreamKey, UpstreamKeys

POLICY = RetryPolicy(base=0.25, cap=4.0)
LEAST = POLICY.base / 2


def pool(*limits: tuple[float | None, float | None]) -> UpstreamKeys:
    """Keys called a, b, … of so many requests and tokens a minute."""
    keys = [UpstreamKey(f"sk-{name}", name, *limit) for name, limit in zip("abcdef", limits, strict=False)]
    return UpstreamKeys(keys, POLICY, 0.0)


def taken(keys: UpstreamKeys, now: float, tokens: float = 0.0, model: str = "m") -> Lease:
    lease = keys.take(model, tokens, now)
    assert isinstance(lease, Lease), lease
    return lease


def rest(keys: UpstreamKeys, now: float, tokens: float = 0.0) -> float:
    """Seconds; the clock's own rounding taken out."""
    found = keys.take("m", tokens, now)
    assert isinstance(found, Rest), found
    return round(found.seconds, 6)


def names(keys: UpstreamKeys, count: int, now: float = 0.0) -> str:
    return "".join(taken(keys, now).key.label for _ in range(count))


FREE = (None, None)


def test_keys_without_limits_take_turns() -> None:
    assert names(pool(FREE, FREE, FREE), 7) == "abcabca"


def test_the_one_with_the_most_room_goes_first() -> None:
    keys = pool((10, None), (30, None))
    said = names(keys, 40)
    assert said.count("a") == 10
    assert said.count("b") == 30
    # Not one after the other is emptied, but both at the pace of what they hold.
    assert said[:20].count("a") == pytest.approx(5, abs=1)


def test_a_minute_holds_its_limit_and_refills_all_the_time() -> None:
    keys = pool((60, None))
    names(keys, 60)
    assert rest(keys, 0.0) == 1.0
    assert rest(keys, 0.5) == 0.5
    assert names(keys, 1, now=1.0) == "a"
    assert keys.free_in("m", 0, 1.0) == 1.0
    assert len(names(keys, 60, now=61.0)) == 60


@pytest.mark.parametrize(
    ("expected", "real", "wait"),
    [(600, 600, 60.0), (0, 600, 60.0), (600, 0, 0.0), (0, 1200, 120.0), (5000, 600, 60.0)],
)
def test_tokens_are_counted_as_expected_and_then_as_used(expected: float, real: float, wait: float) -> None:
    keys = pool((None, 600))
    lease = taken(keys, 0.0, tokens=expected)
    keys.settle(lease, real, 0.0)
    # A request larger than a whole minute waits for a full bucket, and not for ever.
    assert keys.free_in("m", 10_000, 0.0) == pytest.approx(wait)


def test_a_refused_key_rests_as_long_as_was_named_and_only_for_that_model() -> None:
    keys = pool(FREE)
    keys.refused(taken(keys, 0.0), 7.0, 0.0, 0.9)
    assert rest(keys, 6.99) == 0.01
    assert isinstance(keys.take("other", 0, 0.0), Lease)
    assert isinstance(keys.take("m", 0, 7.0), Lease)


@pytest.mark.parametrize(("named", "seconds"), [(0.0, LEAST), (-3.0, LEAST), (1e9, LONGEST_REST)])
def test_a_wait_that_is_none_or_absurd(named: float, seconds: float) -> None:
    keys = pool(FREE)
    keys.refused(taken(keys, 0.0), named, 0.0, 0.0)
    assert keys.free_in("m", 0, 0.0) == seconds


def test_without_a_named_wait_the_rest_doubles_with_each_refusal() -> None:
    keys, now, rests = pool(FREE), 0.0, []
    for _ in range(2000):
        lease = taken(keys, now)
        keys.refused(lease, None, now, 0.999)
        rests.append(keys.free_in("m", 0, now))
        now += rests[-1]
    assert rests[:6] == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 4.0], rel=0.01)
    assert max(rests) <= POLICY.cap


def test_after_a_rest_requests_stay_apart_until_one_is_accepted() -> None:
    keys = pool(FREE)
    keys.refused(taken(keys, 0.0), 1.0, 0.0, 0.0)
    first = taken(keys, 1.0)
    assert rest(keys, 1.0) == LEAST
    keys.accepted(first)
    assert len(names(keys, 5, now=1.0 + LEAST)) == 5


def test_an_answer_does_not_end_the_rest_that_another_request_has_brought() -> None:
    keys = pool(FREE)
    early, late = taken(keys, 0.0), taken(keys, 0.0)
    keys.refused(late, 5.0, 0.1, 0.0)
    keys.accepted(early)
    assert rest(keys, 0.2) == 4.9


def test_a_refused_key_is_passed_over_and_the_wait_is_that_of_the_first() -> None:
    keys = pool(FREE, FREE)
    keys.refused(taken(keys, 0.0), 9.0, 0.0, 0.0)
    assert names(keys, 3, now=0.0) == "bbb"
    keys.refused(taken(keys, 0.0), 4.0, 0.0, 0.0)
    assert rest(keys, 1.0) == 3.0


def test_a_key_that_is_not_accepted_is_set_aside_while_there_is_another() -> None:
    keys = pool(FREE, FREE)
    assert keys.denied(taken(keys, 0.0), 0.0)
    assert names(keys, 3, now=1.0) == "bbb"
    assert "a" in names(keys, 2, now=ASIDE_SECONDS)
    for _ in range(2):
        keys.denied(taken(keys, 100.0), 100.0)
    # All are: better asked than not.
    assert sorted(names(keys, 2, now=101.0)) == ["a", "b"]
    alone = pool(FREE)
    assert not alone.denied(taken(alone, 0.0), 0.0)
    assert names(alone, 1) == "a"


def test_unknown_limits_are_learned() -> None:
    keys = pool(FREE, FREE)
    lease = taken(keys, 0.0)
    keys.learn(lease, RateLimits(Quota(60, 2, 58.0), Quota()), 0.0)
    assert names(keys, 4, now=0.0) == "bbbb"
    alone = pool(FREE)
    alone.learn(taken(alone, 0.0), RateLimits(Quota(60, 2, 58.0), Quota(6000, 500, 55.0)), 0.0)
    taken(alone, 0.0, tokens=300)
    assert rest(alone, 0.0, tokens=300) == 1.0
    taken(alone, 1.0, tokens=300)
    taken(alone, 1.0)
    # The requests are gone: one comes back each second, whatever the tokens say.
    assert rest(alone, 1.0) == 1.0


@pytest.mark.parametrize(
    ("quota", "seconds"),
    [
        (Quota(60, 0, 60.0), 1.0),
        (Quota(1440, 0, 86400.0), 60.0),
        (Quota(60, 0, None), 1.0),
        (Quota(None, 0, 42.0), 42.0),
        (Quota(None, 0, None), 0.0),
        (Quota(60, 60, 0.0), 0.0),
        (Quota(0, 0, 5.0), 5.0),
        (Quota(60, 61, 0.0), 0.0),
        (Quota(1440, 0, 1e8), 60.0),
    ],
)
def test_nothing_left_is_a_rest(quota: Quota, seconds: float) -> None:
    keys = pool(FREE)
    keys.learn(taken(keys, 0.0), RateLimits(quota), 0.0)
    assert keys.free_in("m", 0, 0.0) == pytest.approx(seconds)


def test_memory_of_models_is_bounded() -> None:
    keys = pool(FREE)
    for number in range(3 * MOST_MODELS):
        keys.refused(taken(keys, 0.0, model=str(number)), 5.0, 0.0, 0.0)
    assert len(keys._held[0].models) == MOST_MODELS


def test_no_secret_shows() -> None:
    keys = pool(FREE, FREE)
    assert "sk-" not in repr((keys, taken(keys, 0.0), keys.first, [keys.first]))


ANSWERS = st.one_of(
    st.just("accepted"), st.just("denied"), st.none(), st.floats(-1, 50), st.just(1e12), st.floats(0, 0.2)
)


@given(
    st.lists(st.tuples(st.floats(0, 30), ANSWERS, st.floats(0, 0.999), st.sampled_from("mn")), max_size=60),
    st.integers(1, 3),
)
def test_no_order_of_answers_makes_a_tight_loop(steps: list[tuple[float, object, float, str]], count: int) -> None:
    keys, now = pool(*[FREE] * count), 0.0
    rests: dict[tuple[str, str], float] = {}
    for pause, answer, random, model in steps:
        now += pause
        lease = keys.take(model, 0, now)
        if isinstance(lease, Rest):
            assert lease.seconds > 0.0
            now += lease.seconds
            lease = taken(keys, now, model=model)
        key = (lease.key.label, model)
        assert now >= rests.get(key, 0.0) - 1e-6, "asked before its rest was over"
        if answer == "accepted":
            keys.accepted(lease)
        elif answer == "denied":
            keys.denied(lease, now)
        else:
            named = answer if isinstance(answer, float) else None
            keys.refused(lease, named, now, random)
            rests[key] = now + max(LEAST, min(named or 0.0, LONGEST_REST))
