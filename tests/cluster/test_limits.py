"""Overload, and input that no honest client sends, on both kinds of port and in both lanes."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import BrokenBody, Caller, Head
from tests.cluster.doors import CHAT, Door, authorized, door
from tests.cluster.running import CONCURRENT, PROMPT, QUEUED, Running, until

pytestmark = pytest.mark.cluster

NEVER_LONGER = 20.0
"""Seconds within which bad input is refused even on a machine that stutters; what is meant is 0.05 s."""

MESSAGES = "/v1/messages"
DIALECTS = pytest.mark.parametrize("path", [CHAT, MESSAGES])


@pytest.fixture(scope="module")
def replicas(cluster: Running) -> set[int]:
    """The processes of the replicas, which must outlive every test here."""
    names = ("gateway", "simulator", "tiny")
    return {until(lambda: cluster.replica(name), 60.0, f"{name} listens") for name in names}  # noqa: B023


@pytest.fixture(autouse=True)
def _nobody_dies(replicas: set[int]) -> Iterator[None]:
    yield
    assert {pid for pid in replicas if not Path(f"/proc/{pid}").exists()} == set()


def shape_of(path: str, body: bytes) -> dict[str, Any]:
    """The error in a refusal, after a look at its dialect's own shape."""
    refusal: dict[str, Any] = json.loads(body)
    error: dict[str, Any] = refusal["error"]
    if path == MESSAGES:
        assert refusal["type"] == "error"
        assert {"type", "message"} <= set(error)
    else:
        assert {"type", "message", "param", "code"} <= set(error)
    assert error["message"]
    return error


@DIALECTS
async def test_a_full_provider_refuses_and_says_when_to_come_back(cluster: Running, way: str, path: str) -> None:
    at = door(cluster, way, "tiny")
    places = CONCURRENT + QUEUED
    callers = [await Caller.connect(at.url) for _ in range(places + 1)]
    body = at.body("fast?first=700&tokens=2&gap=1", max_tokens=10)
    try:
        for caller in callers[:-1]:
            await caller.request("POST", at.prefix + path, body, headers=authorized())
            await asyncio.sleep(0.05)
        head = await callers[-1].post(at.prefix + path, body, headers=authorized())
        refused = await callers[-1].body()
        assert [(await caller.head()).status for caller in callers[:-1]] == [200] * places
        for caller in callers[:-1]:
            await caller.frames()
    finally:
        for caller in callers:
            caller.close()
    assert head.status in (429, 503)
    assert int(head.headers["retry-after"]) >= 1
    assert "places are taken" in shape_of(path, refused)["message"]


async def test_a_full_provider_is_left_for_the_next_candidate(cluster: Running) -> None:
    at = door(cluster, "listener-routed", "tiny")
    callers = [await Caller.connect(at.url) for _ in range(CONCURRENT + QUEUED)]
    try:
        for caller in callers:
            await caller.request("POST", CHAT, at.body("fast?first=700&tokens=2"), headers=authorized())
            await asyncio.sleep(0.05)
        async with at.client() as http:
            answer = await http.post(CHAT, json=at.body("fast", models=["simulator/fast"]))
        assert [(await caller.head()).status for caller in callers] == [200] * len(callers)
    finally:
        for caller in callers:
            caller.close()
    assert (answer.status_code, answer.headers["x-penstock-provider"]) == (200, "simulator")


def with_(**fields: Any) -> bytes:
    body = {"model": "MODEL", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 10, **fields}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
ANTHROPIC_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}

BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "JSON"),
    "no JSON": (PROMPT.encode(), "JSON"),
    "half a JSON": (with_()[:-1], "JSON"),
    "no object": (b"[1, 2]", "object"),
    "no UTF-8": (b'{"model": "\xff\xfe"}', "JSON"),
    "no model": (with_(model=None), "model"),
    "a model that is a number": (with_(model=7), "model"),
    "messages that are a string": (with_(messages=PROMPT), "messages"),
    "no messages": (with_(messages=None), "messages"),
    "empty messages": (with_(messages=[]), "messages"),
    "an unknown role": (with_(messages=[{"role": "king", "content": PROMPT}]), "role"),
    "a temperature in words": (with_(temperature="hot"), "temperature"),
    "NaN": (with_(temperature=float("nan")), "JSON"),
    "Infinity": (with_(temperature=float("inf")), "JSON"),
    "nesting": (b'{"model":"MODEL","messages":' + b"[" * 200 + b"]" * 200 + b"}", "deep"),
    "unclosed nesting": (b'{"model":' + b"[" * 100_000, "JSON"),
}
"""Bodies, and a word that the refusal must say."""


async def post(at: Door, path: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> tuple[Head, bytes, float]:
    """One request on a connection of its own; with the seconds from its end to the answer's."""
    body = body.replace(b"MODEL", f"{at.named}fast".encode())
    pairs = [*authorized().items(), *headers]
    async with await Caller.connect(at.url) as caller:
        began = time.monotonic()
        await caller.request("POST", at.prefix + path, body, headers=pairs, length=len(body))
        head = await caller.head()
        return head, await caller.body(), time.monotonic() - began


@DIALECTS
@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_refused_in_the_callers_dialect(cluster: Running, way: str, path: str, case: str) -> None:
    at = door(cluster, way, "simulator")
    body, word = BAD_BODIES[case]
    head, refusal, seconds = await post(at, path, body)
    assert 400 <= head.status < 500, refusal
    error = shape_of(path, refusal)
    assert word in error["message"] or word in (error.get("param") or "")
    assert PROMPT not in error["message"]
    print(f"\n{way}, {case}: refused after {seconds * 1e3:.1f} ms")  # noqa: T201
    assert seconds < NEVER_LONGER


@DIALECTS
async def test_an_unknown_model_is_named(cluster: Running, way: str, path: str) -> None:
    at = door(cluster, way, "simulator")
    head, refusal, _ = await post(at, path, with_(model=f"{at.named}quicksilver"))
    assert head.status == 404
    assert "quicksilver" in shape_of(path, refusal)["message"]


@pytest.mark.parametrize(("path", "image"), [(CHAT, IMAGE), (MESSAGES, ANTHROPIC_IMAGE)])
@pytest.mark.parametrize("port", ["ingress", "listener"])
async def test_an_image_for_a_model_that_takes_none(
    cluster: Running, port: str, path: str, image: dict[str, Any]
) -> None:
    at = door(cluster, f"{port}-routed", "simulator")
    content = [{"type": "text", "text": PROMPT}, image]
    head, refusal, _ = await post(at, path, with_(messages=[{"role": "user", "content": content}]))
    assert 400 <= head.status < 500
    error = shape_of(path, refusal)
    assert "image" in error["message"]
    assert path == MESSAGES or "messages" in error["param"]


@DIALECTS
async def test_a_body_of_25_megabytes(cluster: Running, way: str, path: str) -> None:
    at = door(cluster, way, "simulator")
    async with await Caller.connect(at.url) as caller:
        await caller.send(
            f"POST {at.prefix + path} HTTP/1.1\r\nhost: x\r\ncontent-length: {25 * 2**20}\r\n"
            f"authorization: {authorized()['authorization']}\r\n\r\n".encode()
        )
        head = await caller.head()
        refusal = await caller.body()
    assert head.status == 413
    assert "larger" in shape_of(path, refusal)["message"]


async def test_a_body_of_25_megabytes_without_a_length(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    piece = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20)
    async with await Caller.connect(at.url) as caller:
        await caller.send(
            f"POST {at.chat} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            f"authorization: {authorized()['authorization']}\r\n\r\n".encode()
        )
        # A server may answer and hang up before all is sent.
        try:
            for _ in range(25):
                await caller.send(piece)
            await caller.send(b"0\r\n\r\n")
        except OSError:
            pass
        head = await caller.head()
        refusal = await caller.body()
    assert head.status == 413
    shape_of(CHAT, refusal)


async def test_ten_thousand_headers(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    many = [(f"x-{number}", "y") for number in range(10_000)]
    try:
        head, _, _ = await post(at, CHAT, with_(), many)
        assert 400 <= head.status < 500
    except (BrokenBody, OSError):
        assert way.startswith("ingress")


@pytest.mark.parametrize("port", ["routed", "direct"])
async def test_a_hundred_and_one_headers_are_refused_in_words(cluster: Running, port: str) -> None:
    at = door(cluster, f"listener-{port}", "simulator")
    head, refusal, _ = await post(at, CHAT, with_(), [(f"x-{number}", "y") for number in range(101)])
    assert head.status == 431
    assert "headers" in shape_of(CHAT, refusal)["message"]


@DIALECTS
@pytest.mark.parametrize("key", ["", "psk-wrong"])
async def test_without_a_key_nothing_is_said(cluster: Running, way: str, path: str, key: str) -> None:
    at = door(cluster, way, "simulator")
    async with await Caller.connect(at.url) as caller:
        head = await caller.post(at.prefix + path, b"no JSON", headers=authorized(key) if key else {})
        refusal = await caller.body()
    assert head.status == 401
    assert "key" in shape_of(path, refusal)["message"]


async def test_the_wrong_method_and_the_wrong_path(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with at.client() as http:
        for path in (CHAT, MESSAGES):
            wrong = await http.get(path)
            assert wrong.status_code == 405
            assert "POST" in shape_of(path, wrong.content)["message"]
        for answer in (await http.get("/v1/nothing"), await http.post("/v1/nothing", json={})):
            assert answer.status_code == 404
            assert "/v1/nothing" in shape_of(CHAT, answer.content)["message"]
        assert (await http.post("/v1/models", json={})).status_code == 405
