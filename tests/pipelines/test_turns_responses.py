"""The loop on what only the Responses dialect has: calls that are no functions, choices of the provider's own tools."""

import json
from typing import Any

import pytest

from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.dialects.openai_responses.decoder import read_answer
from pipelines.events import Event, Finished, PartStarted, assemble
from tests.pipelines.responses_wire import decode, encode
from tests.pipelines.scripted_turns import ECHO, Loop, Model, calling, text, turn

DONE = turn(text("done"))

PATCH = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_p", "name": "apply_patch", "input": "*** patch"}
CONTAINER = {
    "type": "shell_call",
    "id": "sh_1",
    "call_id": "call_s",
    "status": "completed",
    "action": {"commands": ["ls"]},
    "environment": {"type": "container_reference", "container_id": "cntr_1"},
}
OURS = {"type": "function_call", "id": "fc_1", "call_id": "call_e", "name": ECHO.name, "arguments": "{}"}


def answered(*items: dict[str, Any]) -> list[Event]:
    """A provider's whole answer of these items."""
    body = {"id": "resp_1", "status": "completed", "output": items, "usage": {"input_tokens": 1, "output_tokens": 1}}
    return read_answer(json.dumps(body).encode())


@pytest.mark.parametrize(
    "item",
    [
        PATCH,
        {**CONTAINER, "environment": {"type": "local"}},
        {"type": "apply_patch_call", "id": "apc_1", "call_id": "call_a", "operation": {}},
        {"type": "computer_call", "id": "cu_1", "call_id": "call_c", "action": {"type": "screenshot"}},
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "f", "arguments": "{}"},
    ],
    ids=lambda item: item["type"],
)
async def test_what_the_caller_must_answer_ends_the_stream_and_ours_are_put_off(item: dict[str, Any]) -> None:
    loop = Loop(Model(answered(item, OURS), DONE))
    events = await loop.run()

    assert len(loop.model.asked) == 1
    assert loop.tools.runs == []
    assert loop.end.reason == "tool_calls"
    assert [record.decisions for record in loop.records] == [("put off",)]
    (shown,) = assemble(events).message.parts
    assert shown.opaque == {"openai_responses": item}  # type: ignore[union-attr]


@pytest.mark.parametrize("item", [CONTAINER, {"type": "web_search_call", "id": "ws_1", "status": "completed"}])
async def test_what_the_provider_ran_itself_does_not_end_the_loop(item: dict[str, Any]) -> None:
    loop = Loop(Model(answered(item, OURS), DONE))
    await loop.run()

    assert [run.tool for run in loop.tools.runs] == [ECHO.name]
    assert loop.end.reason == "stop"


@pytest.mark.parametrize(("item", "identity", "reason"), [(PATCH, "call_p", "tool_calls"), (CONTAINER, "", "stop")])
def test_only_an_item_that_waits_has_an_id_and_keeps_it_on_the_wire(
    item: dict[str, Any], identity: str, reason: str
) -> None:
    events = answered(item)
    for read in (events, decode(encode(events))):
        assert [event.id for event in read if isinstance(event, PartStarted)] == [identity]
        assert [event.reason for event in read if isinstance(event, Finished)] == [reason]


MIXED = [{"type": "function", "name": ECHO.name}, {"type": "web_search"}]


@pytest.mark.parametrize(
    ("choice", "relaxed"),
    [
        (
            {"type": "allowed_tools", "mode": "required", "tools": MIXED},
            {"type": "allowed_tools", "mode": "auto", "tools": MIXED},
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": MIXED},
            {"type": "allowed_tools", "mode": "auto", "tools": MIXED},
        ),
        ({"type": "web_search"}, None),
        ({"type": "mcp", "server_label": "s", "name": "f"}, None),
    ],
)
async def test_a_forced_choice_that_only_this_dialect_has_holds_once(
    choice: dict[str, Any], relaxed: dict[str, Any] | None
) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": ECHO.name, "parameters": {"type": "object"}}]
    body = {"model": "m", "input": "go", "tools": tools, "tool_choice": choice, "truncation": "auto"}
    first, second = turn(calling(ECHO.name, {"n": 1})), turn(calling(ECHO.name, {"n": 2}))
    loop = Loop(Model(first, second, DONE), request=OPENAI_RESPONSES.read_request(body))
    await loop.run()

    sent = [OPENAI_RESPONSES.write_request(request).body for request, _ in loop.model.asked]
    assert [one.get("tool_choice") for one in sent] == [choice, relaxed, relaxed]
    assert [one["truncation"] for one in sent] == ["auto"] * 3
