"""openai-agents: an agent on Responses or on chat completions, as the first argument says."""

import json
import sys
from types import SimpleNamespace
from typing import Any

import openai
from agents import (
    Agent,
    FunctionTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    set_tracing_disabled,
)

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report

MODEL: Any = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}[sys.argv[1]]


class Agents:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.called_with: list[dict[str, Any]] = []

    def agent(self, model: str = "", key: str = "", *, tools: bool = False) -> Agent[Any]:
        client = openai.AsyncOpenAI(base_url=f"{self.target.url}/v1", api_key=key or self.target.key, max_retries=0)
        settings = ModelSettings(
            max_tokens=TASK.max_tokens,
            store=False if MODEL is OpenAIResponsesModel else None,
            include_usage=True,
            tool_choice=TASK.tool.name if tools and self.target.named else None,
        )
        made = MODEL(model=model or self.target.model, openai_client=client)
        return Agent("weatherman", model=made, model_settings=settings, tools=[self.tool()] if tools else [])

    def tool(self) -> FunctionTool:
        async def weather(_: Any, arguments: str) -> str:
            self.called_with.append(json.loads(arguments))
            return str(TASK.result)

        return FunctionTool(TASK.tool.name, TASK.tool.description, TOOL_SCHEMA, weather)

    async def chat(self) -> dict[str, Any]:
        return {"text": (await Runner.run(self.agent(), TASK.question)).final_output}

    async def stream(self) -> dict[str, Any]:
        result = Runner.run_streamed(self.agent(), TASK.question)
        raw = [event.data async for event in result.stream_events() if event.type == "raw_response_event"]
        return {"pieces": [event.delta for event in raw if event.type == "response.output_text.delta"]}

    async def tool_call(self) -> dict[str, Any]:
        return self.called(await Runner.run(self.agent(tools=True), TASK.question))

    async def tool_stream(self) -> dict[str, Any]:
        result = Runner.run_streamed(self.agent(tools=True), TASK.question)
        async for _ in result.stream_events():
            pass
        return self.called(result)

    def called(self, result: Any) -> dict[str, Any]:
        (call,) = [item.raw_item for item in result.new_items if item.type == "tool_call_item"]
        (arguments,) = self.called_with
        return {"name": call.name, "arguments": arguments, "text": result.final_output}

    async def usage(self) -> dict[str, Any]:
        unary = await Runner.run(self.agent(), TASK.question)
        streamed = Runner.run_streamed(self.agent(), TASK.question)
        async for _ in streamed.stream_events():
            pass
        used = {"unary": unary.context_wrapper.usage, "stream": streamed.context_wrapper.usage}
        return {kind: [usage.input_tokens, usage.output_tokens] for kind, usage in used.items()}

    def error(self) -> dict[str, Any]:
        absent, wrong = self.agent(model=self.target.absent), self.agent(key=TASK.wrong_key)
        return {
            "model": raised(lambda: Runner.run_sync(absent, TASK.question), openai.NotFoundError),
            "key": raised(lambda: Runner.run_sync(wrong, TASK.question), openai.AuthenticationError),
            "stream": None,
        }


if __name__ == "__main__":
    set_tracing_disabled(True)
    report(Agents)
