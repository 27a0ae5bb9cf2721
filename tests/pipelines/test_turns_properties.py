"""Whatever models and tools do: the grammar holds, no call runs twice, results stand in the order of their calls."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.conversation import Text, ToolResult
from pipelines.errors import StreamBroken
from pipelines.events import Event, FinishReason, PartStarted, ToolEnded, ToolStarted, assemble
from pipelines.tools.catalogue import Progress, Ran, ToolRun
from pipelines.turns import Limits, Resumed
from tests.pipelines.scripted_turns import ALONE, CAREFUL, ECHO, SUM, Loop, Model, Tools, calling, said, text, turn

OWN = "his.own"
NAMES = st.sampled_from([SUM.name, ECHO.name, ALONE.name, CAREFUL.name, OWN, "unknown"])
ARGUMENTS = st.sampled_from(["{}", '{"numbers": [1, 2]}', '{"n": 1}', '{"n": 2}', "{", "[]", ""])
REASONS: st.SearchStrategy[FinishReason | None] = st.sampled_from([None, None, None, None, "length", "stop", "other"])


@st.composite
def model_turns(draw: st.DrawFn) -> list[Event]:
    """One turn of a model, sometimes broken off."""
    parts: list[list[Event]] = []
    for index in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            parts.append(text(draw(st.text(max_size=5)), index))
        else:
            call_id = draw(st.sampled_from(["", "call_0", f"c{index}"]))
            parts.append(calling(draw(NAMES), draw(ARGUMENTS), call_id, index))
    events = turn(*parts, reason=draw(REASONS))
    return events[: draw(st.integers(1, len(events)))] if draw(st.integers(0, 9)) == 0 else events


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    """Small limits."""
    return Limits(draw(st.integers(1, 5)), draw(st.integers(0, 6)), draw(st.integers(1, 4)))


async def behaving(run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
    """Every way for a run to go, by its id."""
    for _ in range(hash(run.id) % 4):
        await asyncio.sleep(0)
        yield Progress("more")
    match hash(run.id) % 5:
        case 0:
            raise RuntimeError("away")
        case 1:
            yield Ran(exit="timeout")
        case 2:
            pass
        case _:
            yield said(run.id)


def check(loop: Loop) -> None:
    """What holds of every stream, whole or broken, and of everything that the model was told."""
    ids = [event.call_id for event in loop.of(ToolStarted)]
    assert len(set(ids)) == len(ids)
    assert max(Counter(run.id for run in loop.tools.runs).values(), default=1) == 1
    assert len(loop.tools.closed) == len(loop.tools.runs)
    indexes = [event.index for event in loop.of(PartStarted)]
    assert indexes == list(range(indexes[0], indexes[0] + len(indexes))) if indexes else True
    assert all(event.name == OWN for event in loop.of(PartStarted) if event.kind == "tool_call")
    for request, _ in loop.model.asked:
        told = request.messages[1:]
        for message, answer in zip(told[::2], told[1::2], strict=True):
            results = [part.call_id for part in answer.parts if isinstance(part, ToolResult)]
            assert results == [call.id for call in message.tool_calls]
            assert all(isinstance(part, ToolResult) and isinstance(part.parts[0], Text) for part in answer.parts)


async def played(loop: Loop, decisions: list[bool]) -> None:
    """The loop to its end, deciding what it waits for."""
    try:
        await loop.run()
        check(loop)
        while loop.end.reason == "pause" and loop.end.raw_reason == "penstock_approval" and decisions:
            await loop.run(Resumed(loop.held[-1], decisions.pop()))
            check(loop)
    except StreamBroken:
        check(loop)
        return
    assert len(loop.of(ToolStarted)) == len(loop.of(ToolEnded))
    if loop.end.reason == "tool_calls":
        assert assemble(loop.events).message.tool_calls


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(model_turns(), min_size=1, max_size=6), limits(), st.lists(st.booleans(), max_size=4))
def test_whatever_models_and_tools_do(script: list[list[Event]], most: Limits, decisions: list[bool]) -> None:
    loop = Loop(Model(*script), Tools(behaving), own=[OWN], limits=most)
    asyncio.run(played(loop, decisions))

    assert len(loop.model.asked) <= most.turns
    assert len(loop.tools.runs) <= most.calls
    msgspec.msgpack.encode(loop.records)


@settings(max_examples=50, deadline=None)
@given(st.lists(model_turns(), min_size=1, max_size=4), st.integers(0, 30))
def test_leaving_anywhere_leaves_nothing_running(script: list[list[Event]], after: int) -> None:
    async def leave() -> None:
        loop = Loop(Model(*script), Tools(behaving), own=[OWN])
        task = asyncio.create_task(played(loop, []))
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        check(loop)
        assert loop.model.closed == len(loop.model.asked)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
