"""The guard: callers by key, our own processes by the cluster's secret, nobody else."""

import hashlib
from typing import Any

import pytest

from deployments.guard import PRIORITY_HEADER, Guard, may_ask, sender
from pipelines.calls import Caller
from pipelines.errors import Denied, Overloaded
from pipelines.keys import Feed, Key, Settings

KEY = "psk-right"


def test_the_guard_knows_callers_by_three_headers_and_nobody_else() -> None:
    guard = Guard("cluster-secret")
    guard.admit({hashlib.sha256(KEY.encode()).hexdigest(): Caller("me", admin=True)})
    for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"api-key": KEY}):
        assert guard.caller(headers).id == "me"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": "é\udcff"}):
        with pytest.raises(Denied) as denied:
            guard.caller(headers)
        assert KEY not in denied.value.message
    assert sender({"x-penstock-caller": "me"}).id == "me"
    for text, priority in (("7", 7), ("-3", -3), ("1000", 100), ("-1000", -100), ("much", 0), ("", 0), ("9" * 5000, 0)):
        assert sender({PRIORITY_HEADER: text}).priority == priority
    assert guard.caller({"x-api-key": KEY, PRIORITY_HEADER: "100"}).priority == 0
    assert guard.knows(b"cluster-secret")
    for secret in (b"", b"wrong", b"\xff"):
        assert not guard.knows(secret)
    assert not Guard("").knows(b"")


@pytest.mark.parametrize(
    ("models", "provider", "model", "may"),
    [
        (None, "openrouter", "openai/gpt-5", True),
        (("openai/*",), "openai", "gpt-5", True),
        (("openai/*",), "openrouter", "openai/gpt-5", False),
        (("openai/gpt-5",), "openrouter", "openai/gpt-5", False),
        (("openrouter/openai/*",), "openrouter", "openai/gpt-5", True),
        (("gpt-*",), "openai", "gpt-5", True),
        (("gpt-*",), "openrouter", "openai/gpt-5", False),
        (("*gpt-5", "openai/*"), "openrouter", "openai/gpt-5", True),
        (("*",), "openrouter", "openai/gpt-5", True),
    ],
)
def test_a_pattern_with_a_slash_is_of_a_provider(
    models: tuple[str, ...] | None, provider: str, model: str, may: bool
) -> None:
    assert may_ask(Caller("k", models=models), provider, model) == may


def key(identity: str, secret: str, changed: int, **more: Any) -> Key:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    settings = Settings(identity, expires=more.pop("expires", None))
    return Key(identity, settings, digest, 0.0, changed, **more)


def test_keys_of_the_ledger_come_change_and_go() -> None:
    now = [1000.0]
    guard = Guard(clock=lambda: now[0])
    guard.complete = False
    guard.admit({hashlib.sha256(KEY.encode()).hexdigest(): Caller("me", admin=True)})

    def who(secret: str) -> str:
        return guard.caller({"x-api-key": secret}).id

    def refused(secret: str) -> bool:
        with pytest.raises(Denied):
            who(secret)
        return True

    # Until the ledger has spoken nobody can say that a key is unknown.
    assert who(KEY) == "me"
    with pytest.raises(Overloaded) as unknown:
        who("a1")
    assert unknown.value.status == 503
    guard.learn(Feed(3, (key("a", "a1", 2), key("b", "b1", 3, expires=2000.0)), whole=True))
    assert (who("a1"), who("b1"), who(KEY)) == ("a", "b", "me")
    old = hashlib.sha256(b"a1").hexdigest()
    guard.learn(Feed(4, (key("a", "a2", 4, old_hash=old, old_until=1500.0),)))
    assert (who("a1"), who("a2"), who("b1")) == ("a", "a", "b")
    now[0] = 1500.0
    assert (refused("a1"), who("a2")) == (True, "a")
    now[0] = 2000.0
    assert (refused("b1"), who("a2")) == (True, "a")
    guard.learn(Feed(5, (key("a", "a2", 5, revoked=1.0),)))
    assert refused("a2")
    guard.learn(Feed(6, (key("c", "c1", 6),), whole=True))
    assert (refused("b1"), who("c1"), who(KEY)) == (True, "c", "me")
