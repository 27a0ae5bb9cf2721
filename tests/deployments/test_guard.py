"""The guard: callers by key, our own processes by the cluster's secret, nobody else."""

import hashlib

import pytest

from deployments.guard import HOP_HEADER, PRIORITY_HEADER, Guard
from pipelines.calls import Caller
from pipelines.errors import Denied

KEY = "psk-right"


def test_the_guard_knows_callers_by_three_headers_and_nobody_else() -> None:
    guard = Guard("cluster-secret")
    guard.admit({hashlib.sha256(KEY.encode()).hexdigest(): Caller("me", admin=True)})
    for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"api-key": KEY}):
        assert guard.caller(headers).id == "me"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": "é\udcff"}):
        with pytest.raises(Denied) as denied:
            guard.caller(headers)
        assert KEY not in denied.value.message
    assert guard.hop({HOP_HEADER: "cluster-secret", "x-penstock-caller": "me"}).id == "me"
    for text, priority in (("7", 7), ("-3", -3), ("1000", 100), ("-1000", -100), ("much", 0), ("", 0), ("9" * 5000, 0)):
        assert guard.hop({HOP_HEADER: "cluster-secret", PRIORITY_HEADER: text}).priority == priority
    assert guard.caller({"x-api-key": KEY, PRIORITY_HEADER: "100"}).priority == 0
    for secret in ("", "wrong"):
        with pytest.raises(Denied):
            guard.hop({HOP_HEADER: secret})
    with pytest.raises(Denied):
        Guard("").hop({HOP_HEADER: ""})
