"""The `anthropic` package, of whatever version the environment has; streams by its `stream` helper and by `create`."""

from types import SimpleNamespace
from typing import Any

import anthropic

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report


class Messages:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.client = self.connect(target.key)

    def connect(self, key: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.target.url, api_key=key, max_retries=0)

    def settings(self, **more: Any) -> Any:
        messages = [{"role": "user", "content": TASK.question}]
        return {"model": self.target.model, "messages": messages, "max_tokens": TASK.max_tokens, **more}

    def tools(self) -> dict[str, Any]:
        tool = {"name": TASK.tool.name, "description": TASK.tool.description, "input_schema": TOOL_SCHEMA}
        return {"tools": [tool]}

    def forced(self) -> dict[str, Any]:
        return {"tool_choice": {"type": "tool", "name": TASK.tool.name}} if self.target.named else {}

    def streamed(self, settings: Any) -> Any:
        with self.client.messages.stream(**settings) as stream:
            return stream.get_final_message()

    def chat(self) -> dict[str, Any]:
        return {"text": text_of(self.client.messages.create(**self.settings()))}

    def stream(self) -> dict[str, Any]:
        with self.client.messages.stream(**self.settings()) as stream:
            pieces = list(stream.text_stream)
            assert "".join(pieces) == text_of(stream.get_final_message())
        return {"pieces": pieces}

    def tool_call(self) -> dict[str, Any]:
        return self.called(lambda settings: self.client.messages.create(**settings))

    def tool_stream(self) -> dict[str, Any]:
        return self.called(self.streamed)

    def called(self, ask: Any) -> dict[str, Any]:
        asked = ask(self.settings(**self.tools(), **self.forced()))
        (call,) = [block for block in asked.content if block.type == "tool_use"]
        assert asked.stop_reason == "tool_use", asked.stop_reason
        result = {"type": "tool_result", "tool_use_id": call.id, "content": TASK.result}
        messages = [
            *self.settings()["messages"],
            {"role": "assistant", "content": [block.to_dict() for block in asked.content]},
            {"role": "user", "content": [result]},
        ]
        answered = ask(self.settings(**self.tools(), messages=messages))
        return {"name": call.name, "arguments": call.input, "text": text_of(answered)}

    def usage(self) -> dict[str, Any]:
        answers = {"unary": self.client.messages.create(**self.settings()), "stream": self.streamed(self.settings())}
        return {kind: [answer.usage.input_tokens, answer.usage.output_tokens] for kind, answer in answers.items()}

    def error(self) -> dict[str, Any]:
        create = self.client.messages.create
        wrong = self.connect(TASK.wrong_key).messages
        saw = {
            "model": raised(lambda: create(**self.settings(model=self.target.absent)), anthropic.NotFoundError),
            "key": raised(lambda: wrong.create(**self.settings()), anthropic.AuthenticationError),
        }
        if self.target.broken:
            settings = self.settings(model=self.target.broken, stream=True)
            saw["stream"] = raised(lambda: list(create(**settings)), anthropic.APIError)
        return saw


def text_of(message: Any) -> str:
    """All text of a message."""
    return "".join(block.text for block in message.content if block.type == "text")


if __name__ == "__main__":
    report(Messages)
