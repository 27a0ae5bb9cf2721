"""What providers say of their limits, in their own forms, and what is no form at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rate_limits import MOST_HEADERS, Quota, rate_headers, read_rate_limits

NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z",
    "anthropic-ratelimit-tokens-limit": "80000",
    "anthropic-ratelimit-tokens-remaining": "79000",
    "anthropic-ratelimit-tokens-reset": "2026-01-01T01:00:10.5+01:00",
}


def test_both_vendors_are_read() -> None:
    assert read_rate_limits(OPENAI, NOW) == (Quota(60, 59, 1), Quota(150_000, 149_984, 360))
    assert read_rate_limits(ANTHROPIC, NOW) == (Quota(50, 0, 30), Quota(80_000, 79_000, 10.5))
    assert read_rate_limits({"content-type": "text/plain"}, NOW) == (Quota(), Quota())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120ms", 0.12),
        ("1h2m3s", 3723.0),
        ("2m59.56s", 179.56),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("17", 17.0),
        ("", None),
        ("soon", None),
        ("-5s", None),
        ("5 parsecs", None),
        ("nan", None),
        ("2025-01-01T00:00:00Z", 0.0),
        ("2026-13-01T00:00:00Z", None),
        (f"{NOW + 90:.0f}", 90.0),
        (f"{1000 * (NOW + 90):.0f}", 90.0),
    ],
)
def test_resets(text: str, seconds: float | None) -> None:
    found = read_rate_limits({"x-ratelimit-reset-requests": text}, NOW).requests.reset
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_date_counts_from_the_answers_own() -> None:
    headers = {**ANTHROPIC, "date": "Thu, 01 Jan 2026 00:00:20 GMT"}
    assert read_rate_limits(headers, NOW + 500).requests.reset == 10.0


def test_what_goes_on_to_the_caller_is_unchanged_and_bounded() -> None:
    others = {"content-type": "text/plain", "set-cookie": "ratelimit", "x-evil-ratelimit": "1"}
    assert rate_headers({**OPENAI, **ANTHROPIC, **others}) == {**OPENAI, **ANTHROPIC}
    many = {f"x-ratelimit-{number}": "1" for number in range(1000)}
    assert len(rate_headers(many)) == MOST_HEADERS


@given(st.sampled_from([*OPENAI, *ANTHROPIC, "date"]), st.text(max_size=80))
def test_nonsense_is_never_an_error(name: str, text: str) -> None:
    for quota in read_rate_limits({**OPENAI, **ANTHROPIC, name: text}, NOW):
        assert all(value is None or value >= 0.0 for value in quota)


def test_a_date_beyond_all_calendars_is_none() -> None:
    headers = {**ANTHROPIC, "date": "Mon, 01 Jan 999999999999999999999 00:00:00 GMT"}
    assert read_rate_limits(headers, NOW).requests.reset == 30.0
