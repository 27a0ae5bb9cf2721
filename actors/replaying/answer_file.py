"""Stored answers in a SQLite file, so that they survive the process that stored them.

    answers.sqlite   one row an answer: hash of caller and key, fingerprint, run, time, size, head, bytes; mode 600

Of the requests nothing is in it but hashes. A file that cannot be read is put aside (`answers.sqlite.broken`) and a
new one begun: what was in it is asked for anew. Deleted answers are overwritten (`secure_delete`). What was
committed survives a process that dies; the last answers before a power failure may be missing (write-ahead log,
`synchronous = NORMAL`; source: SQLite, "Write-Ahead Logging", section 2.3).

Above it: `replays`. Below it: sqlite3, `pipelines.idempotency`. Outside it: which answers are kept; the event loop.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

import msgspec

from pipelines.idempotency import Head, Kept, Piece, Whole
from pipelines.routing.table import Outcome

FILE = "answers.sqlite"

_LAYOUT = 1
"""`user_version` of the file; another one's answers are not ours to read."""

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    name TEXT PRIMARY KEY, fingerprint TEXT, run TEXT, at REAL, size INTEGER, head BLOB, body BLOB
) WITHOUT ROWID
"""

_log = logging.getLogger("penstock.replays")


class _Ends(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands round an answer's bytes."""

    head: Head
    outcome: Outcome | None = None


_ends = msgspec.msgpack.Decoder(_Ends)


class AnswerFile:
    """The file in `directory`, which is made with mode 700 if need be. One thread at a time.

    Every method raises OSError or sqlite3.Error where the disk fails.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / FILE
        self._connection: sqlite3.Connection | None = None

    def open(self) -> list[Kept]:
        """Open the file, or begin a new one. Returns what it holds, without the bytes."""
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise  # the disk or the directory, not what is written in the file
        except sqlite3.DatabaseError as error:
            _log.error("%s cannot be read (%s): it is put aside, its answers are asked for anew", self.path, error)
        self._put_aside()
        return self._open()

    def write(self, whole: Whole) -> None:
        """Keep an answer; it is committed when this returns."""
        kept, ends = whole.kept, msgspec.msgpack.encode(_Ends(whole.head, whole.outcome))
        row = (kept.name, kept.fingerprint, kept.run, kept.at, kept.size, ends, whole.body)
        with self._opened() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def read(self, name: str, run: str, offset: int) -> Piece | None:
        """An answer from byte `offset` on; None where it is not there, or damaged."""
        found = self._opened().execute("SELECT head, body FROM answers WHERE name = ? AND run = ?", (name, run))
        row = found.fetchone()
        if row is None:
            return None
        try:
            ends = _ends.decode(row[0])
        except msgspec.MsgspecError:
            return None
        return Piece("whole", ends.head, row[1][offset:], ends.outcome)

    def drop(self, names: tuple[str, ...]) -> None:
        """These answers are no longer kept."""
        with self._opened() as connection:
            connection.executemany("DELETE FROM answers WHERE name = ?", [(name,) for name in names])

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError(f"{self.path} is not open")
        return self._connection

    def _open(self) -> list[Kept]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its own further files the mode of this one.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self.path.chmod(0o600)
        connection = sqlite3.connect(self.path, check_same_thread=False, timeout=1.0)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            if connection.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                connection.execute("DROP TABLE IF EXISTS answers")
                connection.execute(f"PRAGMA user_version = {_LAYOUT}")
            connection.execute(_TABLE)
            connection.commit()
            rows = connection.execute("SELECT name, fingerprint, run, at, size FROM answers").fetchall()
            kept = [Kept(*row) for row in rows]
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return kept

    def _put_aside(self) -> None:
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(FILE + end).unlink()
        self.path.replace(self.path.with_name(FILE + ".broken"))
