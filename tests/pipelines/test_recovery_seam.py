"""The seam: what shows how a new text goes on with an old one, what does not, and what then comes out."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.recovery.question import last_words
from pipelines.recovery.seam import LEAST, VARIED, NoSeam, Seam, begins_word

TEXT = (
    "The lighthouse keeper climbed the stairs every evening, counting each of the two hundred steps under his breath."
)


def joined(delivered: str, new: str, step: int = 3) -> str:
    """What the caller has in the end."""
    seam = Seam(delivered)
    out = "".join([seam.feed(new[at : at + step]) for at in range(0, len(new), step)])
    seam.close()
    return delivered + out


def shown(delivered: str, new: str) -> list[int]:
    """By brute force: the lengths of all overlaps that are evidence, the whole text among them.

    One that is longer than `new` is still possible: nobody knows how `new` would have gone on.
    """
    old, new = delivered.strip(), new.lstrip()
    found = []
    for start in range(len(old)):
        telling = start == 0 or (
            begins_word(old, start) and len(old) - start >= LEAST and len(set(old[start:])) >= VARIED
        )
        if telling and (new.startswith(old[start:]) or old[start:].startswith(new)):
            found.append(len(old) - start)
    return found


@pytest.mark.parametrize("cut", [1, 2, 3, 20, 57, len(TEXT) - 1])
def test_a_restart_is_skipped_however_little_was_delivered(cut: int) -> None:
    assert joined(TEXT[:cut], TEXT) == TEXT


def test_a_restart_may_go_on_in_other_words() -> None:
    assert joined(TEXT[:40], TEXT[:40] + "ladder.") == TEXT[:40] + "ladder."


def test_half_a_sentence_is_an_overlap() -> None:
    assert joined(TEXT[:80], TEXT[41:]) == TEXT


def test_the_last_words_that_are_asked_for_are_an_overlap() -> None:
    for cut in range(60, len(TEXT)):
        delivered = TEXT[:cut]
        assert joined(delivered, last_words(delivered) + TEXT[len(delivered.rstrip()) :]) == TEXT


@pytest.mark.parametrize("new", ["evening, counting each", "every evening, counting", "stairs every evening, counting"])
def test_one_word_is_no_evidence_and_three_are(new: str) -> None:
    delivered = TEXT[: TEXT.index(", counting")]
    if len(new.partition(",")[0]) >= LEAST:
        assert joined(delivered, new) == delivered + ", counting"
    else:
        with pytest.raises(NoSeam):
            joined(delivered, new)


def test_one_word_is_evidence_where_it_is_long_enough() -> None:
    assert joined("They spoke of internationalization", "internationalization and more") == (
        "They spoke of internationalization and more"
    )


def test_an_overlap_begins_with_a_word() -> None:
    with pytest.raises(NoSeam):
        joined("They spoke of the internationalization", "ternationalization and more")


@pytest.mark.parametrize(
    "new",
    [
        "The keeper of the lighthouse went up the stairs each evening",
        "the lighthouse keeper climbed the stairs every evening",
        "The  lighthouse keeper climbed the stairs",
        "Sure! The lighthouse keeper climbed the stairs",
        "<last-words>the stairs every evening</last-words>, counting",
        "“climbed the stairs every evening”, counting",
        ", counting each of the two hundred steps",
        "Climbed the stairs every evening, counting",
        "climbed the stair every evening, counting",
    ],
)
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_paraphrase_is_refused_and_so_is_a_bare_continuation(new: str, step: int) -> None:
    delivered = "The lighthouse keeper climbed the stairs every evening"
    seam = Seam(delivered)
    with pytest.raises(NoSeam):  # noqa: PT012 - whichever piece shows it
        for at in range(0, len(new), step):
            assert seam.feed(new[at : at + step]) == ""
        seam.close()


@pytest.mark.parametrize(
    ("delivered", "new"),
    [("ha ha ha ha ha", "ha ha ha ha ha ha"), ("| --- | --- |", "| --- | --- | --- |"), ("-" * 40, "-" * 60)],
)
def test_a_ruler_shows_nothing_but_its_own_repetition(delivered: str, new: str) -> None:
    assert joined(delivered, new) == new
    with pytest.raises(NoSeam):
        joined("Text. " + delivered, new)


def test_a_long_overlap_of_few_letters_is_chance() -> None:
    with pytest.raises(NoSeam):
        joined("So: ha ha ha ha ha ha", "ha ha ha ha ha ha no")
    assert joined("So: he laughed ha ha ha", "he laughed ha ha ha no") == "So: he laughed ha ha ha no"


def test_two_readings_are_none() -> None:
    verse = "row your boat, gently down the stream, "
    with pytest.raises(NoSeam):
        joined("Now: " + verse * 2, verse * 3)
    assert joined("Now: " + verse * 2, "your boat, gently down the stream, merrily") == "Now: " + verse * 2 + "merrily"


def test_white_space_around_the_whole_may_differ_and_is_not_said_twice() -> None:
    assert joined("\n\nOnce upon", "Once upon a time") == "\n\nOnce upon a time"
    assert joined("Once upon", "\n Once upon a time") == "Once upon a time"
    assert joined("Once upon \n", "Once upon \n\n a time") == "Once upon \n\n a time"
    assert joined("Once upon\n\n", "Once upon\na time") == "Once upon\n\na time"
    assert joined("def f():\n", "def f():\n    return 1", step=1) == "def f():\n    return 1"
    assert joined("Once upon ", "Once upon\na time") == "Once upon \na time"


def test_an_answer_that_ends_early_shows_nothing_unless_it_is_the_whole() -> None:
    with pytest.raises(NoSeam):
        joined(TEXT, TEXT[:-1])
    assert joined(TEXT, TEXT) == TEXT
    assert joined(TEXT + "\n", " " + TEXT) == TEXT + "\n"
    with pytest.raises(NoSeam):
        joined(TEXT, "")


FAMILY = "👩\u200d👩\u200d👧\u200d👦"


@pytest.mark.parametrize(
    "text", ["cafe\u0301 noir", f"See {FAMILY} there", "Go 🇩🇪🇫🇷 go", "न\u093fः", "각\u11a8a", "a\u0300\u0301\u0302b"]
)
@pytest.mark.parametrize("step", [1, 2, 100])
def test_a_cut_inside_of_a_grapheme_neither_loses_nor_repeats_a_code_point(text: str, step: int) -> None:
    for cut in range(1, len(text)):
        assert joined(text[:cut], text, step) == text
        before = "Words that were said before: "
        assert joined(before + text[:cut], "that were said before: " + text, step) == before + text


def test_other_normal_forms_are_other_text() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ein Café, größer als je zuvor") for form in ("NFC", "NFD"))
    for delivered, new in ((composed, decomposed), (decomposed, composed)):
        with pytest.raises(NoSeam):
            joined(delivered, new + " und")


def test_scripts_without_spaces_have_overlaps_too() -> None:
    text = "灯台守は毎晩、息をひそめて二百段の階段を数えながら登り、明かりをともして海を見つめていた。"
    assert joined(text[:30], text[12:]) == text
    assert joined(text[:30], last_words(text[:30]) + text[30:]) == text


REPEATS = st.builds(
    lambda before, letters, times, after: before + "{}{}{} {}{}{}{}{}, ".format(*letters) * times + after,
    st.sampled_from(["", "Now: "]),
    st.permutations("abcdefgh"),
    st.integers(5, 9),
    st.sampled_from(["", "and so on"]),
)
"""What says the same again and again: an overlap of it has more readings than one."""


@given(st.text(min_size=1) | st.text("ab ", min_size=1, max_size=60) | REPEATS, st.data())
def test_a_restart_is_exact_or_has_another_reading(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(text)))
    step = data.draw(st.integers(1, len(text)))
    delivered = text[:cut]
    assume(delivered.strip())
    if shown(delivered, text) == [len(delivered.strip())]:
        assert joined(delivered, text, step) == text
    else:
        with pytest.raises(NoSeam):
            joined(delivered, text, step)


@given(st.text(min_size=20) | st.text("abcdefghi ", min_size=20, max_size=90) | REPEATS, st.data())
def test_an_overlap_is_exact_where_it_is_evidence_and_nothing_where_it_is_not(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(text)))
    start = data.draw(st.integers(0, cut - 1))
    step = data.draw(st.integers(1, len(text)))
    delivered, new = text[:cut], text[start:]
    overlap = len(text[:cut].rstrip()) - (len(text) - len(new.lstrip()))
    assume(delivered.strip())
    readings = shown(delivered, new)
    if readings == [overlap]:
        assert joined(delivered, new, step) == text
    elif len(readings) == 1 and readings[0] <= len(new.lstrip()):
        found = joined(delivered, new, step)
        assert found.startswith(delivered)
        assert "".join(found.split()) == "".join((delivered.strip() + new.lstrip()[readings[0] :]).split())
    else:
        with pytest.raises(NoSeam):
            joined(delivered, new, step)


WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyzäé🎈日", min_size=1, max_size=9), min_size=12, max_size=40, unique=True
)


@given(WORDS, st.data())
def test_prose_is_always_stitched(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    cut = data.draw(st.integers(1, len(text)))
    delivered = text[:cut]
    step = data.draw(st.integers(1, len(text)))
    assert joined(delivered, text, step) == text
    assert joined(delivered, last_words(delivered) + text[len(delivered.rstrip()) :], step) == text


@given(st.text("abcdef .", min_size=1), st.text("UVWXYZ ,"), st.integers(1, 50))
def test_nothing_comes_of_an_unrelated_text(delivered: str, new: str, step: int) -> None:
    assume(delivered.strip())
    seam = Seam(delivered)
    with pytest.raises(NoSeam):  # noqa: PT012 - whichever piece shows it
        for at in range(0, len(new), step):
            assert seam.feed(new[at : at + step]) == ""
        seam.close()


@given(st.text("ab cdefghi", min_size=1, max_size=80), st.text("ab cdefghi", max_size=80), st.integers(1, 50))
def test_whatever_comes_out_is_the_rest_of_the_new_text(delivered: str, new: str, step: int) -> None:
    assume(delivered.strip())
    try:
        out = joined(delivered, new, step).removeprefix(delivered)
    except NoSeam:
        return
    assert new.endswith(out)
    overlap = new.lstrip()[: len(new.lstrip()) - len(out)].rstrip()
    assert delivered.strip().endswith(overlap)
