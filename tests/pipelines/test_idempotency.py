from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipelines.answer_shelf import OVERHEAD
from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.errors import BadRequest
from pipelines.idempotency import (
    LEASE,
    LIFETIME,
    MAX_KEY,
    NEXT,
    SETTLING,
    VERDICTS,
    Head,
    Kept,
    Opening,
    Progress,
    Push,
    Register,
    checked,
    fingerprint_of,
    name_of,
)
from pipelines.routing.table import Outcome

HEAD = Head(200, {"content-type": "text/event-stream"}, framed=True)
OUTCOME = Outcome("p", "m", 0.0)


def opening(run: str, name: str = "n", fingerprint: str = "f") -> Opening:
    return Opening(name, fingerprint, run)


def push(run: str, offset: int, data: bytes, *, finished: bool = False, swollen: bool = False) -> Push:
    return Push(opening(run), offset, data, HEAD, finished, OUTCOME if finished else None, swollen)


def stored(register: Register, run: str = "a", data: bytes = b"xyz", now: float = 0.0, name: str = "n") -> None:
    assert register.begin(opening(run, name), now).verdict == "run"
    said = Push(opening(run, name), 0, data, HEAD, True, OUTCOME)
    assert register.push(said, now) == Progress(len(data), over=True)


def test_every_state_knows_every_step_that_can_come() -> None:
    states = {state for state, _ in NEXT}
    assert states == set(VERDICTS)
    steps = {step for _, step in NEXT}
    assert {(state, step) for state in states - {"absent"} for step in steps} | {("absent", "push")} == set(NEXT)


def test_the_first_leads_and_the_others_join_until_it_is_whole() -> None:
    register = Register(0.0)
    assert register.begin(opening("a"), 0.0).verdict == "run"
    joined = register.begin(opening("b"), 0.1)
    assert (joined.verdict, joined.run) == ("join", "a")
    assert register.begin(opening("c", fingerprint="other"), 0.1).verdict == "conflict"
    reader = opening("a")
    assert register.read(reader, 0, 0.2) is None
    register.push(push("a", 0, b"one "), 0.2)
    piece = register.read(reader, 0, 0.3)
    assert piece is not None
    assert (piece.state, piece.head, piece.data) == ("running", HEAD, b"one ")
    assert register.read(reader, 4, 0.3) is None
    register.push(push("a", 4, b"two", finished=True), 0.4)
    piece = register.read(reader, 4, 0.5)
    assert piece is not None
    assert (piece.state, piece.data, piece.outcome) == ("whole", b"two", OUTCOME)
    replay = register.begin(opening("d"), 1.0)
    assert (replay.verdict, replay.run) == ("replay", "a")
    assert register.begin(opening("e", fingerprint="other"), 1.0).verdict == "conflict"


def test_what_is_begun_or_said_twice_counts_once() -> None:
    register = Register(0.0)
    assert register.begin(opening("a"), 0.0) == register.begin(opening("a"), 0.1)
    assert register.push(push("a", 0, b"12345"), 0.2) == Progress(5)
    assert register.push(push("a", 0, b"1234567"), 0.3) == Progress(7)
    assert register.push(push("a", 9, b"gap", finished=True), 0.4) == Progress(7)
    assert register.push(push("a", 7, b"89", finished=True), 0.5) == Progress(9, over=True)
    assert register.push(push("a", 7, b"89", finished=True), 0.6) == Progress(9, over=True)
    whole = register.whole("n")
    assert whole is not None
    assert whole.body == b"123456789"
    register.abandon(opening("a"))
    assert register.state("n") == "stored"


def test_a_leader_that_gives_up_or_falls_silent_leaves_the_key_to_the_next_one() -> None:
    register = Register(0.0)
    register.begin(opening("a"), 0.0)
    register.push(push("a", 0, b"half"), 1.0)
    register.abandon(opening("somebody else"))
    assert register.begin(opening("b"), 1.0).verdict == "join"
    register.abandon(opening("a"))
    lost = register.read(opening("a"), 4, 1.0)
    assert lost is not None
    assert lost.state == "lost"
    assert register.begin(opening("b"), 1.0).verdict == "run"
    assert register.begin(opening("c"), 1.0 + LEASE).verdict == "join"
    assert register.begin(opening("c"), 1.1 + LEASE).verdict == "run"
    assert not register.push(push("b", 0, b"too late"), 1.2 + LEASE).leading
    assert register.expire(2.0 + 2 * LEASE) == ["n"]
    assert (register.state("n"), register.held) == ("absent", 0)


def test_a_day_later_it_is_forgotten() -> None:
    register = Register(0.0)
    stored(register)
    assert register.orders().write == ("n",)
    register.expire(LIFETIME)
    assert register.state("n") == "stored"
    assert register.begin(opening("b"), LIFETIME + 0.1).verdict == "run"
    assert register.orders().drop == ("n",)


def test_the_oldest_go_when_room_is_needed() -> None:
    register = Register(0.0, max_stored=3 * (OVERHEAD + 3))
    for number in range(5):
        stored(register, name=f"n{number}", now=float(number))
    assert [register.state(f"n{number}") for number in range(5)] == ["absent"] * 2 + ["stored"] * 3
    orders = register.orders()
    assert orders.write == tuple(f"n{number}" for number in range(5))
    assert orders.drop == ("n0", "n1")
    assert register.whole("n0") is None


@pytest.mark.parametrize("limit", ["max_answer", "max_held", "leader"])
def test_what_is_too_large_can_be_joined_by_nobody_and_is_not_kept(limit: str) -> None:
    register = Register(0.0, **({limit: 10} if limit != "leader" else {}))  # type: ignore[arg-type]
    register.begin(opening("a"), 0.0)
    register.push(push("a", 0, b"0123456789"), 0.0)
    assert register.begin(opening("b"), 0.0).verdict == "join"
    register.push(push("a", 10, b"0", swollen=limit == "leader"), 0.0)
    assert register.begin(opening("b"), 0.0).verdict == "busy"
    assert register.begin(opening("b", fingerprint="other"), 0.0).verdict == "conflict"
    piece = register.read(opening("a"), 0, 0.0)
    assert piece is not None
    assert piece.state == "lost"
    assert register.held == 0
    assert register.push(push("a", 11, b"1"), 0.0) == Progress(12)
    assert register.push(push("a", 12, b"", finished=True), 0.0).over
    assert register.begin(opening("b"), 0.0).verdict == "run"
    assert register.orders() == ((), ())


def test_a_register_that_follows_another_lets_nobody_lead_before_it_has_heard_the_leaders() -> None:
    register = Register(100.0, preceded=True)
    assert register.begin(opening("b"), 100.0).verdict == "unsettled"
    assert register.read(opening("a"), 4, 100.0) is None
    assert register.push(push("a", 4, b"rest"), 101.0) == Progress(0)
    assert register.push(push("a", 0, b"all rest"), 101.1) == Progress(8)
    assert register.begin(opening("b"), 101.2).verdict == "join"
    piece = register.read(opening("a"), 4, 101.2)
    assert piece is not None
    assert piece.data == b"rest"
    assert register.begin(opening("c", "other"), 100.0 + SETTLING).verdict == "run"
    register = Register(100.0, preceded=True)
    late = register.read(opening("a"), 4, 100.0 + SETTLING)
    assert late is not None
    assert late.state == "lost"


def test_a_restored_answer_is_replayed_from_the_file_and_asked_anew_where_that_fails() -> None:
    register = Register(LIFETIME * 2, preceded=True)
    old = Kept("old", "f", "x", LIFETIME - 1.0, 10)
    register.restore([Kept("n", "f", "a", LIFETIME * 2 - 1.0, 3), old], LIFETIME * 2)
    assert register.orders().drop == ("old",)
    assert register.stored == OVERHEAD + 3
    assert register.begin(opening("b"), LIFETIME * 2).verdict == "replay"
    piece = register.read(opening("a"), 0, LIFETIME * 2)
    assert piece is not None
    assert (piece.state, piece.head) == ("whole", None)
    register.forget("n")
    assert register.begin(opening("b"), LIFETIME * 2 + SETTLING).verdict == "run"


def test_what_the_file_has_need_not_be_in_memory() -> None:
    register = Register(0.0)
    stored(register)
    whole = register.whole("n")
    assert whole is not None
    register.written(msgspec.structs.replace(whole.kept, run="of an earlier time"))
    assert register.held == 3
    register.written(whole.kept)
    register.written(whole.kept)
    assert register.held == 0
    assert register.whole("n") is None


def call(**more: Any) -> Call:
    body = more.pop("body", {"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    request = Request("m", (), stream=more.pop("stream", False))
    return Call("id", "openai_chat", body, request, Caller("c"), "routed", path="/v1/chat/completions", **more)


def test_a_name_belongs_to_one_caller_and_one_key() -> None:
    assert len({name_of("a", "b"), name_of("ab", ""), name_of("", "ab"), name_of("a", "c")}) == 4
    assert name_of("a", "b") == name_of("a", "b")
    assert checked("k" * MAX_KEY)
    with pytest.raises(BadRequest, match="255"):
        checked("k" * (MAX_KEY + 1))


def test_a_fingerprint_is_of_what_is_asked_and_not_of_how_it_is_written() -> None:
    one = fingerprint_of(call(), "routed ")
    turned = call(body={"messages": [{"content": "Hello", "role": "user"}], "model": "m"})
    assert fingerprint_of(turned, "routed ") == one
    assert fingerprint_of(msgspec.structs.replace(turned, id="another"), "routed ") == one
    others = [
        fingerprint_of(call(), "direct openai"),
        fingerprint_of(call(stream=True), "routed "),
        fingerprint_of(call(query="beta=true"), "routed "),
        fingerprint_of(call(body={"model": "m", "messages": []}), "routed "),
        fingerprint_of(call(operation="/embeddings"), "routed "),
    ]
    assert len({one, *others}) == 6


class Machine(RuleBasedStateMachine):
    """Callers who repeat themselves, leaders who push, give up or vanish; the truth is kept beside it."""

    names = st.sampled_from(["x", "y", "z"])

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.register = Register(0.0, max_answer=40, max_held=70, max_stored=2 * OVERHEAD + 60)
        self.leaders: dict[str, tuple[Opening, bytes]] = {}
        self.kept: dict[tuple[str, str], bytes] = {}
        self.file: dict[str, bytes] = {}

    @rule(name=names, fingerprint=st.sampled_from(["f", "g"]))
    def begin(self, name: str, fingerprint: str) -> None:
        self.count += 1
        asked = Opening(name, fingerprint, str(self.count))
        begun = self.register.begin(asked, self.now)
        leader = self.leaders.get(name)
        if begun.verdict == "run":
            assert leader is None, "two lead"
            self.leaders[name] = (asked, b"")
        elif begun.verdict in ("join", "busy"):
            assert leader is not None
            assert (leader[0].run, leader[0].fingerprint) == (begun.run, fingerprint)
        elif begun.verdict == "replay":
            assert leader is None
            assert (name, begun.run) in self.kept

    @precondition(lambda self: self.leaders)
    @rule(data=st.data(), more=st.binary(max_size=15), finished=st.booleans())
    def push(self, data: st.DataObject, more: bytes, finished: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.leaders)))
        asked, said = self.leaders[name]
        offset = data.draw(st.integers(0, len(said)))
        progress = self.register.push(Push(asked, offset, said[offset:] + more, HEAD, finished), self.now)
        assert progress == Progress(len(said + more), over=finished)
        self.leaders[name] = (asked, said + more)
        if finished:
            del self.leaders[name]
            self.kept[name, asked.run] = said + more

    @precondition(lambda self: self.leaders)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.leaders)))
        self.register.abandon(self.leaders.pop(name)[0])

    @rule(seconds=st.sampled_from([0.5, LEASE / 2]))
    def time_passes(self, seconds: float) -> None:
        """Leaders that are alive renew."""
        self.now += seconds
        for asked, said in self.leaders.values():
            assert self.register.push(Push(asked, len(said)), self.now).leading
        assert self.register.expire(self.now) == []

    @rule()
    def leaders_vanish(self) -> None:
        self.now += LEASE + 0.1
        assert set(self.register.expire(self.now)) == set(self.leaders)
        self.leaders.clear()

    @rule()
    def a_day_passes(self) -> None:
        self.leaders_vanish()
        self.now += LIFETIME
        self.register.expire(self.now)
        assert self.register.stored == 0

    @rule()
    def the_file_works(self) -> None:
        orders = self.register.orders()
        for name in orders.drop:
            self.file.pop(name, None)
        for name in orders.write:
            whole = self.register.whole(name)
            if whole is not None:
                assert whole.body == self.kept[name, whole.kept.run]
                self.file[name] = whole.body
                self.register.written(whole.kept)
        assert set(self.file) == {name for name in ("x", "y", "z") if self.register.state(name) == "stored"}

    @invariant()
    def whoever_reads_reads_the_truth(self) -> None:
        for name, (asked, said) in self.leaders.items():
            for offset in (0, len(said) // 2):
                piece = self.register.read(asked, offset, self.now)
                assert piece is None or piece.state == "lost" or piece.data == said[offset:]
                if self.register.state(name) == "swollen":
                    assert piece is not None
                    assert piece.state == "lost"
        for (name, run), said in self.kept.items():
            piece = self.register.read(Opening(name, "f", run), 0, self.now)
            if piece is not None and piece.state == "whole" and piece.head is not None:
                assert piece.data == said

    @invariant()
    def nothing_grows_beyond_its_bounds(self) -> None:
        assert 0 <= self.register.held <= 70
        assert 0 <= self.register.stored <= 2 * OVERHEAD + 60


TestMachine = Machine.TestCase
