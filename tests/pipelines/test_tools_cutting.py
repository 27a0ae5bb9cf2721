"""A result has at most so many bytes, in whole characters."""

import pytest

from pipelines.conversation import Image, Text
from pipelines.tools.catalogue import Ran
from pipelines.tools.cutting import MOST_DATA, cut


@pytest.mark.parametrize(
    ("text", "most", "left"), [("abc", 3, "abc"), ("abcd", 3, "abc"), ("ää", 3, "ä"), ("ä", 1, "")]
)
def test_text_is_cut_at_whole_characters(text: str, most: int, left: str) -> None:
    ran = cut(Ran(parts=(Text(text),)), most)
    assert ran.parts == (Text(left),)
    assert ran.size == len(text.encode())
    assert ran.cut == (left != text)
    assert cut(ran, most) == ran


def test_later_texts_get_what_is_left_and_pictures_are_whole_or_gone() -> None:
    small, large = Image(data="x" * 100), Image(data="x" * MOST_DATA)
    ran = cut(Ran(parts=(Text("abc"), small, Text("def"), large)), 5)
    assert ran.parts == (Text("abc"), small, Text("de"))
    assert ran.cut
    assert ran.size == 106 + MOST_DATA
