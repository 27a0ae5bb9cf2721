"""Numbers of users that nobody else on this machine lends out at the same time: one for each call that runs.

Each number is a file, and whoever holds its lock (flock(2)) has the number; a process that dies gives its numbers
back. The default range is what systemd keeps for its own passing users (systemd.exec, DynamicUser), of which it takes
none that is in use.

Above it: `workshop`. Below it: files.
"""

import fcntl
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

FOLDER = Path("/run/penstock-users")


class UserPool:
    """first, last: the range. clear is called with each number before it is lent for the first time.

    Raises OSError where the folder of locks cannot be made or is another's.
    """

    def __init__(self, first: int, last: int, clear: Callable[[int], None], folder: Path = FOLDER) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(f"{folder} is not this user's own")
        self._folder = folder
        self._clear = clear
        self._untried = iter(range(first, last + 1))
        self._free: list[int] = []
        self._locks: list[int] = []

    def take(self) -> int | None:
        """A number; None where all of the range are taken."""
        if self._free:
            return self._free.pop()
        for user in self._untried:
            if _has_a_name(user):
                continue
            lock = os.open(self._folder / str(user), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self._locks.append(lock)
            self._clear(user)
            return user
        return None

    def give_back(self, user: int) -> None:
        """Nothing runs as this user any more."""
        self._free.append(user)


def _has_a_name(user: int) -> bool:
    """Whether somebody is this user already, by the machine's own list."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
