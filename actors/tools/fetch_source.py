"""The tool `fetch_url`: one page of the public Internet, for a model to read.

Above it: `executor`. Below it: `supplied`, `pipelines.tools.fetching`. Outside it: which addresses are public
(`pipelines.tools.addresses`), HTTP.
"""

import base64
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from actors.supplied import supplied
from actors.tools.tool_source import SourceSpec
from pipelines.conversation import Image, Text
from pipelines.errors import ConfigurationError, ToolFailed
from pipelines.tools.addresses import Reach
from pipelines.tools.catalogue import Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.tools.fetching import Fetch, Fetching, is_text

REDIRECTS = 5
"""Redirects that are followed; each is looked at as the first URL is."""

_TOOL = Tool(
    name="fetch_url",
    description="Fetch a web page or another text or picture from the Internet by its http or https URL.",
    schema={
        "type": "object",
        "properties": {"url": {"type": "string", "description": "The URL, with its scheme."}},
        "required": ["url"],
        "additionalProperties": False,
    },
    source="",
    toolset="web",
)


class FetchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """fetch: who asks (`supplied`). hosts, ports, networks: see `Reach`. most: bytes of an answer that are read."""

    fetch: str
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    networks: tuple[str, ...] = ()
    most: int = 1_000_000
    policy: ToolPolicy = ToolPolicy(contained=False, network=True)


class FetchSource:
    """See `actors.tools.tool_source.ToolSource`. Its settings are `FetchSettings`."""

    def __init__(self, spec: SourceSpec) -> None:
        try:
            self._settings = msgspec.convert(spec.settings, FetchSettings)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the tool source {spec.name} is not well described: {error}") from None
        self._fetch: Fetch = supplied(self._settings.fetch)
        self._reach = Reach(self._settings.hosts, self._settings.ports, self._settings.networks)
        self._tool = msgspec.structs.replace(_TOOL, source=spec.name, policy=self._settings.policy)

    async def start(self, on_change: Callable[[], None]) -> None:
        """There is nothing to wait for."""
        on_change()

    async def tools(self) -> Sequence[Tool]:
        """The one tool."""
        return (self._tool,)

    async def close(self) -> None:
        """There is nothing to end."""

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Fetch the page."""
        try:
            fetched = await self._fetch(
                Fetching(
                    run.arguments["url"],
                    reach=self._reach,
                    redirects=REDIRECTS,
                    seconds=run.seconds,
                    most=self._settings.most,
                )
            )
        except ToolFailed as error:
            yield Ran(error=error.message, exit="timeout" if error.status == 504 else "error")
            return
        size, cut = len(fetched.body), fetched.cut
        if not 200 <= fetched.status < 300:
            yield Ran(error=f"the server answers {fetched.status}", exit="error")
        elif is_text(fetched.media_type):
            yield Ran(parts=(Text(fetched.text),), size=size, cut=cut)
        elif fetched.media_type.startswith("image/") and not cut:
            data = base64.b64encode(fetched.body).decode()
            yield Ran(parts=(Image(data=data, media_type=fetched.media_type),), size=size)
        else:
            yield Ran(error=f"the answer is neither text nor a picture ({fetched.media_type})", exit="error")
