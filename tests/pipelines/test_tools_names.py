"""Safe names: legal, each its own, the same every time; and the way back, arguments too."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started
from pipelines.tools import NameMap, Restorer, safe_names
from pipelines.tools.formats import PROPERTY_KEY

LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}")

near = st.text(alphabet="ab._- é天/1", max_size=80)
legal_names = st.from_regex(LEGAL, fullmatch=True)
names = st.sets(st.one_of(near, legal_names, st.text(max_size=70)), max_size=12)


@given(names, st.sets(legal_names, max_size=3))
def test_every_name_is_legal_and_its_own(given_names: set[str], reserved: set[str]) -> None:
    safe = safe_names(given_names, reserved)
    sent = {name: safe.get(name, name) for name in given_names - reserved}
    assert all(LEGAL.fullmatch(name) for name in sent.values())
    assert len({*sent.values()}) == len(sent)
    assert not {*sent.values()} & reserved


@given(st.sets(legal_names, max_size=12))
def test_legal_names_stay(given_names: set[str]) -> None:
    assert safe_names(given_names) == {}


@given(names, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(given_names: set[str], chance: "st.DataObject") -> None:
    shuffled = sorted(given_names)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert safe_names(shuffled) == safe_names(sorted(given_names, reverse=True))


@given(names)
def test_the_way_back_is_the_way_there(given_names: set[str]) -> None:
    known = NameMap(safe_names(given_names))
    for name in given_names:
        sent = PartStarted(0, "tool_call", "1", known.send(name))
        assert known.restore(sent) == PartStarted(0, "tool_call", "1", name)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("math.sin", "math_sin"), ("año", "ano"), ("a b/c", "a_b_c"), ("x" * 65, "x" * 55 + "_"), ("天气", "tool_")],
)
def test_a_cleaned_name_says_what_it_was(name: str, safe: str) -> None:
    assert safe_names([name])[name].startswith(safe)


def test_a_name_that_is_taken_gets_digits() -> None:
    safe = safe_names(["a.b", "a_b", "a/b"])
    assert sorted(safe) == ["a.b", "a/b"]
    assert all(re.fullmatch(r"a_b_[0-9a-f]{8}", name) for name in safe.values())
    hashed = safe["a.b"]
    assert safe_names(["a.b", "a_b", "a/b", hashed])["a.b"] not in (hashed, "a_b")


def test_a_legal_stranger_stays_in_the_stream() -> None:
    known = NameMap({"a.b": "a_b"})
    event = PartStarted(0, "tool_call", "1", "other")
    assert known.restore(event) is event
    assert known.restore(PartStarted(0, "tool_call", "1", "a_b")) == PartStarted(0, "tool_call", "1", "a.b")


values = st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.booleans(), max_size=2)
members = st.dictionaries(st.sampled_from(["año", "b", "c d"]), values, max_size=3)


@given(members, st.integers(1, 9))
def test_arguments_come_back_under_their_own_names_however_they_are_split(said: dict[str, object], step: int) -> None:
    keys = safe_names(["año", "b", "c d"], legal=PROPERTY_KEY)
    known = NameMap({"f.g": "f_g"}, {"f.g": keys})
    text = known.send_arguments("f.g", json.dumps(said))
    assert json.loads(text) == {keys.get(key, key): value for key, value in said.items()}
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    events: list[Event] = [Started(), PartStarted(0, "tool_call", "1", "f_g")]
    events += [PartDelta(0, piece) for piece in pieces]
    events += [PartEnded(0), Finished("tool_calls")]
    restorer = Restorer(known)
    back = [told for event in events for told in restorer.restore([event])]
    assert [type(event) for event in back] == [Started, PartStarted, PartDelta, PartEnded, Finished]
    assert isinstance(back[1], PartStarted)
    assert back[1].name == "f.g"
    assert isinstance(back[2], PartDelta)
    assert json.loads(back[2].text) == said


def test_values_of_renamed_arguments_are_not_touched() -> None:
    known = NameMap({}, {"f": {"ñ": "n"}})
    assert (
        known.own_arguments("f", '{"n": 1.0, "m": 12345678901234567890123}') == '{"ñ":1.0,"m":12345678901234567890123}'
    )
    assert known.own_arguments("f", '{"n": 1') == '{"n": 1'


def test_arguments_of_other_tools_pass_as_they_come() -> None:
    restorer = Restorer(NameMap({"a.b": "a_b"}, {"f": {"ñ": "n"}}))
    assert restorer.restore([PartStarted(0, "tool_call", "1", "a_b"), PartDelta(0, '{"n"')]) == [
        PartStarted(0, "tool_call", "1", "a.b"),
        PartDelta(0, '{"n"'),
    ]
