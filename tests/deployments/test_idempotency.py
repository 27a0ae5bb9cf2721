"""`Idempotency-Key` on both lanes, end to end on real sockets: asked once, answered as often as it is sent."""

import asyncio
import hashlib
import json
from typing import Any

import httpx
import pytest

from actors.replaying import replay_client
from actors.replaying.replays import Replays
from deployments import replaying
from deployments.replica import Replica
from tests.clients import Caller
from tests.deployments.house import KEY, House, client_of, url_of
from tests.upstream import Fault, Upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 50},
    "/v1/responses": {"input": "Hello"},
}
SAID = replaying.HEADER

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
stream_or_not = pytest.mark.parametrize("stream", [True, False])
every_dialect = pytest.mark.parametrize("path", list(BODIES))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no actor that is away."""
    monkeypatch.setattr(replay_client, "BEGINNING", 30.0)


def lane(running: House, name: str) -> tuple[Replica, str]:
    """The replica that a caller of the lane asks, and the model's name there."""
    return (running.gateway, "flaky/m") if name == "routed" else (running.replicas[-1], "m")


async def ask(
    replica: Replica, model: str, *, key: str = "k", path: str = CHAT, who: str = KEY, **more: Any
) -> httpx.Response:
    """One request with an idempotency key, or without (key="")."""
    headers = {"idempotency-key": key} if key else {}
    async with client_of(replica, who) as client:
        return await client.post(path, json={"model": model, **BODIES[path], **more}, headers=headers)


async def until_stored(running: House, count: int = 1) -> None:
    """Until so many answers are kept: a leader's last word goes out beside the end of its stream."""
    await running.until(lambda: running.replays is not None and len(running.replays._register._stored) == count)


class Reader:
    """A caller who reads a stream frame by frame. Leaving is what `close` does."""

    def __init__(self, replica: Replica, model: str, key: str = "k") -> None:
        self._client = client_of(replica)
        body = {"model": model, "messages": HELLO, "stream": True}
        self._request = self._client.build_request("POST", CHAT, json=body, headers={"idempotency-key": key})
        self.answer: httpx.Response
        self.said = b""

    async def open(self) -> "Reader":
        self.answer = await self._client.send(self._request, stream=True)
        self._chunks = self.answer.aiter_raw()
        return self

    async def more(self) -> bytes:
        data = await anext(self._chunks, b"")
        self.said += data
        return data

    async def rest(self) -> bytes:
        while await self.more():
            pass
        return self.said

    async def close(self) -> None:
        await self.answer.aclose()
        await self._client.aclose()


@both_lanes
@stream_or_not
@every_dialect
async def test_a_repeat_is_given_the_same_bytes(
    running: House, upstream: Upstream, way: str, stream: bool, path: str
) -> None:
    replica, model = lane(running, way)
    first = await ask(replica, model, path=path, stream=stream)
    await until_stored(running)
    again = await ask(replica, model, path=path, stream=stream)
    assert (first.status_code, again.status_code) == (200, 200), first.text
    assert again.content == first.content
    assert first.content.count(b"\n\n") > 5 or not stream
    assert (first.headers.get(SAID), again.headers[SAID]) == (None, "replayed")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers.get("x-penstock-route") == first.headers.get("x-penstock-route")
    assert len(upstream.requests) == 1


@both_lanes
@every_dialect
async def test_another_body_under_the_same_key_is_refused(
    running: House, upstream: Upstream, way: str, path: str
) -> None:
    replica, model = lane(running, way)
    await ask(replica, model, path=path)
    await until_stored(running)
    for changed in ({"temperature": 0.5}, {"stream": True}):
        refused = await ask(replica, model, path=path, **changed)
        assert refused.status_code == 422
        assert "error" in refused.json()
        assert "another body" in refused.text
    if path != "/v1/messages":
        assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert len(upstream.requests) == 1
    # The order of members is no change.
    body = dict(reversed(list({"model": model, **BODIES[path]}.items())))
    async with client_of(replica) as client:
        assert (await client.post(path, json=body, headers={"idempotency-key": "k"})).headers[SAID] == "replayed"


async def test_a_key_of_one_lane_is_refused_on_the_other(running: House) -> None:
    await ask(*lane(running, "routed"))
    await until_stored(running)
    assert (await ask(*lane(running, "direct"))).status_code == 422


@both_lanes
async def test_without_a_key_and_under_another_key_it_is_asked_again(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    for key in ("", "", "a", "b"):
        answer = await ask(replica, model, key=key)
        assert answer.status_code == 200
        assert SAID not in answer.headers
    assert len(upstream.requests) == 4
    assert (await ask(replica, model, key="k" * 256)).status_code == 400


@both_lanes
async def test_another_callers_same_key_is_his_own(running: House, upstream: Upstream, way: str) -> None:
    file = running.directory / "keys.json"
    other = {"id": "other", "name": "other", "hash": hashlib.sha256(b"psk-other-of-the-tests").hexdigest()}
    file.write_text(json.dumps([*json.loads(file.read_text()), other]))
    replica, model = lane(running, way)
    await running.until(lambda: len(replica.router.welcome.keys) == 2 if replica.router.welcome else False)
    await ask(replica, model)
    await until_stored(running)
    answer = await ask(replica, model, who="psk-other-of-the-tests", temperature=0.5)
    assert answer.status_code == 200
    assert SAID not in answer.headers
    assert len(upstream.requests) == 2


@both_lanes
async def test_two_at_once_ask_once_and_both_read_along(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.answer(10, gap=0.4), times=None)
    first = await Reader(replica, model).open()
    await first.more()
    second = await Reader(replica, model).open()
    await second.more()
    assert await second.rest() == await first.rest()
    assert second.said.rstrip().endswith(b"[DONE]")
    assert (first.answer.headers.get(SAID), second.answer.headers[SAID]) == (None, "joined")
    assert len(upstream.requests) == 1
    for reader in (first, second):
        await reader.close()


@stream_or_not
async def test_many_at_once_ask_once(running: House, upstream: Upstream, stream: bool) -> None:
    upstream.plan("m", Fault.answer(5, delay=2.0), times=None)
    answers = await asyncio.gather(*(ask(running.gateway, "flaky/m", stream=stream) for _ in range(8)))
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer.headers.get(SAID, "") for answer in answers) == ["", *["joined"] * 7]
    assert len(upstream.requests) == 1


@both_lanes
@stream_or_not
@pytest.mark.parametrize("fault", [Fault.content_filter(), Fault.never_answer()], ids=lambda fault: fault.name)
async def test_after_a_failure_it_is_asked_anew(
    running: House, upstream: Upstream, way: str, stream: bool, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    hasty = {"timeouts": {"first_event": 0.6} if stream else {"total": 2.0}}
    assert (await ask(replica, model, stream=stream, penstock=hasty)).status_code in (400, 504)
    answer = await ask(replica, model, stream=stream)
    assert answer.status_code == 200
    assert SAID not in answer.headers
    assert len(upstream.requests) == 2


@both_lanes
async def test_a_broken_stream_is_not_kept_and_ends_with_an_error_for_both(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.cut_off(5, gap=0.4))
    first = await Reader(replica, model).open()
    await first.more()
    second = await Reader(replica, model).open()
    await second.more()
    for reader in (first, second):
        said = await reader.rest()
        assert b'"error"' in said.rstrip().split(b"\n\n")[-1]
        assert said.count(b'"error"') == 1
        assert b"[DONE]" not in said
        await reader.close()
    assert len(upstream.requests) == 1
    answer = await ask(replica, model, stream=True)
    assert answer.text.rstrip().endswith("[DONE]")
    assert len(upstream.requests) == 2


@both_lanes
async def test_if_the_first_caller_leaves_before_any_output_the_next_one_asks(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.silence(3600.0))
    headers = [("authorization", f"Bearer {KEY}"), ("idempotency-key", "k")]
    body = {"model": model, "messages": HELLO, "stream": True}
    async with await Caller.connect(url_of(replica)) as caller:
        await caller.request("POST", CHAT, body, headers=headers)
        await upstream.wait_requests(1)
        second = asyncio.create_task(ask(replica, model, stream=True))
        await running.until(lambda: running.replays is not None and running.replays._news)
    await upstream.wait_closed(upstream.requests[0].connection)
    answer = await second
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("[DONE]")
    assert SAID not in answer.headers
    assert len(upstream.requests) == 2


@both_lanes
async def test_if_the_first_caller_leaves_in_mid_stream_the_provider_is_let_go_and_who_joined_hears_it(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.without_end(gap=0.05))
    first = await Reader(replica, model).open()
    await first.more()
    second = await Reader(replica, model).open()
    # There is no end to wait for: what the second one reads, he reads live.
    while len(second.said) < 2000:
        await second.more()
    while len(first.said) < len(second.said):
        await first.more()
    assert first.said.startswith(second.said)
    await first.close()
    await upstream.wait_closed(upstream.requests[0].connection)
    said = await second.rest()
    assert b"broken off" in said.rstrip().split(b"\n\n")[-1]
    assert b"[DONE]" not in said
    await second.close()
    assert (await ask(replica, model, stream=True)).text.rstrip().endswith("[DONE]")


async def test_if_the_joined_caller_leaves_nothing_happens(running: House, upstream: Upstream) -> None:
    replica, model = lane(running, "direct")
    upstream.plan("m", Fault.answer(10, gap=0.05))
    first = await Reader(replica, model).open()
    second = await Reader(replica, model).open()
    await second.more()
    await second.close()
    assert (await first.rest()).rstrip().endswith(b"[DONE]")
    await first.close()
    await until_stored(running)


@pytest.mark.parametrize("stream", [True, False])
async def test_too_large_an_answer_is_given_and_not_kept(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(replaying, "MAX_ANSWER", 2000)
    monkeypatch.setattr(replay_client, "MAX_ANSWER", 2000)
    upstream.plan("m", Fault.answer(40, word_size=200), times=None)
    replica, model = lane(running, "direct")
    for count in (1, 2):
        answer = await ask(replica, model, stream=stream)
        assert answer.status_code == 200
        assert len(answer.content) > 8000
        assert answer.headers.get(SAID) == (None if stream else "not-stored")
        assert len(upstream.requests) == count
        await running.until(lambda: running.replays is not None and not running.replays._register._running)
    assert running.replays is not None
    assert running.replays._register.held == 0


async def test_while_a_too_large_answer_is_under_way_its_key_is_in_use(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_client, "MAX_ANSWER", 2000)
    upstream.plan("m", Fault.without_end(gap=0.02, word_size=500), times=None)
    replica, model = lane(running, "routed")
    first = await Reader(replica, model).open()
    while len(first.said) < 10_000:
        await first.more()
    refused = await ask(replica, model, stream=True)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "idempotency_key_in_use"
    assert refused.headers["retry-after"] == "1"
    await first.close()


@both_lanes
async def test_while_nobody_can_be_asked_about_keys_only_requests_with_one_are_refused(
    running: House, upstream: Upstream, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_client, "BEGINNING", 1.0)
    replica, model = lane(running, way)
    away, running.replays = running.replays, None
    assert away is not None
    replica._replays._link = None
    refused = await ask(replica, model)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert upstream.requests == []
    assert (await ask(replica, model, key="")).status_code == 200
    running.replays = away
    monkeypatch.setattr(replay_client, "BEGINNING", 30.0)
    assert (await ask(replica, model)).status_code == 200


async def test_who_has_begun_is_not_disturbed_when_the_actor_goes_and_a_new_one_gets_it_all(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionError("the actor died")

    replica, model = lane(running, "routed")
    upstream.plan("m", Fault.answer(15, gap=0.3))
    first = await Reader(replica, model).open()
    await first.more()
    second = await Reader(replica, model).open()
    await second.more()
    assert running.replays is not None
    dead = running.replays
    await dead.close()
    running.replays = Replays(str(running.directory), preceded=True)
    for name in ("begin", "push", "abandon", "read"):
        monkeypatch.setattr(dead, name, gone)
    assert await second.rest() == await first.rest()
    assert first.said.rstrip().endswith(b"[DONE]")
    for reader in (first, second):
        await reader.close()
    await until_stored(running)
    assert (await ask(replica, model, stream=True)).content == first.said
    assert len(upstream.requests) == 1


async def test_a_repeat_takes_no_place_and_costs_nothing(running: House) -> None:
    tiny = await running.provider(kind="simulator", name="tiny", concurrent=1, queued=0, drain=1.0)
    stored = await ask(tiny, "fast")
    await until_stored(running)
    busy = asyncio.create_task(ask(tiny, "fast?first=60000", key=""))
    await running.until(lambda: tiny.limiter.in_flight == 1)
    assert (await ask(tiny, "fast")).content == stored.content
    assert (await ask(tiny, "fast", key="")).status_code == 429
    busy.cancel()
    await asyncio.wait({busy})
    tiny._log.flush()
    files = (running.directory / "logs").glob("tiny-*")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    replayed = next(line for line in lines if line.get("idempotency") == "replayed")
    assert (replayed["result"], replayed["cost"], replayed["output_tokens"]) == ("ok", 0.0, 0)


async def test_other_operations_and_handles_have_it_too(running: House, upstream: Upstream) -> None:
    async with client_of(running.gateway) as client:
        for path, body in (
            ("/v1/embeddings", {"model": "flaky/m", "input": "Hello"}),
            ("/v1/messages/count_tokens", {"model": "flaky/m", "messages": HELLO}),
        ):
            answers = [await client.post(path, json=body, headers={"idempotency-key": path}) for _ in range(2)]
            assert answers[0].status_code == 200, answers[0].text
            assert answers[1].content == answers[0].content
    body = {"model": "flaky/m", "messages": HELLO}
    upstream.reset()
    whole = [await running.gateway.chat(body, KEY, idempotency_key="h") for _ in range(2)]
    chunks = [[c async for c in running.gateway.chat_stream(body, KEY, idempotency_key="s")] for _ in range(2)]
    costs = [answer["usage"].pop("cost") for answer in whole]
    assert (whole[0], costs) == (whole[1], [None, 0.0])
    assert chunks[0] == chunks[1]
    assert len(upstream.requests) == 2
    assert (await running.gateway.chat(body, KEY, idempotency_key="s"))["error"]["code"] == "idempotency_key_reused"
    assert "error" in await running.gateway.chat(body, KEY, idempotency_key="x" * 256)


async def test_no_prompt_is_in_the_file(running: House) -> None:
    secret = "a prompt that nobody must find"
    replica, model = lane(running, "direct")
    await ask(replica, model, key="the key itself", messages=[{"role": "user", "content": secret}])
    await until_stored(running)
    files = list(running.directory.glob("answers.sqlite*"))
    content = b"".join(file.read_bytes() for file in files)
    assert files
    assert b"chat.completion" in content
    assert secret.encode() not in content
    assert b"the key itself" not in content
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
