"""An answer that is given up before its first frame: the upstream is closed and the attempt counted, in both lanes."""

import pytest

from pipelines.calls import Call, Caller
from pipelines.dialects import DIALECTS
from tests.deployments.house import House
from tests.upstream import Fault, Upstream


@pytest.mark.parametrize("recovery", ["error", "continue"])
@pytest.mark.parametrize("way", ["routed", "direct"])
async def test_nothing_is_left_open(running: House, upstream: Upstream, way: str, recovery: str) -> None:
    replica, model = (running.gateway, "flaky/m") if way == "routed" else (running.replicas[-1], "m")
    upstream.plan("m", Fault.without_end(gap=0.01))
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    call = Call(
        id="unread",
        dialect="openai_chat",
        body=body,
        request=DIALECTS["openai_chat"].read_request(body),
        caller=Caller("tests", recovery="continue" if recovery == "continue" else "error"),
        lane="routed" if way == "routed" else "direct",
        path="/v1/chat/completions",
    )
    answer = await replica.answer(call)
    assert upstream.open_connections
    await answer.close()
    await upstream.wait_closed()
    assert replica.limiter.in_flight == 0
    assert not running.gateway.router.in_flight
    assert answer.outcome is None or answer.outcome.cancelled
