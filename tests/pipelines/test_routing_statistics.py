from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Reason
from pipelines.routing.statistics import BLAME, HALF_LIFE, Average, Statistics
from pipelines.routing.table import Outcome

GOOD = Outcome("p", "m", 3.0, first_output=1.0, output_tokens=101)


def after(*outcomes: Outcome, now: float = 0.0) -> Statistics:
    statistics = Statistics()
    for outcome in outcomes:
        statistics = statistics.after(outcome, now)
    return statistics


def test_after_a_half_life_a_measurement_counts_half() -> None:
    average = Average(10.0).add(8.0, 0.0).add(2.0, 10.0)
    assert average.mean == pytest.approx((8 * 0.5 + 2) / 1.5)
    assert average.count(20.0) == pytest.approx(0.75)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 5)), min_size=1), st.floats(0.1, 100), st.floats(0, 5))
def test_a_mean_lies_between_its_measurements(steps: list[tuple[float, float]], half_life: float, last: float) -> None:
    average, now = Average(half_life), 0.0
    for value, pause in steps:
        now += pause
        average = average.add(value, now)
    values = [value for value, _ in steps]
    assert average.mean is not None
    assert min(values) - 1e-6 <= average.mean <= max(values) + 1e-6
    assert average.count(now + last) <= len(steps) + 1e-6


def test_nothing_measured_is_no_number() -> None:
    performance = Statistics().performance(0.0)
    assert (performance.first_output, performance.tokens_per_second, performance.output_tokens) == (None,) * 3
    assert performance.error_rate == 0.0


def test_a_clock_that_steps_back_does_no_harm() -> None:
    average = Average(10.0).add(1.0, 100.0).add(3.0, 50.0)
    assert average.mean == pytest.approx(2.0)


def test_an_answer_teaches_its_times() -> None:
    performance = after(GOOD).performance(0.0, in_flight=3)
    assert performance.first_output == 1.0
    assert performance.tokens_per_second == 50.0
    assert performance.output_tokens == 101
    assert (performance.attempts, performance.in_flight, performance.error_rate) == (1, 3, 0.0)


def test_failures_raise_the_error_rate_and_silence_lowers_it() -> None:
    statistics = after(*[Outcome("p", "m", 1.0, reason="server_error")] * 9)
    assert statistics.error_rate(0.0) == pytest.approx(0.9)
    assert statistics.error_rate(HALF_LIFE) == pytest.approx(4.5 / 5.5)
    assert statistics.error_rate(1000.0) < 1e-6
    assert statistics.forgiven().error_rate(0.0) == 0.0


@pytest.mark.parametrize("reason", ["invalid_request", "context_too_long", "content_policy"])
def test_what_the_caller_wrote_is_no_failure(reason: Reason) -> None:
    assert after(Outcome("p", "m", 1.0, reason=reason)).error_rate(0.0) == 0.0


def test_a_cancelled_attempt_is_no_failure_and_no_length() -> None:
    statistics = after(Outcome("p", "m", 1.0, reason="broken", cancelled=True, first_output=0.5, output_tokens=3))
    assert statistics.error_rate(0.0) == 0.0
    assert statistics.first_output.mean == 0.5
    assert statistics.output_tokens.mean is None


def test_every_reason_is_somebodys_fault() -> None:
    assert set(BLAME) == set(get_args(Reason))


def test_one_slow_start_is_not_held_against_a_model_for_ever() -> None:
    cold = after(Outcome("p", "m", 80.0, first_output=75.0, output_tokens=101))
    times = [cold.performance(now).first_output for now in (0.0, 59.0, 600.0, 7200.0)]
    assert times == [75.0, 75.0, pytest.approx(38.0), None]
    speeds = [cold.performance(now).tokens_per_second for now in (0.0, 600.0, 7200.0)]
    assert speeds == [20.0, pytest.approx(35.0), None]


def test_short_answers_do_not_make_a_slow_model_fast() -> None:
    long, short = (
        Outcome("p", "m", 6.5, first_output=0.5, output_tokens=301),
        Outcome("p", "m", 0.502, first_output=0.5, output_tokens=3),
    )
    assert after(*[*[long] * 9, short] * 10).performance(0.0).tokens_per_second == pytest.approx(50.0, rel=0.02)
