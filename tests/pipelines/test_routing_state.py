import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Overloaded
from pipelines.routing.ask import Ask
from pipelines.routing.choose import choose
from pipelines.routing.roster import LEFT, REMEMBERED
from pipelines.routing.state import MAXIMUM_MODELS, SETTLING, RouterState
from pipelines.routing.table import (
    ANNOUNCEMENT_LIFETIME,
    Announcement,
    ModelCard,
    Outcome,
    Performance,
    ProviderEntry,
    Report,
    Table,
)

ONE = Announcement("p", "r1", "http://h:1", models=(ModelCard("m"),), limit=10)
TWO = Announcement("p", "r2", "http://h:2", models=(ModelCard("m"),), limit=10)
BAD = Outcome("p", "m", 0.1, reason="server_error")
GOOD = Outcome("p", "m", 0.1)


class Clocked:
    """A router state and its virtual clock, ticking as the actor does."""

    def __init__(self, *, preceded: bool = False) -> None:
        self.now = 1000.0
        self.state = RouterState("epoch", self.now, preceded=preceded)
        self.alive: list[Announcement] = []
        self.spoken = 0.0

    def announce(self, announcement: Announcement) -> None:
        self.alive = [one for one in self.alive if one.replica != announcement.replica]
        self.alive.append(announcement)
        self.state.announce(announcement, self.now)

    def report(self, *outcomes: Outcome, reporter: str = "g1", in_flight: int = 0) -> None:
        counts = {"p": {"m": in_flight}} if in_flight else {}
        self.state.report(Report(reporter, outcomes, counts), self.now)

    def wait(self, seconds: float) -> Table:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 0.1)
            if self.now - self.spoken >= 1.0:
                self.spoken = self.now
                for announcement in self.alive:
                    self.state.announce(announcement, self.now)
            self.state.expire(self.now)
            self.state.table(self.now)
        return self.table

    @property
    def table(self) -> Table:
        return self.state.table(self.now)

    @property
    def entry(self) -> ProviderEntry:
        entry = self.table.provider("p")
        assert entry is not None
        return entry

    @property
    def performance(self) -> Performance:
        return self.entry.performance["m"]


def test_an_announcement_is_in_the_next_table() -> None:
    clocked = Clocked()
    before = clocked.table
    clocked.announce(ONE)
    assert clocked.table.version == before.version + 1
    assert [replica.address for replica in clocked.entry.replicas] == ["http://h:1"]
    assert clocked.table.epoch == "epoch"


def test_the_same_again_makes_no_new_version() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    version = clocked.table.version
    assert clocked.wait(30).version == version


def test_load_alone_is_published_every_half_second() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    version = clocked.wait(1).version
    for count in range(20):
        clocked.announce(msgspec.structs.replace(ONE, in_flight=count))
        clocked.wait(0.1)
    assert 3 <= clocked.table.version - version <= 5


def test_a_silent_replica_drops_out_and_its_provider_is_remembered_for_a_while() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.announce(TWO)
    clocked.alive = [ONE]
    clocked.wait(ANNOUNCEMENT_LIFETIME + 1.2)
    assert [replica.replica for replica in clocked.entry.replicas] == ["r1"]
    clocked.alive = []
    clocked.wait(ANNOUNCEMENT_LIFETIME + 1.2)
    assert (clocked.entry.state, clocked.entry.replicas) == ("unreachable", ())
    assert "5 s" in clocked.entry.why
    clocked.wait(LEFT + 1)
    assert clocked.entry.state == "unreachable"
    clocked.now += REMEMBERED
    assert clocked.wait(1).providers == ()


def test_a_provider_that_said_that_it_leaves_is_forgotten_soon() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.announce(msgspec.structs.replace(ONE, state="draining"))
    clocked.alive = []
    clocked.wait(ANNOUNCEMENT_LIFETIME + 1.2)
    assert clocked.entry.state == "unreachable"
    assert clocked.wait(LEFT + 1).providers == ()


def test_while_a_provider_is_away_its_models_are_known_and_nobody_invents_its_answers() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.announce(Announcement("sim", "s1", "http://h:3", models=(ModelCard("m"),), simulated=True))
    clocked.alive = clocked.alive[1:]
    for _ in range(3):
        clocked.wait(60)
        for wanted in ("auto", "p/m"):
            with pytest.raises(Overloaded):
                choose(clocked.table, Ask((wanted,)), clocked.now, random.random)
    clocked.announce(ONE)
    assert choose(clocked.table, Ask(("auto",)), clocked.now, random.random).candidates[0].name == "p/m"


def test_one_that_nobody_set_up_is_not_waited_for_when_it_goes() -> None:
    clocked = Clocked()
    clocked.announce(msgspec.structs.replace(ONE, state="unconfigured", why="P_API_KEY is not set"))
    clocked.announce(Announcement("sim", "s1", "http://h:3", models=(ModelCard("m"),), simulated=True))
    clocked.alive = clocked.alive[1:]
    clocked.wait(ANNOUNCEMENT_LIFETIME + 1.2)
    assert (clocked.entry.state, clocked.entry.others) == ("unconfigured", ())
    assert choose(clocked.table, Ask(("auto",)), clocked.now, random.random).candidates[0].name == "sim/m"


def test_a_router_that_stood_still_counts_no_silence() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.wait(1)
    clocked.now += 60.0
    clocked.state.expire(clocked.now)
    assert clocked.entry.replicas
    clocked.alive = []
    clocked.wait(ANNOUNCEMENT_LIFETIME + 1.2)
    assert clocked.entry.replicas == ()


def test_a_draining_replica_is_not_asked_and_not_given_up() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.announce(TWO)
    clocked.announce(msgspec.structs.replace(ONE, state="draining"))
    assert [replica.replica for replica in clocked.entry.replicas] == ["r2"]
    assert list(clocked.entry.others) == ["r1"]
    clocked.announce(msgspec.structs.replace(TWO, state="draining"))
    assert (clocked.entry.state, clocked.entry.replicas) == ("draining", ())
    assert set(clocked.entry.others) == {"r1", "r2"}


def test_an_unconfigured_provider_is_listed_with_what_is_missing() -> None:
    clocked = Clocked()
    clocked.announce(msgspec.structs.replace(ONE, state="unconfigured", why="P_API_KEY is not set"))
    assert (clocked.entry.state, clocked.entry.why) == ("unconfigured", "P_API_KEY is not set")
    assert clocked.entry.replicas == ()


def test_the_newest_replicas_word_counts_in_a_rolling_update() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.wait(0.5)
    clocked.announce(msgspec.structs.replace(TWO, models=(ModelCard("m", context=9), ModelCard("new"))))
    clocked.announce(ONE)
    assert {card.name: card.context for card in clocked.entry.models} == {"m": 9, "new": 0}


def test_statistics_survive_announcements_and_a_restart_of_the_replica() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.report(BAD, GOOD, in_flight=2)
    clocked.wait(1)
    assert (clocked.performance.attempts, clocked.performance.in_flight) == (2, 2)
    clocked.alive = []
    clocked.wait(ANNOUNCEMENT_LIFETIME + 2)
    clocked.announce(TWO)
    assert clocked.performance.attempts == 2


def test_what_a_silent_reporter_had_under_way_is_forgotten() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.report(GOOD, in_flight=3)
    clocked.report(reporter="g2", in_flight=1)
    assert clocked.wait(1).provider("p").performance["m"].in_flight == 4  # type: ignore[union-attr]
    for _ in range(3):
        clocked.state.hear("g2", clocked.now)
        clocked.wait(3)
    assert clocked.performance.in_flight == 1
    clocked.state.hear("nobody known", clocked.now)
    clocked.wait(3)
    assert clocked.performance.in_flight == 0


def test_a_breaker_opens_is_published_at_once_and_is_probed_by_who_asked_last() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.report(*[BAD] * 5, reporter="g7")
    assert clocked.performance.breaker == "open"
    assert clocked.performance.open_until == clocked.now + 0.5
    clocked.wait(0.6)
    assert (clocked.performance.breaker, clocked.performance.prober) == ("half_open", "g7")
    clocked.report(GOOD, reporter="g7")
    assert (clocked.performance.breaker, clocked.performance.error_rate) == ("closed", 0.0)


def test_if_who_may_probe_has_nothing_to_ask_the_next_may() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.report(*[BAD] * 5, reporter="g1")
    clocked.wait(0.6)
    probers = []
    for _ in range(5):
        clocked.report(Outcome("other", "x", 1.0), reporter="g2")
        clocked.report(reporter="g1")
        clocked.wait(1.0)
        probers.append(clocked.performance.prober)
    assert probers[0] == "g2"
    assert "g1" in probers[:3]
    assert probers[-1] == ""


def test_recovery_is_noticed_within_five_seconds() -> None:
    """A provider is down for a minute under traffic; each request goes where the table says."""
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.announce(Announcement("backup", "b1", "http://h:9", models=(ModelCard("m"),)))
    source = random.Random(1)
    failures, recovered = 0, 0.0
    for tick in range(700):
        down = tick < 600
        ask = Ask(("p/m", "backup/m"), gateway="g1")
        first = choose(clocked.table, ask, clocked.now, source.random).candidates[0]
        if first.provider == "p":
            clocked.report(BAD if down else GOOD)
            failures += down
            recovered = recovered or (0.0 if down else clocked.now)
        clocked.wait(0.1)
    assert 0 < recovered - (1000.0 + 60.0) < 5.0
    assert failures < 30
    assert clocked.performance.breaker == "closed"


def test_a_router_that_follows_another_is_not_settled_at_first() -> None:
    clocked = Clocked(preceded=True)
    clocked.announce(ONE)
    assert not clocked.table.settled
    assert not clocked.wait(SETTLING - 0.2).settled
    assert clocked.wait(0.4).settled
    first = Clocked()
    first.announce(ONE)
    assert first.table.settled


def test_models_that_callers_invent_do_not_fill_the_memory() -> None:
    clocked = Clocked()
    clocked.announce(msgspec.structs.replace(ONE, any_model=True))
    clocked.report(*(Outcome("p", f"invented-{n}", 1.0, reason="not_found") for n in range(100)))
    clocked.report(*(Outcome("p", f"real-{n}", 1.0) for n in range(MAXIMUM_MODELS + 50)), GOOD)
    clocked.wait(1)
    assert len(clocked.entry.performance) == MAXIMUM_MODELS
    assert clocked.performance.attempts == 1


stimuli = st.one_of(
    st.builds(
        Announcement,
        st.sampled_from("pq"),
        st.sampled_from(["r1", "r2"]),
        st.just("http://h:1"),
        state=st.sampled_from(["ready", "draining", "unconfigured", "unreachable"]),
        in_flight=st.integers(0, 3),
    ),
    st.builds(
        Outcome,
        st.sampled_from("pq"),
        st.sampled_from("mn"),
        st.floats(0, 9),
        reason=st.none() | st.sampled_from(["timeout", "server_error"]),
        cancelled=st.booleans(),
    ),
    st.floats(0.1, 8),
)


@given(st.lists(stimuli, max_size=40))
def test_versions_count_up_exactly_with_changes(steps: list[Announcement | Outcome | float]) -> None:
    clocked = Clocked()
    before = clocked.table
    for stimulus in steps:
        if isinstance(stimulus, Announcement):
            clocked.announce(stimulus)
        elif isinstance(stimulus, Outcome):
            clocked.report(stimulus)
        else:
            clocked.now += 0.1
            clocked.state.expire(clocked.now)
        table = clocked.table
        changed = (table.providers, table.settled) != (before.providers, before.settled)
        assert table.version == before.version + changed
        assert all(entry.state == "ready" or not entry.replicas for entry in table.providers)
        before = table


def test_a_stream_that_has_begun_shows_that_the_provider_is_back() -> None:
    clocked = Clocked()
    clocked.announce(ONE)
    clocked.report(*[BAD] * 5)
    clocked.wait(1.0)
    attempts = clocked.performance.attempts
    assert clocked.performance.breaker == "half_open"
    clocked.report(Outcome("p", "m", 0.2, begun=True), in_flight=1)
    clocked.wait(1.0)
    assert (clocked.performance.breaker, clocked.performance.attempts) == ("closed", attempts)
