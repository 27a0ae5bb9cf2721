"""Identifiers that a provider would refuse: what is sent in their place."""

import json
import re
from typing import Any

import pytest

from pipelines.conversation import Message, Request, Text, ToolCall, ToolResult
from pipelines.dialects import DIALECTS, WIRES
from pipelines.events import Event, Finished, PartEnded, PartStarted, Started, assemble

ANTHROPIC: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses"])
def test_a_long_user_is_a_digest_to_those_who_refuse_it(wire: str) -> None:
    def sent(user: str) -> tuple[str, tuple[str, ...]]:
        request = DIALECTS["anthropic_messages"].read_request({**ANTHROPIC, "metadata": {"user_id": user}})
        written = WIRES[wire].write_request(request)
        return written.body["user"], written.dropped

    assert sent("u" * 64) == ("u" * 64, ())
    long, dropped = sent("user_\ud800" + "f" * 150)
    assert (len(long), dropped) == (64, ("user",))
    assert int(long, 16)
    assert sent("user_\ud800" + "f" * 150)[0] == long != sent("user_\ud800" + "f" * 151)[0]
    own = {"model": "m", "input": "q", "messages": ANTHROPIC["messages"], "user": "u" * 65}
    assert DIALECTS[wire].relay_request(own, "m")["user"] == "u" * 65, "its own callers hear what the provider says"


@pytest.mark.parametrize(
    ("wire", "refused", "kept"),
    [
        ("openai_chat", "chatcmpl-tool-" + "a" * 32, "c" * 40),
        ("openai_responses", "call_" + "a" * 60, "chatcmpl-tool-" + "a" * 32),
        ("anthropic_messages", "functions.weather:0", "chatcmpl-tool-" + "a" * 64),
    ],
)
def test_an_id_of_a_call_that_is_refused_is_a_digest_in_call_and_result(wire: str, refused: str, kept: str) -> None:
    calls = (ToolCall(refused, "f", "{}"), ToolCall(kept, "f", "{}"), ToolCall(refused + ".", "f", "{}"))
    results = tuple(Message("tool", (ToolResult(call.id, (Text("x"),)),)) for call in calls)
    messages = (Message("user", (Text("q"),)), Message("assistant", calls), *results)
    sent = json.dumps(WIRES[wire].write_request(Request("m", messages)).body)
    ids = re.findall(r'"(?:id|call_id|tool_call_id|tool_use_id)": "([^"]*)"', sent)
    assert ids[:3] == ids[3:]
    assert ids[1] == kept
    assert len({*ids}) == 3
    assert all(re.fullmatch("call_[0-9a-f]{35}", ids[place]) for place in (0, 2))


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_an_answers_calls_keep_their_ids(dialect: str) -> None:
    identity = "chatcmpl-tool-" + "a" * 64
    events: list[Event] = [Started(), PartStarted(0, "tool_call", identity, "f"), PartEnded(0), Finished("tool_calls")]
    asked = Request("m", ())
    assert identity in json.dumps(DIALECTS[dialect].write_answer(assemble(events), asked))
    encoder = DIALECTS[dialect].encoder(asked)
    assert identity.encode() in b"".join(map(encoder.encode, events))
