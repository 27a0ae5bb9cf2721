"""The judge of `make faults` can find fault: each rule is broken once."""

import pytest

from tests.clients import read_frame
from tests.faults.cases import every_case
from tests.faults.hearing import Heard, take, whole
from tests.faults.judge import Run, result_of, truthful, unexpected, violations
from tests.faults.ways import every_way
from tests.upstream import Fault, text_of

TEXT = text_of(Fault())
CASES = {case.name: case for case in every_case()}
WAY = next(way for way in every_way("routed") if way.stream and not way.translated)


def answer(text: str = TEXT, **more: object) -> Heard:
    fields = {"status": 200, "reason": "stop", "sentinels": 1, **more}
    return Heard(text=[text], tools={}, **fields)  # type: ignore[arg-type]


def test_a_whole_answer_is_one() -> None:
    assert truthful(answer(), TEXT) == []
    assert result_of(Run(WAY, answer()), TEXT) == "whole"
    assert unexpected(CASES["none"], Run(WAY, answer(), asked=[1.0])) == []


@pytest.mark.parametrize(
    ("heard", "word"),
    [
        (answer(TEXT[:-6]), "not whole"),
        (answer(TEXT + "word0 "), "doubled"),
        (answer(TEXT[:12] + TEXT, sentinels=0, error="stream_broken"), "doubled"),
        (answer("invented", sentinels=0, error="stream_broken"), "invented"),
        (answer(TEXT[:12], sentinels=0), "without an error"),
        (answer(TEXT[:12], error="stream_broken"), "successful end"),
        (answer(sentinels=2), "twice"),
    ],
)
def test_a_lie_is_found(heard: Heard, word: str) -> None:
    assert any(word in lie for lie in truthful(heard, TEXT))


def test_a_broken_answer_that_says_so_is_none() -> None:
    assert truthful(answer(TEXT[:12], reason="", sentinels=0, error="stream_broken"), TEXT) == []
    assert truthful(answer(TEXT[:12], reason="", sentinels=0, broken="the peer closed"), TEXT) == []


def test_a_hurried_retry_and_a_second_question_to_the_silent_are_violations() -> None:
    hurried = Run(WAY, answer(), asked=[1.0, 1.1])
    assert any("after a 429" in text for text in violations(CASES["429, once"], hurried))
    assert not violations(CASES["500, once"], hurried)
    silent = CASES["accepts and never answers"]
    assert any("silent provider" in text for text in violations(silent, Run(WAY, Heard(status=504), asked=[1.0, 9.0])))


def test_what_is_not_as_the_case_has_it_is_said() -> None:
    assert "2 tries instead of 1" in unexpected(CASES["none"], Run(WAY, answer(), asked=[1.0, 2.0]))[0]
    refused = Run(WAY, Heard(status=500, error="server_error"), asked=[1.0])
    assert "refused 500 instead of whole" in unexpected(CASES["none"], refused)[0]
    assert len({case.name for case in every_case()}) == len(every_case())


def test_both_dialects_are_heard() -> None:
    heard = Heard(text=[], tools={})
    for event in ({"type": "text_delta", "text": "a"}, {"type": "text_delta", "text": "b"}):
        data = f'{{"type": "content_block_delta", "index": 0, "delta": {event}}}'.replace("'", '"')
        take(read_frame(f"event: content_block_delta\ndata: {data}".encode()), "messages", heard)
    take(read_frame(b'data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}'), "messages", heard)
    assert not heard.complete
    heard.status = 200
    take(read_frame(b'data: {"type": "message_stop"}'), "messages", heard)
    assert (heard.words, heard.complete) == ("ab", True)
    unary = Heard(status=200, text=[], tools={}, stream=False)
    whole(b'{"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}', "chat", unary)
    assert (unary.words, unary.complete) == ("ab", True)
