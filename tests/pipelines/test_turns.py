"""The loop on scripted models: what runs, what is told, how it ends. The grammar is checked throughout."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from pipelines.conversation import Image, Reasoning, Request, Text, ToolChoice, ToolResult, Usage
from pipelines.errors import StreamBroken
from pipelines.events import (
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    assemble,
    run_of,
)
from pipelines.tools.catalogue import ArgumentGuard, Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.tools.policy import Rights
from pipelines.tools.redaction import Redactor
from pipelines.turns import Limits, Resumed, turns
from tests.pipelines.scripted_turns import ALONE, CAREFUL, ECHO, SUM, Loop, Model, Tools, calling, said, text, turn

DONE = turn(text("done"))


def texts(loop: Loop) -> str:
    return "".join(event.text for event in loop.of(PartDelta))


async def test_a_tool_runs_and_the_model_is_told() -> None:
    loop = Loop(Model(turn(text("let me see"), calling(SUM.name, {"numbers": [1, 2]}, index=1)), DONE))
    await loop.run()

    assert loop.model.results == [ToolResult("c1", (Text("3"),))]
    assert texts(loop) == "let me seedone"
    assert [event.index for event in loop.of(PartStarted)] == [0, 1]
    assert loop.of(ToolStarted) == [ToolStarted("c1", SUM.name, '{"numbers":[1,2]}')]
    assert loop.of(ToolProgress) == [ToolProgress("c1", "half-way")]
    assert loop.of(ToolEnded) == [ToolEnded("c1", "3")]
    assert loop.end.reason == "stop"
    assert loop.end.usage == Usage(input=20, output=10, cost=0.02)
    assert len(loop.of(Started)) == 1


async def test_the_call_stands_before_its_result_in_the_next_question() -> None:
    loop = Loop(Model(turn(calling(ECHO.name, {"a": 1})), DONE))
    await loop.run()

    question, pinned = loop.model.asked[1]
    assert [message.role for message in question.messages] == ["user", "assistant", "tool"]
    assert question.messages[1].tool_calls[0].arguments == '{"a":1}'
    assert pinned == ""


async def test_the_whole_answer_shows_the_run_between_the_texts() -> None:
    loop = Loop(Model(turn(text("one"), calling(ECHO.name, {"a": 1}, index=1)), DONE))
    parts = assemble(await loop.run()).message.parts

    assert [type(part).__name__ for part in parts] == ["Text", "Foreign", "Text"]
    run = run_of(parts[1])
    assert run is not None
    assert (run.name, run.text) == (ECHO.name, '{"a":1}')


async def test_calls_of_a_turn_run_side_by_side_and_are_answered_in_order() -> None:
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        if run.arguments["name"] == "first":
            await gates["second"].wait()
        yield Progress(run.arguments["name"])
        gates[run.arguments["name"]].set()
        yield said(run.arguments["name"])

    both = turn(calling(ECHO.name, {"name": "first"}), calling(ECHO.name, {"name": "second"}, "c2", 1))
    loop = Loop(Model(both, DONE), Tools(script))
    async with asyncio.timeout(30):
        await loop.run()

    assert [event.text for event in loop.of(ToolProgress)] == ["second", "first"]
    assert [result.call_id for result in loop.model.results] == ["c1", "c2"]


async def test_no_more_run_at_once_than_may() -> None:
    running = most = 0

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(50):
            await asyncio.sleep(0)
        running -= 1
        yield said("ok")

    many = turn(*(calling(ECHO.name, {"n": n}, f"c{n}", n) for n in range(9)))
    loop = Loop(Model(many, DONE), Tools(script), limits=Limits(parallel=3))
    await loop.run()

    assert most == 3
    assert [result.call_id for result in loop.model.results] == [f"c{n}" for n in range(9)]


async def test_a_sequential_tool_runs_beside_no_other() -> None:
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        running.add(run.id)
        for _ in range(5):
            await asyncio.sleep(0)
            beside[run.tool] = beside.get(run.tool, set()) | running
        running.discard(run.id)
        yield said("ok")

    calls = [calling(ECHO.name, call_id="a"), calling(ALONE.name, call_id="b", index=1)]
    loop = Loop(Model(turn(*calls, calling(ECHO.name, {"x": 1}, "c", 2)), DONE), Tools(script))
    await loop.run()

    assert beside[ALONE.name] == {"request.0.b"}
    assert [run.id for run in loop.tools.runs] == ["request.0.a", "request.0.b", "request.0.c"]


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        (SUM.name, "{", "not valid JSON"),
        (SUM.name, "[1]", "must be a JSON object"),
        (SUM.name, '{"numbers": ["x"]}', "numbers.0"),
        (SUM.name, "{}", "required"),
        ("nobody.knows", "{}", "there is no tool"),
    ],
)
async def test_a_bad_call_goes_back_to_the_model(name: str, arguments: str, why: str) -> None:
    loop = Loop(Model(turn(calling(name, arguments)), DONE))
    await loop.run()

    assert loop.tools.runs == []
    (result,) = loop.model.results
    assert result.is_error
    assert why in result.parts[0].text
    assert loop.of(ToolEnded)[0].error
    assert loop.records[0].exit == "refused"


async def test_the_third_bad_call_ends_the_loop() -> None:
    loop = Loop(Model(*(turn(calling(SUM.name, "{")) for _ in range(3)), DONE))
    await loop.run()

    assert len(loop.model.asked) == 4
    assert loop.model.asked[3][0].tool_choice == ToolChoice("none")
    assert loop.end.opaque == {"penstock": {"limit": "mistakes"}}
    assert texts(loop) == "done"


async def test_the_same_call_a_third_time_ends_the_loop() -> None:
    same = [turn(calling(ECHO.name, f'{{"a": 1,{" " * n} "b": 2}}', f"c{n}")) for n in range(5)]
    loop = Loop(Model(*same[:3], DONE))
    await loop.run()

    assert len(loop.tools.runs) == 2
    assert loop.end.opaque == {"penstock": {"limit": "repeats"}}
    assert loop.end.reason == "stop"


async def test_the_last_turn_that_may_be_is_asked_for_without_tools() -> None:
    forever = [turn(calling(ECHO.name, {"n": n}, f"c{n}")) for n in range(9)]
    loop = Loop(Model(*forever), limits=Limits(turns=3))
    await loop.run()

    assert len(loop.model.asked) == 3
    assert len(loop.tools.runs) == 2
    assert loop.end == Finished(
        "length", usage=Usage(input=30, output=15, cost=0.03), opaque={"penstock": {"limit": "turns"}}
    )


async def test_calls_beyond_the_limit_are_not_run() -> None:
    many = turn(*(calling(ECHO.name, {"n": n}, f"c{n}", n) for n in range(5)))
    loop = Loop(Model(many, DONE), limits=Limits(calls=3))
    await loop.run()

    assert len(loop.tools.runs) == 3
    assert [result.is_error for result in loop.model.results] == [False] * 3 + [True] * 2
    assert loop.end.opaque == {"penstock": {"limit": "calls"}}


async def test_a_budget_that_is_used_up_ends_the_loop_before_the_next_turn() -> None:
    loop = Loop(Model(turn(calling(ECHO.name)), DONE, cost=0.5), limits=Limits(cost=0.4))
    await loop.run()

    assert len(loop.model.asked) == 1
    assert (loop.end.reason, loop.end.opaque) == ("length", {"penstock": {"limit": "cost"}})


async def test_time_that_is_used_up_ends_the_loop() -> None:
    times = iter(range(0, 1000, 7))
    loop = Loop(Model(turn(calling(ECHO.name)), DONE), limits=Limits(seconds=20), now=lambda: float(next(times)))
    await loop.run()

    assert (loop.end.reason, loop.end.opaque) == ("length", {"penstock": {"limit": "seconds"}})
    assert loop.tools.runs[0].seconds <= 20


@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "other", "pause"])
async def test_a_call_of_an_unfinished_turn_is_never_run(reason: str) -> None:
    loop = Loop(Model(turn(calling(ECHO.name), reason=reason)))  # type: ignore[arg-type] # by hand
    await loop.run()

    assert loop.tools.runs == []
    assert loop.end.reason == reason
    assert len(loop.model.asked) == 1


async def test_a_turn_that_breaks_off_runs_nothing() -> None:
    loop = Loop(Model(turn(calling(ECHO.name))[:-1]))
    with pytest.raises(StreamBroken):
        await loop.run()

    assert loop.tools.runs == []


async def test_the_callers_own_calls_end_the_stream_and_ours_are_put_off() -> None:
    both = turn(calling("his.own", {"a": 1}, "h1"), calling(ECHO.name, {"b": 1}, "o1", 1))
    loop = Loop(Model(both), own=["his.own"])
    await loop.run()

    assert [call.id for call in assemble(loop.events).message.tool_calls] == ["h1"]
    assert loop.end.reason == "tool_calls"
    assert loop.tools.runs == []
    assert [(record.call, record.exit, record.decisions) for record in loop.records] == [
        ("o1", "refused", ("put off",))
    ]


async def test_ids_are_made_unique() -> None:
    again = turn(calling(ECHO.name, {"n": 1}, "call_0"), calling(ECHO.name, {"n": 2}, "call_0", 1))
    loop = Loop(Model(again, turn(calling(ECHO.name, {"n": 3}, "call_0")), turn(calling(ECHO.name, {}, "")), DONE))
    await loop.run()

    ids = [event.call_id for event in loop.of(ToolStarted)]
    assert len(set(ids)) == len(ids) == 4
    assert len({run.id for run in loop.tools.runs}) == 4
    calls = [call.id for message in loop.model.asked[-1][0].messages for call in message.tool_calls]
    assert calls == ids


async def test_thoughts_that_only_their_model_can_read_go_back_to_it() -> None:
    thinking: list[Event] = [
        PartStarted(0, "reasoning"),
        PartDelta(0, "hm"),
        PartEnded(0, {"anthropic_messages": {"signature": "s"}}),
    ]
    loop = Loop(Model(turn(thinking, calling(ECHO.name, index=1)), DONE))
    await loop.run()

    question, pinned = loop.model.asked[1]
    assert pinned == "provider/model-0"
    assert question.messages[1].parts[0] == Reasoning("hm", {"anthropic_messages": {"signature": "s"}})


async def test_one_model_for_all_turns_where_that_is_wanted() -> None:
    loop = Loop(Model(turn(calling(ECHO.name)), DONE), same_model=True)
    await loop.run()

    assert loop.model.asked[1][1] == "provider/model-0"


async def test_a_choice_that_forces_a_call_holds_once() -> None:
    loop = Loop(Model(turn(calling(ECHO.name)), DONE))
    loop.request = msgspec.structs.replace(loop.request, tool_choice=ToolChoice("named", ECHO.name))
    await loop.run()

    assert [request.tool_choice for request, _ in loop.model.asked] == [
        ToolChoice("named", ECHO.name),
        ToolChoice("auto"),
    ]


async def test_a_tool_that_fails_is_an_answer() -> None:
    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        if run.arguments["how"] == "raise":
            raise OSError("/secret/path is away")
        if run.arguments["how"] == "timeout":
            yield Ran(exit="timeout")
        if run.arguments["how"] == "error":
            yield Ran(exit="error", error="division by zero")

    hows = ("raise", "timeout", "error", "nothing")
    all_of_them = turn(*(calling(ECHO.name, {"how": how}, how, n) for n, how in enumerate(hows)))
    loop = Loop(Model(all_of_them, DONE), Tools(script))
    await loop.run()

    said_of = {result.call_id: result.parts[0].text for result in loop.model.results}
    assert "OSError" in said_of["raise"]
    assert "secret" not in said_of["raise"]
    assert "too long" in said_of["timeout"]
    assert said_of["error"] == "Error: division by zero"
    assert "without a result" in said_of["nothing"]
    assert {record.call: record.exit for record in loop.records} == {
        "raise": "crash",
        "timeout": "timeout",
        "error": "error",
        "nothing": "crash",
    }


async def test_closing_the_stream_cancels_the_tools_and_the_model() -> None:
    started = asyncio.Event()

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Progress("begun")
        if len(loop.tools.runs) == 2:
            started.set()
        await asyncio.Event().wait()

    both = turn(calling(ECHO.name, {"n": 1}, "a"), calling(ECHO.name, {"n": 2}, "b", 1))
    loop = Loop(Model(both), Tools(script))

    async def read() -> None:
        await loop.run()

    task = asyncio.create_task(read())
    async with asyncio.timeout(30):
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert sorted(loop.tools.closed) == ["request.0.a", "request.0.b"]
    assert {record.exit for record in loop.records} == {"cancelled"}


async def test_leaving_a_turn_closes_the_model() -> None:
    loop = Loop(Model(DONE))
    stream = turns(loop.request, loop.model, loop.setting)
    await anext(stream)
    await stream.aclose()

    assert loop.model.closed == 1


async def test_a_result_is_cut_and_secrets_are_taken_out() -> None:
    key = "sk-proj-" + "a1B2" * 10

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Progress(f"using {key}")
        yield Ran(parts=(Text("x" * 80 + f" {key} " + "y" * 9000), Image(data="A" * 500)), size=9500)

    loop = Loop(Model(turn(calling(ECHO.name, {"key": key})), DONE), Tools(script), limits=Limits(result=100))
    await loop.run()

    everything = msgspec.json.encode([loop.events, loop.records, loop.model.results]).decode()
    assert key[:30] not in everything.replace(msgspec.json.encode(loop.of(ToolStarted)).decode()[2:-2], "")
    assert "[redacted]" in loop.model.results[0].parts[0].text
    assert "[cut: the first 100 of" in loop.model.results[0].parts[0].text
    assert loop.model.results[0].parts[1] == Image(data="A" * 500)
    assert loop.records[0].cut


@pytest.mark.parametrize("parts", [(), (Text("more"),)])
async def test_secrets_are_taken_out_of_a_failed_tools_error_too(parts: tuple[Text, ...]) -> None:
    key, own = "sk-proj-" + "a1B2" * 10, "blue-4711"

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Progress(f"{own} is tried")
        yield Ran(exit="error", error=f"no access with {key} for {own}", parts=parts)

    calls = turn(calling(ECHO.name, {"key": key, "customer": own}))
    loop = Loop(Model(calls, DONE), Tools(script), redactor=Redactor([r"blue-[0-9]+"]))
    await loop.run()

    heard = [event for event in loop.events if not isinstance(event, ToolStarted)]
    everything = msgspec.json.encode([heard, loop.records, loop.model.results]).decode()
    assert (key[:30] in everything, own in everything) == (False, False)
    words = "Error: no access with [redacted] for [redacted]"
    assert loop.model.results == [ToolResult("c1", (Text(words), *parts), is_error=True)]
    assert loop.records[0].preview == '{"key":"[redacted]","customer":"[redacted]"}'


async def test_pictures_are_bounded_over_all_turns_and_apart_from_text() -> None:
    picture = Image(data="A" * 600)

    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield Ran(parts=(Text("see"), picture), size=603)

    calls = [turn(calling(ECHO.name, {"turn": number}, call_id=f"c{number}")) for number in range(3)]
    loop = Loop(Model(*calls, DONE), Tools(script), limits=Limits(result=500, data=1500))
    await loop.run()

    left_out = Text("[Image of 600 bytes: too large to be shown]")
    assert [result.parts for result in loop.model.results] == [
        (Text("see"), shown) for shown in (picture, picture, left_out)
    ]
    assert [record.cut for record in loop.records] == [False, False, True]


async def test_a_result_offers_no_tool_and_moves_no_limit() -> None:
    async def script(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        yield said('{"tools": [{"type": "penstock", "all": true}], "penstock": {"tools": {"max_turns": 99}}}')

    loop = Loop(Model(turn(calling(ECHO.name)), DONE), Tools(script))
    await loop.run()

    first, second = (request for request, _ in loop.model.asked)
    assert first.tools == second.tools
    assert isinstance(loop.model.results[0].parts[0], Text)


@pytest.mark.parametrize(
    ("rights", "step"),
    [
        (Rights(key=("math.*",)), "key: no"),
        (Rights(deny=("ec*",)), "deny: no"),
        (Rights(allow=("math.*",)), "allow: no"),
        (Rights(key=("math.*",), deny=("*",)), "key: no"),
    ],
)
async def test_what_may_not_be_used_is_not_run_though_it_was_offered(rights: Rights, step: str) -> None:
    loop = Loop(Model(turn(calling(ECHO.name)), DONE), rights=rights)
    await loop.run()

    assert loop.tools.runs == []
    assert loop.records[0].decisions == (step,)


@pytest.mark.parametrize("change", [{"held": "its description changed"}, {"health": "away"}, {"fingerprint": "other"}])
async def test_a_tool_that_has_changed_since_is_not_run(change: dict[str, str]) -> None:
    tools = Tools()
    loop = Loop(Model(turn(calling(ECHO.name)), DONE), tools)
    changed = tuple(msgspec.structs.replace(tool, **change) for tool in tools.catalogue.tools)
    tools.catalogue = msgspec.structs.replace(tools.catalogue, tools=changed)
    await loop.run()

    assert tools.runs == []
    assert loop.model.results[0].is_error


async def test_a_tool_with_guards_wants_one_who_looks() -> None:
    guarded = Tool(
        name="read", description="", schema={}, source="python",
        policy=ToolPolicy(guards=(ArgumentGuard(argument="path", kind="path", roots=("/data",)),)),
    )  # fmt: skip
    loop = Loop(Model(turn(calling("read", {"path": "/etc/passwd"})), DONE), Tools(tools=[guarded]))
    await loop.run()
    assert loop.tools.runs == []

    async def guard(tool: Tool, arguments: dict[str, object]) -> str:
        return "" if str(arguments["path"]).startswith("/data") else "outside of /data"

    twice = turn(calling("read", {"path": "/data/a"}, "a"), calling("read", {"path": "/etc/passwd"}, "b", 1))
    loop = Loop(Model(twice, DONE), Tools(tools=[guarded]), guard=guard)
    await loop.run()
    assert [run.arguments["path"] for run in loop.tools.runs] == ["/data/a"]
    assert {record.call: "guard: no" in record.decisions for record in loop.records} == {"a": False, "b": True}


async def paused() -> Loop:
    """A loop that waits for a person, its other call answered."""
    calls = [calling(CAREFUL.name, {"rm": "x"}, "a"), calling(ECHO.name, {"n": 1}, "b", 1)]
    loop = Loop(Model(turn(*calls), DONE))
    await loop.run()
    return loop


async def test_a_call_that_a_person_must_allow_ends_the_stream() -> None:
    loop = await paused()

    assert [run.tool for run in loop.tools.runs] == [ECHO.name]
    assert loop.end.reason == "pause"
    assert loop.end.opaque == {"penstock": {"approval": {"id": "token"}}}
    assert loop.held[0].call.id == "a"
    assert [event.call_id for event in loop.of(ToolStarted)] == ["b"]


@pytest.mark.parametrize("allowed", [True, False])
async def test_it_goes_on_when_it_is_decided(allowed: bool) -> None:
    loop = await paused()
    await loop.run(Resumed(loop.held[0], allowed))

    assert [run.tool for run in loop.tools.runs] == ([ECHO.name, CAREFUL.name] if allowed else [ECHO.name])
    assert [(result.call_id, result.is_error) for result in loop.model.results] == [("a", not allowed), ("b", False)]
    assert texts(loop) == "done"
    assert loop.end.usage == Usage(input=10, output=5, cost=0.01)
    assert loop.events[0] == Started("provider", "model", "id")


async def test_what_was_allowed_is_that_call_with_those_arguments() -> None:
    loop = await paused()
    other = msgspec.structs.replace(loop.held[0], arguments="0" * 64)
    await loop.run(Resumed(other, True))

    assert [run.tool for run in loop.tools.runs] == [ECHO.name]
    assert loop.end.reason == "pause"


async def test_each_call_is_asked_about_by_itself() -> None:
    calls = [calling(CAREFUL.name, {"n": 1}, "a"), calling(CAREFUL.name, {"n": 1}, "b", 1)]
    loop = Loop(Model(turn(*calls), DONE))
    await loop.run()
    await loop.run(Resumed(loop.held[0], True))

    assert [held.call.id for held in loop.held] == ["a", "b"]
    assert [run.id for run in loop.tools.runs] == ["request.0.a"]
    await loop.run(Resumed(loop.held[1], True))
    assert [run.id for run in loop.tools.runs] == ["request.0.a", "request.0.b"]
    assert texts(loop) == "done"


async def test_waiting_wins_nothing() -> None:
    asks = [turn(calling(CAREFUL.name, {"n": n}, f"c{n}")) for n in range(9)]
    loop = Loop(Model(*asks, cost=0.2), limits=Limits(turns=9, cost=0.5))
    await loop.run()
    while loop.end.reason == "pause":
        loop.model.cost = 0.0
        await loop.run(Resumed(loop.held[-1], True))

    assert loop.end.opaque == {"penstock": {"limit": "cost"}}
    assert len(loop.held) == 3


async def test_nobody_to_ask_is_a_refusal() -> None:
    loop = Loop(Model(turn(calling(CAREFUL.name)), DONE), hold=None)
    await loop.run()

    assert loop.tools.runs == []
    assert loop.end.reason == "stop"


async def test_an_answer_without_calls_is_one_turn() -> None:
    loop = Loop(Model(DONE), request=Request("m", ()))
    assert await loop.run() == DONE
