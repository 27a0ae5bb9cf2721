"""Bounded reading: what is too large, too deep or no JSON is refused in words, fast, and nothing breaks."""

from typing import Any

import pytest

from deployments.http.reading import MAX_BODY, HungUp, body_of, headers_of, json_object
from pipelines.errors import BadRequest


def _receive(*messages: dict[str, Any]) -> Any:
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    return receive


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": Infinity}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    ],
)
def test_what_is_no_usable_json_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        json_object(body)
    assert says in refused.value.message
    assert refused.value.status == 400


def test_many_brackets_that_are_not_deep_are_fine() -> None:
    assert json_object(b'{"a": [' + b",".join([b"[]"] * 1000) + b"]}")["a"] == [[]] * 1000


async def test_a_body_may_come_in_pieces() -> None:
    receive = _receive(
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
    )
    assert await body_of(receive, {}) == b"abc"


async def test_a_body_that_is_too_large_is_refused_by_its_length_or_by_its_bytes() -> None:
    with pytest.raises(BadRequest) as refused:
        await body_of(_receive(), {"content-length": str(MAX_BODY + 1)})
    assert refused.value.status == 413
    piece = {"type": "http.request", "body": b"x" * (MAX_BODY // 2), "more_body": True}
    with pytest.raises(BadRequest) as refused:
        await body_of(_receive(piece, piece, piece), {})
    assert refused.value.status == 413


async def test_a_caller_who_leaves_before_his_body_is_no_error() -> None:
    with pytest.raises(HungUp):
        await body_of(_receive(), {})


def test_lines_of_a_list_are_one_header() -> None:
    given = [(b"Anthropic-Beta", b"a"), (b"x-title", b"one"), (b"anthropic-beta", b"b,c"), (b"x-title", b"two")]
    assert headers_of({"headers": given}) == {"anthropic-beta": "a,b,c", "x-title": "one"}
    assert headers_of({"headers": given[:2]}) == {"anthropic-beta": "a", "x-title": "one"}


def test_too_many_headers_are_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        headers_of({"headers": [(b"a", b"b")] * 101})
    assert refused.value.status == 431
    with pytest.raises(BadRequest):
        headers_of({"headers": [(b"a", b"b" * 40_000)]})
