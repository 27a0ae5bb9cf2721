"""What a judge is shown, and which of its words count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Message, Request, Text
from pipelines.routing.judging import LONGEST, judging, verdict

QUESTION = Request(
    "auto", (Message("system", (Text("Be brief."),)), Message("user", (Text("What is the capital of France?"),)))
)


def shown(swapped: bool, one: str = "Paris.", other: str = "Lyon.") -> str:
    system, user = judging(QUESTION, one, other, swapped=swapped, mark="<1f>")
    assert isinstance(system, dict)
    assert isinstance(user, dict)
    assert "<1f>" in system["content"]
    text: str = user["content"]
    return text


@pytest.mark.parametrize("swapped", [False, True])
def test_both_answers_are_shown_in_the_order_drawn(swapped: bool) -> None:
    text = shown(swapped)
    first, second = text.index("Paris."), text.index("Lyon.")
    assert (first > second) is swapped
    assert text.index("<1f> answer A") < min(first, second) < text.index("<1f> end of answer A") < max(first, second)
    assert "What is the capital of France?" in text
    assert "Be brief." in text


@pytest.mark.parametrize(
    ("said", "swapped", "result"),
    [
        ("A", False, 1.0),
        ("B", False, 0.0),
        ("A", True, 0.0),
        ("B\n", True, 1.0),
        (" tie ", False, 0.5),
        ("tie", True, 0.5),
    ],
)
def test_a_word_is_a_verdict_in_the_order_that_was_shown(said: str, swapped: bool, result: float) -> None:
    assert verdict(said, swapped=swapped) == result


@pytest.mark.parametrize("said", ["", "a", "C", "A.", "Answer A", "A or B", "**A**", "TIE", "A because B is worse"])
def test_anything_else_is_none(said: str) -> None:
    assert verdict(said, swapped=False) is None


@given(st.text(max_size=50), st.booleans())
def test_no_text_breaks_it(said: str, swapped: bool) -> None:
    assert verdict(said, swapped=swapped) in (None, 0.0, 0.5, 1.0)
    assert said in shown(swapped, one=said)


def test_a_long_answer_is_cut_in_its_middle() -> None:
    text = shown(False, one="x" * LONGEST + "y" * LONGEST, other="short")
    assert len(text) < 2 * LONGEST
    assert "x[" not in text
    assert "yyy\n<1f> end of answer A" in text
