"""Which log files of the state directory may go: those of processes that are gone, beyond a bound, oldest first.

A process's files are `<name>-<process id>.jsonl` and `.log`, with `.1`, `.2`, … behind those that were rotated.

Above it: `request_log`. Below it: files, the operating system's list of processes. Outside it: what is in them.
"""

import contextlib
import logging
import os
import re
from pathlib import Path

MOST = 200 * 1024 * 1024
"""Bytes of the files of processes that are gone, at most."""

MOST_FILES = 200

REST = 600.0
"""Seconds since its last line after which a file may go: the process may run on another machine of a shared disk."""

SWEEPING = 3600.0
"""Seconds between two looks."""

_FILE = re.compile(r".+-(?P<process>\d+)\.(?:jsonl|log)(?:\.\d+)?")

_logger = logging.getLogger("penstock")


def sweep(directory: Path, now: float, *, most: int = MOST, most_files: int = MOST_FILES) -> int:
    """Delete what may go; returns how many files that were. now: seconds since 1970. It blocks."""
    gone: list[tuple[float, int, Path]] = []
    for file in directory.iterdir():
        found = _FILE.fullmatch(file.name)
        if found is None or _alive(int(found["process"])):
            continue
        with contextlib.suppress(OSError):
            about = file.stat()
            gone.append((about.st_mtime, about.st_size, file))
    deleted = size = 0
    for count, (written, length, file) in enumerate(sorted(gone, reverse=True), 1):
        size += length
        if (size > most or count > most_files) and now - written > REST:
            try:
                file.unlink(missing_ok=True)
                deleted += 1
            except OSError as error:
                _logger.warning("an old log file cannot be deleted: %s", error.strerror)
    return deleted


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
