"""langchain: `ChatOpenAI` (chat completions or Responses) and `ChatAnthropic`, whichever the first argument names."""

import sys
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report

MAKERS: dict[str, Any] = {
    "chat": lambda url, **settings: ChatOpenAI(base_url=f"{url}/v1", stream_usage=True, **settings),
    "responses": lambda url, **settings: ChatOpenAI(
        base_url=f"{url}/v1", use_responses_api=True, store=False, output_version="responses/v1", **settings
    ),
    "anthropic": lambda url, **settings: ChatAnthropic(base_url=url, **settings),
}
KIND = sys.argv[1]
ERRORS = anthropic if KIND == "anthropic" else openai


class LangChain:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.model = self.connect()

    def connect(self, model: str = "", key: str = "") -> Any:
        settings = {"model": model or self.target.model, "api_key": key or self.target.key}
        return MAKERS[KIND](self.target.url, max_tokens=TASK.max_tokens, max_retries=0, **settings)

    def tools(self, *, forced: bool) -> Any:
        function = {"name": TASK.tool.name, "description": TASK.tool.description, "parameters": TOOL_SCHEMA}
        choice = {"tool_choice": TASK.tool.name} if forced and self.target.named else {}
        return self.model.bind_tools([{"type": "function", "function": function}], **choice)

    def chat(self) -> dict[str, Any]:
        return {"text": self.model.invoke(TASK.question).text}

    def stream(self) -> dict[str, Any]:
        return {"pieces": [chunk.text for chunk in self.model.stream(TASK.question)]}

    def tool_call(self) -> dict[str, Any]:
        return self.called(lambda model, messages: model.invoke(messages))

    def tool_stream(self) -> dict[str, Any]:
        return self.called(lambda model, messages: joined(model.stream(messages)))

    def called(self, ask: Any) -> dict[str, Any]:
        question = HumanMessage(TASK.question)
        asked = ask(self.tools(forced=True), [question])
        (call,) = asked.tool_calls
        result = ToolMessage(TASK.result, tool_call_id=call["id"])
        answer = ask(self.tools(forced=False), [question, asked, result])
        return {"name": call["name"], "arguments": call["args"], "text": answer.text}

    def usage(self) -> dict[str, Any]:
        answers = {"unary": self.model.invoke(TASK.question), "stream": joined(self.model.stream(TASK.question))}
        used = {kind: answer.usage_metadata for kind, answer in answers.items() if answer.usage_metadata}
        return {kind: [usage["input_tokens"], usage["output_tokens"]] for kind, usage in used.items()}

    def error(self) -> dict[str, Any]:
        absent, wrong = self.connect(model=self.target.absent), self.connect(key=TASK.wrong_key)
        saw = {
            "model": raised(lambda: absent.invoke(TASK.question), ERRORS.NotFoundError),
            "key": raised(lambda: wrong.invoke(TASK.question), ERRORS.AuthenticationError),
        }
        if self.target.broken:
            broken = self.connect(model=self.target.broken)
            # langchain raises some errors of a stream as its own.
            saw["stream"] = raised(lambda: joined(broken.stream(TASK.question)), Exception)
        return saw


def joined(chunks: Any) -> AIMessageChunk:
    """A stream as one message."""
    first, *rest = chunks
    for chunk in rest:
        first = first + chunk
    assert isinstance(first, AIMessageChunk)
    return first


if __name__ == "__main__":
    report(LangChain)
