import pickle
from typing import Any

import msgspec
import pytest

from pipelines.routing.ask import Ask, Candidate, Decision, Needs
from pipelines.routing.breaker import Breaker
from pipelines.routing.statistics import Average, Statistics
from pipelines.routing.table import (
    Announcement,
    CallerKey,
    ModelCard,
    Outcome,
    Performance,
    ProviderEntry,
    ReplicaEntry,
    Report,
    Table,
    Welcome,
)

CARD = ModelCard("m", 8000, 100, True, input_price=0.5, quality=0.9)
PERFORMANCE = Performance(1, 2, 0.5, 0.1, 30.0, 250.0, "open", 1000.5, "g1")
REPLICA = ReplicaEntry("r", "http://h:1", 1, 2, 3)
OUTCOME = Outcome("p", "m", 1.5, "timeout", first_output=0.5, output_tokens=7)
ENTRY = ProviderEntry("p", "ready", "", ("openai_chat",), (CARD,), True, False, (REPLICA,), {"m": PERFORMANCE})
KEY = CallerKey("k1", "somebody", "ab" * 32, True)

VALUES = [
    CARD,
    PERFORMANCE,
    REPLICA,
    OUTCOME,
    ENTRY,
    KEY,
    Announcement("p", "r", "http://h:1", "unconfigured", "no key", models=(CARD,)),
    Report("g1", (OUTCOME,), {"p": {"m": 2}}),
    Welcome("e", "secret-of-the-cluster", (KEY,)),
    Table("e", 3, False, (ENTRY,)),
    Needs(vision=True, context=5),
    Ask(("auto",), aliases={"a": ("p/m",)}, excluded=frozenset({("p", "m")}), in_flight=frozenset({("q", "m")})),
    Decision((Candidate("p", "m", 0.5, {"quality": 0.5}),), {"q": "no"}, ("auto",)),
    Breaker("open", 3, Average(1.0, 2.0, 3.0, 4.0), 1.0, 2.0, 3),
    Statistics(3, Average(1.0, 2.0, 3.0, 4.0)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_crosses_a_process_comes_back_the_same(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value)) == value
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    data = msgspec.to_builtins(OUTCOME) | {"from_the_future": 1}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=Outcome) == OUTCOME


def test_no_secret_is_shown_by_repr() -> None:
    shown = repr(Welcome("e", "secret-of-the-cluster", (KEY,))) + repr(KEY)
    assert "secret-of-the-cluster" not in shown
    assert KEY.hash not in shown
