"""Requests whose tools run here, through the whole house: three dialects, with and without a stream, real clients."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import msgspec
import openai
import pytest

from actors.tools.registry_link import RegistryLink
from actors.tools.toolbox import ToolboxClient
from deployments.guard import Guard
from deployments.tools.tool_lane import NoTools
from pipelines.conversation import Reasoning, Request, Text
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer, parse
from pipelines.events import Event, PartDelta, PartEnded, PartStarted
from pipelines.tools.catalogue import Health, Progress, Ran, Tool, ToolRun
from tests.deployments.house import KEY, House, client_of, house, url_of
from tests.deployments.scripted_provider import ScriptedProvider, results_of, scripted_provider, turn_of
from tests.deployments.test_tracing import receiver
from tests.pipelines.scripted_turns import CAREFUL, ECHO, SUM, TOOLS, Tools, calling, said, text, turn
from tests.readme import run

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
}
OWN_TOOL = {
    "openai_chat": {"type": "function", "function": {"name": "his_own", "parameters": {"type": "object"}}},
    "openai_responses": {"type": "function", "name": "his_own", "parameters": {"type": "object"}},
    "anthropic_messages": {"name": "his_own", "input_schema": {"type": "object"}},
}
MODELS = ("chat/model", "claude/model")

every_dialect = pytest.mark.parametrize("dialect", sorted(PATHS))
every_way = pytest.mark.parametrize("stream", [False, True])
every_model = pytest.mark.parametrize("model", MODELS)


def adding(request: Request) -> list[Event]:
    """Two calls side by side, then what they said."""
    if not results_of(request):
        calls = [calling(SUM.name, {"numbers": [1, 2]}, "a", 1), calling(ECHO.name, {"n": 1}, "b", 2)]
        return turn(text("let me see: "), *calls)
    words = [part.text for result in results_of(request) for part in result.parts if isinstance(part, Text)]
    return turn(text(f"they say {words}"))


ANSWER = "let me see: they say ['3', '{\"n\":1}']"


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider(adding) as one:
        yield one


@pytest.fixture
async def tooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: ScriptedProvider) -> AsyncIterator[House]:
    """A house with two providers, of chat completions and of Messages, and the tools of `scripted_turns`."""
    async with house(tmp_path, monkeypatch) as built:
        await built.provider(kind="local", name="chat", base_url=f"{provider.url}/v1", drain=1.0)
        monkeypatch.setenv("CLAUDE_KEY", "none")
        await built.provider(
            kind="anthropic", name="claude", base_url=provider.url, key_variable="CLAUDE_KEY", any_model=True, drain=1.0
        )
        for name in ("chat", "claude"):
            await built.until(lambda name=name: is_ready(built, name))
        built.gateway.tool_lane.toolbox = Tools()
        yield built


def is_ready(built: House, name: str) -> bool:
    entry = built.gateway.router.table.provider(name)
    return entry is not None and entry.state == "ready"


def tools_of(built: House) -> Tools:
    toolbox = built.gateway.tool_lane.toolbox
    assert isinstance(toolbox, Tools)
    return toolbox


def body_of(dialect: str, model: str = "chat/model", *, tools: Any = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "tools": tools or [{"type": "penstock", "all": True}], **more}
    if dialect == "openai_responses":
        return {"input": "go", **body}
    return {"messages": [{"role": "user", "content": "go"}], "max_tokens": 100, **body}


async def post(built: House, dialect: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    async with client_of(built.gateway) as client:
        return await client.post(PATHS[dialect], json=body, headers=headers)


def frames_of(response: httpx.Response) -> list[dict[str, Any]]:
    raw = [parse(one).data for one in Framer().cut(response.content)]
    return [json.loads(one) for one in raw if one and one != b"[DONE]"]


def text_of(dialect: str, answer: dict[str, Any]) -> str:
    if dialect == "openai_chat":
        return str(answer["choices"][0]["message"]["content"])
    if dialect == "openai_responses":
        messages = [item for item in answer["output"] if item["type"] == "message"]
        return "".join(part["text"] for item in messages for part in item["content"])
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


@every_dialect
@every_model
async def test_a_whole_answer_has_the_runs_in_it(tooled: House, dialect: str, model: str) -> None:
    response = await post(tooled, dialect, body_of(dialect, model))

    assert response.status_code == 200, response.text
    answer = response.json()
    assert text_of(dialect, answer) == ANSWER
    if dialect == "openai_chat":
        assert [tool["name"] for tool in answer["penstock"]["tools"]] == [SUM.name, ECHO.name]
        assert "tool_calls" not in answer["choices"][0]["message"]
        assert answer["choices"][0]["finish_reason"] == "stop"
    elif dialect == "openai_responses":
        kinds = [item["type"] for item in answer["output"]]
        assert kinds == ["message", "mcp_call", "mcp_call", "message"]
        assert answer["output"][1]["output"] == "3"
    else:
        kinds = [block["type"] for block in answer["content"]]
        assert kinds == ["text", *["mcp_tool_use", "mcp_tool_result"] * 2, "text"]
        assert answer["stop_reason"] == "end_turn"
    assert response.headers["x-penstock-provider"] == model.partition("/")[0]


@every_dialect
@every_model
async def test_a_stream_is_read_back_as_the_same_answer(tooled: House, dialect: str, model: str) -> None:
    response = await post(tooled, dialect, body_of(dialect, model, stream=True))

    assert response.headers["content-type"].startswith("text/event-stream")
    wire = DIALECTS[dialect]
    decoder = wire.decoder()
    events = [*decoder.feed(response.content)]
    assert decoder.done
    assert "".join(event.text for event in events if isinstance(event, PartDelta)) == ANSWER
    said_by_tools = [frame for frame in frames_of(response) if "half-way" in json.dumps(frame)]
    assert len(said_by_tools) == 2
    assert not any(isinstance(event, PartStarted) and event.kind == "tool_call" for event in events)


@pytest.fixture
async def openai_client(tooled: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url_of(tooled.gateway)}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(tooled: House) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url_of(tooled.gateway), api_key=KEY, max_retries=0) as client:
        yield client


async def test_the_openai_client_reads_chat_completions(openai_client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "penstock", "name": SUM.name}, {"type": "penstock", "name": ECHO.name}]
    messages: Any = [{"role": "user", "content": "go"}]
    whole = await openai_client.chat.completions.create(model="chat/model", messages=messages, tools=tools)
    assert whole.choices[0].message.content == ANSWER
    assert whole.choices[0].message.tool_calls is None
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 20

    async with openai_client.chat.completions.stream(model="chat/model", messages=messages, tools=tools) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == ANSWER
    assert not final.choices[0].message.tool_calls
    assert final.choices[0].finish_reason == "stop"

    messages += [final.choices[0].message, {"role": "user", "content": "and now"}]
    again = await openai_client.chat.completions.create(model="chat/model", messages=messages)
    assert again.choices[0].finish_reason


async def test_the_openai_client_reads_responses_and_brings_them_back(
    openai_client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    tools: Any = [{"type": "penstock", "all": True}]
    async with openai_client.responses.stream(model="chat/model", input="go", tools=tools) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == ANSWER
    assert "response.mcp_call.completed" in kinds
    runs = [item for item in final.output if item.type == "mcp_call"]
    assert [(run.name, run.output, run.server_label) for run in runs] == [
        (SUM.name, "3", "penstock"),
        (ECHO.name, '{"n":1}', "penstock"),
    ]

    history: Any = [{"role": "user", "content": "go"}, *final.output, {"role": "user", "content": "and now"}]
    for again in (tools, openai.omit):
        await openai_client.responses.create(model="chat/model", input=history, tools=again)
        asked = provider.asked[-1]
        assert [message.role for message in asked.messages] == [
            "user", "assistant", "tool", "tool", "assistant", "user",
        ]  # fmt: skip
        assert [result.call_id for result in results_of(asked)] == ["a", "b"]


async def test_the_anthropic_client_reads_messages_and_brings_them_back(
    anthropic_client: anthropic.AsyncAnthropic, provider: ScriptedProvider
) -> None:
    tools: Any = [{"type": "penstock", "all": True}]
    messages: Any = [{"role": "user", "content": "go"}]
    final: Any
    for beta in (False, True):
        way: Any = anthropic_client.beta.messages if beta else anthropic_client.messages
        whole = await way.create(model="claude/model", max_tokens=100, messages=messages, tools=tools)
        async with way.stream(model="claude/model", max_tokens=100, messages=messages, tools=tools) as stream:
            streamed = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert streamed == ANSWER
        assert final.stop_reason == "end_turn"
        for answer in (whole, final):
            kinds = [block.type for block in answer.content]
            assert kinds == ["text", *["mcp_tool_use", "mcp_tool_result"] * 2, "text"]
            assert [block.input for block in answer.content if block.type == "mcp_tool_use"] == [
                {"numbers": [1, 2]},
                {"n": 1},
            ]
        history = [*messages, {"role": "assistant", "content": final.content}, {"role": "user", "content": "and now"}]
        for again in (tools, anthropic.omit):
            await way.create(model="claude/model", max_tokens=100, messages=history, tools=again)
            asked = provider.asked[-1]
            assert [message.role for message in asked.messages] == ["user", "assistant", "tool", "assistant", "user"]
            assert [result.call_id for result in results_of(asked)] == ["a", "b"]


@every_dialect
@every_way
async def test_the_callers_own_tools_are_his(
    tooled: House, provider: ScriptedProvider, dialect: str, stream: bool
) -> None:
    provider.say = lambda request: turn(calling("his_own", {"x": 1}, "h"), calling(ECHO.name, {}, "o", 1))
    tools = [{"type": "penstock", "name": ECHO.name}, OWN_TOOL[dialect]]
    response = await post(tooled, dialect, body_of(dialect, tools=tools, stream=stream))

    wire = DIALECTS[dialect]
    decoder = wire.decoder()
    events = decoder.feed(response.content) if stream else wire.read_answer(response.content)
    calls = [event for event in events if isinstance(event, PartStarted) and event.kind == "tool_call"]
    assert [call.name for call in calls] == ["his_own"]
    assert tools_of(tooled).runs == []
    assert ECHO.name not in response.text.replace('"name":"echo","parameters"', "")


@every_dialect
@pytest.mark.parametrize(
    ("tools", "status", "words"),
    [
        ([{"type": "penstock", "name": "nobody"}], 400, "no tool 'nobody'"),
        ([{"type": "penstock"}], 400, "must have one of"),
        ([{"type": "penstock", "name": "echo", "all": True}], 400, "must have one of"),
        ([{"type": "penstock", "toolset": "none"}], 400, "toolset"),
        ([{"type": "penstock", "name": "forbidden"}], 403, "may not use"),
    ],
)
async def test_tools_that_cannot_be_are_said_so(
    tooled: House, dialect: str, tools: Any, status: int, words: str
) -> None:
    body = body_of(dialect, tools=tools, penstock={"tools": {"deny": ["forbidden"]}})
    response = await post(tooled, dialect, body)

    assert response.status_code == status
    assert words in response.text


async def test_the_direct_lane_says_where_tools_run(tooled: House) -> None:
    direct = next(replica for replica in tooled.replicas if replica.name == "chat")
    async with client_of(direct) as client:
        response = await client.post(PATHS["openai_chat"], json=body_of("openai_chat", "model"))
    assert response.status_code == 400
    assert "routed lane" in response.text


async def test_a_turn_in_our_own_words_is_for_our_own_processes(tooled: House) -> None:
    async with client_of(tooled.gateway) as client:
        assert (await client.post("/turns", json={})).status_code == 404


async def story(built: House, request_id: str) -> dict[str, Any]:
    async with client_of(built.gateway) as client:
        found: dict[str, Any] = (await client.get(f"/v1/requests/{request_id}")).json()
        return found


@every_way
async def test_the_ledger_has_every_turn_and_every_call(tooled: House, stream: bool) -> None:
    response = await post(tooled, "openai_chat", body_of("openai_chat", stream=stream), **{"x-request-id": "mine"})
    assert response.status_code == 200

    told = await story(tooled, "mine")
    assert len(told["attempts"]) == 2
    assert [attempt["input"] for attempt in told["attempts"]] == [10, 10]
    assert (told["input"], told["output"], told["outcome"]) == (20, 10, "ok")
    calls = {call["tool"]: call for call in told["tools"]}
    assert calls.keys() == {SUM.name, ECHO.name}
    assert calls[SUM.name]["outcome"] == "ok"
    assert calls[SUM.name]["preview"] == '{"numbers":[1,2]}'
    assert len(calls[SUM.name]["arguments"]) == 64
    assert "schema: yes" in calls[SUM.name]["decisions"]


async def test_the_log_has_a_line_for_each_call_and_none_of_its_text(tooled: House) -> None:
    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield said("a secret of the house")

    tooled.gateway.tool_lane.toolbox = Tools(script)
    await post(tooled, "openai_chat", body_of("openai_chat"))
    tooled.gateway._log.flush()
    lines = "".join(file.read_text() for file in (tooled.directory / "logs").glob("gateway-*.jsonl"))

    assert lines.count('"tool":') == 2
    assert "a secret of the house" not in lines
    assert "numbers" not in lines


async def test_the_environments_secrets_and_callers_keys_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_PASSWORD", "Zx!kdhhjJqhblsdkfj")
    caller = "callerskeyoflettersalone"
    async with house(tmp_path, monkeypatch) as built:
        lane = built.gateway.tool_lane
        assert lane.redactor().redacted("B='Zx!kdhhjJqhblsdkfj'.") == "B='[redacted]'."
        monkeypatch.setattr(Guard, "hashes", frozenset([hashlib.sha256(caller.encode()).hexdigest()]))
        told = lane.redactor().redacted(f"curl a/?key={caller}&b=Zx!kdhhjJqhblsdkfj")
        assert told == "curl a/?key=[redacted]&b=[redacted]"
        assert lane.redactor() is lane.redactor()


@every_dialect
async def test_a_failure_before_the_first_output_is_an_error(
    tooled: House, provider: ScriptedProvider, dialect: str
) -> None:
    response = await post(tooled, dialect, body_of(dialect, "nowhere/model", stream=True))
    assert response.status_code == 404
    assert "error" in response.json()
    assert provider.asked == []


@every_dialect
async def test_a_second_turn_that_breaks_ends_the_stream_with_an_error(
    tooled: House, provider: ScriptedProvider, dialect: str
) -> None:
    provider.cut = set(range(1, 20))
    response = await post(tooled, dialect, body_of(dialect, stream=True), **{"x-request-id": "broken"})

    assert response.status_code == 200
    assert not DIALECTS[dialect].last.search(response.content)
    assert "error" in response.text
    assert (await story(tooled, "broken"))["outcome"] == "broken"
    assert len(tools_of(tooled).runs) == 2


async def test_leaving_cancels_the_tools(tooled: House) -> None:
    begun = asyncio.Event()

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Progress("begun")
        begun.set()
        await asyncio.Event().wait()

    tooled.gateway.tool_lane.toolbox = tools = Tools(script)
    async with client_of(tooled.gateway) as client:
        asking = asyncio.create_task(client.post(PATHS["openai_chat"], json=body_of("openai_chat")))
        async with asyncio.timeout(30):
            await begun.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await tooled.until(lambda: len(tools.closed) == 2)
    await tooled.until(lambda: tooled.gateway.limiter.in_flight == 0)


async def test_a_run_of_which_nothing_is_heard_is_given_up(tooled: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Progress("begun")
        await asyncio.Event().wait()

    monkeypatch.setattr("deployments.tools.tool_lane.GRACE", 0.0)
    tooled.gateway.tool_lane.toolbox = Tools(script)
    body = body_of("openai_chat", penstock={"tools": {"call_seconds": 0.05}})
    answer = (await post(tooled, "openai_chat", body)).json()

    assert "too long" in answer["choices"][0]["message"]["content"]
    assert {tool["error"] for tool in answer["penstock"]["tools"]} == {"the tool took too long and was stopped"}


async def test_a_request_may_ask_for_less(tooled: House, provider: ScriptedProvider) -> None:
    provider.say = lambda request: turn(calling(ECHO.name, {"turn": turn_of(request)}))
    body = body_of("openai_chat", penstock={"tools": {"max_turns": 3}})
    answer = (await post(tooled, "openai_chat", body)).json()

    assert len(provider.asked) == 3
    assert provider.asked[2].tool_choice is not None
    assert provider.asked[2].tool_choice.mode == "none"
    assert answer["penstock"]["limit"] == "turns"
    wrong = await post(tooled, "openai_chat", body_of("openai_chat", penstock={"tools": {"max_turns": 0}}))
    assert (wrong.status_code, "penstock.tools.max_turns" in wrong.text) == (400, True)


async def test_signed_thoughts_go_back_as_they_came(tooled: House, provider: ScriptedProvider) -> None:
    def thinking(request: Request) -> list[Event]:
        if results_of(request):
            return turn(text("done"))
        signed = PartEnded(0, {"anthropic_messages": {"signature": "c2ln"}})
        return turn([PartStarted(0, "reasoning"), PartDelta(0, "hm"), signed], calling(ECHO.name, index=1))

    provider.say = thinking
    for dialect in PATHS:
        response = await post(tooled, dialect, body_of(dialect, "claude/model"))
        assert response.status_code == 200, response.text
        thoughts = [part for message in provider.asked[-1].messages for part in message.parts]
        assert Reasoning("hm", {"anthropic_messages": {"signature": "c2ln"}}) in thoughts


async def test_the_same_key_asks_and_runs_once(tooled: House) -> None:
    bodies = [
        await post(tooled, "openai_chat", body_of("openai_chat"), **{"idempotency-key": "once"}) for _ in range(2)
    ]
    assert bodies[0].content == bodies[1].content
    assert len(tools_of(tooled).runs) == 2


async def waiting(
    built: House,
    provider: ScriptedProvider,
    dialect: str,
    stream: bool,
    *,
    tool: str = CAREFUL.name,
    key: str = KEY,
    **more: Any,
) -> dict[str, Any]:
    """What a request says that wants approval."""
    provider.say = lambda request: turn(text("done")) if results_of(request) else turn(calling(tool, {"path": "/x"}))
    response = await post(built, dialect, body_of(dialect, stream=stream, **more), authorization=f"Bearer {key}")
    assert response.status_code == 200, response.text
    told = frames_of(response) if stream else [response.json()]
    found = [one.get("penstock") or (one.get("response") or {}).get("penstock") for one in told]
    approval: dict[str, Any] = next(one["approval"] for one in found if one and "approval" in one)
    return approval


async def decide(built: House, identity: str, decision: str, key: str = KEY) -> httpx.Response:
    async with client_of(built.gateway, key) as client:
        return await client.post(f"/v1/approvals/{identity}", json={"decision": decision})


@every_dialect
@every_way
@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_a_person_decides(
    tooled: House, provider: ScriptedProvider, dialect: str, stream: bool, decision: str
) -> None:
    approval = await waiting(tooled, provider, dialect, stream)
    assert (approval["tool"], approval["arguments"]) == (CAREFUL.name, '{"path":"/x"}')
    async with client_of(tooled.gateway) as client:
        listed = (await client.get("/v1/approvals")).json()
    assert listed["data"] == [approval]
    assert tools_of(tooled).runs == []

    # Another replica of the gateway may be asked: nothing of it is in the memory of the first.
    await tooled.open_gateway(drain=1.0)
    await tooled.until(lambda: is_ready(tooled, "chat"))
    tooled.gateway.tool_lane.toolbox = Tools()
    response = await decide(tooled, approval["id"], decision)

    assert response.status_code == 200, response.text
    assert ("data: " in response.text) == stream
    assert "done" in response.text
    assert len(tools_of(tooled).runs) == (1 if decision == "allow" else 0)
    told = results_of(provider.asked[-1])[0].parts[0]
    assert isinstance(told, Text)
    assert ("denied" in told.text) == (decision == "deny")
    again = await decide(tooled, approval["id"], decision)
    assert again.status_code == 404


async def test_a_decision_is_used_once_though_two_make_it(tooled: House, provider: ScriptedProvider) -> None:
    approval = await waiting(tooled, provider, "openai_chat", False)
    answers = await asyncio.gather(*(decide(tooled, approval["id"], "allow") for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404]
    assert len(tools_of(tooled).runs) == 1


async def test_what_is_decided_must_be_what_was_asked(tooled: House, provider: ScriptedProvider) -> None:
    approval = await waiting(tooled, provider, "openai_chat", False)
    assert (await decide(tooled, "appr_none", "allow")).status_code == 404
    assert (await decide(tooled, approval["id"], "perhaps")).status_code == 400
    changed = Tools(tools=[tool for tool in tools_of(tooled).catalogue.tools if tool.name != CAREFUL.name])
    tooled.gateway.tool_lane.toolbox = changed
    refused = await decide(tooled, approval["id"], "allow")
    assert (refused.status_code, changed.runs) == (409, [])


async def test_a_replica_that_knows_no_tools_yet_says_so_and_uses_no_decision_up(
    tooled: House, provider: ScriptedProvider
) -> None:
    async def away() -> RegistryLink:
        raise ConnectionError("the registry is away")

    approval = await waiting(tooled, provider, "openai_chat", False)
    lane = tooled.gateway.tool_lane
    known, lane.toolbox = lane.toolbox, ToolboxClient((), "", away)
    for tools in ([{"type": "penstock", "name": ECHO.name}], [{"type": "penstock", "all": True}]):
        asked = await post(tooled, "openai_chat", body_of("openai_chat", tools=tools))
        assert (asked.status_code, asked.headers["retry-after"]) == (503, "1")
    for decision in ("allow", "deny"):
        assert (await decide(tooled, approval["id"], decision)).status_code == 503
    lane.toolbox = known
    assert (await decide(tooled, approval["id"], "allow")).status_code == 200
    assert [run.tool for run in tools_of(tooled).runs] == [CAREFUL.name]


async def test_a_gateway_without_tools_knows_that_there_are_none(tooled: House) -> None:
    tooled.gateway.tool_lane.toolbox = NoTools()
    asked = await post(tooled, "openai_chat", body_of("openai_chat", tools=[{"type": "penstock", "name": ECHO.name}]))
    assert (asked.status_code, asked.json()["error"]["code"]) == (400, "unknown_tool")


@pytest.mark.parametrize("health", ["starting", "away"])
async def test_a_tool_that_cannot_be_run_now_uses_no_decision_up(
    tooled: House, provider: ScriptedProvider, health: Health
) -> None:
    approval = await waiting(tooled, provider, "openai_chat", False)
    lane, others = tooled.gateway.tool_lane, [tool for tool in TOOLS if tool.name != CAREFUL.name]
    known, lane.toolbox = lane.toolbox, Tools(tools=[*others, msgspec.structs.replace(CAREFUL, health=health)])
    assert (await decide(tooled, approval["id"], "allow")).status_code == 503
    lane.toolbox = Tools(tools=[*others, msgspec.structs.replace(CAREFUL, fingerprint="another")])
    assert (await decide(tooled, approval["id"], "allow")).status_code == 409
    lane.toolbox = known
    assert (await decide(tooled, approval["id"], "allow")).status_code == 200


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("left", [(), TOOLS])
async def test_a_call_of_a_tool_that_has_gone_can_be_denied(
    tooled: House, provider: ScriptedProvider, model: str, left: tuple[Tool, ...]
) -> None:
    told: list[str] = []

    def say(request: Request) -> list[Event]:
        told[:] = [part.text for one in results_of(request) for part in one.parts if isinstance(part, Text)]
        return turn(text("done")) if len(told) > 1 else turn(calling(CAREFUL.name, {"path": "/x"}, f"c{len(told)}"))

    provider.say = say
    response = await post(tooled, "openai_chat", body_of("openai_chat", model))
    approval = response.json()["penstock"]["approval"]
    tooled.gateway.tool_lane.toolbox = Tools(tools=[tool for tool in left if tool.name != CAREFUL.name])

    denied = await decide(tooled, approval["id"], "deny")
    assert denied.status_code == 200, denied.text
    message = denied.json()["choices"][0]["message"]
    assert (message["content"], message.get("tool_calls")) == ("done", None)
    assert "denied" in told[0]
    assert "not what it was" in told[1]
    assert tools_of(tooled).runs == []


async def test_waiting_has_an_end(tooled: House, provider: ScriptedProvider) -> None:
    tooled.gateway.tool_lane.held._lifetime = -1.0
    approval = await waiting(tooled, provider, "openai_chat", False)

    assert (await decide(tooled, approval["id"], "allow")).status_code == 404
    assert tools_of(tooled).runs == []


async def test_a_tool_that_changed_while_it_waited_does_not_run(tooled: House, provider: ScriptedProvider) -> None:
    approval = await waiting(tooled, provider, "openai_chat", False)
    others = [tool for tool in tools_of(tooled).catalogue.tools if tool.name != CAREFUL.name]
    now = Tools(tools=[*others, msgspec.structs.replace(CAREFUL, fingerprint="of what it is now")])
    tooled.gateway.tool_lane.toolbox = now
    refused = await decide(tooled, approval["id"], "allow")
    assert (refused.status_code, refused.json()["error"]["code"], now.runs) == (409, "tool_changed", [])


async def test_a_decision_for_a_key_that_is_over_runs_nothing(tooled: House, provider: ScriptedProvider) -> None:
    async with client_of(tooled.gateway) as client:
        fields = {"name": "its owner", "expires": "2099-01-01T00:00:00Z"}
        owner = (await client.post("/v1/keys", json=fields)).json()
    await tooled.until(lambda: tooled.gateway.guard.known(owner["id"]) is not None)
    first, second = [await waiting(tooled, provider, "openai_chat", False, key=owner["secret"]) for _ in range(2)]
    tooled.gateway.guard._clock = lambda: 2**32
    expired = await decide(tooled, first["id"], "allow")
    tooled.gateway.guard._clock = time.time
    async with client_of(tooled.gateway) as client:
        assert (await client.delete(f"/v1/keys/{owner['id']}")).status_code == 200
    await tooled.until(lambda: tooled.gateway.guard.known(owner["id"]) is None)
    revoked = await decide(tooled, second["id"], "allow")
    for refused in (expired, revoked):
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "key_gone")
    assert tools_of(tooled).runs == []


@pytest.mark.parametrize("asks", ["request", "gateway"])
@pytest.mark.parametrize("pattern", [ECHO.name, "ec*"])
async def test_who_wants_approval_of_a_tool_that_wants_none_gets_it(
    tooled: House, provider: ScriptedProvider, asks: str, pattern: str
) -> None:
    more: dict[str, Any] = {}
    if asks == "request":
        more = {"penstock": {"tools": {"approve": [pattern]}}}
    else:
        lane = tooled.gateway.tool_lane
        lane._settings = lane._settings.model_copy(update={"approve": (pattern,)})
    approval = await waiting(tooled, provider, "openai_chat", False, tool=ECHO.name, **more)
    assert (approval["tool"], tools_of(tooled).runs) == (ECHO.name, [])
    assert (await decide(tooled, approval["id"], "allow")).status_code == 200
    assert [ran.tool for ran in tools_of(tooled).runs] == [ECHO.name]


async def example(built: House, name: str, replaced: dict[str, str], **more: str) -> dict[str, Any]:
    """What an example of the README prints."""
    places = {"http://127.0.0.1:8000": url_of(built.gateway), **replaced}
    environment = {**os.environ, "PENSTOCK_API_KEY": KEY, **more}
    answer: dict[str, Any] = json.loads(await asyncio.to_thread(run, name, environment, places))
    return answer


async def test_the_readme_asks_for_tools_and_decides(tooled: House, provider: ScriptedProvider) -> None:
    named = {"auto": "chat/model", '"name": "calculator"': f'"name": "{SUM.name}"', '"name": "clock"': '"name": "echo"'}
    answer = await example(tooled, "ask for tools", named)
    assert [tool["name"] for tool in answer["penstock"]["tools"]] == [SUM.name, ECHO.name]

    approval = await waiting(tooled, provider, "openai_chat", False)
    answer = await example(tooled, "decide", {}, APPROVAL=approval["id"])
    assert answer["choices"][0]["message"]["content"] == "done"


async def test_runs_are_counted_and_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: ScriptedProvider
) -> None:
    counted = f'gen_ai_execute_tool_duration_seconds_count{{gen_ai_tool_name="{SUM.name}",error_type=""}} 1.0'
    async with receiver(monkeypatch) as got, house(tmp_path, monkeypatch) as built:
        await built.provider(kind="local", name="chat", base_url=f"{provider.url}/v1", drain=1.0)
        await built.until(lambda: is_ready(built, "chat"))
        built.gateway.tool_lane.toolbox = Tools()
        await post(built, "openai_chat", body_of("openai_chat"))
        async with client_of(built.gateway) as client, asyncio.timeout(60.0):
            while counted not in (await client.get("/metrics")).text:
                pass
    runs = {span.name: span for span in got.named("execute_tool")}
    assert set(runs) == {f"execute_tool {SUM.name}", f"execute_tool {ECHO.name}"}
    (request,) = got.named("POST /v1/chat/completions")
    assert {span.parent_span_id for span in runs.values()} == {request.span_id}
