"""The walk through a decision's candidates: who is asked next, and what the caller hears when nobody is left.

Above it: the routed lane. Below it: `ask`, `errors`, `resilience`. Outside it: asking.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection

from pipelines.errors import Overloaded, PenstockError, Reason, UpstreamError
from pipelines.resilience import RULES
from pipelines.routing.ask import Candidate, Decision

MOST_UNNAMED = 6
"""Candidates, at most, that are asked of those that `auto` may choose: there may be hundreds."""

MOST_FAILURES = 2
"""Failures of one provider after which its other models come last: it may be none of theirs, but the provider's."""


class Walk:
    """One request's way along its candidates, best first.

    Those that the caller named are all asked. Of those that `auto` may choose only MOST_UNNAMED are, and of these only
    one whose breaker is open: the last resort.

    fall_back: whether a second one may be asked at all. reasons: what is followed by another candidate besides what
    `RULES` says. context gives a candidate's context length in tokens, 0 where it is unknown.

    error: the first failure that says something about the request or its provider (None before any).
    """

    def __init__(
        self,
        decision: Decision,
        context: Callable[[Candidate], int],
        *,
        fall_back: bool = True,
        reasons: Collection[Reason] = (),
    ) -> None:
        self._left = deque(decision.candidates)
        self._context = context
        self._fall_back = fall_back
        self._reasons = frozenset(reasons)
        self._too_short: int | None = None
        self._failures = Counter[str]()
        self._unnamed = 0
        self.error: PenstockError | None = None

    @property
    def upcoming(self) -> Candidate | None:
        """Who stands next in the row."""
        return self._left[0] if self._left else None

    def next(self) -> Candidate | None:
        """Whom to ask now. After "context too long" only a model that is known to take more comes into question."""
        while self._left:
            candidate = self._left.popleft()
            if self._too_short is None or self._context(candidate) > self._too_short:
                self._asked(candidate)
                return candidate
        return None

    def _asked(self, candidate: Candidate) -> None:
        """Count one that `auto` chose, and take out those that are too many after it."""
        if not candidate.unnamed:
            return
        self._unnamed += 1
        enough = self._unnamed >= MOST_UNNAMED
        if enough or candidate.broken:
            self._left = deque(one for one in self._left if not (one.unnamed and (enough or one.broken)))

    def failed(self, candidate: Candidate, error: PenstockError) -> bool:
        """Take a failure in; whether another candidate may be asked after it."""
        if self.error is None or (isinstance(self.error, Overloaded) and not isinstance(error, Overloaded)):
            self.error = error
        if not self._fall_back:
            return False
        if isinstance(error, UpstreamError) and error.reason == "context_too_long":
            self._too_short = max(self._too_short or 0, self._context(candidate))
        else:
            self._put_off(candidate.provider)
        if not isinstance(error, UpstreamError):
            return error.retryable
        return RULES[error.reason].fall_back or error.reason in self._reasons

    def _put_off(self, provider: str) -> None:
        """Count a provider's failure; after too many its other models come behind those of all others."""
        self._failures[provider] += 1
        if self._failures[provider] == MOST_FAILURES:
            self._left = deque(sorted(self._left, key=lambda candidate: candidate.provider == provider))

    def broken(self, candidate: Candidate, error: UpstreamError) -> None:
        """A candidate's stream broke after its first output: go on with the others, if a second may be asked at all.

        The candidate itself comes last once more, for another attempt may be whole; a silent one does not.
        """
        if not self.failed(candidate, error):
            self._left.clear()
        if error.reason != "timeout":
            self._left.append(candidate)

    def nobody(self) -> PenstockError:
        """What to raise when nobody is left."""
        return self.error or Overloaded("no candidate is left", status=503, retry_after=1.0)
