"""One line of JSON a request, with its whole story: who, what was asked, what answered and why, what each attempt and
tool did, how it went, what it used. No key; no prompt text, unless that is switched on.

Lines are gathered and written twice a second, off the token path; files rotate, and those of processes that are gone
are deleted in time (`log_files`).

Above it: `front`, `handles`, `replica`. Below it: `content`, `log_files`, `pipelines`, the standard library.
Outside it: the ledger.
"""

import asyncio
import contextlib
import logging
import logging.handlers
import time
from pathlib import Path

import msgspec

from deployments.starting.log_files import SWEEPING, sweep
from deployments.telemetry.content import Listener, question
from pipelines.calls import Answer, Call
from pipelines.conversation import Json
from pipelines.errors import PenstockError, UpstreamError
from pipelines.routing.table import Outcome

FLUSH_SECONDS = 0.5
MAX_FILE = 50 * 1024 * 1024
KEPT_FILES = 3
MAX_WAITING = 10_000
"""Lines that may wait for the disk; further ones are counted and dropped."""

_KINDS = ("input", "cached_read", "cache_write", "output", "reasoning")


class RequestLog:
    """Writes to `directory/name.jsonl`; with no directory it writes nothing.

    content: the text of questions and answers is written too.
    """

    def __init__(self, directory: Path | None, name: str, *, content: bool = False) -> None:
        self.content = content and directory is not None
        self._directory = directory
        self._handler: logging.Handler | None = None
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = logging.handlers.RotatingFileHandler(
                directory / f"{name}.jsonl", maxBytes=MAX_FILE, backupCount=KEPT_FILES, delay=True
            )
        self._lines: list[bytes] = []
        self._dropped = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to write."""
        if self._directory is not None:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._write()), loop.create_task(self._sweep(self._directory))]

    def add(self, **fields: Json) -> None:
        """One request's line; fields that are None are left out."""
        if self._handler is None:
            return
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        said = {name: value for name, value in fields.items() if value is not None}
        self._lines.append(msgspec.json.encode({"time": round(time.time(), 3), **said}))

    def answered(self, call: Call, answer: Answer, seconds: float, listener: Listener | None = None) -> None:
        """The line of a call that had an answer, whole or broken; it took `seconds`. listener: heard the answer."""
        if self._handler is None:
            return
        outcome = answer.outcome
        self.add(
            request=call.id,
            caller=call.caller.id,
            lane=call.lane,
            dialect=call.dialect,
            path=call.path,
            asked=call.request.model[:200],
            stream=call.stream,
            tag=call.account.tag or None,
            status=answer.status,
            provider=outcome.provider if outcome else answer.headers.get("x-penstock-provider"),
            model=outcome.model[:200] if outcome else None,
            route=answer.headers.get("x-penstock-route"),
            idempotency=answer.headers.get("x-penstock-idempotency"),
            seconds=round(seconds, 4),
            queued=round(answer.queued, 4) or None,
            **(_used(outcome) if outcome else {}),
            **_story(call),
            question=question(call) if listener else None,
            answer=listener.heard() if listener else None,
            result=answer.result,
        )

    def refused(self, identity: str, path: str, call: Call | None, error: PenstockError, seconds: float) -> None:
        """The line of a request without an answer; `call` is None where it was not understood."""
        if self._handler is None:
            return
        self.add(
            request=identity,
            caller=call.caller.id if call else None,
            lane=call.lane if call else None,
            dialect=call.dialect if call else None,
            path=path[:200],
            asked=call.request.model[:200] if call else None,
            stream=call.stream if call else None,
            tag=(call.account.tag or None) if call else None,
            seconds=round(seconds, 4),
            status=error.status,
            tries=error.headers.get("x-penstock-tries") if isinstance(error, UpstreamError) else None,
            **(_story(call) if call else {}),
            question=question(call) if call and self.content and call.lane != "hop" else None,
            result=error.label,
        )

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(msgspec.json.encode({"time": round(time.time(), 3), "dropped_lines": self._dropped}))
            self._dropped = 0
        if lines and self._handler is not None:
            text = b"\n".join(lines).decode()
            self._handler.emit(logging.LogRecord("penstock", logging.INFO, "", 0, text, None, None))

    async def close(self) -> None:
        """Write the rest and close the file."""
        for task in self._tasks:
            task.cancel()
        self.flush()
        if self._handler is not None:
            self._handler.close()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    async def _sweep(self, directory: Path) -> None:
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(sweep, directory, time.time())
            await asyncio.sleep(SWEEPING)


def _used(outcome: Outcome) -> dict[str, Json]:
    """What the attempt that gave the answer took and used."""
    bill = outcome.bill
    tokens = {} if bill is None else {f"{kind}_tokens": getattr(bill, kind) or None for kind in _KINDS}
    return {
        "first_output": round(outcome.first_output, 4) if outcome.first_output else None,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        **tokens,
        "estimated": True if bill is not None and bill.estimated else None,
        "cost": outcome.cost,
        "tries": outcome.tries if outcome.tries != 1 else None,
        "skipped": outcome.skipped or None,
    }


def _story(call: Call) -> dict[str, Json]:
    """Attempts, where there was more than the one that the line itself tells of; tools; the trace's id."""
    story = call.story
    told: dict[str, Json] = {}
    if len(story.attempts) > 1 or any(one.reason or one.cancelled for one in story.attempts):
        told["attempts"] = [_attempt(one) for one in story.attempts]
    if story.tools:
        told["tools"] = [
            {"name": run.name, "seconds": round(run.seconds, 4), "result": run.error or "ok"} for run in story.tools
        ]
    if story.trace is not None:
        told["trace"] = story.trace.headers().get("traceparent", "")[3:35]
    return told


def _attempt(outcome: Outcome) -> dict[str, Json]:
    return {
        "provider": outcome.provider,
        "model": outcome.model[:200],
        "role": outcome.role,
        "seconds": round(outcome.seconds, 4),
        "tries": outcome.tries,
        "result": "cancelled" if outcome.cancelled else outcome.reason or "ok",
    }
