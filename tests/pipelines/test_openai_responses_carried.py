"""What the Responses wire carries of reasoning, and what it names as left out."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.conversation import (
    Audio,
    Foreign,
    Message,
    Reasoning,
    ReasoningRequest,
    Request,
    Text,
    ToolResult,
    ToolSpec,
)
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.dialects.openai_responses.opaque import OUR_ID, seal, unseal
from pipelines.dialects.sealing import SEAL, sealed
from tests import strategies

NAME = "openai_responses"


def read(**fields: Any) -> Request:
    return OPENAI_RESPONSES.read_request({"model": "m", "input": "Hi", **fields})


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    return OPENAI_RESPONSES.write_request(Request("m", messages, **fields)).body


def dropped(*messages: Message, **fields: Any) -> tuple[str, ...]:
    return OPENAI_RESPONSES.write_request(Request("m", messages, **fields)).dropped


def test_what_cannot_be_said_is_named() -> None:
    user = Message("user", (Text("Hi"), Audio("AAAA", "wav")), name="Ann")
    thought = Message("assistant", (Reasoning("hm", {"anthropic_messages": {"signature": "s"}}), Text("x")))
    result = Message("tool", (ToolResult("c", (Text("bad"),), is_error=True),))
    foreign = Message("assistant", (Foreign({"anthropic_messages": {"type": "server_tool_use"}}),))
    tool = ToolSpec("web", opaque={"anthropic_messages": {"type": "web_search_20250305"}})
    names = dropped(
        user,
        thought,
        result,
        foreign,
        tools=(tool,),
        n=3,
        stop=("x",),
        seed=1,
        reasoning=ReasoningRequest(budget=3000),
        extra={"openai_chat": {"modalities": ["text"]}},
    )
    assert set(names) == {
        "messages.name",
        "messages.audio",
        "messages.reasoning",
        "messages.is_error",
        "messages.anthropic_messages",
        "tools.web",
        "n",
        "stop",
        "seed",
        "reasoning.budget",
        "openai_chat.modalities",
    }


def test_encrypted_reasoning_is_asked_for_only_where_there_may_be_some() -> None:
    user = Message("user", (Text("Hi"),))
    assert "include" not in written(user)
    assert written(user, reasoning=ReasoningRequest(effort="low"))["include"] == ["reasoning.encrypted_content"]
    assert "include" not in written(user, reasoning=ReasoningRequest(enabled=False))
    carried = Message("assistant", (Reasoning(opaque={NAME: {"id": "rs_1", "encrypted_content": "g"}}),))
    body = written(user, carried)
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["input"][1] == {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "g"}


def test_reasoning_goes_back_as_it_came() -> None:
    items = [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b\n\nc"}],
            "encrypted_content": "g",
        },
        {
            "type": "reasoning",
            "id": "rs_2",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "raw"}, {"type": "reasoning_text", "text": "more"}],
        },
    ]
    request = read(input=[{"role": "user", "content": "x"}, *items])
    assert [part.text for part in request.messages[1].parts if isinstance(part, Reasoning)] == [
        "a\n\nb\n\nc",
        "raw\n\nmore",
    ]
    assert OPENAI_RESPONSES.write_request(request).body["input"][1:] == items


@given(st.dictionaries(st.sampled_from(["anthropic_messages", "openai_chat"]), st.dictionaries(st.text(), st.text())))
def test_a_textopens_to_what_was_put_in(opaque: dict[str, dict[str, str]]) -> None:
    held = seal({**opaque, NAME: {"id": "rs_1"}})
    assert unseal(held) == (opaque or None)


@given(st.text() | st.text("AZaz09-_=").map("penstock.1.".__add__))
def test_a_damaged_textopens_to_nothing(text: str) -> None:
    assert unseal(text) is None


def test_a_signature_of_another_dialect_comes_back_through_a_caller() -> None:
    signed = {"anthropic_messages": {"signature": "EqQB"}}
    item = {"type": "reasoning", "id": "rs_penstock_1_0", "encrypted_content": seal(signed)}
    item["summary"] = [{"type": "summary_text", "text": "thought"}]  # type: ignore[assignment]
    assert read(input=[item]).messages == (Message("assistant", (Reasoning("thought", signed),)),)


def test_reasoning_of_another_provider_goes_back_to_none_but_its_own() -> None:
    """Sealed by us, or under an id of ours: OpenAI would refuse the one and look the other up."""
    sealed_item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SEAL + "e30="}
    bare = {"type": "reasoning", "id": f"{OUR_ID}c1_0", "summary": [{"type": "summary_text", "text": "hm"}]}
    theirs = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}
    kept = {**bare, "encrypted_content": "gAAAA"}
    asked = {"role": "user", "content": "Hi"}
    body = {"model": "m", "input": [asked, sealed_item, bare, theirs, kept]}
    assert OPENAI_RESPONSES.relay_request(body, "n")["input"] == [asked, theirs, kept]


MEMBERS = ("field", "reasoning_details", "form", "breaks", "summary", "encrypted_content", "signature", "data", "type")
SHARES = st.dictionaries(
    st.sampled_from(list(DIALECTS)),
    strategies.JSON_VALUES | st.dictionaries(st.sampled_from(MEMBERS), strategies.JSON_VALUES),
)


@given(SHARES, st.sampled_from(["", "!", "e30="]))
@example({"openai_chat": {"reasoning_details": 5}}, "")
@example({"openai_chat": {"field": "content"}}, "")
@example({NAME: {"id": "rs_1"}}, "")
def test_whatever_stands_in_a_seal_goes_to_no_provider(shares: dict[str, Any], damage: str) -> None:
    text = sealed(shares) + damage if shares else SEAL + damage
    thinking = {"type": "thinking", "thinking": "t", "signature": text}
    said = [
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]},
        {"role": "user", "content": "q"},
    ]
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": text}
    for request in (
        read(input=[{"role": "user", "content": "q"}, item, {"role": "assistant", "content": "a"}]),
        DIALECTS["anthropic_messages"].read_request({"model": "m", "max_tokens": 9, "messages": said}),
    ):
        for wire in WIRES.values():
            body = json.dumps(wire.write_request(request).body)
            assert SEAL not in body
    chat = WIRES["openai_chat"].write_request(request).body["messages"][0]
    assert chat["content"] == "a"
    assert chat.keys() <= {"role", "content", "reasoning", "reasoning_content", "reasoning_details"}
