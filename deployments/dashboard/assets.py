"""The page's files, open to everybody: they hold no figures, and ask for a key before they show any.

The charts' library is the file that comes with Plotly's package. Nothing is fetched from anywhere else, which the
content security policy holds the browser to. Plotly sets styles of its own, hence `unsafe-inline` for these.

Above it: `gateway`. Below it: `visit`, files.
"""

import asyncio
import gzip
import hashlib
import mimetypes
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from deployments.visit import Visit

PREFIX = "/dashboard"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Source: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/."""

_CHARTS = "plotly.min.js"
_LARGE = 1_000_000
"""Bytes of a file that is kept in memory only as it is sent."""


class Asset(NamedTuple):
    """A file as it goes out: its body is compressed (gzip)."""

    body: bytes
    kind: str
    tag: str


async def open_page(visit: Visit) -> bool:
    """Answer a visit to one of the page's files; False where it is to something else."""
    if not visit.path.startswith(PREFIX) or visit.method not in ("GET", "HEAD"):
        return False
    name = visit.path.removeprefix(PREFIX).lstrip("/") or "index.html"
    if name not in _names():
        return False
    asset = await asyncio.to_thread(_asset, name)
    headers = {
        "content-type": asset.kind,
        "content-encoding": "gzip",
        "cache-control": "no-cache",
        "etag": asset.tag,
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    if visit.headers.get("if-none-match") == asset.tag:
        await visit.reply(304, b"", headers)
    else:
        await visit.reply(200, asset.body, {**headers, "content-length": str(len(asset.body))})
    return True


@cache
def _names() -> frozenset[str]:
    """What there is, by its path below the prefix; nothing else is ever looked for."""
    here = files("deployments.dashboard") / "static"
    views = (here / "views").iterdir()
    return frozenset(
        {*(one.name for one in here.iterdir() if one.is_file()), *(f"views/{one.name}" for one in views), _CHARTS}
    )


@lru_cache(maxsize=64)
def _asset(name: str) -> Asset:
    file = (
        files("plotly") / "package_data" / _CHARTS
        if name == _CHARTS
        else files("deployments.dashboard") / "static" / name
    )
    data = file.read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind = f"{kind}; charset=utf-8"
    body = gzip.compress(data, 3 if len(data) > _LARGE else 6, mtime=0)
    return Asset(body, kind, f'"{hashlib.sha256(data).hexdigest()[:20]}"')
