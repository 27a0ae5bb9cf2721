"""Refusals of many servers: what they mean, when to come back, and what the caller hears."""

import json
import time
from typing import Any

import pytest

from pipelines.conversation import Json
from pipelines.dialects import sse
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.errors import BadRequest, Denied, Overloaded, ProtocolError, RateLimited, StreamBroken, UpstreamError
from pipelines.events import assemble


def refusal(status: int, body: Any, **headers: str) -> UpstreamError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OPENAI_CHAT.read_error(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def said(message: str, **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, **members}}


TOO_LONG = [
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "request (2009 tokens) exceeds the available context size (512 tokens), try increasing it"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"),
    (400, "Please reduce the length of the messages or completion."),
    (413, "Request too large for model `llama` in organization `x` on tokens per minute"),
    (500, "the prompt exceeds the context window"),
    (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
]


@pytest.mark.parametrize(("status", "message"), TOO_LONG)
def test_a_context_too_long_in_many_words(status: int, message: str) -> None:
    error = refusal(status, said(message))
    assert error.reason == "context_too_long"
    assert OPENAI_CHAT.write_error(error)["error"]["code"] == "context_length_exceeded"


MEANINGS: list[tuple[int, Any, str]] = [
    (400, said("x", code="context_length_exceeded"), "context_too_long"),
    (400, said("x", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), "content_policy"),
    (400, said("Your request was rejected as a result of our safety system."), "content_policy"),
    (403, said("Input was flagged", metadata={"reasons": ["violence"]}), "content_policy"),
    (400, said("API key not valid. Please pass a valid API key."), "authentication"),
    (401, said("Incorrect API key provided"), "authentication"),
    (402, said("Insufficient credits"), "rate_limited"),
    (403, said("no access"), "permission"),
    (404, said("The model `x` does not exist", code="model_not_found"), "not_found"),
    (400, said("Model Not Exist"), "not_found"),
    (404, {"detail": "Not Found"}, "not_found"),
    (408, said("slow"), "timeout"),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}, "invalid_request"),
    (422, {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "extra"}]}}, "invalid_request"),
    (400, {"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, "invalid_request"),
    (400, [said("bad", status="INVALID_ARGUMENT")], "invalid_request"),
    (429, said("slow down"), "rate_limited"),
    (500, said("oops"), "server_error"),
    (500, {"error": "overloaded, try later"}, "overloaded"),
    (502, b"<html><head><title>502 Bad Gateway</title></head><body><h1>x</h1></body></html>", "server_error"),
    (503, b"", "overloaded"),
    (504, b"upstream timed out", "timeout"),
    (529, said("Overloaded"), "overloaded"),
    (500, b"\xff\xfe", "server_error"),
    (400, 7, "invalid_request"),
]


@pytest.mark.parametrize(("status", "body", "reason"), MEANINGS)
def test_meanings(status: int, body: Any, reason: str) -> None:
    error = refusal(status, body)
    assert error.reason == reason
    assert error.upstream_status == status
    assert error.message
    assert isinstance(error, RateLimited) is (reason == "rate_limited")


def test_pages_and_lists_become_words() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>x</body></html>"
    assert refusal(502, page).message == "502 Bad Gateway"
    assert refusal(422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}).message == "body.n: too big"


def test_what_stood_behind_openrouter_is_told() -> None:
    raw = json.dumps(said("maximum context length is 10"))
    error = refusal(400, said("Provider returned error", code=400, metadata={"raw": raw, "provider_name": "X"}))
    assert error.message == "Provider returned error: maximum context length is 10"
    assert error.reason == "context_too_long"


def test_a_key_is_not_told() -> None:
    error = refusal(401, said("Incorrect API key provided: sk-abcdefghijkl."))
    assert "abcdef" not in error.message


def test_waits() -> None:
    assert refusal(429, said("x"), retry_after="20").retry_after == 20.0
    assert refusal(429, said("x"), retry_after="1.5").retry_after == 1.5
    assert refusal(429, said("x"), retry_after_ms="250", retry_after="9").retry_after == 0.25
    then, now = "Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"
    assert refusal(503, said("x"), retry_after=then, date=now).retry_after == 30.0
    assert refusal(503, said("x"), retry_after=now, date=then).retry_after == 0.0
    for nonsense in ("soon", "-1", "nan", "inf", then):
        assert refusal(429, said("x"), retry_after=nonsense).retry_after is None


def test_a_used_up_quota_is_not_asked_again_soon() -> None:
    quota = said("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")
    error = refusal(429, quota)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 60.0
    assert refusal(429, quota, retry_after="5").retry_after == 5.0
    assert refusal(429, said("Rate limit reached")).retry_after is None


def test_the_wait_that_google_names_in_its_body_counts() -> None:
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "4.5s"}
    help_ = {"@type": "type.googleapis.com/google.rpc.Help", "links": []}
    quota = said("You exceeded your current quota", code=429, status="RESOURCE_EXHAUSTED", details=[help_, delay])
    for body in (quota, [quota]):
        assert refusal(429, body).retry_after == 4.5
        assert refusal(429, body, retry_after="5").retry_after == 5.0
    odds: list[Json] = [None, "soon", "-1s", "nans", 4, {}]
    for odd in odds:
        wrong = said("You exceeded your current quota", details=[{"retryDelay": odd}, "x"])
        assert refusal(429, wrong).retry_after == 60.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": [{"message": "Model not found: @cf/x", "code": 5007}], "success": False}, "Model not found: @cf/x"),
        ({"errors": ["No such route"]}, "No such route"),
        ({"message": "Validation failed", "errors": [{"field": "model"}]}, "Validation failed"),
        ({"Message": "User is not authorized to perform: bedrock:InvokeModel"}, "User is not authorized"),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, "invalid params"),
    ],
)
def test_a_providers_own_words_are_heard(body: Any, words: str) -> None:
    assert words in refusal(400, body).message


MINIMAX = [
    (1002, "rate limit", "rate_limited", 429),
    (1004, "login fail", "authentication", 401),
    (1008, "insufficient balance", "rate_limited", 402),
    (1026, "input new_sensitive", "content_policy", 400),
    (2013, "invalid params, unknown model", "not_found", 400),
    (1000, "unknown error", "server_error", 500),
]


@pytest.mark.parametrize(("code", "words", "reason", "status"), MINIMAX)
def test_a_status_inside_a_200_is_an_error(code: int, words: str, reason: str, status: int) -> None:
    base = {"status_code": code, "status_msg": words}
    answer = {"id": "1", "choices": None, "model": "MiniMax-M2", "usage": {"total_tokens": 0}, "base_resp": base}
    with pytest.raises(UpstreamError, match=words) as caught:
        OPENAI_CHAT.read_answer(json.dumps(answer).encode())
    assert (caught.value.reason, caught.value.status, caught.value.upstream_code) == (reason, status, str(code))
    frame = sse.frame(json.dumps({**answer, "usage": None}).encode())
    assert OPENAI_CHAT.telling.search(frame)
    with pytest.raises(UpstreamError, match=words):
        OPENAI_CHAT.decoder().feed(frame)


def test_a_status_of_0_inside_a_200_is_none() -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1}, "base_resp": {"status_code": 0}}).encode()
    assert assemble(OPENAI_CHAT.read_answer(body)).message.text == "Hi"


def test_an_error_in_a_200_is_an_error() -> None:
    with pytest.raises(RateLimited):
        OPENAI_CHAT.read_answer(b'{"error":{"code":429,"message":"slow"},"choices":[]}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"message":{"content":"a"}}]}',
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"finish_reason":"stop","message":null}]}',
        b'{"choices":[{"index":0,"finish_reason":"tool_calls"}]}',
        b'{"choices":[{"index":0,"finish_reason":"null"}]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[{"index":0,"finish_reason":"length","message":"Hello"}]}',
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        OPENAI_CHAT.read_answer(body)


def test_an_answer_that_failed_half_way_is_an_error_without_its_words() -> None:
    body = (
        b'{"choices":[{"finish_reason":"network_error","index":0,"message":{"role":"assistant","content":"Half a"}}]}'
    )
    with pytest.raises(UpstreamError, match="'network_error'") as caught:
        OPENAI_CHAT.read_answer(body)
    assert "Half a" not in caught.value.message


@pytest.mark.parametrize("message", [b"", b',"message":null'])
@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"content_filter: PROHIBITED_CONTENT", "content_filter"), (b"SAFETY", "content_filter"), (b"length", "length")],
)
def test_a_choice_that_was_cut_off_before_its_first_word_is_an_empty_answer(
    raw: bytes, reason: str, message: bytes
) -> None:
    body = b'{"choices":[{"finish_reason":"%b","index":0%b}],"usage":{"prompt_tokens":3}}' % (raw, message)
    answer = assemble(OPENAI_CHAT.read_answer(body))
    assert answer.finished.reason == reason
    assert answer.message.parts == ()
    assert answer.finished.usage is not None
    assert answer.finished.usage.input == 3


def test_what_callers_hear() -> None:
    def heard(error: Any) -> tuple[int, str, str]:
        body = OPENAI_CHAT.write_error(error)["error"]
        return error.status, body["type"], body["code"]

    assert heard(BadRequest("x")) == (400, "invalid_request_error", "invalid_request")
    assert heard(Denied("x")) == (401, "authentication_error", "authentication")
    assert heard(Overloaded("x")) == (429, "rate_limit_error", "overloaded")
    assert heard(StreamBroken("x")) == (502, "server_error", "stream_broken")
    theirs = refusal(404, said("x", type="invalid_request_error", code="model_not_found"))
    assert heard(theirs) == (404, "invalid_request_error", "model_not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "x", "metadata": {"reasons": 5}}},
        {"detail": [{"loc": 5, "msg": "x"}]},
        {"error": {"message": "x", "code": "9" * 5000}},
        b"[" * 2000,
        b"[" * 500 + b"]" * 500,
    ],
)
def test_no_shape_of_a_refusal_breaks_its_reader(body: Any) -> None:
    error = refusal(400, body)
    assert (error.reason, error.status) == ("invalid_request", 400)
    assert len(f"{error.upstream_type} {error.upstream_code}") < 500


def test_what_a_long_message_means_may_stand_at_its_end() -> None:
    error = refusal(400, said(f"cannot take {'x' * 100_000}: the maximum context length is 10"))
    assert error.reason == "context_too_long"


def test_a_date_beyond_all_calendars_is_no_wait() -> None:
    beyond = "Mon, 01 Jan 999999999999999999999 00:00:00 GMT"
    assert refusal(429, said("x"), retry_after=beyond).retry_after is None


@pytest.mark.parametrize("piece", [b"<script>", b"<title>", b"<", b"model", b"no "])
@pytest.mark.parametrize("form", [b"%b", b'{"error": {"message": "%b"}}'])
def test_a_long_refusal_takes_little_more_time_than_a_short_one(piece: bytes, form: bytes) -> None:
    """By a wide margin: without a bound the long one takes some 200 times as much."""

    def cost(length: int) -> float:
        began = time.process_time()
        refusal(502, form.replace(b"%b", piece * (length // len(piece))))
        return time.process_time() - began

    assert min(cost(240_000) for _ in range(3)) <= 20 * max(min(cost(16_000) for _ in range(3)), 1e-4)
