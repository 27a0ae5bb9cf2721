"""One line of JSON a request: who, what was asked, what answered and why, how it went. No prompt text, no key.

Lines are gathered and written twice a second, off the token path; files rotate.

Above it: `front`, `handles`, `replica`. Below it: `pipelines`, the standard library.
Outside it: the ledger.
"""

import asyncio
import logging
import logging.handlers
import time
from pathlib import Path

import msgspec

from pipelines.calls import Answer, Call
from pipelines.conversation import Json
from pipelines.errors import PenstockError, UpstreamError

FLUSH_SECONDS = 0.5
MAX_FILE = 50 * 1024 * 1024
KEPT_FILES = 3
MAX_WAITING = 10_000
"""Lines that may wait for the disk; further ones are counted and dropped."""


class RequestLog:
    """Writes to `directory/name.jsonl`; with no directory it writes nothing."""

    def __init__(self, directory: Path | None, name: str) -> None:
        self._handler: logging.Handler | None = None
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = logging.handlers.RotatingFileHandler(
                directory / f"{name}.jsonl", maxBytes=MAX_FILE, backupCount=KEPT_FILES, delay=True
            )
        self._lines: list[bytes] = []
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        if self._handler is not None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    def add(self, **fields: Json) -> None:
        """One request's line; fields that are None are left out."""
        if self._handler is None:
            return
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        line = {"time": round(time.time(), 3)}
        line.update((name, value) for name, value in fields.items() if value is not None)
        self._lines.append(msgspec.json.encode(line))

    def answered(self, call: Call, answer: Answer, seconds: float) -> None:
        """The line of a call that had an answer, whole or broken; it took `seconds`."""
        outcome = answer.outcome
        self.add(
            request=call.id,
            caller=call.caller.id,
            lane=call.lane,
            path=call.path,
            asked=call.request.model[:200],
            stream=call.stream,
            provider=outcome.provider if outcome else answer.headers.get("x-penstock-provider"),
            model=outcome.model[:200] if outcome else None,
            route=answer.headers.get("x-penstock-route"),
            idempotency=answer.headers.get("x-penstock-idempotency"),
            seconds=round(seconds, 4),
            first_output=round(outcome.first_output, 4) if outcome and outcome.first_output else None,
            input_tokens=outcome.input_tokens if outcome else None,
            output_tokens=outcome.output_tokens if outcome else None,
            cost=outcome.cost if outcome else None,
            tries=outcome.tries if outcome and outcome.tries != 1 else None,
            skipped=outcome.skipped if outcome and outcome.skipped else None,
            result=answer.result,
        )

    def refused(self, identity: str, path: str, call: Call | None, error: PenstockError, seconds: float) -> None:
        """The line of a request without an answer; `call` is None where it was not understood."""
        self.add(
            request=identity,
            caller=call.caller.id if call else None,
            lane=call.lane if call else None,
            path=path[:200],
            asked=call.request.model[:200] if call else None,
            seconds=round(seconds, 4),
            status=error.status,
            tries=error.headers.get("x-penstock-tries") if isinstance(error, UpstreamError) else None,
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
        if self._task is not None:
            self._task.cancel()
        self.flush()
        if self._handler is not None:
            self._handler.close()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()
