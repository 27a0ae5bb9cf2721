"""The files that hold a provider's keys: who puts a new key into one need not restart anything.

Above it: `provider_replica`. Below it: `config`. Outside it: keys in variables, which a process has for its whole life.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from deployments.config import ProviderSettings
from pipelines.errors import ConfigurationError
from pipelines.upstream_keys import UpstreamKey

_logger = logging.getLogger("penstock")

LOOKING = 5.0
"""Seconds between two looks."""

_Seen = tuple[int, int, int] | None


class KeyFiles:
    """What the files of one provider's settings were like at the last look."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._files = [file.expanduser() for file in settings.key_files]
        self._seen = [_seen(file) for file in self._files]

    def __bool__(self) -> bool:
        return bool(self._files)

    def changed(self) -> Sequence[UpstreamKey] | None:
        """All keys, where a file has changed since the last look; None where none has, or a new key cannot be had.

        A file that is empty or cannot be read leaves the keys as they are: it may be being written. It may be on a slow
        disk: call it in a thread.
        """
        seen = [_seen(file) for file in self._files]
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            keys = self._settings.upstream_keys()
        except ConfigurationError as error:
            _logger.warning("%s goes on with its old key: %s", self._settings.provider, error.message)
            return None
        names = {str(file) for file in self._settings.key_files}
        for key in keys:
            if key.label in names and not key.secret:
                _logger.warning("%s goes on with its old key: %s is empty", self._settings.provider, key.label)
                return None
        return keys


def _seen(file: Path) -> _Seen:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
