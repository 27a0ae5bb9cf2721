"""Rows for the ledger's tests."""

from typing import Any

from pipelines.ledger import AttemptRow, FirstAttempt, RequestRow
from pipelines.routing.table import Bill

NOON = 1_795_003_200.0
"""A full hour in November 2026, in seconds since 1970."""

BILL = Bill(input=100, cached_read=40, output=50, reasoning=10, cost=7_500, basis="computed", prices="list 1")


def request(number: int, **more: Any) -> RequestRow:
    common = {"time": NOON + number, "key": "k", "provider": "p", "model": "m", "seconds": 2.0, "first_output": 0.5}
    return RequestRow(id=f"r{number:08}", request_id=f"x{number}", **{"bill": BILL, **common, **more})


def attempt(number: int, **more: Any) -> AttemptRow:
    common = {"time": NOON + number, "key": "k", "provider": "p", "model": "m", "request": f"r{number:08}"}
    return AttemptRow(id=f"a{number:08}", **{"bill": BILL, **common, **more})


def answered(number: int, **more: Any) -> RequestRow:
    """A request whose first attempt, `attempt(number)`, stands in its row."""
    first = FirstAttempt(f"a{number:08}", queued=0.25, first_output=0.5, seconds=1.5, skipped=2)
    return request(number, **{"attempt": first, **more})


def read_of(row: RequestRow) -> AttemptRow:
    """The attempt that stands in a request's row as it is read."""
    assert row.attempt is not None
    common = {name: getattr(row, name) for name in ("id", "request_id", "time", "key", "tag", "task", "provider")}
    own = {name: getattr(row.attempt, name) for name in ("queued", "first_output", "seconds", "outcome", "skipped")}
    return AttemptRow(model=row.model, bill=row.bill, retries=row.retries, request=row.id, **common, **own)
