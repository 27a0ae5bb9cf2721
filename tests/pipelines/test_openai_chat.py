"""The chat dialect against itself: what it writes it reads; and the members of requests one by one."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from pipelines.conversation import (
    File,
    Foreign,
    Image,
    Json,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningRequest,
    Request,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.errors import BadRequest
from pipelines.events import Event, Finished, PartEnded, PartStarted, assemble
from tests import strategies
from tests.pipelines.chat_wire import decode
from tests.strategies import event_streams, requests

RAW = {**strategies.RAW_REASONS, "content_filter": "content_filter"}


def plain(events: list[Event]) -> list[Event]:
    """Without what a round trip adds: the raw usage object, and the name of the field that held reasoning."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Finished) and event.usage:
            event = msgspec.structs.replace(event, usage=msgspec.structs.replace(event.usage, raw=None))
        if isinstance(event, PartStarted) and event.kind == "reasoning":
            event = msgspec.structs.replace(event, opaque=None)
        result.append(event)
    return result


def ends_aside(events: list[Event]) -> list[Event]:
    """Without `PartEnded`: a call without arguments cannot be known to be over before the answer is."""
    return [event for event in plain(events) if not isinstance(event, PartEnded)]


@given(event_streams(raw_reasons=RAW))
def test_events_survive_the_wire(events: list[Event]) -> None:
    encoder = OPENAI_CHAT.encoder(Request("m", (), include_usage=True))
    again = decode(b"".join(encoder.encode(event) for event in events))
    assert plain(again) == plain(events)


@given(event_streams(raw_reasons=RAW, choices=3))
def test_several_choices_survive_the_wire(events: list[Event]) -> None:
    encoder = OPENAI_CHAT.encoder(Request("m", (), include_usage=True))
    again = decode(b"".join(encoder.encode(event) for event in events))
    assert ends_aside(again) == ends_aside(events)
    assert [m.text for m in assemble(again).messages] == [m.text for m in assemble(events).messages]


@given(event_streams(raw_reasons=RAW, choices=3, created=True))
def test_whole_answers_survive_the_wire(events: list[Event]) -> None:
    answer = assemble(events)
    written = msgspec.json.encode(OPENAI_CHAT.write_answer(answer, Request("m", ())))
    again = assemble(OPENAI_CHAT.read_answer(written))
    assert again.finished.reason == answer.finished.reason
    for mine, theirs in zip(again.messages, answer.messages, strict=True):
        assert mine.text == theirs.text
        assert mine.tool_calls == theirs.tool_calls


def marked(request: Request) -> Request:
    """As it comes off this wire: reasoning says in which member it stood."""
    messages = [
        msgspec.structs.replace(
            message,
            parts=tuple(
                Reasoning(p.text, {"openai_chat": {"field": "reasoning_content"}}) if isinstance(p, Reasoning) else p
                for p in message.parts
            ),
        )
        for message in request.messages
    ]
    # This wire has the one beside the other only.
    logprobs = True if request.top_logprobs is not None else request.logprobs
    return msgspec.structs.replace(request, messages=tuple(messages), logprobs=logprobs)


@given(requests(parts={"result_images": False, "result_errors": False}))
def test_requests_survive_the_wire(generated: Request) -> None:
    request = marked(generated)
    written = OPENAI_CHAT.write_request(request)
    assert written.dropped == ()
    # Usage is always asked for, and only with a stream.
    expected = msgspec.structs.replace(request, include_usage=request.stream)
    assert OPENAI_CHAT.read_request(written.body) == expected


def read(**members: Json) -> Request:
    return OPENAI_CHAT.read_request({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members})


def said(*messages: Json) -> tuple[Message, ...]:
    return read(messages=list(messages)).messages


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 3}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages.0"),
    ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.image_url"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.image_url.url",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages.0.content.0.file"),
    ({"messages": [{"role": "tool", "content": "1"}]}, "messages.0.tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages.0.tool_calls"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]},
        "messages.0.tool_calls.0.function",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}]},
        "messages.0.tool_calls.0.function.arguments",
    ),
    ({"tools": [{"function": {"name": "f"}}]}, "tools.0.type"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools.0.function.parameters"),
    ({"functions": [{}]}, "functions.0.name"),
    ({"tool_choice": "some"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"stop": [1]}, "stop.0"),
    ({"stop": 1}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"logit_bias": {"5": "x"}}, "logit_bias.5"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"models": ["a", 1]}, "models.1"),
    ({"penstock": 1}, "penstock"),
]


@pytest.mark.parametrize(("members", "param"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**members)
    assert caught.value.param == param
    assert param in caught.value.message


def test_pictures_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
    ]
    assert said({"role": "user", "content": parts})[0].parts == (
        Image(data="aGk=", media_type="image/png", detail="low"),
        Image(url="https://example.com/a.png"),
        File(name="a.pdf", data="aGk=", media_type="application/pdf"),
        Foreign({"openai_chat": parts[3]}),
        Text("x", {"openai_chat": {"cache_control": {"type": "ephemeral"}}}),
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("application/pdf", "file.pdf"), ("text/csv; charset=utf-8", "file.csv"), ("TEXT/x-diff", "file.txt"),
        ("application/zip", "file"), ("", "file"),
    ],
)  # fmt: skip
def test_a_document_without_a_name_gets_one_by_its_kind(kind: str, name: str) -> None:
    for document, expected in (
        (File(data="aGk=", media_type=kind), name),
        (File("a", data="aGk=", media_type=kind), "a"),
    ):
        messages = (Message("user", (document,)),)
        chat = WIRES["openai_chat"].write_request(Request("m", messages)).body["messages"][0]
        responses = WIRES["openai_responses"].write_request(Request("m", messages)).body["input"][0]
        assert chat["content"][0]["file"]["filename"] == responses["content"][0]["filename"] == expected
    stored = WIRES["openai_chat"].write_request(Request("m", (Message("user", (File(file_id="f"),)),)))
    assert stored.body["messages"][0]["content"][0]["file"] == {"file_id": "f"}


def test_a_picture_or_document_of_which_nothing_can_be_said_is_left_out_and_named() -> None:
    stored = {"type": "input_image", "file_id": "file-1", "detail": "auto"}
    asked = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, stored]}]}
    written = OPENAI_CHAT.write_request(DIALECTS["openai_responses"].read_request(asked))
    assert (written.body["messages"], written.dropped) == ([{"role": "user", "content": "x"}], ("image",))
    same = WIRES["openai_responses"].write_request(DIALECTS["openai_responses"].read_request(asked))
    assert same.body["input"][0]["content"][1] == stored
    pictures = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]
    content = [{"type": "document", "source": {"type": "content", "content": pictures}}]
    parts = [{"type": "text", "text": "x"}, *content]
    result = {"type": "tool_result", "tool_use_id": "t", "content": parts}
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    messages = [{"role": "user", "content": parts}, call, {"role": "user", "content": [result]}]
    request = DIALECTS["anthropic_messages"].read_request({"model": "m", "max_tokens": 9, "messages": messages})
    written = OPENAI_CHAT.write_request(request)
    assert [message.get("content") for message in written.body["messages"]] == ["x", None, "x"]
    assert "file" in written.dropped
    written = WIRES["openai_responses"].write_request(request)
    assert [item.get("content") or item.get("output") for item in written.body["input"]] == ["x", None, "x"]
    assert "messages.file" in written.dropped


def test_reasoning_goes_back_as_it_came() -> None:
    details = [{"type": "reasoning.encrypted", "data": "xyz", "id": "rs_1"}]
    message = {"role": "assistant", "content": "a", "reasoning": "b", "reasoning_details": details}
    request = read(messages=[message])
    assert OPENAI_CHAT.write_request(request).body["messages"] == [message]


def test_old_function_calls() -> None:
    body: dict[str, Json] = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "7"},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
    }
    request = OPENAI_CHAT.read_request(body)
    assert request.tool_choice == ToolChoice("named", "f")
    assert request.parallel_tool_calls is False, "there is room for one call"
    asked, answered = request.messages[1].tool_calls[0], request.messages[2].parts[0]
    assert isinstance(answered, ToolResult)
    assert answered.call_id == asked.id
    assert OPENAI_CHAT.write_request(request).body == body


def test_choices_among_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]
    reference = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]
    narrowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": reference}}
    forms: list[tuple[Json, ToolChoice]] = [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (reference[0], ToolChoice("named", "f")),
        (reference[1], ToolChoice("named", "c")),
        (narrowed, ToolChoice("required", allowed=("f", "c"))),
    ]
    for form, choice in forms:
        request = read(tools=tools, tool_choice=form)
        assert request.tool_choice == choice
        written = OPENAI_CHAT.write_request(request).body
        assert written["tool_choice"] == form
        assert written["tools"] == tools


def test_unknown_members_reach_the_provider() -> None:
    options = {"include_usage": False, "include_obfuscation": False}
    grammar = {"type": "grammar", "grammar": "root ::= 'a'"}
    request = read(min_p=0.1, provider={"order": ["a"]}, stream=True, stream_options=options, response_format=grammar)
    body = OPENAI_CHAT.write_request(request).body
    assert (body["min_p"], body["provider"]) == (0.1, {"order": ["a"]})
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert body["response_format"] == grammar


def test_our_own_members_stay_here() -> None:
    body: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "x": 1}
    ours = {**body, "models": ["a"], "penstock": {"recovery": "continue"}}
    assert OPENAI_CHAT.read_request(ours).extra == {"openai_chat": {"x": 1}}
    sent = OPENAI_CHAT.relay_request(ours, "other")
    assert sent == {**body, "model": "other", "stream_options": {"include_usage": True}}
    assert ours["model"] == "m"
    assert "stream_options" not in OPENAI_CHAT.relay_request({**ours, "stream": False}, "other")


def test_the_limit_keeps_its_name() -> None:
    assert OPENAI_CHAT.write_request(read(max_tokens=5)).body["max_tokens"] == 5
    assert OPENAI_CHAT.write_request(read(max_completion_tokens=5)).body["max_completion_tokens"] == 5
    from_elsewhere = Request("m", (Message("user", (Text("Hi"),)),), max_tokens=5)
    assert OPENAI_CHAT.write_request(from_elsewhere).body["max_completion_tokens"] == 5


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_of_minus_one_is_none(name: str) -> None:
    request = read(**{name: -1})
    assert (request.max_tokens, request.extra) == (None, None)
    assert not OPENAI_CHAT.write_request(request).body.keys() & {"max_tokens", "max_completion_tokens"}
    assert OPENAI_CHAT.relay_request({"model": "m", "messages": [], name: -1}, "m")[name] == -1
    for wrong in (0, -2, -1.5):
        with pytest.raises(BadRequest, match=name):
            read(**{name: wrong})


@pytest.mark.parametrize("wire", ["anthropic_messages", "openai_responses", "ollama_chat"])
@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"max_tokens": 5}, False),
        ({"max_tokens": 5, "reasoning": {"effort": "low", "max_tokens": 9}}, False),
        ({"reasoning": {"effort": "low", "exclude": True}}, True),
        ({"max_tokens": 5, "min_p": 0.1}, True),
    ],
)
def test_what_is_said_in_other_words_is_not_named_as_lost(wire: str, members: dict[str, Json], named: bool) -> None:
    lost = WIRES[wire].write_request(read(**members)).dropped
    assert any("openai_chat" in name for name in lost) == named
    assert not any("max_tokens" in name for name in lost)


def test_openrouters_reasoning_object() -> None:
    request = read(reasoning={"max_tokens": 100, "exclude": True})
    assert request.reasoning == ReasoningRequest(budget=100)
    assert OPENAI_CHAT.write_request(request).body["reasoning"] == {"max_tokens": 100, "exclude": True}
    assert read(reasoning_effort="none").reasoning == ReasoningRequest(enabled=False, effort="none")


def test_what_other_dialects_have_is_dropped_and_named() -> None:
    theirs = {"anthropic_messages": {"signature": "s"}}
    request = Request(
        "m",
        (
            Message("user", (Text("Hi", {"anthropic_messages": {"cache_control": {}}}),)),
            Message("assistant", (Reasoning("hm", theirs), Foreign(theirs), ToolCall("a", "f", "{}"))),
            Message("user", (ToolResult("a", (Text("no"), Image(url="https://e/x.png")), is_error=True), Text("So?"))),
        ),
        tools=(ToolSpec("web_search", opaque={"anthropic_messages": {"type": "web_search_20250305"}}),),
        tool_choice=ToolChoice("auto"),
        reasoning=ReasoningRequest(budget=1000),
        extra={"anthropic_messages": {"container": "c"}},
    )
    written = OPENAI_CHAT.write_request(request)
    assert set(written.dropped) == {
        "text.anthropic_messages",
        "reasoning",
        "foreign",
        "tool_result.is_error",
        "tools.web_search",
        "reasoning.budget",
        "extra.anthropic_messages",
    }
    assert written.body == {
        "model": "m",
        "reasoning_effort": "low",
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "no"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://e/x.png"}},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
    }


def test_schemas_of_answers() -> None:
    form = OutputFormat("json_schema", "n", "d", {"type": "object"}, strict=True)
    body = OPENAI_CHAT.write_request(Request("m", (Message("user", (Text("Hi"),)),), output_format=form)).body
    assert OPENAI_CHAT.read_request(body).output_format == form


@pytest.mark.parametrize(
    "few", [{}, {"stream": True}, {"stream": False, "temperature": 0.5}, {"top_p": 1, "stream": None}]
)
def test_a_body_of_few_members_reads_as_one_of_many(few: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **few}
    assert OPENAI_CHAT.read_request(body) == OPENAI_CHAT.read_request({**body, "seed": None})
    wrongs: list[dict[str, Any]] = [
        {"model": ""},
        {"messages": []},
        {"messages": "x"},
        {"stream": 1},
        {"temperature": "x"},
        {"top_p": True},
    ]
    for wrong in wrongs:
        with pytest.raises(BadRequest) as one:
            OPENAI_CHAT.read_request({**body, **wrong})
        with pytest.raises(BadRequest) as other:
            OPENAI_CHAT.read_request({**body, **wrong, "seed": None})
        assert (str(one.value), one.value.param) == (str(other.value), other.value.param)


def test_a_message_of_which_nothing_is_left_is_left_out() -> None:
    foreign = Foreign({"openai_responses": {"type": "custom_tool_call"}})
    hi = Message("user", (Text("Hi"),))
    written = OPENAI_CHAT.write_request(
        Request("m", (hi, Message("assistant", (foreign,)), Message("user", (foreign,)), Message("assistant", ())))
    )
    assert written.body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]
    assert written.dropped == ("foreign",)


def test_the_most_likely_tokens_are_asked_for_beside_their_own_field_only() -> None:
    request = Request("m", (Message("user", (Text("Hi"),)),), top_logprobs=3)
    assert OPENAI_CHAT.write_request(request).dropped == ("top_logprobs",)
    assert OPENAI_CHAT.write_request(msgspec.structs.replace(request, logprobs=True)).body["top_logprobs"] == 3


def test_a_conversation_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(BadRequest) as raised:
        OPENAI_CHAT.write_request(Request("m", (Message("user", (Foreign({"other": {"a": 1}}),)),)))
    assert raised.value.param == "messages"
