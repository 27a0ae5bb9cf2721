"""A service with an OpenAPI document as a source of tools.

    document (file or URL) --read--> Operation* --run--> one request to the base URL --> Ran

The document says what can be asked, never whom: requests go to the configured base URL alone (`servers` is not read),
and follow no redirect. Private addresses are reached only where `networks` names them. What the credentials' variables
hold stands in no tool's schema, in no error, and is taken out of answers.

Above it: `executor`. Below it: `supplied`, `pipelines.tools.openapi`. Outside it: HTTP, a tool's policy.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import yaml
from yarl import URL

from actors import credentials as kept
from actors.supplied import supplied
from actors.tools.tool_source import SourceSpec
from pipelines.conversation import File, Image, Text
from pipelines.errors import ConfigurationError, ToolFailed
from pipelines.resilience import RetryPolicy
from pipelines.tools.addresses import Reach
from pipelines.tools.catalogue import Health, Progress, Ran, Tool, ToolPolicy, ToolRun
from pipelines.tools.fetching import Fetch, Fetched, Fetching, is_text
from pipelines.tools.openapi import Left, Operation, operations_of
from pipelines.tools.openapi_requests import request_of
from pipelines.tools.openapi_schemas import Unusable

LOOK_AGAIN = 300.0
"""Seconds between two looks at the document."""

MOST_DOCUMENT, MOST_YAML = 32 * 1024 * 1024, 8 * 1024 * 1024
"""Bytes of a document, and of one in YAML: reading that takes twenty times as long, and calls wait for parts of it."""

MOST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read."""

MOST_ERROR = 2_000
"""Characters of a refusal's body that the model is told."""

_TOO_LARGE = f"it has more than {MOST_DOCUMENT // 2**20} MiB"
_BACKOFF = RetryPolicy(base=0.5, cap=60.0)
_log = logging.getLogger("penstock.tools")


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the service knows us. variable holds the value; for `basic` it is `user:password`. name: of a header or a
    member of the query."""

    kind: Literal["bearer", "basic", "header", "query"]
    variable: str
    name: str = ""


class OpenApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service as it is configured.

    document: a file, or a URL. base_url: where requests go. networks: private ones that may be reached for it. fetch:
    who asks (`supplied`). policy: of all its tools; policies: of single ones, by the `operationId` or the tool's name
    after the dot; only: the operations that are taken, named so, all where it is empty.
    """

    document: str
    base_url: str
    fetch: str
    credentials: tuple[Credential, ...] = ()
    networks: tuple[str, ...] = ()
    policy: ToolPolicy = ToolPolicy(contained=False, network=True)
    policies: dict[str, ToolPolicy] = {}
    only: tuple[str, ...] = ()


class OpenApiSource:
    """See `actors.tools.tool_source.ToolSource`. Its settings are `OpenApiSettings`."""

    def __init__(self, spec: SourceSpec) -> None:
        try:
            self._settings = msgspec.convert(spec.settings, OpenApiSettings)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the tool source {spec.name} is not well described: {error}") from None
        self._fetch: Fetch = supplied(self._settings.fetch)
        self._source = spec.name
        self._service = spec.name.removeprefix("openapi:")
        self._reach = _reach_of(self._settings.base_url, self._settings.networks)
        self._headers, self._query, self._secrets = _presented(self._settings.credentials)
        self._operations: dict[str, Operation] = {}
        self._left: tuple[Left, ...] = ()
        self._digest = b""
        self._health: Health = "starting"
        self._why = ""
        self._on_change: Callable[[], None] = lambda: None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, on_change: Callable[[], None]) -> None:
        """Read the document, beside what else goes on."""
        self._on_change = on_change
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Read it no more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def tools(self) -> Sequence[Tool]:
        """The operations as tools; those that cannot be asked are there with the reason. Raises ToolFailed (away)."""
        if self._health == "away" and not self._operations:
            raise ToolFailed(self._why)
        found = [self._tool(one) for one in self._operations.values()]
        found += [msgspec.structs.replace(self._tool(one), health="failed", why=one.why) for one in self._left]
        return found

    def _tool(self, one: Operation | Left) -> Tool:
        policies = self._settings.policies
        description, schema = (one.description, one.schema) if isinstance(one, Operation) else ("", {"type": "object"})
        return Tool(
            name=f"{self._service}.{one.name}",
            description=description,
            schema=schema,
            source=self._source,
            toolset=self._service,
            policy=next((policies[name] for name in (one.given, one.name) if name in policies), self._settings.policy),
            alias="" if one.given == one.name else one.given,
        )

    # The document.

    async def _keep(self) -> None:
        """Read the document, again and again; an older one that was good stays where a newer one cannot be read."""
        failures = 0
        while True:
            try:
                read = await self._read()
            except Exception as error:  # whatever a document holds
                failures += 1
                known = ToolFailed, Unusable, OSError
                why = str(error) if isinstance(error, known) else f"it cannot be read ({type(error).__name__})"
                _log.warning("the document of the tools %s: %s", self._service, why[:500])
                if not self._operations:
                    self._health, self._why = "away", f"the document: {why[:500]}"
                    self._on_change()
                await asyncio.sleep(_BACKOFF.backoff(failures, random.random()))
                continue
            failures = 0
            if read is not None:
                self._operations, self._left = {one.name: one for one in read[0]}, read[1]
                self._health, self._why = "ready", ""
                self._on_change()
            await asyncio.sleep(LOOK_AGAIN)

    async def _read(self) -> tuple[tuple[Operation, ...], tuple[Left, ...]] | None:
        """What is in the document; None where it is the one that was read before."""
        document = self._settings.document
        if document.startswith(("http://", "https://")):
            reach = _reach_of(document, self._settings.networks)
            fetched = await self._fetch(Fetching(document, reach=reach, most=MOST_DOCUMENT))
            if fetched.status != 200:
                raise ToolFailed(f"its server answers {fetched.status}")
            if fetched.cut:
                raise ToolFailed(_TOO_LARGE)
            content = fetched.body
        else:
            content = await asyncio.to_thread(_content, document)
        digest = (await asyncio.to_thread(hashlib.sha256, content)).digest()
        if digest == self._digest:
            return None
        found = await asyncio.to_thread(_operations, content, self._settings)
        self._digest = digest
        return found

    # The calls.

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Ask the service, once."""
        operation = self._operations.get(run.tool.removeprefix(f"{self._service}."))
        if operation is None:
            yield Ran(error="the service has no such operation any more", exit="refused")
            return
        began = asyncio.get_running_loop().time()
        try:
            asked = request_of(operation, self._settings.base_url, run.arguments, self._query)
            fetched = await self._fetch(
                Fetching(
                    asked.url,
                    method=asked.method,
                    headers={**asked.headers, **self._headers},
                    body=asked.body,
                    reach=self._reach,
                    seconds=run.seconds,
                    most=MOST_ANSWER,
                )
            )
            ran = self._ran(fetched)
        except ToolFailed as error:
            ran = Ran(error=error.message, exit="timeout" if error.status == 504 else "error")
        seconds = asyncio.get_running_loop().time() - began
        yield msgspec.structs.replace(ran, seconds=seconds, size=ran.size)

    def _ran(self, fetched: Fetched) -> Ran:
        """An answer as a result. The model sees a refusal's words, too: they say what was wrong with its arguments."""
        if not 200 <= fetched.status < 300:
            words = self._without_secrets(fetched.text[:MOST_ERROR]) if not fetched.location else "it redirects"
            return Ran(error=f"the service answers {fetched.status}: {words}".rstrip(": "), exit="error")
        size, cut = len(fetched.body), fetched.cut
        if not fetched.body or is_text(fetched.media_type):
            text = self._without_secrets(fetched.text) or f"(nothing, status {fetched.status})"
            return Ran(parts=(Text(text),), size=size, cut=cut)
        if cut:
            return Ran(error=f"the answer is a file of more than {MOST_ANSWER} bytes", exit="error")
        data = base64.b64encode(fetched.body).decode()
        if fetched.media_type.startswith("image/"):
            return Ran(parts=(Image(data=data, media_type=fetched.media_type),), size=size)
        return Ran(parts=(File(name="answer", data=data, media_type=fetched.media_type),), size=size)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _reach_of(url: str, networks: tuple[str, ...]) -> Reach:
    """As far as this URL, and no further. Raises ConfigurationError for one without a host."""
    with contextlib.suppress(ValueError):
        address = URL(url)
        host, port = address.raw_host, address.port
        if address.scheme in ("http", "https") and host and port and not address.query and address.user is None:
            return Reach((host,), (port,), networks)
    raise ConfigurationError("an address must be like https://service.example/path, without credentials or a query")


def _presented(credentials: tuple[Credential, ...]) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Headers, members of the query, and what must not be shown. Raises ConfigurationError for an empty variable."""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    secrets: list[str] = []
    for credential in credentials:
        secret = kept.credential(credential.variable)
        if not secret:
            raise ConfigurationError(f"the variable {credential.variable} is empty")
        secrets.append(secret)
        if credential.kind == "bearer":
            headers["authorization"] = f"Bearer {secret}"
        elif credential.kind == "basic":
            encoded = base64.b64encode(secret.encode()).decode()
            secrets += [encoded, secret.partition(":")[2] or secret]
            headers["authorization"] = f"Basic {encoded}"
        elif credential.kind == "header":
            headers[credential.name] = secret
        else:
            query[credential.name] = secret
    return headers, query, tuple(sorted(secrets, key=len, reverse=True))


def _content(file: str) -> bytes:
    with Path(file).expanduser().open("rb") as opened:
        content = opened.read(MOST_DOCUMENT + 1)
    if len(content) > MOST_DOCUMENT:
        raise ToolFailed(_TOO_LARGE)
    return content


def _operations(content: bytes, settings: OpenApiSettings) -> tuple[tuple[Operation, ...], tuple[Left, ...]]:
    """The operations of a document in JSON or YAML. Blocks, for a large one some seconds."""
    try:
        document = json.loads(content)
    except ValueError:
        if len(content) > MOST_YAML:
            raise ToolFailed(f"it is no JSON, and has more than {MOST_YAML // 2**20} MiB for YAML") from None
        try:
            document = yaml.load(content, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ToolFailed("it is neither JSON nor YAML") from None
    presented = [(one.kind, one.name) for one in settings.credentials if one.kind in ("header", "query")]
    return operations_of(document, settings.only, presented)
