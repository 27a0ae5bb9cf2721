"""What a provider says of its own rate limits in the headers of an answer.

Sources: OpenAI, "Rate limits", section "Rate limits in headers" (`x-ratelimit-limit-requests`, `-remaining-`,
`-reset-`, for requests and tokens; durations such as `6m0s`, `120ms`; "the time until the rate limit resets to its
initial state"), which Groq, Together and others follow; Anthropic, "Rate limits", section "Response headers"
(`anthropic-ratelimit-requests-limit`, …; "the time when the rate limit will be fully replenished, in RFC 3339
format"). Both call their limiters token buckets, and the reset is when the bucket is full again.

Above it: `upstream_keys`, the providers, `hop`. Below it: the standard library. Outside it: what is done about it.
"""

import contextlib
import re
from calendar import timegm
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

MOST_HEADERS = 32
"""Headers of one answer that are passed on."""

EPOCH = 1e9
"""A number from here on is no duration but a time since 1970: in seconds, or 1,000 times larger in milliseconds."""

_OURS = re.compile(r"(?:x|anthropic)-ratelimit-[a-z0-9_-]{1,64}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_RFC_3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d(?:\.\d+)?)(?:[Zz]|([+-])(\d\d):(\d\d))")


class Quota(NamedTuple):
    """How many may be had, how many are left, in how many seconds all of them are there again; None: not said."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


class RateLimits(NamedTuple):
    """What an answer says of requests and of tokens."""

    requests: Quota = Quota()
    tokens: Quota = Quota()


def rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers (names in lower case) that tell of rate limits, as they are, for the caller."""
    found = {name: value for name, value in headers.items() if "ratelimit" in name and _OURS.fullmatch(name)}
    return dict(list(found.items())[:MOST_HEADERS])


def read_rate_limits(headers: Mapping[str, str], clock: float) -> RateLimits:
    """The limits that an answer's headers (names in lower case) tell; what cannot be read is None.

    clock: seconds since 1970, for dates where the answer has no `date` of its own.
    """
    return RateLimits(_quota(headers, "requests", clock), _quota(headers, "tokens", clock))


def _quota(headers: Mapping[str, str], what: str, clock: float) -> Quota:
    if f"anthropic-ratelimit-{what}-limit" in headers or f"anthropic-ratelimit-{what}-remaining" in headers:
        limit, remaining, reset = (f"anthropic-ratelimit-{what}-{word}" for word in ("limit", "remaining", "reset"))
    else:
        limit, remaining, reset = (f"x-ratelimit-{word}-{what}" for word in ("limit", "remaining", "reset"))
    return Quota(
        _number(headers.get(limit, "")),
        _number(headers.get(remaining, "")),
        _until(headers.get(reset, ""), headers.get("date", ""), clock),
    )


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _until(text: str, date: str, clock: float) -> float | None:
    """Seconds, from a duration, a plain number of seconds or a date, which may be a number too."""
    text = text.strip()[:64]
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    when = _seconds_since_1970(text)
    if when is None:
        number = _number(text)
        if number is None or number < EPOCH:
            return number
        when = number / 1000.0 if number >= 1000.0 * EPOCH else number
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        clock = parsedate_to_datetime(date).timestamp()
    return max(0.0, when - clock)


def _seconds_since_1970(text: str) -> float | None:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, sign, hours, minutes = found.groups()
    try:
        whole = timegm((int(year), int(month), int(day), int(hour), int(minute), 0))
    except ValueError:
        return None
    shift = (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1) if sign else 0
    return whole + float(second) - shift
