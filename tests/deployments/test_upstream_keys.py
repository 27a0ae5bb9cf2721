"""Several keys at one provider, on real sockets: what the provider saw of them, and what the caller never hears."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.config import KeySettings, ProviderSettings
from deployments.http.arriving import whole
from deployments.provider_replica import ProviderReplica
from deployments.providers import OpenAIProvider, key_files
from pipelines.errors import PenstockError
from pipelines.ports import UpstreamAnswer
from pipelines.resilience import RetryPolicy, Timeouts
from pipelines.upstream_keys import LONGEST_REST, UpstreamKey, UpstreamKeys
from tests.actors.virtual_time import run
from tests.deployments.house import House, client_of
from tests.upstream import Fault, Upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
REJECTED = Fault(
    name="rejected",
    status=401,
    headers={"content-type": "application/json"},
    body=b'{"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}}',
)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in "ABC":
        monkeypatch.setenv(f"KEY_{name}", f"sk-secret-{name}\n")


async def provider(running: House, upstream: Upstream, *limits: dict[str, Any], **more: Any) -> ProviderReplica:
    keys = [{"variable": f"KEY_{name}", **limit} for name, limit in zip("ABC", limits, strict=False)]
    settings = {"retry": {"base": 0.02, "cap": 0.04, "patience": 1.0}, "drain": 1.0, **more}
    replica = await running.provider(kind="openai", name="keyed", base_url=f"{upstream.url}/v1", keys=keys, **settings)
    await running.until(lambda: running.gateway.router.table.provider("keyed") is not None)
    upstream.reset()
    return replica


def used(upstream: Upstream) -> list[str]:
    """The keys that the provider saw, each by its letter."""
    return [(seen.header("authorization") or "")[-1:] for seen in upstream.requests]


async def ask(replica: Any, model: str = "m", **more: Any) -> Any:
    async with client_of(replica) as client:
        return await client.post(CHAT, json={"model": model, "messages": HELLO, **more})


@pytest.mark.parametrize("way", ["direct", "routed"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_key_is_followed_by_the_next_at_once(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    replica = await provider(running, upstream, {}, {}, {})
    upstream.plan("m", Fault.rate_limited(30.0), times=2)
    asked, model = (running.gateway, "keyed/m") if way == "routed" else (replica, "m")
    answer = await ask(asked, model, stream=stream)
    assert answer.status_code == 200
    assert used(upstream) == ["A", "B", "C"]
    assert answer.headers["x-penstock-tries"] == "3"
    gaps = [later.at - earlier.at for earlier, later in zip(upstream.requests, upstream.requests[1:], strict=False)]
    assert max(gaps) < 0.5
    # The refused ones rest.
    for _ in range(3):
        assert (await ask(asked, model, stream=stream)).status_code == 200
    assert used(upstream)[3:] == ["C", "C", "C"]
    # Another model has limits of its own.
    assert (await ask(asked, model.replace("m", "n"), stream=stream)).status_code == 200
    assert used(upstream)[-1] != "C"


async def test_when_every_key_has_to_rest_the_caller_hears_how_long_and_nobody_is_asked(
    running: House, upstream: Upstream
) -> None:
    replica = await provider(running, upstream, {}, {})
    upstream.plan("m", Fault.rate_limited(40.0), Fault.rate_limited(20.0))
    refused = await ask(replica)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] in ("20", "19")
    assert "Rate limit reached" in refused.json()["error"]["message"]
    again = await ask(replica)
    assert again.status_code == 429
    assert 18 <= int(again.headers["retry-after"]) <= 20
    assert "every key" in again.json()["error"]["message"]
    assert len(upstream.requests) == 2
    # The gateway goes elsewhere meanwhile.
    other = await ask(running.gateway, "keyed/m", models=["simulator/fast"])
    assert other.headers["x-penstock-provider"] == "simulator"
    assert len(upstream.requests) == 2


async def test_a_rest_within_patience_is_waited_for(running: House, upstream: Upstream) -> None:
    replica = await provider(running, upstream, {}, {})
    upstream.plan("m", Fault.rate_limited(0.3, "milliseconds"), times=2)
    assert (await ask(replica)).status_code == 200
    first, second, third = upstream.requests
    assert second.at - first.at < 0.2
    assert third.at - first.at >= 0.3


async def test_the_limits_of_each_key_are_kept(running: House, upstream: Upstream) -> None:
    replica = await provider(running, upstream, {"requests_per_minute": 2}, {"requests_per_minute": 4})
    answers = [await ask(replica) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert sorted(used(upstream)) == ["A", "A", "B", "B", "B", "B"]
    # One of four a minute comes back in 15 s.
    assert 10 <= int(answers[-1].headers["retry-after"]) <= 15


async def test_tokens_are_counted_as_they_were_used(running: House, upstream: Upstream) -> None:
    replica = await provider(running, upstream, {"tokens_per_minute": 24})
    # 16 tokens of the prompt, 8 of the answer: the whole minute's.
    assert (await ask(replica, stream=True)).status_code == 200
    assert (await ask(replica)).status_code == 429
    assert len(upstream.requests) == 1


async def test_a_key_that_is_not_accepted_is_set_aside_and_named_without_its_secret(
    running: House, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    replica = await provider(running, upstream, {}, {})
    upstream.plan("m", REJECTED)
    with caplog.at_level(logging.WARNING, "penstock"):
        answers = [await ask(replica) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert used(upstream) == ["A", "B", "B", "B", "B"]
    assert "keyed does not accept the key KEY_A: set aside for 60 s" in caplog.text
    assert "secret" not in caplog.text


async def test_a_single_key_that_is_not_accepted_is_told(running: House, upstream: Upstream) -> None:
    replica = await provider(running, upstream, {})
    upstream.plan("m", REJECTED, times=None)
    for _ in range(2):
        assert (await ask(replica)).status_code == 401
    assert len(upstream.requests) == 2


async def test_what_is_only_forwarded_rests_too(running: House, upstream: Upstream) -> None:
    replica = await provider(running, upstream, {})
    upstream.plan("/v1/files", Fault.rate_limited(30.0), times=None)
    async with client_of(replica) as client:
        first = await client.get("/v1/files")
        assert (first.status_code, first.headers["retry-after"]) == (429, "30")
        second = await client.get("/v1/files")
    assert second.status_code == 429
    assert "every key" in second.text
    assert len(upstream.requests) == 1


LIMITS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m0s",
    "x-ratelimit-limit-tokens": "150000",
}


@pytest.mark.parametrize("way", ["direct", "routed"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_the_providers_rate_limits_reach_the_caller_and_are_heeded(
    running: House, upstream: Upstream, way: str, stream: bool, path: str
) -> None:
    replica = await provider(running, upstream, {}, {}, retry={"attempts": 1, "patience": 0.2})
    asked, model = (running.gateway, "keyed/m") if way == "routed" else (replica, "m")
    body = {"model": model, "messages": HELLO, "stream": stream, "max_tokens": 50}
    answered, refused = Fault(headers=LIMITS), Fault(name="limited", error="rate_limited", headers=LIMITS)
    async with client_of(asked) as client:
        for fault, status in ((answered, 200), (refused, 429)):
            # A refusal that both keys hear, or else the second one would answer.
            upstream.plan("m", fault, times=None)
            answer = await client.post(path, json=body)
            assert answer.status_code == status, answer.text
            assert {name: answer.headers.get(name) for name in LIMITS} == LIMITS
    # The first key had nothing left after its first answer.
    assert used(upstream) == ["A", "B"]


@pytest.mark.parametrize("secret", ["variable", "file"])
def test_keys_are_read_from_one_place_each(tmp_path: Path, secret: str) -> None:
    (tmp_path / "key").write_text("sk-of-the-file\n")
    given = {"variable": "KEY_A"} if secret == "variable" else {"file": tmp_path / "key"}
    key = KeySettings(**given, requests_per_minute=5).value()
    assert key.secret == ("sk-secret-A" if secret == "variable" else "sk-of-the-file")
    assert (key.requests_per_minute, key.tokens_per_minute) == (5, None)
    for wrong in ({}, {"variable": "KEY_A", "file": tmp_path / "key"}, {"variable": "KEY_A", "requests_per_minute": 0}):
        with pytest.raises(ValueError, match=r"either a variable or a file|greater than 0"):
            KeySettings.model_validate(wrong)
    with pytest.raises(ValueError, match="takes the place of"):
        ProviderSettings(kind="openai", key_variable="KEY_A", keys=(KeySettings(variable="KEY_B"),))


def test_a_key_without_a_value_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KEY_A")
    keys = tuple(KeySettings(variable=name).value() for name in ("KEY_A", "KEY_B"))
    assert len(OpenAIProvider(keys=keys).keys) == 1
    assert "goes without its key KEY_A, which is empty" in caplog.text
    monkeypatch.delenv("KEY_B")
    keys = tuple(KeySettings(variable=name).value() for name in ("KEY_A", "KEY_B"))
    assert OpenAIProvider(keys=keys).missing() == "no API key: set KEY_A or KEY_B"
    assert "sk-" not in repr(vars(OpenAIProvider(api_key="sk-given")))


class Limiter:
    """A provider in virtual time that answers as it was told, and writes down who asked when."""

    def __init__(self, answers: list[tuple[int, str]]) -> None:
        self._answers = iter(answers)
        self.refused: dict[str, float] = {}
        self.too_early: list[str] = []
        self.asked = 0

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: object, timeouts: Timeouts
    ) -> UpstreamAnswer:
        now, key = asyncio.get_running_loop().time(), headers["authorization"]
        self.asked += 1
        if now < self.refused.get(key, 0.0) - 1e-6:
            self.too_early.append(f"{key} at {now}")
        status, wait = next(self._answers, (200, ""))
        await asyncio.sleep(0.01)
        if status == 429:
            named = float(wait) if wait else 0.0
            rest = min(max(named, POLICY.base / 2), LONGEST_REST)
            self.refused[key] = max(self.refused.get(key, 0.0), now + 0.01 + rest)
        return Said(status, {"retry-after": wait} if wait else {})


class Said:
    """Its answer."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": "application/json", **headers}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
        yield json.dumps({"choices": [choice]} if self.status == 200 else {"error": {"message": "no"}}).encode()

    async def whole(self, most: int) -> bytes:
        return await whole(self.chunks(), most)

    def pass_to(self, take: Callable[[bytes], bool]) -> None: ...

    async def close(self, *, whole: bool = False) -> None: ...


POLICY = RetryPolicy(attempts=3, base=0.25, cap=4.0, patience=10.0)
ANSWERS = st.tuples(st.sampled_from([200, 429, 429, 429, 401, 500]), st.sampled_from(["", "0", "1", "3", "9", "1e9"]))


@settings(deadline=None)
@given(st.lists(ANSWERS, max_size=40), st.integers(1, 3), st.lists(st.floats(0, 20), min_size=1, max_size=8))
def test_no_crowd_of_callers_makes_a_key_be_asked_before_its_rest_is_over(
    answers: list[tuple[int, str]], count: int, starts: list[float]
) -> None:
    limiter = Limiter(answers)

    async def call(provider: OpenAIProvider, start: float) -> None:
        await asyncio.sleep(start)
        try:
            async for _ in provider.generate_stream(HELLO, model="m"):
                pass
        except PenstockError:
            return

    async def crowd() -> None:
        keys = [UpstreamKey(f"k{number}", f"k{number}") for number in range(count)]
        provider = OpenAIProvider(keys=keys, retry=POLICY, transport=limiter)
        provider.keys = UpstreamKeys(keys, POLICY, 0.0)
        await asyncio.gather(*(call(provider, start) for start in starts))

    run(crowd())
    assert limiter.too_early == []
    # Two retries, and each of the keys once.
    assert limiter.asked <= len(starts) * (POLICY.attempts + count - 1)


@pytest.mark.parametrize("several", [True, False])
async def test_a_new_key_in_a_file_is_taken_without_a_restart(
    running: House,
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    several: bool,
) -> None:
    monkeypatch.setattr(key_files, "LOOKING", 0.02)
    file = tmp_path / "key"
    file.write_text("sk-secret-A\n")
    where: dict[str, Any] = {"keys": [{"file": str(file)}]} if several else {"key_file": str(file)}
    replica = await running.provider(kind="openai", name="keyed", base_url=f"{upstream.url}/v1", drain=1.0, **where)

    async def seen() -> str:
        upstream.reset()
        assert (await ask(replica)).status_code == 200
        return used(upstream)[0]

    assert await seen() == "A"
    no_text, two_keys = "sk-secret-C".encode("utf-16"), "sk-secret-C\nsk-secret-D"
    for broken in (
        file.unlink,
        partial(file.write_text, ""),
        partial(file.write_bytes, no_text),
        partial(file.write_text, two_keys),
    ):
        broken()
        warnings = len(caplog.records)
        await running.until(lambda before=warnings: len(caplog.records) > before)
        assert await seen() == "A"
    file.write_text("sk-secret-B")
    await running.until(lambda: replica.provider.keys.first.secret.endswith("B"))
    assert await seen() == "B"
    assert "secret" not in caplog.text


async def test_the_first_key_may_come_after_the_start(
    running: House, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_files, "LOOKING", 0.02)
    file = tmp_path / "key"
    file.write_text("")
    replica = await running.provider(
        kind="openai", name="keyed", base_url=f"{upstream.url}/v1", drain=1.0, key_file=str(file)
    )
    assert replica.announcement().state == "unconfigured"
    file.write_text("sk-secret-A")
    await running.until(lambda: replica.announcement().state == "ready")
    assert (await ask(replica)).status_code == 200
