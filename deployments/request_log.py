"""One line of JSON a request: who, what was asked, what answered and why, how it went. No prompt text, no key.

Lines are gathered and written twice a second, off the token path; files rotate.

Above it: `front`, `replica`. Below it: the standard library's log handlers. Outside it: the ledger.
"""

import asyncio
import logging
import logging.handlers
import time
from pathlib import Path

import msgspec

from pipelines.conversation import Json

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
