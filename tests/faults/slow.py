"""Callers who read or send slowly, many at once.

Above it: `callers`. Below it: `measure`, `tests.clients`. Outside it: who leaves.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from tests.clients import BrokenBody, Caller, request_bytes
from tests.cluster.doors import NAMES, authorized, door
from tests.faults.measure import MEGABYTE, kernel_buffers, megabytes, total
from tests.faults.scene import Scene
from tests.faults.table import Sheet, percentile
from tests.upstream import Fault

READERS = 100
ANSWER = 10 * MEGABYTE
"""Bytes of each answer."""

READING = 30.0
"""Seconds that they read, a byte a second."""

MEMORY = 100 * MEGABYTE
"""Growth of all processes together while they do."""

LORISES = 200
"""Connections whose headers never end."""

CUT_OFF_WITHIN = 15.0
"""Seconds after which the own listeners have closed them."""

INGRESS_LIMIT = 40.0
"""Seconds to look at the ingress, whose limits are HAProxy's own."""

BODY_LIMIT = 35.0
"""Seconds after which a body that does not come is cut off (30 s by the README)."""

SERVED_WITHIN = 2.0
"""Seconds in which others are served meanwhile."""


async def run(scene: Scene, sheet: Sheet, only: str, quick: bool) -> None:
    """All cases whose name holds `only`."""
    if only in "slow readers":
        await readers(scene, sheet, stream=True)
        if not quick:
            await readers(scene, sheet, stream=False)
    if only in "slowloris":
        await lorises(scene, sheet, "listener-routed")
        await lorises(scene, sheet, "listener-direct")
        await lorises(scene, sheet, "ingress-routed")
    if only in "slow bodies":
        await bodies(scene, sheet, "listener-routed")


async def readers(scene: Scene, sheet: Sheet, *, stream: bool) -> None:
    """Callers who read a byte a second of a long answer; they hold the providers back, and take no memory."""
    scene.upstream.reset()
    model = f"long-{stream}"
    scene.upstream.plan(model, Fault.answer(ANSWER // 1000, word_size=1000), times=None)
    before, kernel = total(scene), kernel_buffers()
    callers = []
    for number in range(READERS):
        at = door(scene.running, NAMES[number % len(NAMES)], ("primary", "second")[number // 4 % 2])
        caller = await Caller.connect(at.url, receive_buffer=4096)
        callers.append(caller)
        await caller.request("POST", at.chat, at.body(model, stream=stream), headers=authorized())
    most, read, began = 0, 0, time.monotonic()
    for second in range(1, round(READING) + 1):
        taken, now = await asyncio.gather(asyncio.gather(*map(_one_byte, callers)), asyncio.to_thread(total, scene))
        read, most = read + sum(taken), max(most, now - before)
        await asyncio.sleep(began + second - time.monotonic())
    kernel = kernel_buffers() - kernel
    for caller in callers:
        caller.close()
    text = f"{megabytes(most)} more memory, {megabytes(kernel)} in kernel buffers, {read} bytes read"
    cells = ["read a byte a second of 10 MB", "stream" if stream else "unary", READERS, text, f"{READING:.0f}"]
    if stream:
        wrong = [f"{megabytes(most)} more memory than before"] if most > MEMORY else []
        sheet.row(cells, [f"{read} bytes in {READING:g} s"] if read < READERS * READING / 2 else [], wrong)
    else:
        # A unary answer is whole before it is handed on: its memory is that of the answers.
        sheet.figure(cells)
    await asyncio.sleep(3.0)


async def _one_byte(caller: Caller) -> int:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(0.5):
            return len(await asyncio.get_running_loop().sock_recv(caller.socket, 1))
    return 0


async def lorises(scene: Scene, sheet: Sheet, name: str) -> None:
    """Connections that send a header line every other second for ever."""
    at = door(scene.running, name, "primary")
    head = request_bytes("POST", at.chat, headers=authorized(), length=100)[:-2]
    limit = CUT_OFF_WITHIN if name.startswith("listener") else INGRESS_LIMIT
    ended, served = await _crowd(scene, name, head, b"x-more: 1\r\n", limit)
    shut = [seconds for seconds in ended if seconds <= limit]
    text = f"{len(shut)} closed within {limit:g} s, the last after {max(shut, default=0):.1f} s; {_words(served)}"
    wrong = [] if max(served) < SERVED_WITHIN else [f"others waited {max(served):.1f} s"]
    cells = ["headers that never end", name, LORISES, text, f"{limit:g}"]
    if name.startswith("ingress"):
        sheet.row(cells, wrong)
    else:
        sheet.row(cells, wrong, [f"{LORISES - len(shut)} slow headers are not cut off"] if len(shut) < LORISES else [])


async def bodies(scene: Scene, sheet: Sheet, name: str) -> None:
    """Connections whose body comes a byte every other second."""
    at = door(scene.running, name, "primary")
    head = request_bytes("POST", at.chat, headers=authorized(), length=10_000)
    ended, served = await _crowd(scene, name, head, b" ", BODY_LIMIT)
    shut = [seconds for seconds in ended if seconds <= BODY_LIMIT]
    text = (
        f"{len(shut)} answered within {BODY_LIMIT:g} s, the last after {max(shut, default=0):.1f} s; {_words(served)}"
    )
    left = [f"{LORISES - len(shut)} slow bodies are not cut off"] if len(shut) < LORISES else []
    sheet.row(["bodies that never end", name, LORISES, text, f"{BODY_LIMIT:g}"], [], left)


def _words(served: list[float]) -> str:
    return f"others served in {percentile(served, 0.5) * 1e3:.0f} ms, at most {max(served) * 1e3:.0f} ms"


async def _crowd(scene: Scene, name: str, head: bytes, more: bytes, limit: float) -> tuple[list[float], list[float]]:
    """LORISES who send `head`, then `more` for ever. When each was cut off, and how long others took meanwhile."""

    async def one() -> float:
        async with await Caller.connect(at.url, timeout=limit + 5.0) as caller:
            await caller.send(head)
            sending = asyncio.create_task(_dribble(caller, more))
            try:
                async with asyncio.timeout(limit + 1.0):
                    await _until_said(caller)
            except TimeoutError:
                return limit + 1.0
            finally:
                sending.cancel()
            return time.monotonic() - began

    at = door(scene.running, name, "primary")
    began = time.monotonic()
    crowd = [asyncio.create_task(one()) for _ in range(LORISES)]
    served = await _served(scene, name, lambda: asyncio.sleep(0.5), lambda: all(task.done() for task in crowd))
    return list(await asyncio.gather(*crowd)), served


async def _until_said(caller: Caller) -> None:
    """Until the server says something or hangs up."""
    with contextlib.suppress(BrokenBody, OSError):
        await caller.hung_up()


async def _dribble(caller: Caller, more: bytes) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            await asyncio.sleep(2.0)
            await caller.send(more)


async def _served(
    scene: Scene, name: str, pause: Callable[[], Awaitable[None]], over: Callable[[], bool]
) -> list[float]:
    """How long requests take one after another, until it is over."""
    at, found = door(scene.running, name, "primary"), []
    while not over():
        began = time.monotonic()
        async with await Caller.connect(at.url) as caller:
            assert (await at.ask(caller, "well")).status == 200
            await caller.frames()
        found.append(time.monotonic() - began)
        await pause()
    return found
