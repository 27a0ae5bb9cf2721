"""A provider that says what a test tells it to, in its own dialect, on a real socket: whole turns, as events.

What it is asked is read by the dialect's own reader, so a request that the wire does not allow fails here too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from pipelines.conversation import Message, Request, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.events import Event, assemble

Say = Callable[[Request], list[Event]]
"""The turn that answers a request."""


class ScriptedProvider:
    """url: where it is; asked: every request, as read; bodies: as they came; cut: turns that break off."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.url = ""
        self.asked: list[Request] = []
        self.bodies: list[dict[str, Any]] = []
        self.cut: set[int] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One turn."""
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "model", "object": "model"}]})
        dialect = next(one for one in DIALECTS.values() if request.path.endswith(one.path))
        body = await request.json()
        self.bodies.append(body)
        asked = dialect.read_request(body)
        self.asked.append(asked)
        if not asked.stream:
            return web.json_response(dialect.write_answer(assemble(self.say(asked)), asked))
        encoder = dialect.encoder(asked)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(self.say(asked)):
            if len(self.asked) - 1 in self.cut and number == 3:
                assert request.transport is not None
                request.transport.abort()
                break
            await response.write(encoder.encode(event))
        return response


def results_of(request: Request) -> list[ToolResult]:
    """The results that a request brings."""
    return [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]


def turn_of(request: Request) -> int:
    """Which turn a request asks for: how many of the model's it brings."""
    return sum(is_of_model(message) for message in request.messages)


def is_of_model(message: Message) -> bool:
    """Whether the model said it."""
    return message.role == "assistant"


@asynccontextmanager
async def scripted_provider(say: Say) -> AsyncIterator[ScriptedProvider]:
    """One that runs."""
    provider = ScriptedProvider(say)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", provider.answer)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined] # a server of asyncio
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()
