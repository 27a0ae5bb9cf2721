"""Which of a provider's keys goes with a request: the one with the most room, and never one that has to rest.

A pure core: `now` is an argument (seconds of a clock that never runs back), randomness is one too.

- Room is counted in token buckets that hold a minute's worth and refill all the time, as the providers' own do
  (Anthropic, "Rate limits": "the token bucket algorithm"; OpenAI, "Rate limits in headers"). A key's configured
  limits hold over all models; what a provider tells in its headers holds for the key and the model of the request.
- A refused key (429) rests, for that model, as long as the provider named, or else for a backoff that doubles with
  each refusal in a row. After the rest its requests stay a spacing apart until one is accepted. So no order of
  answers makes it be asked in a tight loop.
- A key that is not accepted (401) is set aside for a minute while there is another one.

Above it: the providers. Below it: `rate_limits`, `resilience`. Outside it: clocks, HTTP, what to do meanwhile.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pipelines.rate_limits import Quota, RateLimits
from pipelines.resilience import RetryPolicy

ASIDE_SECONDS = 60.0
"""How long a key that is not accepted is left out."""

LONGEST_REST = 3600.0
"""Seconds of rest that a provider may name; a longer one is cut to this."""

LONGEST_RESET = 86_400.0
"""Seconds until a limit is new that are believed: nobody would notice that a key which is never asked was misread."""

MOST_MODELS = 1000
"""Models of one key that something is remembered of."""

_MINUTE = 60.0
_NOTHING = 1e-6
"""Of a request, a token or a second: less is a rounding error."""


class UpstreamKey(msgspec.Struct, frozen=True):
    """A key of ours at a provider. label names it in logs: its variable, file or number; the secret never shows.

    The limits are the provider's, a minute; None: unknown.
    """

    secret: str
    label: str
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __repr__(self) -> str:
        return f"UpstreamKey({self.label!r})"


class Lease(NamedTuple):
    """One request with one key. number: the key's place; tokens: what the request was expected to cost."""

    key: UpstreamKey
    number: int
    model: str
    tokens: float

    def __repr__(self) -> str:
        return f"Lease({self.key!r}, {self.model!r})"


class Rest(NamedTuple):
    """No key is free before so many seconds have passed."""

    seconds: float


class _Bucket:
    """At most `limit` tokens of something; `rate` come a second. It may fall below zero: that is owed."""

    def __init__(self, limit: float, now: float) -> None:
        self.limit = self._level = limit
        self.rate = limit / _MINUTE
        self._at = now

    def level(self, now: float) -> float:
        self._level = min(self.limit, self._level + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return self._level

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is there; a full bucket is enough for anything."""
        lacking = min(amount, self.limit) - self.level(now)
        if lacking <= _NOTHING:
            return 0.0
        return lacking / self.rate if self.rate > 0.0 else LONGEST_REST

    def learn(self, limit: float, quota: Quota, now: float) -> None:
        """Take over what the provider says: `quota.reset` is when the bucket is full again."""
        level = self.level(now)
        self.limit, self.rate = limit, limit / _MINUTE
        remaining = limit if quota.remaining is None else min(quota.remaining, limit)
        if quota.reset and remaining < limit:
            self.rate = (limit - remaining) / min(quota.reset, LONGEST_RESET)
        self._level = min(level, remaining)


class _Count:
    """Room for requests and tokens; None: no limit is known."""

    def __init__(self, requests: _Bucket | None = None, tokens: _Bucket | None = None) -> None:
        self.requests = requests
        self.tokens = tokens

    def wait(self, tokens: float, now: float) -> float:
        return max(_wait(self.requests, 1.0, now), _wait(self.tokens, tokens, now))

    def room(self, now: float) -> float:
        return min(_room(self.requests, now), _room(self.tokens, now))

    def take(self, tokens: float, now: float) -> None:
        if self.requests is not None:
            self.requests.take(1.0, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)


class _Model(_Count):
    """What is known of one key and one model. refusals: in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.rests_until = 0.0
        self.refusals = 0


class _Held(_Count):
    """One key and all that is known of it."""

    def __init__(self, key: UpstreamKey, now: float) -> None:
        super().__init__(_bucket(key.requests_per_minute, now), _bucket(key.tokens_per_minute, now))
        self.key = key
        self.aside_until = 0.0
        self.used = 0
        self.models: dict[str, _Model] = {}

    def remembered(self, model: str) -> _Model:
        known = self.models.get(model)
        if known is None:
            if len(self.models) >= MOST_MODELS:
                self.models.pop(next(iter(self.models)))
            known = self.models[model] = _Model()
        return known

    def free_in(self, model: str, tokens: float, now: float) -> float:
        wait = self.wait(tokens, now)
        known = self.models.get(model)
        if known is not None:
            wait = max(wait, known.rests_until - now, known.wait(tokens, now))
        return wait if wait > _NOTHING else 0.0


class UpstreamKeys:
    """A provider's keys, at least one, as one replica knows them. policy: the backoff of a limiter without a name."""

    def __init__(self, keys: Sequence[UpstreamKey], policy: RetryPolicy, now: float) -> None:
        self._held = [_Held(key, now) for key in keys]
        self._policy = policy
        self._uses = 0

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"UpstreamKeys({[held.key for held in self._held]})"

    @property
    def first(self) -> UpstreamKey:
        """The first key, for what counts against no limit."""
        return self._held[0].key

    @property
    def counted(self) -> bool:
        """Whether any key has, or was told of, a limit, so that it matters how many tokens a request has."""
        return any(held.tokens is not None or held.models for held in self._held)

    def take(self, model: str, tokens: float, now: float) -> Lease | Rest:
        """The free key with the most room, for one request of about so many tokens; or how long none is free.

        Among equals it is the one that was used longest ago.
        """
        only = self._held[0]
        if len(self._held) == 1 and not only.models and only.requests is None and only.tokens is None:
            return Lease(only.key, 0, model, tokens)
        free = [
            (number, held)
            for number, held in enumerate(self._held)
            if (held.aside_until <= now or self._all_aside(now)) and held.free_in(model, tokens, now) <= 0.0
        ]
        if not free:
            return Rest(self.free_in(model, tokens, now))
        number, held = free[0]
        if len(free) > 1:
            number, held = min(free, key=lambda item: (-self._room(item[1], model, now), item[1].used))
        self._uses += 1
        held.used = self._uses
        held.take(tokens, now)
        known = held.models.get(model)
        if known is not None:
            known.take(tokens, now)
            if known.refusals:
                known.rests_until = now + self._policy.base / 2
        return Lease(held.key, number, model, tokens)

    def free_in(self, model: str, tokens: float, now: float) -> float:
        """Seconds until some key may be asked; 0: now."""
        waits = [
            held.free_in(model, tokens, now) for held in self._held if held.aside_until <= now or self._all_aside(now)
        ]
        return max(0.0, min(waits))

    def refused(self, lease: Lease, named: float | None, now: float, random: float) -> None:
        """The provider's limiter refused it, and named a wait in seconds or none. random is uniform in [0, 1)."""
        known = self._held[lease.number].remembered(lease.model)
        known.refusals += 1
        rest = self._policy.backoff(known.refusals, random) if named is None else min(max(named, 0.0), LONGEST_REST)
        known.rests_until = max(known.rests_until, now + max(rest, self._policy.base / 2))

    def accepted(self, lease: Lease) -> None:
        """It was answered: no more spacing. A rest that another request has brought stays."""
        known = self._held[lease.number].models.get(lease.model)
        if known is not None:
            known.refusals = 0

    def denied(self, lease: Lease, now: float) -> bool:
        """The provider does not accept the key. Returns whether it is set aside, that is, whether there is another."""
        if len(self._held) == 1:
            return False
        self._held[lease.number].aside_until = now + ASIDE_SECONDS
        return True

    def settle(self, lease: Lease, tokens: float, now: float) -> None:
        """What the request really cost, in tokens, against the configured limit."""
        bucket = self._held[lease.number].tokens
        if bucket is not None:
            bucket.take(tokens - lease.tokens, now)

    def learn(self, lease: Lease, limits: RateLimits, now: float) -> None:
        """What the provider's headers say. Where no limit is named, nothing left means a rest until the reset."""
        known = self._held[lease.number].remembered(lease.model)
        known.requests = self._learned(known, known.requests, limits.requests, now)
        known.tokens = self._learned(known, known.tokens, limits.tokens, now)

    def _learned(self, known: _Model, bucket: _Bucket | None, quota: Quota, now: float) -> _Bucket | None:
        if quota.limit:
            bucket = bucket or _Bucket(quota.limit, now)
            bucket.learn(quota.limit, quota, now)
        elif quota.remaining == 0 and quota.reset:
            known.rests_until = max(known.rests_until, now + min(quota.reset, LONGEST_REST))
        return bucket

    def _room(self, held: _Held, model: str, now: float) -> float:
        known = held.models.get(model)
        return held.room(now) if known is None else min(held.room(now), known.room(now))

    def _all_aside(self, now: float) -> bool:
        return all(held.aside_until > now for held in self._held)


def _bucket(limit: float | None, now: float) -> _Bucket | None:
    return None if limit is None else _Bucket(limit, now)


def _wait(bucket: _Bucket | None, amount: float, now: float) -> float:
    return 0.0 if bucket is None else bucket.wait(amount, now)


def _room(bucket: _Bucket | None, now: float) -> float:
    return 1.0 if bucket is None else bucket.level(now) / bucket.limit
