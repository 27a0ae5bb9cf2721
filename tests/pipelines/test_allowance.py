"""What keys may use: whatever replicas ask, and in whatever order, together they never hold more than there is."""

from collections import deque
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.allowance import GONE, NEVER, SECONDS, SLOT, UNLIMITED, Allowances, Ask, Asked, Grant, Window, Wish
from pipelines.keys import Budget, Limits, Spent
from pipelines.spending import Spending, day_of, first_of_month, month_of

NOON = 1_795_003_200.0
NOTHING = Wish()


def asked(owner: Allowances, now: float, reporter: str, number: int, **wishes: Wish) -> Grant:
    kinds = [wishes.get(kind, NOTHING) for kind in ("requests", "tokens", "streams", "money")]
    over = "over" in wishes
    ask = Ask("k", (kinds[0], kinds[1], kinds[2], kinds[3]), over)
    return owner.answer(Asked(reporter, number, (ask,)), now).grants[0]


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50)), max_size=60))
def test_a_window_counts_every_minute_and_a_slot_longer_at_the_most(steps: list[tuple[float, int]]) -> None:
    window, log, now = Window(), deque[tuple[float, int]](), NOON
    for pause, amount in steps:
        now += pause
        window.add(amount, now)
        log.append((now, amount))
        total = window.total(now)
        assert sum(some for at, some in log if at > now - SECONDS) <= total
        assert total <= sum(some for at, some in log if at >= now - SECONDS - SLOT)
    while total := window.total(now):
        part = max(1, total // 3)
        seconds = window.free_in(part, now)
        assert window.free_in(total + 1, now) == NEVER
        now += seconds
        assert window.total(now) <= total - part
    assert window.empty_in(now) == 0.0


AMOUNT = st.integers(0, 40)
STEP = st.tuples(st.integers(0, 3), st.floats(0, 8), AMOUNT, AMOUNT, st.floats(0, 1), st.booleans())


@settings(max_examples=200)
@given(st.lists(STEP, max_size=50), st.integers(1, 100))
def test_nobody_is_granted_what_another_holds(
    steps: list[tuple[int, float, int, int, float, bool]], limit: int
) -> None:
    """Four replicas ask at any time for any amount, and use any part of what they get; some fall silent for long."""
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=limit, streams=limit))
    used, free, streams = [0] * 4, [0] * 4, [0] * 4
    log: list[tuple[float, int]] = []
    now, heard = NOON, [NOON] * 4
    for number, (who, pause, need, likely, part, ends) in enumerate(steps):
        now += pause
        if now - heard[who] > GONE:
            free[who] = streams[who] = 0  # its lease is long over
        taken = int(free[who] * part)
        log.append((now, taken))
        used[who] += taken
        streams[who] = 0 if ends else streams[who]
        kept = (free[who] - taken) // 2
        wish = Wish(need, min(need, 1), likely, used[who], kept)
        held = Wish(need, min(need, 1), likely, 0, streams[who])
        grant = asked(owner, now, str(who), number, requests=wish, streams=held)
        free[who], heard[who] = kept + grant.free[0], now
        streams[who] += int(grant.free[2] * part)
        assert sum(some for at, some in log if at > now - SECONDS) <= limit
        alive = [other for other in range(4) if now - heard[other] <= GONE]
        assert sum(streams[other] for other in alive) <= limit
        assert sum(free[other] for other in alive) <= limit
        if grant.lack:
            assert grant.wait > 0


def test_what_is_told_twice_or_late_counts_once() -> None:
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=10))
    assert asked(owner, NOON, "a", 1, requests=Wish(need=4, least=1)).free[0] == 4
    assert asked(owner, NOON, "a", 2, requests=Wish(need=1, least=1, used=4)).left[0] == 6
    late = Asked("a", 1, (Ask("k", (Wish(used=1), NOTHING, NOTHING, NOTHING)),))
    assert owner.answer(late, NOON).grants == ()
    assert asked(owner, NOON, "a", 3, requests=Wish(used=4)).left[0] == 6
    # A replica that has forgotten the key, and begins to count anew.
    assert asked(owner, NOON, "a", 4, requests=Wish(used=1)).left[0] == 5


def test_near_the_end_a_piece_is_what_is_needed() -> None:
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=1000))
    number = 0
    pieces = []
    for _ in range(12):
        for who in ("a", "b", "c"):
            number += 1
            pieces.append(asked(owner, NOON, who, number, requests=Wish(need=1, least=1, likely=500, used=0)).free[0])
    assert pieces[0] > 300
    assert all(piece >= 1 for piece in pieces)
    left = [asked(owner, NOON, who, number + n, requests=Wish(1, 1, 500)).free[0] for n, who in enumerate("abc", 1)]
    assert sum(left) <= 1000


def test_what_the_dead_held_comes_back() -> None:
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=10, streams=2, budget=Budget(total=100)))
    everything = {"requests": Wish(10, 1), "streams": Wish(2, 1), "money": Wish(100, 1)}
    assert asked(owner, NOON, "a", 1, **everything).free == (10, UNLIMITED, 2, 100)
    refused = asked(owner, NOON + 1, "b", 1, **everything)
    assert (refused.free, refused.lack != "") == ((0, UNLIMITED, 0, 0), True)
    later = NOON + GONE + 0.1
    owner.expire(later)
    # Streams and money at once; what could be asked in a minute may have been, and comes back with the next one.
    assert asked(owner, later, "b", 2, **everything).free == (0, UNLIMITED, 2, 100)
    assert asked(owner, later + SECONDS + SLOT, "b", 3, **everything).free == (10, UNLIMITED, 2, 100)


def test_a_replica_that_leaves_gives_back_at_once() -> None:
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=10))
    assert asked(owner, NOON, "a", 1, requests=Wish(10, 1)).free[0] == 10
    asked(owner, NOON, "a", 2, requests=Wish(used=3), over=NOTHING)
    assert asked(owner, NOON, "b", 1, requests=Wish(10, 1)).free[0] == 7


def test_what_is_too_large_is_said_to_be() -> None:
    owner = Allowances()
    owner.limit("k", Limits(tokens_per_minute=100))
    grant = asked(owner, NOON, "a", 1, tokens=Wish(101, 101))
    assert (grant.lack, grant.wait, grant.free[1]) == ("tokens", NEVER, 0)
    # Two wait, and one of them fits.
    assert asked(owner, NOON, "a", 2, tokens=Wish(150, 50)).free[1] == 100


def test_money_that_is_spent_or_held_is_gone() -> None:
    owner = Allowances()
    owner.limit("k", Limits(budget=Budget(day=100, month=150, total=1000)))
    owner.restore("k", Spent(10, 40, 900), NOON)
    assert asked(owner, NOON, "a", 1, money=Wish(95, 1)).free[3] == 90
    assert asked(owner, NOON, "b", 1, money=Wish(5, 1)).lack == "day"
    # a has reserved all of it, and spent half: its row is committed.
    owner.spend("k", 45, NOON)
    assert asked(owner, NOON, "a", 2, money=Wish(1, 1, held=45)).free[3] == 0
    assert asked(owner, NOON, "a", 3, money=Wish(1, 1, held=0)).free[3] == 1
    assert asked(owner, NOON, "b", 2, money=Wish(100, 1)).free[3] == 44
    assert owner.spent("k", NOON) == Spent(55, 85, 945)
    # The next day there is as much as the total leaves.
    tomorrow = NOON + 86_400
    asked(owner, tomorrow, "b", 3, over=NOTHING)
    assert asked(owner, tomorrow, "a", 4, money=Wish(500, 1)).free[3] == 55
    assert owner.spent("k", tomorrow) == Spent(0, 85, 945)


def test_limits_change_and_what_was_used_stays() -> None:
    owner = Allowances()
    owner.limit("k", Limits(requests_per_minute=10))
    asked(owner, NOON, "a", 1, requests=Wish(10, 1))
    asked(owner, NOON, "a", 2, requests=Wish(used=10))
    owner.limit("k", Limits(requests_per_minute=15))
    assert asked(owner, NOON, "a", 3, requests=Wish(10, 1, used=10)).free[0] == 5
    owner.limit("k", Limits(requests_per_minute=4))
    assert asked(owner, NOON, "a", 4, requests=Wish(10, 1, used=10)).left[0] == 0
    owner.limit("k", Limits())
    assert asked(owner, NOON, "a", 5, requests=Wish(10, 1, used=10)).free[0] == UNLIMITED


@given(st.integers(0, 80_000))
def test_months_are_those_of_the_calendar(day: int) -> None:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    before = date - timedelta(days=1)
    assert day_of(date.timestamp()) == day
    assert (month_of(day) == month_of(day - 1)) == ((before.year, before.month) == (date.year, date.month))
    assert first_of_month(day) == day - date.day + 1


@given(st.lists(st.tuples(st.floats(0, 40 * 86_400.0), st.integers(0, 10**12)), max_size=20))
def test_what_is_spent_is_the_sum_of_its_day_and_month(costs: list[tuple[float, int]]) -> None:
    spending, now = Spending(), NOON
    spent: list[tuple[float, int]] = []
    for pause, nano in costs:
        now += pause
        spending.add(nano, now)
        spent.append((now, nano))
    today = day_of(now)
    expected = Spent(
        sum(nano for at, nano in spent if day_of(at) == today),
        sum(nano for at, nano in spent if month_of(day_of(at)) == month_of(today)),
        sum(nano for _, nano in spent),
    )
    assert spending.spent(now) == expected


def test_yesterdays_bill_is_not_todays() -> None:
    spending = Spending()
    spending.restore(Spent(5, 50, 500), NOON)
    spending.add(7, NOON - 86_400)
    assert spending.spent(NOON) == Spent(5, 57, 507)
