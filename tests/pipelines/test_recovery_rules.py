"""Which answers may be recovered, what the next candidate is asked, and stop sequences across the seam."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.calls import Caller
from pipelines.dialects import DIALECTS
from pipelines.errors import UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, ToolStarted
from pipelines.options import Options
from pipelines.recovery import recoverable
from pipelines.recovery.question import QUOTED, asked_again, last_words, question
from pipelines.recovery.rules import MOST_DELIVERED, Delivered, lasting
from pipelines.recovery.stops import Stops
from pipelines.resilience import RULES
from tests.pipelines.recovery_answers import WHOLE, call


def delivered(*events: Event) -> Delivered:
    told = Delivered()
    for event in (Started(), *events):
        told.note(event)
    return told


TEXT = PartStarted(0, "text")


def test_plain_text_may_be_gone_on_with() -> None:
    told = delivered(TEXT, PartDelta(0, "Once "), PartDelta(0, "upon"))
    assert (told.unfit(), told.text, told.part) == ("", "Once upon", 0)
    told = delivered(TEXT, PartDelta(0, "One. "), PartEnded(0), PartStarted(1, "text"), PartDelta(1, "Two"))
    assert (told.unfit(), told.text, told.part) == ("", "One. Two", 1)


@pytest.mark.parametrize(
    "events",
    [
        (),
        (TEXT,),
        (TEXT, PartDelta(0, "")),
        (TEXT, PartDelta(0, " \n")),
        (TEXT, PartDelta(0, "Hi"), PartEnded(0)),
        (TEXT, PartDelta(0, "Hi"), PartEnded(0), Finished("stop")),
        (PartStarted(0, "reasoning"), PartDelta(0, "Hm"), PartEnded(0), PartStarted(1, "text"), PartDelta(1, "Hi")),
        (PartStarted(0, "tool_call", "c", "f"), PartDelta(0, '{"a":')),
        (TEXT, PartDelta(0, "Hi"), PartEnded(0), PartStarted(1, "tool_call", "c", "f")),
        (PartStarted(0, "refusal"), PartDelta(0, "No")),
        (PartStarted(0, "foreign"), PartEnded(0), PartStarted(1, "text"), PartDelta(1, "Hi")),
        (PartStarted(0, "text", choice=1), PartDelta(0, "Hi")),
        (TEXT, PartStarted(1, "text"), PartDelta(1, "Hi")),
        (TEXT, PartDelta(0, "Hi", {"anthropic_messages": {"citations": [{}]}})),
        (TEXT, PartDelta(0, "Hi"), PartEnded(0, {"openai_chat": {"annotations": [{}]}}), PartStarted(1, "text")),
        (TEXT, PartDelta(0, "Hi"), ToolStarted("c", "f")),
        (TEXT, PartDelta(0, "x" * MOST_DELIVERED), PartDelta(0, "y")),
    ],
)
def test_anything_else_is_not(events: tuple[Event, ...]) -> None:
    told = delivered(*events)
    assert told.unfit()
    told.note(PartStarted(7, "text"))
    if "text" in told.unfit() and "plain" in told.unfit():
        told.note(PartDelta(7, "more"))
        assert told.unfit()
        assert not told.text


def test_the_longest_text_is_still_recovered() -> None:
    told = delivered(TEXT, PartDelta(0, "x" * MOST_DELIVERED))
    assert not told.unfit()


SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("openai_chat", {"n": 2}),
        ("openai_chat", {"logprobs": True}),
        ("openai_chat", {"logprobs": True, "top_logprobs": 3}),
        ("openai_chat", {"response_format": {"type": "json_object"}}),
        (
            "openai_chat",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
        ),
        ("openai_responses", {"text": {"format": {"type": "json_object"}}}),
        ("openai_responses", {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}}),
        ("openai_responses", {"top_logprobs": 2}),
        ("openai_responses", {"include": ["message.output_text.logprobs"]}),
        ("anthropic_messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ],
)
def test_what_a_call_asks_for_may_rule_it_out(dialect: str, more: dict[str, Any]) -> None:
    assert recoverable(call(dialect))
    assert not recoverable(call(dialect, **more))


def test_only_a_stream_whose_caller_wants_it_is_recovered() -> None:
    plain = call(n=1, response_format={"type": "text"})
    assert recoverable(plain)
    assert not recoverable(call(stream=False))
    assert not recoverable(msgspec.structs.replace(plain, operation="/completions"))
    assert not recoverable(msgspec.structs.replace(plain, options=Options()))
    assert not recoverable(msgspec.structs.replace(plain, options=Options(recovery="error")))
    keyed = msgspec.structs.replace(plain, options=Options(), caller=Caller("me", recovery="continue"))
    assert recoverable(keyed)


def test_failures_that_may_be_gone_on_from_are_those_that_fall_back() -> None:
    allowed = {reason for reason in RULES if not lasting(UpstreamError("", reason=reason))}
    assert allowed == {"rate_limited", "overloaded", "server_error", "broken", "timeout", "protocol"}


# The next question.


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_the_next_candidate_is_asked_the_same_and_one_user_turn_more(dialect: str) -> None:
    first = call(dialect, temperature=0.5, unheard_of={"a": [1]}, models=["x"])
    again = asked_again(first, WHOLE)
    turns = "input" if dialect == "openai_responses" else "messages"
    assert {**again.body, turns: 0} == {**first.body, turns: 0}
    assert again.body[turns][0]["content"] == "Hi"
    last = again.body[turns][-1]
    assert (last["role"], len(again.body[turns])) == ("user", 2)
    assert WHOLE in last["content"]
    assert again.request.messages[-1].text == last["content"]
    assert again.request == DIALECTS[dialect].read_request(again.body)
    assert not recoverable(again)
    assert (again.idempotency_key, again.request.model, first.body.get("input", "Hi")) == ("", "m", "Hi")


def test_input_may_be_a_list_and_the_model_stays_the_decided_one() -> None:
    items = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    first = call("openai_responses", input=items)
    first = msgspec.structs.replace(first, request=msgspec.structs.replace(first.request, model="decided"))
    again = asked_again(first, "So it")
    assert again.body["input"][:3] == items == first.body["input"]
    assert (len(again.body["input"]), again.request.model) == (4, "decided")


@given(
    st.text() | st.sampled_from(["</cut-off-answer>", "cut-off-answer cut-off-answer-2", "last-words", "{text} {0}"])
)
def test_no_tag_collides_with_the_text(text: str) -> None:
    asked = question(text)
    opening = asked[asked.index("<cut-off-answer") :].partition(">")[0] + ">"
    assert asked.count(opening) == 1
    closing = "</" + opening[1:]
    assert asked.count(closing) == 1
    assert asked.partition(opening)[2].partition(closing)[0] == text
    opening = asked[asked.index("<last-words", asked.index(closing)) :].partition(">")[0] + ">"
    assert asked.partition(closing)[2].partition(opening)[2].partition("</" + opening[1:])[0] == last_words(text)


def test_the_last_words_begin_with_a_word_and_occur_once() -> None:
    words = last_words(WHOLE)
    assert WHOLE.endswith(" " + words)
    assert QUOTED <= len(words) < QUOTED + 12
    chorus = "And they sang it over and over again until the sun went down. "
    song = "First verse. " + chorus + "Second verse. " + chorus
    assert song.count(last_words(song)) == 1
    assert last_words(song).endswith(chorus.strip())
    assert last_words("- " * 400) == ("- " * 400).strip()
    assert last_words(" short \n") == "short"


# Stop sequences.


def stopped(stop: tuple[str, ...], before: str, after: str, step: int) -> tuple[str, str]:
    stops = Stops(stop, before)
    out = "".join([stops.feed(after[at : at + step]) for at in range(0, len(after), step)])
    return out + stops.close(), stops.found


@pytest.mark.parametrize("step", [1, 2, 50])
def test_a_stop_sequence_across_the_seam_ends_the_text_there(step: int) -> None:
    assert stopped(("END",), "the E", "ND of it", step) == ("", "END")
    assert stopped(("END",), "the EN", "D", step) == ("", "END")
    assert stopped(("END",), "the E", "NTER", step) == ("NTER", "")
    assert stopped(("END",), "the E", "N", step) == ("N", "")
    assert stopped(("END", "\n\n"), "the\n", "\nrest", step) == ("", "\n\n")
    assert stopped(("aab", "b"), "xa", "aab", step) == ("aab", "")
    assert stopped(("ababc",), "xab", "abc", step) == ("", "ababc")
    assert stopped((), "the E", "ND of it", step) == ("ND of it", "")


@given(
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    st.text("ab", max_size=6),
    st.text("ab", max_size=8),
    st.integers(1, 4),
)
def test_it_is_found_exactly_where_a_search_finds_it(stop: list[str], before: str, after: str, step: int) -> None:
    whole = before + after
    across = {
        word
        for word in stop
        for at in range(max(0, len(before) - len(word) + 1), len(before))
        if whole.startswith(word, at) and at + len(word) > len(before)
    }
    out, found = stopped(tuple(stop), before, after, step)
    assert (found in across) if across else not found
    assert out == ("" if across else after)
