"""Identifiers that a provider would refuse: what is sent in their place."""

from typing import Any

import pytest

from pipelines.dialects import DIALECTS, WIRES

ANTHROPIC: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses"])
def test_a_long_user_is_a_digest_to_those_who_refuse_it(wire: str) -> None:
    def sent(user: str) -> tuple[str, tuple[str, ...]]:
        request = DIALECTS["anthropic_messages"].read_request({**ANTHROPIC, "metadata": {"user_id": user}})
        written = WIRES[wire].write_request(request)
        return written.body["user"], written.dropped

    assert sent("u" * 64) == ("u" * 64, ())
    long, dropped = sent("user_\ud800" + "f" * 150)
    assert (len(long), dropped) == (64, ("user",))
    assert int(long, 16)
    assert sent("user_\ud800" + "f" * 150)[0] == long != sent("user_\ud800" + "f" * 151)[0]
    own = {"model": "m", "input": "q", "messages": ANTHROPIC["messages"], "user": "u" * 65}
    assert DIALECTS[wire].relay_request(own, "m")["user"] == "u" * 65, "its own callers hear what the provider says"
