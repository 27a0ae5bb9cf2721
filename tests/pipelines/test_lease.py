"""A replica's piece: what fits, what is told of it, and how long money is held."""

import pytest

from pipelines.allowance import LEASE, NEVER, UNLIMITED, Grant, Lack, Need
from pipelines.errors import OverBudget, OverLimit
from pipelines.keys import Budget, Limits
from pipelines.lease import IDLE, UNBILLED, Figures, Lease, refused

MONEY = Limits(budget=Budget(day=1000))
REQUESTS = Limits(requests_per_minute=10)


def granted(
    lease: Lease, now: float, *, arrived: int = 0, lack: Lack = "", wait: float = 0.0, **free: int
) -> list[int]:
    """Ask, and be given so much; what was said to be held, by kind."""
    ask = lease.ask((), arrived, now)
    kinds = [free.get(kind, 0) for kind in ("requests", "tokens", "streams", "money")]
    lease.granted(
        Grant("k", (kinds[0], kinds[1], kinds[2], kinds[3]), (7, UNLIMITED), (30.0, 0.0), lack, wait), (), now
    )
    return [wish.held for wish in ask.wishes]


def test_nothing_fits_before_there_is_a_grant_and_only_as_much_as_there_is() -> None:
    lease = Lease("k", REQUESTS, 0.0)
    assert not lease.take(Need(1), 0.0)
    granted(lease, 0.0, requests=2)
    assert [lease.take(Need(1), 0.0) for _ in range(3)] == [True, True, False]
    # What is not counted has no end.
    assert lease.counted == (True, False, False, False)
    granted(lease, 1.0, requests=1)
    assert not lease.take(Need(1), 1.0 + LEASE)


def test_money_is_held_until_its_row_is_known_to_be_committed() -> None:
    lease = Lease("k", MONEY, 0.0)
    granted(lease, 0.0, money=100)
    need = Need(money=60)
    assert lease.take(need, 0.0)
    assert not lease.take(need, 0.0)
    lease.end(need, 0, 30, row=5, now=0.1)
    # It was cheaper than expected: there is room again.
    assert lease.take(need, 0.2)
    assert granted(lease, 0.5, arrived=4)[3] >= 90
    lease.end(need, 0, 30, row=6, now=0.6)
    assert granted(lease, 1.0, arrived=5)[3] - granted(lease, 1.5, arrived=6)[3] >= 30
    assert granted(lease, 100.0, arrived=6) == [0, 0, 0, 0]


def test_what_nobody_here_knows_the_price_of_is_held_for_a_moment() -> None:
    lease = Lease("k", MONEY, 0.0)
    granted(lease, 0.0, money=60)
    lease.take(Need(money=60), 0.0)
    lease.end(Need(money=60), 0, None, row=1, now=10.0)
    assert granted(lease, 10.0 + UNBILLED / 2, arrived=1)[3] == 60
    assert granted(lease, 10.0 + UNBILLED, arrived=0)[3] == 60
    assert granted(lease, 10.0 + UNBILLED, arrived=1)[3] == 0


def test_what_costs_more_than_was_reserved_leaves_less() -> None:
    lease = Lease("k", MONEY, 0.0)
    granted(lease, 0.0, money=100)
    lease.take(Need(money=50), 0.0)
    lease.end(Need(money=50), 0, 90, row=1, now=0.0)
    assert not lease.take(Need(money=20), 0.0)
    assert lease.take(Need(money=10), 0.0)


def test_it_is_given_back_when_nobody_uses_it() -> None:
    lease = Lease("k", REQUESTS, 0.0)
    granted(lease, 0.0, requests=5)
    lease.take(Need(1), 0.0)
    assert not lease.ask((), 0, IDLE - 0.1).over
    ask = lease.ask((), 0, IDLE + 0.1)
    assert (ask.over, ask.wishes[0].used, ask.wishes[0].held) == (True, 1, 0)
    assert not lease.take(Need(1), IDLE + 0.1)


def test_a_refusal_is_repeated_to_whoever_asks_for_as_much() -> None:
    lease = Lease("k", Limits(tokens_per_minute=100), 0.0)
    ask = lease.ask((Need(tokens=40), Need(tokens=60)), 0, 0.0)
    assert (ask.wishes[1].need, ask.wishes[1].least) == (100, 40)
    lease.granted(Grant("k", (0, 0, 0, 0), lack="tokens", wait=4.0), (Need(tokens=40), Need(tokens=60)), 0.0)
    said = lease.refusal(Need(tokens=40), 1.0)
    assert isinstance(said, OverLimit)
    assert said.retry_after == 3.0
    assert lease.refusal(Need(tokens=39), 1.0) is None
    assert lease.refusal(Need(tokens=40), 4.0) is None
    lease.change(Limits(tokens_per_minute=200))
    assert lease.refusal(Need(tokens=40), 1.0) is None


def test_figures_for_the_headers() -> None:
    lease = Lease("k", REQUESTS, 0.0)
    granted(lease, 0.0, requests=5)
    assert lease.figures(10.0) == (Figures(10, 7, 20.0), None)
    lease.take(Need(1), 1.0)
    assert lease.figures(1.0) == (Figures(10, 6, 60.0), None)


LIMITS = Limits(1, 2, 3, Budget(4_000_000_000, 5_500_000_000, 6))


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        ("requests", "its 1 requests of a minute"),
        ("tokens", "its 2 tokens of a minute"),
        ("streams", "3 streams at once"),
        ("day", "4 dollars of the day (UTC), leaves nothing for this request, which may cost 0.000000009"),
        ("month", "5.5 dollars of the month (UTC)"),
        ("total", "0.000000006 dollars in all"),
        ("", "at its limits"),
    ],
)
def test_every_limit_is_said_by_its_name(lack: Lack, words: str) -> None:
    error = refused(LIMITS, lack, Need(1, 1, 1, 9), 2.0)
    assert words in error.message
    assert isinstance(error, OverBudget if lack in ("day", "month", "total") else OverLimit)
    assert error.status == 429
    assert (error.retry_after is None) == isinstance(error, OverBudget)
    assert refused(LIMITS, "tokens", Need(tokens=9), NEVER).retry_after is None
