"""What is stored of answers, and which of them go."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.answer_shelf import CACHED, OVERHEAD, AnswerShelf


def emptied(shelf: AnswerShelf, now: float) -> list[str]:
    gone = []
    while (name := shelf.leaving(now)) is not None:
        shelf.take(name)
        gone.append(name)
    return gone


def test_each_goes_at_its_own_time() -> None:
    shelf = AnswerShelf(10**9, 10**9)
    for name, until in (("day", 100.0), (f"{CACHED}short", 5.0), (f"{CACHED}longer", 50.0)):
        shelf.put(name, 10, until)
    assert emptied(shelf, 5.0) == []
    assert emptied(shelf, 6.0) == [f"{CACHED}short"]
    assert emptied(shelf, 200.0) == [f"{CACHED}longer", "day"]
    assert shelf.size == 0


def test_a_new_answer_under_an_old_name_has_a_time_of_its_own() -> None:
    shelf = AnswerShelf(10**9, 10**9)
    shelf.put("a", 10, 5.0)
    shelf.take("a")
    shelf.put("a", 20, 50.0)
    assert emptied(shelf, 10.0) == []
    assert shelf.size == 20 + OVERHEAD


def test_a_flood_of_cached_answers_pushes_out_cached_ones_only() -> None:
    room = 3 * (OVERHEAD + 10)
    shelf = AnswerShelf(room, room)
    for number in range(3):
        shelf.put(f"key{number}", 10, 1000.0)
    gone = []
    for number in range(10):
        shelf.put(f"{CACHED}{number}", 10, 1000.0)
        gone += emptied(shelf, 1.0)
    assert gone == [f"{CACHED}{number}" for number in range(7)]
    shelf.put("key3", 10, 1000.0)
    assert emptied(shelf, 1.0) == ["key0"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5000), st.floats(1, 100)), max_size=40), st.floats(0, 120))
def test_bounds_hold_and_nothing_outstays_its_time(answers: list[tuple[bool, int, float]], now: float) -> None:
    shelf = AnswerShelf(30_000, 20_000)
    ends: dict[str, float] = {}
    for number, (cached, size, until) in enumerate(answers):
        name = f"{CACHED if cached else ''}{number}"
        shelf.put(name, size, until)
        ends[name] = until
        for gone in emptied(shelf, 0.0):
            del ends[gone]
        assert shelf.size <= 50_000
    for gone in emptied(shelf, now):
        assert ends.pop(gone) < now
    assert all(until >= now for until in ends.values())
