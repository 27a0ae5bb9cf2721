"""Rows for the ledger's tests."""

from typing import Any

from pipelines.ledger import AttemptRow, RequestRow
from pipelines.routing.table import Bill

NOON = 1_795_003_200.0
"""A full hour in November 2026, in seconds since 1970."""

BILL = Bill(input=100, cached_read=40, output=50, reasoning=10, cost=7_500, basis="computed", prices="list 1")


def request(number: int, **more: Any) -> RequestRow:
    common = {"time": NOON + number, "key": "k", "provider": "p", "model": "m", "seconds": 2.0, "first_output": 0.5}
    return RequestRow(id=f"r{number:08}", request_id=f"x{number}", bill=BILL, **{**common, **more})


def attempt(number: int, **more: Any) -> AttemptRow:
    common = {"time": NOON + number, "key": "k", "provider": "p", "model": "m", "request": f"r{number:08}"}
    return AttemptRow(id=f"a{number:08}", **{"bill": BILL, **common, **more})
