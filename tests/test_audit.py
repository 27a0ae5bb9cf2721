"""The audit of `make faults FAULTS=audit` finds what it is there to find."""

from typing import Any

from pipelines.ledger import SUMS
from tests.faults.audit_books import Books, Verdict, compared
from tests.faults.audit_load import MODELS, QUESTION, Asked
from tests.faults.hearing import Heard
from tests.faults.scene import PRIMARY
from tests.faults.ways import Way
from tests.upstream import text_of

MODEL = "short"
OUTPUT = MODELS[MODEL].words


def asked(name: str, *, whole: bool = True) -> Asked:
    text = text_of(MODELS[MODEL]) if whole else "word0 "
    heard = Heard(status=200, text=[text], reason="stop" if whole else "", sentinels=int(whole))
    return Asked(name, "k", MODEL, Way("chat", PRIMARY, "direct", "listener", stream=True), heard)


def row(name: str, **more: Any) -> dict[str, Any]:
    common = {"id": name, "request_id": name, "key": "k", "outcome": "ok", "provisional": False, "provider": "p"}
    return {**common, "input": QUESTION, "output": OUTPUT, "cost": 7, "estimated": False, **more}


def books(requests: list[dict[str, Any]], attempts: list[dict[str, Any]], reserved: int = 0) -> Books:
    kept = dict.fromkeys(SUMS, 0) | {"requests": len(requests), "attempts": len(attempts)}
    kept.update({name: sum(each[name] for each in attempts) for name in ("input", "output", "cost")})
    return Books(requests, attempts, kept, reserved)


def verdict(found: Books, spent: int = 7, seen: dict[str, list[bool]] | None = None) -> Verdict:
    return compared([asked("a")], {"a": [True]} if seen is None else seen, found, {"k": spent})


def test_what_is_in_order_is_not_complained_of() -> None:
    found = verdict(books([row("a")], [row("a")]))
    assert (found.lost, found.doubled, found.wrong) == ([], [], [])
    assert found.figures["tokens of them by the ledger"] == found.figures["tokens of them by the upstream"]
    ended = compared([asked("b", whole=False)], {}, books([], []), {})
    assert (ended.lost, ended.doubled, ended.wrong) == ([], [], [])


def test_an_acknowledged_answer_wants_settled_rows() -> None:
    assert verdict(books([], [row("a")])).lost
    assert verdict(books([row("a")], []), spent=0).lost
    assert verdict(books([row("a", provisional=True)], [row("a")])).lost
    assert verdict(books([row("a", outcome="lost")], [row("a")])).lost
    assert verdict(books([row("a")], [row("a", outcome="lost", estimated=True)])).lost


def test_what_is_there_twice_is_doubled() -> None:
    assert verdict(books([row("a"), row("a", id="b")], [row("a")])).doubled
    assert verdict(books([row("a")], [row("a"), row("a", id="b")]), spent=14).doubled


def test_other_counts_are_wrong() -> None:
    right = books([row("a")], [row("a")])
    assert verdict(books([row("a")], [row("a", output=OUTPUT + 1)])).wrong
    assert verdict(right, spent=8).wrong
    assert verdict(right, seen={"a": [False]}).wrong
    assert verdict(books([row("a")], [row("a")], reserved=1)).wrong
    assert verdict(right._replace(kept={**right.kept, "cost": 8})).wrong
    dead = row("c", outcome="lost", estimated=False, cost=0)
    assert verdict(books([row("a")], [row("a"), dead])).wrong
