"""Quantiles of a decaying histogram."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.routing.spread import BUCKETS, GROWTH, LEAST, Spread


def spread_of(values: list[float], now: float = 0.0) -> Spread:
    spread = Spread(600.0)
    for value in values:
        spread = spread.add(value, now)
    return spread


@given(
    st.lists(st.floats(LEAST, LEAST * GROWTH ** (BUCKETS - 1)), min_size=1, max_size=200),
    st.sampled_from((0.5, 0.9, 0.95, 1.0)),
)
def test_a_quantile_is_wrong_by_one_bucket_at_most(values: list[float], share: float) -> None:
    found = spread_of(values).quantile(share, 1.0, 0.0)
    true = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    assert found is not None
    assert true / GROWTH - 1e-9 <= found <= true * GROWTH + 1e-9


def test_too_few_measurements_give_no_quantile() -> None:
    assert Spread(600.0).quantile(0.95, 1.0, 0.0) is None
    assert spread_of([1.0] * 19).quantile(0.95, 20.0, 0.0) is None
    assert spread_of([1.0] * 20).quantile(0.95, 20.0, 0.0) == pytest.approx(1.0, rel=GROWTH - 1)


def test_old_measurements_fade() -> None:
    spread = spread_of([10.0] * 100)
    assert spread.quantile(0.95, 20.0, 3000.0) is None
    for _ in range(100):
        spread = spread.add(0.1, 6000.0)
    assert spread.quantile(0.95, 20.0, 6000.0) == pytest.approx(0.1, rel=GROWTH - 1)


def test_what_is_beyond_the_range_counts_at_its_ends() -> None:
    assert spread_of([0.0]).quantile(1.0, 1.0, 0.0) == pytest.approx(LEAST)
    longest = spread_of([1e9]).quantile(1.0, 1.0, 0.0)
    assert longest is not None
    assert longest > 800.0
