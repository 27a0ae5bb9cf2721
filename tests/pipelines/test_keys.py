"""Patterns of what a key may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.keys import may_use, model_matcher


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("gpt-4?", "gpt-4o", False),
        ("gpt-4?", "gpt-4?", True),
        ("claude[1m]", "claude1", False),
        ("claude[1m]", "claude[1m]", True),
        ("claude[1m]*", "claude[1m]-fast", True),
        ("[!a]*", "b", False),
        ("[a", "[a", True),
        ("a.c", "abc", False),
        ("gpt-*-mini", "gpt-5-mini", True),
        ("gpt-*-mini", "gpt-5-mini-high", False),
        ("*", "any\nname", True),
    ],
)
def test_only_a_star_stands_for_something_else(pattern: str, name: str, meant: bool) -> None:
    assert may_use((pattern,), name) is meant
    assert may_use(("other", pattern), name) is meant
    assert model_matcher((pattern,))("provider", name) is meant
    assert model_matcher((f"provider/{pattern}",))("provider", name) is meant


@given(st.lists(st.text("ab?[]!-^\\.(", max_size=4), min_size=1, max_size=4), st.text("ab?[]!-^\\.(", max_size=3))
def test_a_pattern_is_its_pieces_with_anything_between(pieces: list[str], between: str) -> None:
    pattern = "*".join(pieces)
    assert may_use((pattern,), between.join(pieces))
    assert len(pieces) > 1 or not may_use((pattern,), pattern + "b")
