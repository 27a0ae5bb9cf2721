"""What a key has spent, by day, by month and ever, in nano-dollars. Days and months are those of UTC.

Above it: `allowance`. Below it: `keys`. Outside it: where sums are kept.
"""

from typing import Literal

from pipelines.keys import Budget, Spent

DAY = 86_400.0

UNBOUNDED = 1 << 62
"""What is left of no budget."""

Period = Literal["day", "month", "total"]


def day_of(at: float) -> int:
    """Whole days since 1970."""
    return int(at // DAY)


def month_of(day: int) -> int:
    """Whole months since March of the year 0, of a day since 1970.

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years that begin in March have
    months of a regular length, and end with the leap day.
    """
    era, day_of_era = divmod(day + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    return (era * 400 + year) * 12 + (5 * day_of_year + 2) // 153


def first_of_month(day: int) -> int:
    """The first day of a day's month."""
    month = month_of(day)
    while month_of(day - 1) == month:
        day -= 1
    return day


class Spending:
    """One key's. What began on an earlier day, and is told of now, counts for that day."""

    def __init__(self) -> None:
        self._day = self._month = 0
        self._today = self._this_month = self._total = 0

    def restore(self, spent: Spent, now: float) -> None:
        """So much was spent, as of now."""
        self._day = day_of(now)
        self._month = month_of(self._day)
        self._today, self._this_month, self._total = spent.day, spent.month, spent.total

    def add(self, nano: int, at: float) -> None:
        """So much more was spent by what began at that time."""
        self._turn(at)
        day = day_of(at)
        self._total += nano
        self._today += nano if day == self._day else 0
        self._this_month += nano if month_of(day) == self._month else 0

    def spent(self, now: float) -> Spent:
        """What was spent, as of now."""
        self._turn(now)
        return Spent(self._today, self._this_month, self._total)

    def room(self, budget: Budget, now: float) -> tuple[int, Period]:
        """What is left of the tightest budget, and which that is."""
        self._turn(now)
        rooms: list[tuple[int, Period]] = []
        if budget.day is not None:
            rooms.append((budget.day - self._today, "day"))
        if budget.month is not None:
            rooms.append((budget.month - self._this_month, "month"))
        if budget.total is not None:
            rooms.append((budget.total - self._total, "total"))
        return min(rooms) if rooms else (UNBOUNDED, "total")

    def _turn(self, at: float) -> None:
        """Begin a new day, or month."""
        day = day_of(at)
        if day <= self._day:
            return
        self._day, self._today = day, 0
        if month_of(day) != self._month:
            self._month, self._this_month = month_of(day), 0
