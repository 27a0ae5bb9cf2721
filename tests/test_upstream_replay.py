"""The misbehaving upstream sends recordings as they were recorded, however they are cut."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests import recordings
from tests.clients import Caller
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


def asking() -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": []}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
async def test_a_recording_is_replayed_in_pieces(upstream: Upstream, newline: bytes) -> None:
    body = b'data: {"choices": []}\n\n: note\n\ndata: [DONE]\n\n'
    recording = recordings.Recording("r", "p", (), CHAT, {}, 200, {"x-id": "1", "content-length": "3"}, body)
    upstream.plan("m", Fault.replay(recording, piece=3, newline=newline))

    async with await Caller.connect(upstream.url) as caller:
        head = await caller.post(CHAT, asking())
        pieces = [piece async for piece in caller.pieces()]

    assert (head.status, head.headers["x-id"]) == (200, "1")
    assert head.headers["content-type"] == "text/event-stream"
    assert {len(piece) for piece in pieces[:-1]} == {3}
    assert b"".join(pieces) == body.replace(b"\n", newline)


async def test_every_shared_recording_comes_back_as_it_is(upstream: Upstream) -> None:
    found = recordings.shared()
    if not found:
        pytest.skip("the shared recordings are absent")
    async with httpx.AsyncClient(base_url=upstream.url) as client:
        for recording in found:
            upstream.plan("m", Fault.replay(recording, piece=1024))
            answer = await client.post(CHAT, json=asking())
            assert (answer.status_code, answer.content) == (recording.status, recording.body), recording.name
