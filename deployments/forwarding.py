"""The direct lane's other paths (audio, images, batches, files): to the provider and back, as they are.

Authenticated, limited, logged; not understood. Bodies stream in both directions, so that a large file costs no
memory; nothing is retried.

Above it: `provider_replica`. Below it: `providers`, `visit`. Outside it: dialects.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from deployments.http.reading import HungUp, Receive
from deployments.http.watchdog import Watchdog
from deployments.providers import Provider
from deployments.providers.turns import Turns
from deployments.visit import Leaving, Visit
from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.dialects import WIRES
from pipelines.errors import BadRequest
from pipelines.ports import UpstreamAnswer
from pipelines.rate_limits import rate_headers
from pipelines.upstream_keys import Lease

_SENT = ("content-type", "content-length", "accept", "anthropic-beta", "anthropic-version", "openai-beta")
"""Callers' headers that go with a forwarded request."""

_RETURNED = ("content-type", "content-length", "content-disposition", "retry-after", "request-id")
"""Headers of the provider's answer that go back."""

_DOTS = ("/..", "/./", "//", "\\", "%")
"""What may not stand in a path: what leads elsewhere, and a sign that somebody else would decode once more."""

_PLAIN = "/:@!$&'()*+,;=~-._"
"""Signs that a path holds as they are (RFC 3986, section 3.3); all others are written as `%` and a number again."""


async def forward(provider: Provider, visit: Visit, caller: Caller) -> int:
    """Answer `visit` with whatever the provider answers at the same path; returns the status.

    Raises BadRequest for a path that is none, RateLimited while every key rests, UpstreamError where the provider
    cannot be reached, TimedOut where it is silent, HungUp where the caller leaves, which cancels the request there.
    """
    path = visit.path.removeprefix("/v1")
    if not path.startswith("/") or any(dots in f"{path}/" for dots in _DOTS):
        raise BadRequest(f"there is nothing at {visit.path[:200]!r}", status=404, code="not_found")
    url = provider.base_url + quote(path, safe=_PLAIN) + (f"?{visit.query}" if visit.query else "")
    stand_in = Call(visit.id, provider.DIALECTS[0], {}, Request("", ()), caller, "direct", dict(visit.headers))
    headers = {name: visit.headers[name] for name in _SENT if name in visit.headers}
    has_body = "content-length" in headers or "transfer-encoding" in visit.headers
    uploaded = asyncio.Event()
    body = _uploaded(visit.receive, uploaded) if has_body else b""
    if not has_body:
        uploaded.set()

    async def afterwards() -> MutableMapping[str, Any]:
        """What comes when the body has been read: the caller's leaving."""
        await uploaded.wait()
        return await visit.receive()

    turns = Turns(provider.keys, stand_in, provider.name, provider.retry, asyncio.get_running_loop())
    with Leaving({}, afterwards) as leaving, Watchdog(provider.name) as dog:
        dog.expect("total", provider.timeouts.total)
        lease = await turns.take(provider.timeouts.total)
        sent = {**headers, **provider.headers(stand_in, lease.key.secret)}
        upstream = await provider.transport.send(visit.method, url, sent, body, provider.timeouts)
        try:
            _note(provider, lease, upstream)
            await _return(visit, upstream, dog, provider.timeouts.idle)
            leaving.stop()
            await visit.end()
        finally:
            await upstream.close()
    return upstream.status


def _note(provider: Provider, lease: Lease, upstream: UpstreamAnswer) -> None:
    """A key that is refused here rests as after any other call."""
    if upstream.status == 429:
        refusal = WIRES[provider.DIALECTS[0]].read_error(upstream.status, upstream.headers, b"")
        now = asyncio.get_running_loop().time()
        provider.keys.refused(lease, refusal.retry_after, now, random.random())
    elif upstream.status < 400:
        provider.keys.accepted(lease)


async def _return(visit: Visit, upstream: UpstreamAnswer, dog: Watchdog, idle: float) -> None:
    """Pass the answer on as it comes. Raises TimedOut where the provider is silent for `idle` seconds."""
    dog.rest()
    returned = {name: upstream.headers[name] for name in _RETURNED if name in upstream.headers}
    returned.update(rate_headers(upstream.headers))
    if "content-encoding" in upstream.headers:
        returned.pop("content-length", None)
    await visit.begin(upstream.status, returned)
    async with contextlib.aclosing(upstream.chunks()) as chunks:
        dog.expect("idle", idle)
        async for chunk in chunks:
            dog.rest()
            await visit.more(chunk)
            dog.expect("idle", idle)
    dog.rest()


async def _uploaded(receive: Receive, done: asyncio.Event) -> AsyncGenerator[bytes, None]:
    while True:
        message: Mapping[str, object] = await receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        body = message.get("body", b"")
        if isinstance(body, bytes) and body:
            yield body
        if not message.get("more_body"):
            done.set()
            return
