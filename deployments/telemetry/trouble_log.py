"""Warnings and errors of a replica, in a file of their own beside the request log.

Serve keeps what a replica says on stderr in a buffer of a thousand lines, which is lost with the process
(`RAY_SERVE_THROUGHPUT_OPTIMIZED`, ray/serve/_private/logging_utils.py, 2.60): what `logging` writes there by
default is therefore written here.

Above it: `replica`. Below it: the standard library's log handlers. Outside it: requests (`request_log`).
"""

import logging
import logging.handlers
import os
import traceback
from pathlib import Path
from types import TracebackType

MAX_FILE = 10 * 1024 * 1024
"""Bytes; one older file is kept."""

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Places(logging.Formatter):
    """An exception as its class and the places that it came through; its message may hold text of a prompt."""

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's own name
        """Traceback and class, without the message."""
        kind, _, places = ei
        return "".join(traceback.format_tb(places)) + (kind.__qualname__ if kind else "")


def write_troubles(directory: Path, name: str) -> logging.Handler:
    """From now on the warnings of our own loggers go to `directory/name.log` too (mode 600)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = directory / f"{name}.log"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = logging.handlers.RotatingFileHandler(file, maxBytes=MAX_FILE, backupCount=1, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(Places("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger("penstock").addHandler(handler)
    return handler
