"""pydantic-ai: an agent whose model speaks the dialect that the first argument names."""

import sys
from types import SimpleNamespace
from typing import Any

from pydantic_ai import Agent, ModelHTTPError, Tool
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report


def _openai(kind: Any) -> Any:
    return lambda url, key, model: kind(model, provider=OpenAIProvider(base_url=f"{url}/v1", api_key=key))


MODELS: dict[str, Any] = {
    "chat": _openai(OpenAIChatModel),
    "responses": _openai(OpenAIResponsesModel),
    "anthropic": lambda url, key, model: AnthropicModel(model, provider=AnthropicProvider(base_url=url, api_key=key)),
}
KIND = sys.argv[1]


class PydanticAI:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.called_with: list[dict[str, Any]] = []

    def agent(self, model: str = "", key: str = "", tools: Any = ()) -> Any:
        made = MODELS[KIND](self.target.url, key or self.target.key, model or self.target.model)
        return Agent(made, tools=tools, retries=0, model_settings={"max_tokens": TASK.max_tokens})

    def tool(self) -> Any:
        def weather(**arguments: Any) -> str:
            self.called_with.append(arguments)
            return str(TASK.result)

        return Tool.from_schema(weather, TASK.tool.name, TASK.tool.description, TOOL_SCHEMA)

    async def chat(self) -> dict[str, Any]:
        return {"text": (await self.agent().run(TASK.question)).output}

    async def stream(self) -> dict[str, Any]:
        async with self.agent().run_stream(TASK.question) as answer:
            return {"pieces": [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]}

    async def tool_call(self) -> dict[str, Any] | None:
        if self.target.named:
            return None
        return self.called(await self.agent(tools=[self.tool()]).run(TASK.question))

    async def tool_stream(self) -> dict[str, Any] | None:
        if self.target.named:
            return None
        async with self.agent(tools=[self.tool()]).run_stream_events(TASK.question) as events:
            *_, last = [event async for event in events]
        return self.called(last.result)

    def called(self, result: Any) -> dict[str, Any]:
        calls = [part for message in result.all_messages() for part in message.parts if part.part_kind == "tool-call"]
        assert len(calls) == len(self.called_with) == 1, calls
        return {"name": calls[0].tool_name, "arguments": self.called_with[0], "text": result.output}

    async def usage(self) -> dict[str, Any]:
        unary = await self.agent().run(TASK.question)
        async with self.agent().run_stream(TASK.question) as streamed:
            await streamed.get_output()
        saw = {}
        for kind, answer in {"unary": unary, "stream": streamed}.items():
            usage = answer.usage() if callable(answer.usage) else answer.usage
            saw[kind] = [usage.input_tokens, usage.output_tokens]
        return saw

    def error(self) -> dict[str, Any]:
        absent, wrong = self.agent(model=self.target.absent), self.agent(key=TASK.wrong_key)
        saw = {
            "model": raised(lambda: absent.run_sync(TASK.question), ModelHTTPError),
            "key": raised(lambda: wrong.run_sync(TASK.question), ModelHTTPError),
        }
        if self.target.broken:
            broken = self.agent(model=self.target.broken, tools=())
            saw["stream"] = raised(lambda: list(broken.run_stream_sync(TASK.question).stream_text()), Exception)
        return saw


if __name__ == "__main__":
    report(PydanticAI)
