"""Every error crosses a process whole, says what it is, and carries no secret."""

import pickle
import time

import pytest

from pipelines import errors
from pipelines.errors import PenstockError, RateLimited, TimedOut, UpstreamError, redacted


def _subclasses(cls: type[PenstockError]) -> list[type[PenstockError]]:
    return [
        cls,
        *(below for sub in cls.__subclasses__() if sub.__module__ == errors.__name__ for below in _subclasses(sub)),
    ]


def _one(cls: type[PenstockError]) -> PenstockError:
    if cls is TimedOut:
        return TimedOut("silence", phase="idle", provider="p")
    if issubclass(cls, UpstreamError):
        return cls("no", provider="p", upstream_status=529, upstream_type="t", retry_after=2.0)
    return cls("no", param="messages.0", retry_after=1.0)


@pytest.mark.parametrize("cls", _subclasses(PenstockError), ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_all_that_it_says(cls: type[PenstockError]) -> None:
    error = _one(cls)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cls
    assert back.__dict__ == error.__dict__
    assert str(back) == str(error)
    assert back.status == error.status


def test_the_tree_speaks_pythons_own_language_too() -> None:
    assert issubclass(errors.UnknownModel, ValueError)
    assert issubclass(TimedOut, TimeoutError)
    assert RateLimited("x").status == 429


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcDEF123456789",
        "Authorization: Bearer abcdef.ghijkl-mnop",
        "key gsk_abcdefghijk and hf_abcdefghijkl",
        "psk-3R954QBetrwS4TqeVmkP6qQjD_DkBQrB",
        "Incorrect API key provided: abcdef-*****2345.",
        "Invalid API key: nvapi-abcdefJ9kL1mN3pQ5rS7tU9vW1x",
        "Invalid API key: pplx-abcdef1b2a3e4f5d6c7b8a9f0e1d2c3b4a5f6e7d",
        'x-api-key: "abcdefJ9kL1mN3pQ5rS7tU9vW1x" is not valid',
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str) -> None:
    assert "[redacted]" in redacted(text)
    assert "abcdef" not in redacted(text).lower()
    assert "3R954" not in redacted(text)


def test_a_key_without_a_shape_is_taken_out_by_its_value() -> None:
    error = UpstreamError("the key plain/abcdef is not known here", reason="authentication")
    error.conceal("plain/abcdef")
    assert error.message == str(error) == pickle.loads(pickle.dumps(error)).message
    assert error.message == "the key [redacted] is not known here"


def test_words_that_only_resemble_one_stay() -> None:
    for text in ("the risk-averse key-value store", "or-else try again", "max_tokens is too large: 99999"):
        assert redacted(text) == text


@pytest.mark.parametrize("piece", ["a", "sk-", "*", "a*", "a**"])
def test_a_long_word_takes_no_more_time_than_a_short_one(piece: str) -> None:
    """Beyond what is read of it. In CPU time, and by a wide margin: before its bound it was 1,000 times as much."""

    def cost(length: int) -> float:
        began = time.process_time()
        redacted(piece * (length // len(piece)))
        return time.process_time() - began

    assert min(cost(400_000) for _ in range(3)) <= 20 * max(min(cost(8_192) for _ in range(3)), 1e-4)
