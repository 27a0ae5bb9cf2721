"""Newer prices without a restart: a list that is fetched now and then and put where `actors.money.price_list` finds it.

Off unless a source is configured. One list a node: of its processes the first to find it too old fetches it. A list
that cannot be had, or is none, changes nothing and is logged.

Above it: `provider_replica`. Below it: `actors.money.price_list`, `pipelines.ports`. Outside it: what prices are.
"""

import asyncio
import logging
import secrets
from pathlib import Path

from actors.money.price_list import FILE, providers_of
from deployments.settings.money_settings import PriceSettings
from pipelines.errors import PenstockError
from pipelines.ports import Transport
from pipelines.resilience import Timeouts

MOST_BYTES = 64 * 1024 * 1024
"""Of a price list; that of genai-prices has one or two."""

AGAIN = 300.0
"""Seconds until the next try after one that failed."""

_log = logging.getLogger("penstock.prices")


class PriceRefresh:
    """directory: the state directory. transport: how the provider itself is reached, proxy and authorities too."""

    def __init__(self, settings: PriceSettings, transport: Transport, directory: Path) -> None:
        self._settings = settings
        self._transport = transport
        self._file = directory / FILE
        self._not_before = 0.0

    async def fetch(self, now: float) -> bool:
        """Fetch the list if it is time to, in seconds since 1970; whether there is a new one."""
        if not self._settings.source or now < self._not_before or now - self._written() < self._settings.hours * 3600:
            return False
        self._not_before = now + AGAIN
        try:
            content = await self._content()
            await asyncio.to_thread(_keep, self._file, content)
        except (OSError, ValueError, PenstockError) as error:
            _log.error("no newer prices: %s", str(error)[:200])
            return False
        return True

    def _written(self) -> float:
        try:
            return self._file.stat().st_mtime
        except OSError:
            return 0.0

    async def _content(self) -> bytes:
        source = self._settings.source
        if not source.startswith(("https://", "http://")):
            return await asyncio.to_thread(_read, source)
        upstream = await self._transport.send("GET", source, {"accept": "application/json"}, b"", Timeouts(total=60.0))
        try:
            if upstream.status != 200:
                raise ValueError(f"the source answers {upstream.status}")
            parts: list[bytes] = []
            async with asyncio.timeout(60.0):
                async for chunk in upstream.chunks():
                    parts.append(chunk)
                    if sum(map(len, parts)) > MOST_BYTES:
                        raise ValueError("the list is too large")
            return b"".join(parts)
        finally:
            await upstream.close()


def _read(path: str) -> bytes:
    return Path(path).expanduser().read_bytes()


def _keep(file: Path, content: bytes) -> None:
    """Put a list in its place, whole or not at all. Raises ValueError for what is no list, OSError."""
    providers_of(content)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
