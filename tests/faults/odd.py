"""Requests as only a strange client sends them: pipelined, with headers that come twice.

Above it: `callers`. Below it: `tests.clients`. Outside it: load.
"""

import json
import time
from typing import NamedTuple

from tests.clients import BrokenBody, Caller
from tests.cluster.doors import NAMES, Door, authorized, door
from tests.faults.scene import Scene
from tests.faults.table import Sheet
from tests.upstream import Fault, text_of

PIPELINED = 5
"""Requests in one write."""

KEY = authorized()["authorization"]


class Twice(NamedTuple):
    """Headers that come twice, and the statuses that are right; 0 stands for a closed connection."""

    name: str
    headers: tuple[tuple[str, str], ...]
    statuses: tuple[int, ...]
    body: bytes = b""


def twice(body: bytes) -> list[Twice]:
    """Source: RFC 9112, sections 6.1 and 6.3 (what to do with lengths that contradict each other)."""
    length = str(len(body))
    plain = (("authorization", KEY), ("content-type", "application/json"))
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sized = (*plain, ("content-length", length))
    return [
        Twice("the key twice", (("authorization", KEY), *sized), (200, 400), body),
        Twice("a wrong key, then the right one", (("authorization", "Bearer no"), *sized), (400, 401), body),
        Twice("the content type twice", (("content-type", "text/plain"), *sized), (200, 400), body),
        Twice("x-request-id twice", (("x-request-id", "a"), ("x-request-id", "b"), *sized), (200, 400), body),
        Twice("the same length twice", (("content-length", length), *sized), (0, 200, 400), body),
        Twice("two different lengths", (("content-length", "5"), *sized), (0, 400), body),
        Twice("a length and chunks", (("transfer-encoding", "chunked"), *sized), (0, 200, 400), chunks),
        Twice("chunked twice", (("transfer-encoding", "chunked"),) * 2 + plain, (0, 400), chunks),
    ]


async def run(scene: Scene, sheet: Sheet, only: str) -> None:
    """All cases whose name holds `only`."""
    scene.upstream.reset()
    for name in NAMES:
        at = door(scene.running, name, "primary")
        if only in "pipelined":
            await pipelined(sheet, at, name, stream=True)
            await pipelined(sheet, at, name, stream=False)
        if only in "duplicated headers":
            for case in twice(json.dumps(at.body("well", stream=False)).encode()):
                await duplicated(sheet, at, name, case)


async def pipelined(sheet: Sheet, at: Door, name: str, *, stream: bool) -> None:
    """Several requests before the first answer: answers in order, each whole."""
    began, answers = time.monotonic(), []
    async with await Caller.connect(at.url) as caller:
        for number in range(PIPELINED):
            body = at.body(f"well-{number}", stream=stream)
            await caller.request("POST", at.chat, body, headers=authorized(x_request_id=f"pipelined-{number}"))
        try:
            for _ in range(PIPELINED):
                head = await caller.head()
                answers.append((head.status, head.headers.get("x-request-id", ""), (await caller.body()).decode()))
        except (BrokenBody, OSError, TimeoutError) as error:
            answers.append((0, "", f"cut off: {error}"))
    words = text_of(Fault()).split()
    whole = [status == 200 and all(word in text for word in words) for status, _, text in answers]
    ordered = [identity for _, identity, _ in answers] == [f"pipelined-{n}" for n in range(PIPELINED)]
    wrong = [] if all(whole) and ordered else [f"{[(status, identity) for status, identity, _ in answers]}"]
    seen = f"{sum(whole)} whole answers, {'in order' if ordered else 'not in order'}"
    form = "streams" if stream else "unary"
    sheet.row([f"pipelined {form}", name, PIPELINED, seen, f"{time.monotonic() - began:.2f}"], wrong)


async def duplicated(sheet: Sheet, at: Door, name: str, case: Twice) -> None:
    """One request; whatever is said, it is one answer, and no second request grows out of the first one's body."""
    began = time.monotonic()
    lines = "".join(f"{key}: {value}\r\n" for key, value in case.headers)
    raw = f"POST {at.chat} HTTP/1.1\r\nhost: test\r\n{lines}\r\n".encode() + case.body
    status, more = 0, ""
    async with await Caller.connect(at.url, timeout=5.0) as caller:
        try:
            await caller.send(raw)
            status = (await caller.head()).status
            await caller.body()
            caller.timeout = 0.3
            more = f", and {(await caller.head()).status}"
        except (BrokenBody, OSError, TimeoutError):
            pass
    wrong = [f"{status} is none of {case.statuses}"] if status not in case.statuses else []
    smuggled = [f"{case.name}, {name}: a second answer{more}"] if more else []
    seen = f"{status or 'connection closed'}{more}"
    sheet.row([case.name, name, 1, seen, f"{time.monotonic() - began:.2f}"], wrong, smuggled)
