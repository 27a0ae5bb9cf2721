"""One provider that misbehaves: how often and how soon it is asked again, how long it is waited for, what it costs."""

import asyncio
import json
import math
import time
import tracemalloc
from typing import Any

import pytest

from deployments.config import ModelSettings, ProviderSettings
from deployments.http import client as client_module
from deployments.provider_replica import ProviderReplica
from deployments.providers import attempt as attempt_module
from pipelines.resilience import RetryBudget
from tests.deployments.house import House, client_of
from tests.upstream import Fault, Upstream, UpstreamProcess, text_of
from tests.upstream.fault import RetryForm

HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
MIB = 2**20
LATE = 0.5
"""Seconds that a timeout may come later than the loop itself is late."""

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
stream_or_not = pytest.mark.parametrize("stream", [True, False])


async def flaky(running: House, upstream: Upstream, **settings: Any) -> ProviderReplica:
    complete = {"kind": "local", "name": "other", "base_url": f"{upstream.url}/v1", "drain": 1.0, **settings}
    replica = await running.provider(**complete)
    await running.until(lambda: running.gateway.router.table.provider("other") is not None)
    await running.until(lambda: replica.announcement().state == "ready")
    upstream.reset()
    return replica


async def ask(running: House, way: str, *, path: str = CHAT, provider: str = "flaky", **more: Any) -> Any:
    replica, model = (running.gateway, f"{provider}/m") if way == "routed" else (running.replicas[-1], "m")
    async with client_of(replica) as client:
        return await client.post(path, json={"model": model, "messages": HELLO, "max_tokens": 50, **more})


def given(body: bytes, kind: str = "application/json", **more: str) -> Fault:
    return Fault(name="given", body=body, headers={"content-type": kind, **more})


def lines(running: House) -> list[dict[str, Any]]:
    """The request log of all replicas."""
    for replica in running.replicas:
        replica._log.flush()
    files = (running.directory / "logs").glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@both_lanes
@pytest.mark.parametrize("cut", ["close", "half_close", "reset", "error"])
async def test_an_answer_that_was_never_handed_out_is_asked_for_again(
    running: House, upstream: Upstream, way: str, cut: Any
) -> None:
    upstream.plan("m", Fault.cut_off(5, cut))
    answer = await ask(running, way, path=MESSAGES)
    assert answer.status_code == 200, answer.text
    assert answer.json()["content"][0]["text"] == text_of(Fault())
    assert answer.headers["x-penstock-tries"] == "2"
    assert len(upstream.requests) == 2
    assert {line["tries"] for line in lines(running) if line.get("result") == "ok"} == {2}


@both_lanes
@stream_or_not
@pytest.mark.parametrize("after_words", [False, True])
async def test_a_provider_that_quotes_its_key_is_not_quoted(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, way: str, stream: bool, after_words: bool
) -> None:
    secret = "plain/of no shape"
    monkeypatch.setenv("LOCAL_API_KEY", secret)
    await running.provider(kind="local", name="quoting", base_url=f"{upstream.url}/v1", drain=1.0)
    await running.until(lambda: running.gateway.router.table.provider("quoting") is not None)
    said = json.dumps({"error": {"message": f"what is {secret}?", "type": "server_error"}}).encode()
    if after_words:
        word = json.dumps({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "a"}}]}).encode()
        upstream.plan("m", given(b"data: %b\n\ndata: %b\n\n" % (word, said), "text/event-stream"), times=None)
    else:
        upstream.plan("m", Fault(status=401, headers={"content-type": "application/json"}, body=said))
    replica, model = (running.gateway, "quoting/m") if way == "routed" else (running.replicas[-1], "m")
    async with client_of(replica) as client:
        answer = await client.post(
            MESSAGES, json={"model": model, "messages": HELLO, "max_tokens": 50, "stream": stream}
        )
    assert upstream.requests[-1].header("authorization") == f"Bearer {secret}"
    assert secret not in answer.text
    assert "what is [redacted]?" in answer.text


@both_lanes
@stream_or_not
async def test_a_long_answer_that_goes_on_is_waited_for(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    # The answer takes longer than either timeout, and never stands still for as long.
    upstream.plan("m", Fault.answer(words=12, gap=0.2))
    hasty = {"timeouts": {"first_event": 2.0, "idle": 2.0}}
    answer = await ask(running, way, path=MESSAGES, stream=stream, penstock=hasty)
    assert answer.status_code == 200, answer.text
    assert "word11" in answer.text
    assert len(upstream.requests) == 1


async def test_what_is_usual_is_not_logged_and_what_was_skipped_is(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault(), Fault.malformed())
    for _ in range(2):
        assert (await ask(running, "direct", stream=True)).status_code == 200
    first, second = lines(running)
    assert "tries" not in first
    assert "skipped" not in first
    assert second["skipped"] == 1


async def test_a_failure_says_how_often_it_was_tried(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.unavailable(), times=None)
    answer = await ask(running, "routed")
    assert (answer.status_code, answer.headers["x-penstock-tries"]) == (503, "3")
    assert {line.get("tries") for line in lines(running)} == {"3"}


async def test_retries_are_a_share_of_all_requests(running: House, upstream: Upstream) -> None:
    requests, share = 60, 0.1
    upstream.plan("m", Fault.server_error(), times=None)
    # Nothing is allowed by the second: how long the requests take is of no account.
    replica = running.replicas[-1]
    assert isinstance(replica, ProviderReplica)
    replica.provider._budget = RetryBudget(time.monotonic(), share=share, floor=0.0)
    for _ in range(requests):
        assert (await ask(running, "direct")).status_code == 500
    retries = len(upstream.requests) - requests
    assert share * requests - 1 <= retries <= share * requests + 1


@pytest.mark.parametrize(
    ("form", "wait", "least"),
    [("seconds", 0.3, 0.3), ("milliseconds", 0.3, 0.3), ("date", 1.2, 0.9), ("seconds", -5.0, 0.0)],
)
async def test_a_named_wait_is_kept_in_every_form(
    running: House, upstream: Upstream, form: RetryForm, wait: float, least: float
) -> None:
    upstream.plan("m", Fault.rate_limited(wait, form))
    assert (await ask(running, "direct")).status_code == 200
    first, second = upstream.requests
    assert second.at - first.at >= least


@pytest.mark.parametrize("text", ["3600", "99999999999999999999", "Fri, 31 Dec 2199 23:59:59 GMT"])
async def test_an_absurd_wait_is_not_waited_for(running: House, upstream: Upstream, text: str) -> None:
    headers = {"retry-after": text, "date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    upstream.plan("m", Fault(name="limited", error="rate_limited", headers=headers), times=None)
    # It would be longer than the test's client waits.
    assert (await ask(running, "direct")).status_code == 429
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("text", ["soon", "nan", "inf", ""])
async def test_a_wait_that_cannot_be_read_is_none(running: House, upstream: Upstream, text: str) -> None:
    upstream.plan("m", Fault(name="limited", error="rate_limited", headers={"retry-after": text}))
    assert (await ask(running, "direct")).status_code == 200
    assert len(upstream.requests) == 2


async def test_a_provider_that_says_that_it_is_of_no_use_is_believed(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault(name="final", error="server_error", headers={"x-should-retry": "false"}))
    assert (await ask(running, "direct")).status_code == 500
    assert len(upstream.requests) == 1
    upstream.plan("m", Fault(name="again", error="server_error", headers={"x-should-retry": "true"}))
    assert (await ask(running, "direct")).status_code == 200


@both_lanes
async def test_timeouts_are_the_calls_over_the_models_over_the_providers(
    running: House, upstream: Upstream, way: str
) -> None:
    slow = {"name": "m", "timeouts": {"first_event": 0.3}}
    await flaky(running, upstream, models=[slow], timeouts={"first_event": 20.0}, any_model=True)
    for options, seconds in (({}, 0.3), ({"timeouts": {"first_event": 0.1, "idle": 0.2}}, 0.1)):
        upstream.plan("m", Fault.never_answer())
        began = time.monotonic()
        answer = await ask(running, way, provider="other", stream=True, penstock=options)
        assert answer.status_code == 504
        assert f"within {seconds:g} s" in answer.text
        assert time.monotonic() - began >= seconds
    upstream.plan("m", Fault.stall(2))
    answer = await ask(running, way, provider="other", stream=True, penstock={"timeouts": {"idle": 0.2}})
    assert "no more output within 0.2 s" in answer.text
    upstream.plan("m", Fault.answer(words=50, gap=0.05))
    answer = await ask(running, way, provider="other", stream=True, penstock={"timeouts": {"total": 0.4}})
    assert "total time" in answer.text
    assert all("penstock" not in seen.body for seen in upstream.requests)


@stream_or_not
async def test_a_requests_total_time_counts_over_all_its_candidates(
    running: House, upstream: Upstream, stream: bool
) -> None:
    upstream.plan("refuses", Fault.server_error(), times=None)
    upstream.plan("silent", Fault.never_answer(), times=None)
    models, limit = ["flaky/refuses", "flaky/silent", "flaky/fine"], {"timeouts": {"total": 3.0}}
    async with client_of(running.gateway) as client:
        body = {"models": models, "messages": HELLO, "stream": stream, "penstock": limit}
        answer = await client.post(CHAT, json=body)
        # What the caller hears is the first thing that went wrong.
        assert answer.status_code == 500, answer.text
        assert [seen.body["model"] for seen in upstream.requests][-2:] == ["refuses", "silent"]
        in_time = await client.post(CHAT, json={**body, "models": [models[0], models[2]]})
        assert (in_time.status_code, in_time.headers["x-penstock-model"]) == (200, "fine")


def test_a_models_timeouts_are_no_part_of_its_card() -> None:
    model = ModelSettings.model_validate({"name": "m", "timeouts": {"idle": 2}})
    assert model.value().name == "m"
    given = ProviderSettings(kind="local", models=(model,)).arguments()["model_timeouts"]["m"]
    assert (given.idle, given.connect, given.first_event, given.total) == (2.0, None, None, None)
    with pytest.raises(ValueError, match="greater than 0"):
        ModelSettings.model_validate({"name": "m", "timeouts": {"idle": 0}})


async def test_the_total_time_holds_over_all_tries(running: House, upstream: Upstream) -> None:
    await flaky(running, upstream, timeouts={"total": 4.0}, retry={"base": 0.01, "patience": 100.0})
    upstream.plan("m", Fault.rate_limited(90.0), times=None)
    # It would be longer than the test's client waits.
    assert (await ask(running, "direct")).status_code == 429
    upstream.plan("n", Fault.rate_limited(3.0), Fault.never_answer())
    assert (await ask(running, "direct", model="n")).status_code == 504
    second = upstream.requests[-1]
    assert await upstream.wait_closed(second.connection) - second.at < 3.5


@both_lanes
async def test_no_try_begins_after_the_total_time(running: House, upstream: Upstream, way: str) -> None:
    await flaky(running, upstream, retry={"base": 0.01, "patience": 100.0})
    upstream.plan("m", Fault(name="busy", status=503, headers={"retry-after": "9"}, body=b"{}"), times=None)
    answer = await ask(running, way, provider="other", penstock={"timeouts": {"total": 2.0}})
    assert answer.status_code == 503
    assert len(upstream.requests) == 1


async def lateness(found: list[float]) -> None:
    """Write down for ever how many seconds the loop's timers come late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        found.append(loop.time() - due)


async def test_timeouts_come_in_time_under_load(running: House, upstream: Upstream) -> None:
    upstream.plan("silent", Fault.never_answer(), times=None)
    upstream.plan("busy", Fault.without_end(gap=0.01), times=None)
    body = {"messages": HELLO, "stream": True}
    late: list[float] = []
    async with client_of(running.replicas[-1]) as client, asyncio.TaskGroup() as callers:
        for _ in range(20):
            busy = {**body, "model": "busy", "penstock": {"timeouts": {"total": 2.0}}}
            callers.create_task(client.post(CHAT, json=busy))
        silent_ones = [
            callers.create_task(
                client.post(CHAT, json={**body, "model": "silent", "penstock": {"timeouts": {"first_event": 0.6}}})
            )
            for _ in range(60)
        ]
        watching = asyncio.create_task(lateness(late))
        await asyncio.wait(silent_ones)
        watching.cancel()
    await upstream.wait_closed()
    closed = {link.number: link.closed for link in upstream.connections}
    silent = [seen for seen in upstream.requests if seen.body["model"] == "silent"]
    took = [(closed[seen.connection] or 0.0) - seen.at for seen in silent]
    assert len(took) == 60
    # Some turns of the loop lie between the timer and the closed connection.
    assert max(took) < 0.6 + LATE + 10 * max(late)


HOSTILE = [
    given(b"<html><title>Welcome</title></html>", "text/html"),
    given(b"<html><title>Welcome</title></html>", "application/json"),
    given(b"", "application/json"),
    given(b"", "text/event-stream"),
    given(b"null", "application/json"),
    given(b'{"error": {"message": "the model broke down", "type": "server_error", "code": 500}}'),
    given(b'data: {"error": {"message": "the model broke down", "code": 500}}\n\n', "text/event-stream"),
    given(b"\x1f\x8b\x08\x00nonsense", "application/json", **{"content-encoding": "gzip"}),
    given(b"{}", "application/json", **{"content-encoding": "br"}),
    Fault.cut_off(0, "clean"),
    Fault.cut_off(0, "half_close"),
    Fault.broken_chunk(0),
]


def _possible(fault: Fault, path: str, *, stream: bool) -> bool:
    """A relayed call without a stream gets a body with a length: no chunk of it breaks, and no end comes too soon."""
    return stream or path != CHAT or (fault.cut != "clean" and fault.broken_chunk_at is None)


@both_lanes
@pytest.mark.parametrize(
    ("fault", "path", "stream"),
    [
        pytest.param(fault, path, stream, id=f"{fault.name}-{(fault.body or b'')[:12]!r}-{path}-{stream}")
        for fault in HOSTILE
        for path in (CHAT, MESSAGES)
        for stream in (True, False)
        if _possible(fault, path, stream=stream)
    ],
)
async def test_what_is_no_answer_is_an_error_in_the_callers_dialect(
    running: House, upstream: Upstream, way: str, stream: bool, path: str, fault: Fault
) -> None:
    upstream.plan("m", fault, times=None)
    answer = await ask(running, way, path=path, stream=stream)
    assert answer.status_code >= 500, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert (answer.json().get("type") == "error") == (path == MESSAGES)
    assert "<html" not in answer.text
    assert len(upstream.requests) <= 3
    await upstream.wait_requests(1)


@both_lanes
@stream_or_not
async def test_a_web_page_is_called_so(running: House, upstream: Upstream, way: str, stream: bool) -> None:
    upstream.plan("m", given(b"<html>Sign in</html>", "text/html; charset=utf-8"), times=None)
    answer = await ask(running, way, stream=stream)
    assert (answer.status_code, "answered with a web page" in answer.json()["error"]["message"]) == (502, True)


@stream_or_not
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_whole_answer_is_read_to_its_bound(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, stream: bool, path: str
) -> None:
    monkeypatch.setattr(attempt_module, "MAX_ANSWER", 5000)
    message = {"role": "assistant", "content": "x" * 4000}
    body: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    for size, status in ((4000, 200), (6000, 502)):
        message["content"] = "x" * size
        upstream.plan("m", given(json.dumps(body).encode()), times=None)
        answer = await ask(running, "direct", path=path, stream=stream)
        assert answer.status_code == status, answer.text
        assert ("longer than 5000 bytes" in answer.text) == (status == 502)


@stream_or_not
@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        (Fault.silence(600.0), {"first_event": 0.3}),
        (Fault.stall(2), {"idle": 0.3}),
        (Fault(name="refused", status=500, body=b"x" * (attempt_module.MAX_ERROR * 2), piece=2**16), {}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_connection_whose_answer_was_not_read_to_its_end_is_closed(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, fault: Fault, limit: Any, stream: bool
) -> None:
    # Where only the body's end is missing a connection is kept for a while: here that would be for the whole test.
    monkeypatch.setattr(client_module, "SPARE_SECONDS", 3600.0)
    await flaky(running, upstream, retry={"attempts": 1}, timeouts={"total": 60.0, **limit})
    upstream.plan("m", fault, times=None)
    # The provider streams for a caller in another dialect, whether he wants a stream or not.
    answer = await ask(running, "direct", path=MESSAGES, stream=stream)
    assert '"error"' in answer.text
    numbers = {seen.connection for seen in upstream.requests if seen.body is not None and seen.body.get("model") == "m"}
    assert len(numbers) == 1
    await upstream.wait_closed(numbers.pop(), 10.0)


async def test_what_no_encoder_can_write_reaches_who_calls_over_a_handle_as_plain_values(
    running: House, upstream: Upstream
) -> None:
    end: dict[str, Any] = {"finish_reason": "stop", "logprobs": {"content": [{"logprob": -math.inf}]}}
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in ("Hi ", "\ud83d")]
    said = [json.dumps({"choices": [choice]}) for choice in [*choices, {"index": 0, "delta": {}, **end}]]
    upstream.plan("m", given("".join(f"data: {data}\n\n" for data in said).encode(), "text/event-stream"))
    body = {"model": "flaky/m", "messages": HELLO}
    chunks = [chunk async for chunk in running.gateway.chat_stream(body)]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["Hi ", "\ufffd", None]
    assert chunks[-1]["choices"][0]["logprobs"] == {"content": [{"logprob": None}]}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "\ud83d"}, **end}]}
    upstream.plan("m", given(json.dumps(answer).encode()))
    whole = await running.gateway.chat(body)
    assert whole["choices"][0]["message"]["content"] == "\ufffd"


@both_lanes
@stream_or_not
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("fault", [Fault.long_line(), Fault.gzip_bomb()], ids=lambda fault: fault.name)
async def test_a_giant_takes_no_giant_memory(running: House, way: str, stream: bool, path: str, fault: Fault) -> None:
    with UpstreamProcess() as upstream:
        upstream.plan("m", fault, times=None)
        await running.provider(kind="local", name="giant", base_url=f"{upstream.url}/v1", drain=1.0)
        await running.until(lambda: running.gateway.router.table.provider("giant") is not None)
        tracemalloc.start()
        try:
            answer = await ask(running, way, path=path, provider="giant", stream=stream)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert answer.status_code == 502 or '"error"' in answer.text or len(answer.content) >= 50 * MIB
    # What the error has not got, the body of the one whole answer and its copies have.
    assert peak < 300 * MIB, f"{peak / MIB:.0f} MiB"
