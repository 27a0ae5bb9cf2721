"""Both lanes end to end on real sockets: answers, and what callers see when things go wrong."""

import asyncio
from typing import Any

import openai
import pytest

from deployments.config import GatewaySettings, ListenSettings, ProviderSettings
from deployments.front import MAX_TOOLS
from deployments.gateway import Gateway
from deployments.hop import asking as hop_module
from deployments.provider_replica import ProviderReplica
from deployments.replica import Replica
from pipelines.errors import ConfigurationError
from tests.clients import Caller
from tests.deployments.house import KEY, House, client_of, url_of
from tests.upstream import Fault, Upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]
HASTY = {"timeouts": {"first_event": 0.6}}
CHAT = "/v1/chat/completions"
MIB = 2**20


def lane(running: House, name: str) -> tuple[Replica, str]:
    """The replica that a caller of the lane asks, and the model's name there."""
    if name == "routed":
        return running.gateway, "flaky/m"
    return running.replicas[-1], "m"


both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
stream_or_not = pytest.mark.parametrize("stream", [True, False])


async def ask(replica: Replica, model: str, *, stream: bool, **more: Any) -> tuple[int, str, dict[str, str]]:
    """Status, whole body and headers of one chat."""
    async with client_of(replica) as client:
        body = {"model": model, "messages": HELLO, "stream": stream, **more}
        answer = await client.post(CHAT, json=body)
    return answer.status_code, answer.text, dict(answer.headers)


async def test_a_chat_is_answered_on_both_lanes(running: House) -> None:
    for replica, model in ((running.gateway, "simulator/fast"), (running.replicas[0], "fast")):
        status, text, _ = await ask(replica, model, stream=False)
        assert status == 200, text
        assert "You said: Hello" in text


async def test_the_official_client_streams_and_does_not(running: House) -> None:
    client = openai.AsyncOpenAI(base_url=f"{url_of(running.gateway)}/v1", api_key=KEY)
    try:
        stream = await client.chat.completions.create(model="simulator/balanced", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await client.chat.completions.create(model="simulator/balanced", messages=HELLO)
        assert text == whole.choices[0].message.content
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 48
        assert "simulator/fast" in [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="no provider has the model"):
            await client.chat.completions.create(model="nobody/nothing", messages=HELLO)
    finally:
        await client.close()


@both_lanes
@stream_or_not
@pytest.mark.parametrize(
    "fault",
    [Fault.rate_limited(), Fault.server_error(), Fault.overloaded(), Fault.reset_before_headers()],
    ids=lambda fault: fault.name,
)
async def test_one_failure_before_the_first_output_is_not_seen(
    running: House, upstream: Upstream, way: str, stream: bool, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    status, text, _ = await ask(replica, model, stream=stream)
    assert status == 200, text
    assert len(upstream.requests) == 2


@both_lanes
@stream_or_not
async def test_a_limiter_that_stays_is_asked_three_times_and_then_heard(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.rate_limited(), times=None)
    status, text, headers = await ask(replica, model, stream=stream)
    assert status == 429
    assert '"error"' in text
    assert headers["content-type"] == "application/json"
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Fault.rate_limited(), 3),
        (Fault.unavailable(), 3),
        (Fault.reset_before_headers(), 3),
        (Fault.never_answer(), 1),
        (Fault.rate_limited(3600.0), 1),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_the_next_model_answers_when_the_first_one_cannot(
    running: House, upstream: Upstream, fault: Fault, tries: int
) -> None:
    upstream.plan("m", fault, times=None)
    status, text, headers = await ask(
        running.gateway, "flaky/m", stream=True, models=["simulator/fast"], penstock=HASTY
    )
    assert status == 200, text
    assert headers["x-penstock-provider"] == "simulator"
    assert text.rstrip().endswith("data: [DONE]")
    assert len(upstream.requests) == tries


async def test_a_request_that_is_the_callers_own_fault_goes_nowhere_else(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.content_filter(), times=None)
    status, text, _ = await ask(running.gateway, "flaky/m", stream=True, models=["simulator/fast"])
    assert status == 400
    assert '"error"' in text
    assert len(upstream.requests) == 1


@both_lanes
@pytest.mark.parametrize(
    "fault",
    [
        Fault.cut_off(3),
        Fault.cut_off(3, "half_close"),
        Fault.cut_off(3, "reset"),
        Fault.cut_off(3, "clean"),
        Fault.cut_off(8),
        Fault.stall(3, ping=0.1),
        Fault.error_inside(3),
        Fault.broken_chunk(3),
    ],
    ids=lambda fault: f"{fault.name}-{fault.cut_after}",
)
async def test_a_stream_that_breaks_is_never_ended_like_an_answer(
    running: House, upstream: Upstream, way: str, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    status, text, _ = await ask(replica, model, stream=True, penstock={"timeouts": {"idle": 0.6}})
    assert status == 200
    assert '"error"' in text.rstrip().split("\n\n")[-1]
    assert "[DONE]" not in text
    assert len(upstream.requests) == 1


@both_lanes
@pytest.mark.parametrize(
    "fault",
    [Fault.malformed(), Fault.sentinel(0), Fault.sentinel(2), Fault.no_usage(), Fault.zero_usage()],
    ids=lambda fault: fault.name,
)
async def test_oddities_of_a_whole_answer_are_mended(
    running: House, upstream: Upstream, way: str, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    status, text, _ = await ask(replica, model, stream=True)
    assert status == 200
    assert text.count("data: [DONE]") == 1
    assert '"error"' not in text


@both_lanes
@pytest.mark.parametrize("fault", [Fault.long_line(), Fault.gzip_bomb()], ids=lambda fault: fault.name)
async def test_bombs_end_in_an_error(running: House, upstream: Upstream, way: str, fault: Fault) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    status, text, _ = await ask(replica, model, stream=True)
    assert status == 502 or '"error"' in text
    assert "[DONE]" not in text


@both_lanes
@pytest.mark.parametrize("fault", [Fault.never_answer(), Fault.silence(3600.0, ping=0.1)], ids=lambda fault: fault.name)
async def test_silence_is_an_error_in_time_and_not_asked_again(
    running: House, upstream: Upstream, way: str, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault)
    status, text, _ = await ask(replica, model, stream=True, penstock=HASTY)
    assert status == 504
    assert "no first output within 0.6 s" in text
    assert len(upstream.requests) == 1


@both_lanes
@pytest.mark.parametrize("fault", [Fault.never_answer(), Fault.without_end(gap=0.02)], ids=lambda fault: fault.name)
async def test_a_caller_who_leaves_closes_the_upstream(
    running: House, upstream: Upstream, way: str, fault: Fault
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", fault, times=None)
    headers = [("authorization", f"Bearer {KEY}")]
    for count in range(1, 6):
        async with await Caller.connect(url_of(replica)) as caller:
            await caller.request("POST", CHAT, {"model": model, "messages": HELLO, "stream": True}, headers=headers)
            await upstream.wait_requests(count)
            if fault.endless:
                await caller.head()
                await caller.frame()
        await upstream.wait_closed(upstream.requests[-1].connection)
    await running.until(lambda: replica.front.visits == 0)


@both_lanes
async def test_a_caller_who_stops_reading_stops_the_upstream(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.without_end(word_size=1000), times=None)
    async with await Caller.connect(url_of(replica), receive_buffer=4096) as caller:
        await caller.post(
            CHAT,
            {"model": model, "messages": HELLO, "stream": True},
            headers=[("authorization", f"Bearer {KEY}")],
        )
        await caller.frame()
        before = -1
        for _ in range(50):
            await asyncio.sleep(0.2)
            accepted = upstream.connections[-1].accepted
            if accepted == before:
                break
            before = accepted
        assert accepted == before, "the upstream still sends"
        assert accepted < 24 * MIB
    await upstream.wait_closed()


async def test_a_full_provider_refuses_in_the_callers_dialect(running: House) -> None:
    tiny = await running.provider(kind="simulator", name="tiny", concurrent=1, queued=0, drain=1.0)
    async with client_of(tiny) as client:
        body = {"model": "fast?first=3000", "messages": HELLO}
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_provider_without_a_key_is_up_and_says_why(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    replica = await running.provider(kind="openai", drain=1.0)
    await running.until(lambda: running.gateway.router.table.provider("openai") is not None)
    async with client_of(running.gateway) as client:
        listed = {entry["name"]: entry for entry in (await client.get("/v1/providers")).json()["data"]}
    assert listed["openai"]["state"] == "unconfigured"
    assert "OPENAI_API_KEY" in listed["openai"]["why"]
    for replica_asked, model in ((replica, "gpt-5"), (running.gateway, "openai/gpt-5")):
        status, text, _ = await ask(replica_asked, model, stream=False)
        assert status == 503
        assert "OPENAI_API_KEY" in text


async def _lost_in_mid_stream(running: House, monkeypatch: pytest.MonkeyPatch, model: str) -> str:
    """What a stream still says whose provider's replicas are in no table any more after its first line."""
    hop = running.gateway._hop
    entry = running.gateway.router.table.provider("simulator")
    assert entry is not None
    async with (
        client_of(running.gateway) as client,
        client.stream("POST", CHAT, json={"model": model, "messages": HELLO, "stream": True}) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        with monkeypatch.context() as patch:
            patch.setattr(hop, "regain", lambda _: None)
            hop.lose([replica.replica for replica in entry.replicas])
            return "\n".join([line async for line in lines])


async def test_a_lost_replica_is_replaced_before_and_said_after_the_first_output(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = await _lost_in_mid_stream(running, monkeypatch, "simulator/fast?fault=stall&after=3")
    assert "went away" in rest
    assert "[DONE]" not in rest
    # A replica that is dead but still listed costs nothing but the next one.
    second = await running.provider(kind="simulator", drain=1.0)

    def replicas() -> int:
        entry = running.gateway.router.table.provider("simulator")
        return len(entry.replicas) if entry else 0

    await running.until(lambda: replicas() == 2)
    for port in second._ports:
        await port.stop()
    for _ in range(6):
        status, text, _ = await ask(running.gateway, "simulator/fast", stream=True)
        assert status == 200, text


async def test_a_stream_that_flows_outlives_its_replicas_entry_in_the_table(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It flows for longer than the silence that would end it."""
    monkeypatch.setattr(hop_module, "DOUBT", 0.2)
    rest = await _lost_in_mid_stream(running, monkeypatch, "simulator/fast?gap=20&tokens=60")
    assert rest.endswith("[DONE]\n")
    assert "went away" not in rest


async def test_another_application_does_not_get_a_port_that_the_gateway_has(running: House) -> None:
    taken = running.gateway._ports[-1].address[1]
    settings = ProviderSettings(kind="simulator", name="copy", listen=ListenSettings(port=taken), drain=1.0)
    copy = ProviderReplica(settings, running.connect, running.connect_replays, running.connect_ledger)
    running.replicas.append(copy)
    with pytest.raises(ConfigurationError, match="taken by another program or application"):
        await copy.start()
    same = GatewaySettings(listen=ListenSettings(port=taken), drain=1.0)
    second = Gateway(same, running.connect, running.connect_replays, running.connect_ledger, running.connect_registry)
    running.replicas.append(second)
    await second.start()


async def test_the_handles_give_plain_dicts_and_errors_as_the_last_one(running: House) -> None:
    body = {"model": "simulator/fast", "messages": HELLO}
    chunks = [chunk async for chunk in running.gateway.chat_stream(body)]
    assert all(type(chunk) is dict for chunk in chunks)
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]).startswith("You said")
    whole = await running.gateway.chat(body, key=KEY)
    assert whole["object"] == "chat.completion"
    assert (await running.gateway.chat(body, key="wrong"))["error"]["code"] == "authentication"
    for wrong in ({**body, "model": "nope"}, {**body, "model": "simulator/fast?fault=cut&after=2"}, {}):
        chunks = [chunk async for chunk in running.gateway.chat_stream(wrong)]
        assert "error" in chunks[-1]


@both_lanes
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_a_request_has_no_more_tools_than_providers_take(running: House, way: str, path: str) -> None:
    replica, model = lane(running, way)
    for count, status in ((MAX_TOOLS, 200), (MAX_TOOLS + 1, 400)):
        names = [f"tool_{number}" for number in range(count)]
        tools: list[Any] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
        if path == CHAT:
            tools = [{"type": "function", "function": {"name": name}} for name in names]
        async with client_of(replica) as client:
            body = {"model": model, "messages": HELLO, "max_tokens": 9, "tools": tools}
            answer = await client.post(path, json=body)
        assert answer.status_code == status, answer.text
        assert (f"there are {count} tools, more than {MAX_TOOLS}" in answer.text) == (status == 400)
