"""Fetching a URL for a tool: what is asked for, what comes back, and the port that does it.

Above it: the sources, `deployments.tools.fetching`. Below it: `addresses`, `charsets`. Outside it: HTTP.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from pipelines.tools.addresses import Reach
from pipelines.tools.charsets import codec_of


class Fetching(NamedTuple):
    """One request of a tool.

    headers: sent to the URL's own origin only, never to one that it redirects to. reach: of the URL and of every
    redirect; redirects: how many are followed, of GET and HEAD only. seconds: for all of it; most: bytes of the answer
    that are read.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    reach: Reach = Reach()
    redirects: int = 0
    seconds: float = 30.0
    most: int = 1_000_000


class Fetched(NamedTuple):
    """The answer, whatever its status. url: the one that answered, after redirects; cut: whether there was more.

    media_type: in lower case, without parameters; charset: "" where none was named. location: where a redirect that
    was not followed leads.
    """

    url: str
    status: int
    media_type: str
    charset: str
    body: bytes
    cut: bool = False
    location: str = ""

    @property
    def text(self) -> str:
        """The body as text (`charsets`); what cannot be read is replaced."""
        return self.body.decode(codec_of(self.body, self.media_type, self.charset), "replace")


class Fetch(Protocol):
    """Asks over the network, within reach."""

    async def __call__(self, fetching: Fetching) -> Fetched:
        """Raises ToolFailed for what is out of reach, breaks, or takes too long."""


def is_text(media_type: str) -> bool:
    """Whether what is of this media type can be read as text."""
    kind, _, exact = media_type.partition("/")
    return kind == "text" or exact.endswith(("json", "xml", "yaml", "javascript", "x-www-form-urlencoded")) or not exact
