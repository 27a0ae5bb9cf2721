"""A model server that calls one tool and then says what it was given: OpenAI's chat dialect over a real socket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Model:
    """wanted: the end of the tool's name, and its arguments. asked: the bodies of all requests."""

    def __init__(self) -> None:
        self.wanted: tuple[str, dict[str, Any]] = ("", {})
        self.asked: list[dict[str, Any]] = []
        self.base_url = ""

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        message, reason = self.answer(body)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "a", "object": "chat.completion", "created": 1, "model": "scripted", "choices": [choice]}
        if not body.get("stream"):
            return web.json_response({**answer, "usage": usage})
        delta = {**message, "tool_calls": [{"index": 0, **call} for call in message.get("tool_calls", ())]}
        chunk = {**answer, "object": "chat.completion.chunk"}
        frames = [
            {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage},
        ]
        text = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    def answer(self, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        last = body["messages"][-1]
        if last["role"] == "tool":
            told = last["content"]
            text = told if isinstance(told, str) else "".join(part.get("text", "") for part in told)
            return {"role": "assistant", "content": f"I was told: {text}"}, "stop"
        name, arguments = self.wanted
        offered = [tool["function"]["name"] for tool in body.get("tools", ())]
        tool = next(one for one in offered if one.endswith(name))
        call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"


@asynccontextmanager
async def model_server() -> AsyncIterator[Model]:
    model = Model()
    app = web.Application()
    app.router.add_get("/v1/models", model.models)
    app.router.add_post("/v1/chat/completions", model.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield model
    finally:
        await runner.cleanup()
