"""Streams that break and are gone on with, in every dialect: what a caller reads, what becomes of each attempt."""

import asyncio
import json
from typing import Any

import pytest

from pipelines.calls import Answer
from pipelines.conversation import Usage
from pipelines.dialects import DIALECTS
from pipelines.errors import Overloaded, RateLimited, StreamBroken, TimedOut, UpstreamError
from pipelines.events import Event, PartDelta, PartEnded, PartStarted
from pipelines.recovery import recovering
from pipelines.recovery.stream import MOST_RECOVERIES
from tests.pipelines.recovery_answers import WHOLE, Attempt, Desk, Read, call, ended, gathered, spoken
from tests.pipelines.test_recordings_cross import STREAMED

every_dialect = pytest.mark.parametrize("dialect", sorted(DIALECTS))
CUT = 61
REST = [*spoken(WHOLE[WHOLE.index("climbed") :]), *ended()]
"""What a good second candidate says: from some words before the cut on."""


def lost() -> UpstreamError:
    return UpstreamError(
        "the provider is overloaded", reason="overloaded", status=503, upstream_type="overloaded_error"
    )


async def streamed(answer: Answer) -> bytes:
    """The whole stream of an answer, which is closed then."""
    assert answer.frames is not None
    try:
        return await gathered(answer.frames)
    finally:
        await answer.close()


async def read(dialect: str, first: Attempt, *others: Any, **more: Any) -> tuple[Read, Desk]:
    """What the caller of a stream of these attempts reads; every attempt must be closed then."""
    desk = Desk(*others)
    asked = call(dialect, **more)
    told = Read(dialect, await streamed(recovering(first.answer, asked, desk.again)))
    for attempt in (first, *others[: len(desk.asked)]):
        assert not isinstance(attempt, Attempt) or (attempt.closed and attempt.done)
    return told, desk


def accepted(dialect: str, told: Read) -> None:
    """The vendor's own types take every frame."""
    for value in told.objects:
        STREAMED[dialect].validate_json(json.dumps(value), strict=True)


def mark(dialect: str, told: Read) -> Any:
    """The member `penstock` of the frame that ends the answer."""
    if dialect == "openai_chat":
        ends = [value for value in told.objects if any(choice["finish_reason"] for choice in value["choices"])]
    elif dialect == "anthropic_messages":
        ends = [value for value in told.objects if value["type"] == "message_delta"]
    else:
        ends = [value["response"] for value in told.objects if value["type"] == "response.completed"]
    assert len(ends) == 1
    return ends[0].get("penstock")


@every_dialect
async def test_an_answer_that_does_not_break_is_as_it_was(dialect: str) -> None:
    events = [*spoken(WHOLE), *ended()]
    first, plain = Attempt(call(dialect), events), Attempt(call(dialect), events)
    told, desk = await read(dialect, first)
    assert plain.answer.frames is not None
    assert told.data == await gathered(plain.answer.frames)
    assert not desk.asked
    assert (first.used, first.answer.error, mark(dialect, told)) == (True, None, None)


@every_dialect
@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("together", [1, 3, 100])
async def test_a_broken_answer_is_gone_on_with_as_one(dialect: str, restart: bool, together: int) -> None:
    asked = call(dialect)
    first = Attempt(asked, spoken(WHOLE[:CUT]), failure=lost(), together=together)
    new = [*spoken(WHOLE, step=5), *ended()] if restart else REST
    second = Attempt(asked, new, together=together, identity="answer_2")
    told, desk = await read(dialect, first, second)
    assert (told.text, told.error, len(desk.asked)) == (WHOLE, None, 1)
    assert WHOLE[:CUT] in desk.asked[0].request.messages[-1].text
    assert told.finished is not None
    assert (told.finished.reason, told.finished.usage) == ("stop", told.finished.usage)
    assert told.finished.usage is not None
    assert (told.finished.usage.input, told.finished.usage.output) == (111, 27)
    assert mark(dialect, told) == {"recovered": {"attempts": 2, "model": "p/answer_2"}}
    assert [event.index for event in told.events if isinstance(event, PartStarted)] == [0]
    assert b"answer_2" not in told.data.replace(b"p/answer_2", b"")
    accepted(dialect, told)
    if dialect == "openai_responses":
        numbers = [value["sequence_number"] for value in told.objects]
        assert numbers == list(range(len(numbers)))
        assert len({value["item_id"] for value in told.objects if "item_id" in value}) == 1
        assert told.objects[-1]["response"]["output"][0]["content"][0]["text"] == WHOLE


@every_dialect
async def test_each_attempt_keeps_its_own_account(dialect: str) -> None:
    asked = call(dialect)
    first, second = Attempt(asked, spoken(WHOLE[:CUT]), failure=lost()), Attempt(asked, REST)
    await read(dialect, first, second)
    assert first.used
    assert second.used
    assert first.answer.outcome is not None
    assert first.answer.outcome.reason == "overloaded"
    assert isinstance(first.answer.error, UpstreamError)
    assert first.answer.error.reason == "overloaded"
    assert second.answer.outcome is not None
    assert second.answer.outcome.reason is None
    assert second.answer.error is None


@every_dialect
async def test_an_end_without_its_end_and_a_raised_failure_are_breaks_too(dialect: str) -> None:
    for thrown in (None, StreamBroken("cut"), TimedOut("silence", phase="idle")):
        first = Attempt(call(dialect), spoken(WHOLE[:CUT]), thrown=thrown)
        told, _ = await read(dialect, first, Attempt(call(dialect), REST))
        assert (told.text, told.error) == (WHOLE, None)
        assert isinstance(first.answer.error, type(thrown) if thrown else StreamBroken)


@every_dialect
async def test_a_second_break_is_gone_on_with_too_and_a_third_is_the_end(dialect: str) -> None:
    asked = call(dialect)
    at = WHOLE.index("climbed")
    first = Attempt(asked, spoken(WHOLE[:CUT]), failure=lost())
    second = Attempt(asked, spoken(WHOLE[at:90]), thrown=StreamBroken("second"), identity="answer_2")
    third = Attempt(asked, [*spoken(WHOLE[at + 8 :]), *ended()], identity="answer_3")
    told, desk = await read(dialect, first, second, third)
    assert (told.text, told.error) == (WHOLE, None)
    assert WHOLE[:90] in desk.asked[1].request.messages[-1].text
    assert len(desk.asked[1].request.messages) == 2
    assert mark(dialect, told) == {"recovered": {"attempts": 3, "model": "p/answer_3"}}
    assert told.finished is not None
    assert told.finished.usage is not None
    assert told.finished.usage.output == 5 + 5 + 22

    attempts = [Attempt(asked, spoken(WHOLE[:CUT]), thrown=StreamBroken(f"break {n}")) for n in range(4)]
    told, desk = await read(dialect, *attempts)
    assert len(desk.asked) == MOST_RECOVERIES
    assert told.error is not None
    assert (told.text, told.error.message, told.finished) == (WHOLE[:CUT], "break 0", None)


@every_dialect
@pytest.mark.parametrize(
    "new",
    [
        [*spoken("The keeper went up the stairs each evening and counted them."), *ended()],
        [*spoken(WHOLE[CUT:]), *ended()],
        [*spoken(WHOLE[:30]), *ended()],
        [*spoken(WHOLE[:30], kind="refusal"), *ended("refusal")],
        [PartStarted(0, "tool_call", "call_1", "f"), PartDelta(0, "{}"), *ended("tool_calls")],
        ended()[1:],
    ],
    ids=["paraphrase", "bare", "early end", "refusal", "tool call", "empty"],
)
async def test_what_cannot_be_stitched_ends_with_the_first_error(dialect: str, new: list[Event]) -> None:
    asked = call(dialect)
    first = Attempt(asked, spoken(WHOLE[:CUT]), failure=lost(), together=100)
    second = Attempt(asked, new)
    told, desk = await read(dialect, first, second, Attempt(asked, REST))
    assert len(desk.asked) == 1
    assert told.error is not None
    assert (told.text, told.finished) == (WHOLE[:CUT], None)
    assert "overloaded" in told.error.message
    assert b"penstock" not in told.data.replace(b"penstock_", b"")
    sentinel = DIALECTS[dialect].sentinel
    assert not sentinel or sentinel not in told.data


@every_dialect
async def test_what_comes_after_the_text_of_a_second_answer_must_be_text(dialect: str) -> None:
    tool: list[Event] = [
        PartEnded(0),
        PartStarted(1, "tool_call", "c", "f"),
        PartDelta(1, "{}"),
        PartEnded(1),
        ended()[1],
    ]
    new: list[Event] = [*REST[:-2], *tool]
    first = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost())
    told, _ = await read(dialect, first, Attempt(call(dialect), new, together=100))
    assert (told.text, told.finished, b'"name"' in told.data) == (WHOLE, None, False)
    assert told.error is not None


@every_dialect
async def test_the_reasoning_of_a_second_answer_is_left_out(dialect: str) -> None:
    thought = [*spoken("I must go on.", kind="reasoning"), PartEnded(0)]
    said = [*spoken(WHOLE[:CUT] + WHOLE[CUT:], index=1), PartEnded(1), ended()[1]]
    first = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost())
    told, _ = await read(dialect, first, Attempt(call(dialect), [*thought, *said]))
    assert (told.text, told.error) == (WHOLE, None)


@every_dialect
@pytest.mark.parametrize(
    "said",
    [
        [*spoken("Hm.", kind="reasoning"), PartEnded(0), *spoken(WHOLE[:CUT], index=1)],
        [PartStarted(0, "tool_call", "call_1", "f"), PartDelta(0, '{"a":')],
        [*spoken(WHOLE[:CUT]), PartEnded(0), PartStarted(1, "tool_call", "call_1", "f")],
        [],
    ],
    ids=["reasoning", "tool call", "text and tool call", "nothing"],
)
async def test_more_than_text_is_never_gone_on_with(dialect: str, said: list[Event]) -> None:
    told, desk = await read(dialect, Attempt(call(dialect), said, failure=lost()), Attempt(call(dialect), REST))
    assert not desk.asked
    assert told.error is not None
    assert told.finished is None


@every_dialect
@pytest.mark.parametrize("reason", ["content_policy", "context_too_long", "invalid_request"])
async def test_a_failure_that_lasts_is_not_gone_on_from(dialect: str, reason: Any) -> None:
    """The frame's words do not tell the reason; the attempt's own account does."""
    first = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=UpstreamError("sorry", reason=reason))
    told, desk = await read(dialect, first, Attempt(call(dialect), REST))
    assert not desk.asked
    assert told.error is not None


async def test_requests_that_rule_it_out_are_not_gone_on_with() -> None:
    for more in ({"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}):
        first = Attempt(call(), spoken(WHOLE[:CUT]), failure=lost())
        told, desk = await read("openai_chat", first, Attempt(call(), REST), **more)
        assert told.error is not None
        assert not desk.asked


@every_dialect
async def test_where_nobody_is_left_the_first_error_is_said(dialect: str) -> None:
    for refusal in (Overloaded("full"), RateLimited("slow down", provider="q"), UpstreamError("no")):
        told, desk = await read(dialect, Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost()), refusal)
        assert told.error is not None
        assert "overloaded" in told.error.message
        assert (len(desk.asked), told.text) == (1, WHOLE[:CUT])


@every_dialect
async def test_an_answer_that_was_said_to_be_whole_is_whole_whatever_became_of_the_rest(dialect: str) -> None:
    if dialect == "openai_responses":
        return  # Its last frame is also the one that says why it ends.
    first = Attempt(call(dialect), [*spoken(WHOLE), *ended()])
    assert first.answer.frames is not None
    frames = [data async for data in first.answer.frames]
    sentinel = DIALECTS[dialect].sentinel
    frames[-1] = frames[-1].removesuffix(sentinel)

    async def cut() -> Any:
        for data in frames:
            yield data
        raise StreamBroken("cut")

    first.answer.frames = cut()
    told, desk = await read(dialect, first)
    assert (told.text, told.error, desk.asked) == (WHOLE, None, [])
    assert told.data.endswith(sentinel)


async def test_a_provider_that_fails_after_it_said_why_it_stops_is_not_gone_on_with() -> None:
    asked = call()
    first = Attempt(asked, [*spoken(WHOLE[:CUT]), *ended("length")])
    assert first.answer.frames is not None
    frames = [data async for data in first.answer.frames]
    chat = DIALECTS["openai_chat"]
    failure = chat.encoder(asked.request).error(lost())

    async def failing() -> Any:
        yield b"".join(frames).removesuffix(chat.sentinel) + failure

    first.answer.frames = failing()
    told, desk = await read("openai_chat", first, Attempt(asked, REST))
    assert not desk.asked
    assert (told.text, told.error is None, told.data.endswith(failure)) == (WHOLE[:CUT], False, True)


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
async def test_a_stop_sequence_across_the_seam_ends_the_answer_there(dialect: str) -> None:
    cut = WHOLE.index("two hundred")
    stop = WHOLE[cut - 4 : cut + 3]
    more = {"stop" if dialect == "openai_chat" else "stop_sequences": [stop]}
    asked = call(dialect, **more)
    first, second = Attempt(asked, spoken(WHOLE[:cut]), failure=lost()), Attempt(asked, REST)
    told, _ = await read(dialect, first, second, **more)
    assert (told.text, told.error) == (WHOLE[:cut], None)
    assert told.finished is not None
    assert told.finished.reason == "stop"
    assert not second.used
    assert second.closed
    if dialect == "anthropic_messages":
        delta = next(value["delta"] for value in told.objects if value["type"] == "message_delta")
        assert delta == {"stop_reason": "stop_sequence", "stop_sequence": stop}
    accepted(dialect, told)


@every_dialect
async def test_a_repetition_of_all_that_there_was_completes_the_answer(dialect: str) -> None:
    first = Attempt(call(dialect), spoken(WHOLE), failure=lost())
    told, _ = await read(dialect, first, Attempt(call(dialect), [*spoken(WHOLE), *ended()]))
    assert (told.text, told.error) == (WHOLE, None)
    assert told.finished


@every_dialect
async def test_usage_is_summed_and_an_unknown_cost_stays_unknown(dialect: str) -> None:
    first = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost())
    usage = Usage(input=50, output=9, cached_read=20, reasoning=3, cost=0.5)
    told, _ = await read(dialect, first, Attempt(call(dialect), [*REST[:-2], *ended(usage=usage)]))
    assert told.finished is not None
    summed = told.finished.usage
    assert summed is not None
    assert (summed.input, summed.output, summed.cached_read, summed.reasoning) == (150, 14, 20, 3)
    assert summed.cost is None


@every_dialect
@pytest.mark.parametrize("pieces", [1, 4])
async def test_a_caller_who_leaves_closes_the_first_attempt(dialect: str, pieces: int) -> None:
    first = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost())
    desk = Desk(Attempt(call(dialect), REST))
    whole = recovering(first.answer, call(dialect), desk.again)
    assert whole.frames is not None
    for _ in range(pieces):
        await anext(whole.frames)
    await whole.close()
    assert (first.closed, first.used, desk.asked) == (True, False, [])


@every_dialect
async def test_a_caller_who_leaves_closes_the_second_attempt(dialect: str) -> None:
    first, second = Attempt(call(dialect), spoken(WHOLE[:CUT]), failure=lost()), Attempt(call(dialect), REST)
    whole = recovering(first.answer, call(dialect), Desk(second).again)
    assert whole.frames is not None
    data = b""
    while len(Read(dialect, data).text) <= CUT:
        data += await anext(whole.frames)
    await whole.close()
    assert first.closed
    assert (second.closed, second.done, second.used) == (True, True, False)


async def test_an_answer_of_which_nothing_was_read_closes_the_first_attempt() -> None:
    first = Attempt(call(), spoken(WHOLE[:CUT]), failure=lost())
    await recovering(first.answer, call(), Desk().again).close()
    assert first.done


@pytest.mark.parametrize("restart", [True, False])
async def test_the_whole_has_the_account_of_the_last_attempt(restart: bool) -> None:
    first = Attempt(call(), spoken(WHOLE[:CUT]), failure=lost())
    others = [Attempt(call(), REST)] if restart else [UpstreamError("no", reason="server_error")]
    whole = recovering(first.answer, call(), Desk(*others).again)
    await streamed(whole)
    assert first.done
    assert whole.outcome is not None
    assert (whole.outcome.reason, whole.error is None) == ((None, True) if restart else ("overloaded", False))


async def test_a_caller_who_is_cancelled_while_the_next_candidate_is_asked_closes_everything() -> None:
    first = Attempt(call(), spoken(WHOLE[:CUT]), failure=lost())
    asking = asyncio.Event()
    left = False

    async def again(_: Any) -> Any:
        nonlocal left
        asking.set()
        try:
            await asyncio.Event().wait()
        finally:
            left = True

    task = asyncio.ensure_future(streamed(recovering(first.answer, call(), again)))
    await asking.wait()
    assert first.closed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left


async def test_a_fault_of_our_own_is_no_answer_of_any_kind() -> None:
    first = Attempt(call(), spoken(WHOLE[:CUT]), failure=lost())

    async def again(_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await streamed(recovering(first.answer, call(), again))
    assert first.closed


@every_dialect
async def test_every_cut_of_a_text_full_of_traps_is_stitched(dialect: str) -> None:
    text = 'He said: "cafe\u0301" – data: x\n\n 👩\u200d👧 [DONE] 日本語 {"a": 1}\r\n and that, they say, was that.'
    asked = call(dialect)
    for cut in range(1, len(text)):
        first = Attempt(asked, spoken(text[:cut], step=4), failure=lost(), together=1 + cut % 5)
        told, _ = await read(dialect, first, Attempt(asked, [*spoken(text, step=3), *ended()], together=1 + cut % 3))
        assert (told.text, told.error) == (text, None)
