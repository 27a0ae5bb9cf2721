"""simonw's `llm`, as a library: its chat model with another address, as `extra-openai-models.yaml` makes it."""

from types import SimpleNamespace
from typing import Any

import llm
import openai
from llm.default_plugins.openai_models import Chat

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report


class Llm:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.called_with: list[dict[str, Any]] = []

    def model(self, name: str = "", key: str = "") -> Any:
        made = Chat(
            "penstock", model_name=name or self.target.model, api_base=f"{self.target.url}/v1", supports_tools=True
        )
        made.key = key or self.target.key
        return made

    def tool(self) -> llm.Tool:
        def weather(**arguments: Any) -> str:
            self.called_with.append(arguments)
            return str(TASK.result)

        return llm.Tool(TASK.tool.name, TASK.tool.description, TOOL_SCHEMA, weather)

    def ask(self, *, stream: bool, name: str = "", key: str = "") -> Any:
        return self.model(name, key).prompt(TASK.question, stream=stream, max_tokens=TASK.max_tokens)

    def chat(self) -> dict[str, Any]:
        return {"text": self.ask(stream=False).text()}

    def stream(self) -> dict[str, Any]:
        return {"pieces": list(self.ask(stream=True))}

    def tool_call(self) -> dict[str, Any] | None:
        return self.called(stream=False)

    def tool_stream(self) -> dict[str, Any] | None:
        return self.called(stream=True)

    def called(self, *, stream: bool) -> dict[str, Any] | None:
        if self.target.named:
            return None
        chain = self.model().chain(TASK.question, tools=[self.tool()], stream=stream)
        asked, answered = chain.responses()
        (call,) = asked.tool_calls()
        (arguments,) = self.called_with
        return {"name": call.name, "arguments": arguments, "text": answered.text()}

    def usage(self) -> dict[str, Any]:
        saw = {}
        for kind in ("unary", "stream"):
            usage = self.ask(stream=kind == "stream").usage()
            saw[kind] = [usage.input, usage.output]
        return saw

    def error(self) -> dict[str, Any]:
        saw = {
            "model": raised(lambda: self.ask(stream=False, name=self.target.absent).text(), openai.NotFoundError),
            "key": raised(lambda: self.ask(stream=False, key=TASK.wrong_key).text(), openai.AuthenticationError),
        }
        if self.target.broken:
            saw["stream"] = raised(lambda: self.ask(stream=True, name=self.target.broken).text(), openai.APIError)
        return saw


if __name__ == "__main__":
    report(Llm)
