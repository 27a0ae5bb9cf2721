"""Secrets in what tools answer: found wherever they stand, in a time that grows with the text and no faster."""

import time

import pytest

from pipelines.tools.redaction import Redactor

SHORT, LONG = 2_000, 32_000


def seconds(text: str) -> float:
    """CPU time of one look, the best of three: another process may have had the caches in between."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        Redactor().redacted(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("before", ["", "password=", "bearer ", "eyJabcdefgh.eyJ"])
@pytest.mark.parametrize(
    "piece",
    ["sk-", "npm-", "hf_a-", "eyJ-", "eyJabcdefgh.", "api_key=", "password=a", "://a:b", "://", "SG.", "bearer ", "A "],
)
def test_no_text_is_slow_to_look_through(piece: str, before: str) -> None:
    text = before + piece * (LONG // len(piece))
    # 16 times the text: some 16 times the time, and 256 times it where every place is looked at from every other one.
    assert seconds(text[:LONG]) < 64 * max(seconds(text[:SHORT]), 0.0002)


def test_a_long_token_is_taken_out_whole() -> None:
    token = f"eyJ{'h' * 2_000}.eyJ{'p1-_' * 2_000}.{'s' * 500}"
    assert Redactor().redacted(f"a {token} b") == "a [redacted] b"
    assert Redactor().redacted(f"my-{token}") == "[redacted]"
