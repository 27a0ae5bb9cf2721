"""Where the ledger's database is, as a name: neither a configuration nor an actor's arguments hold its password.

Above it: `ledger`, `deployments.config`. Below it: the environment, files. Outside it: databases.
"""

from pathlib import Path
from typing import NamedTuple

from actors.credentials import credential
from pipelines.errors import ConfigurationError


class Place(NamedTuple):
    """An environment variable that holds the URL, or else a file that does. Neither: SQLite in the state directory."""

    variable: str = "PENSTOCK_LEDGER_URL"
    file: str = ""

    def url(self) -> str:
        """The URL; "" where there is none. Raises ConfigurationError for a file that cannot be read."""
        if given := credential(self.variable) if self.variable else "":
            return given
        try:
            return Path(self.file).expanduser().read_text().strip() if self.file else ""
        except OSError as error:
            raise ConfigurationError(f"the file with the ledger's URL cannot be read: {error.strerror}") from None


DEFAULT_PLACE = Place()
