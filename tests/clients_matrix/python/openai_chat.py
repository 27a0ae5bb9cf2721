"""The `openai` package, chat completions; streams by its `stream` helper and by `create`."""

import json
from types import SimpleNamespace
from typing import Any

import openai

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report


class Chat:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.client = self.connect(target.key)

    def connect(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.target.url}/v1", api_key=key, max_retries=0)

    def settings(self, **more: Any) -> Any:
        messages = [{"role": "user", "content": TASK.question}]
        return {"model": self.target.model, "messages": messages, "max_tokens": TASK.max_tokens, **more}

    def tools(self) -> dict[str, Any]:
        function = {"name": TASK.tool.name, "description": TASK.tool.description, "parameters": TOOL_SCHEMA}
        return {"tools": [{"type": "function", "function": {**function, "strict": True}}]}

    def forced(self) -> dict[str, Any]:
        named = {"type": "function", "function": {"name": TASK.tool.name}}
        return {"tool_choice": named} if self.target.named else {}

    def chat(self) -> dict[str, Any]:
        return {"text": self.client.chat.completions.create(**self.settings()).choices[0].message.content}

    def stream(self) -> dict[str, Any]:
        with self.client.chat.completions.stream(**self.settings()) as stream:
            pieces = [event.delta for event in stream if event.type == "content.delta"]
            assert "".join(pieces) == stream.get_final_completion().choices[0].message.content
        return {"pieces": pieces}

    def tool_call(self) -> dict[str, Any]:
        asked = self.client.chat.completions.create(**self.settings(**self.tools(), **self.forced()))
        return self.called(asked, lambda settings: self.client.chat.completions.create(**settings))

    def tool_stream(self) -> dict[str, Any]:
        def final(settings: Any) -> Any:
            with self.client.chat.completions.stream(**settings) as stream:
                return stream.get_final_completion()

        return self.called(final(self.settings(**self.tools(), **self.forced())), final)

    def called(self, asked: Any, answer: Any) -> dict[str, Any]:
        (choice,) = asked.choices
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls", choice.finish_reason
        messages = [
            *self.settings()["messages"],
            choice.message.model_dump(
                exclude_none=True, exclude={"tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}
            ),
            {"role": "tool", "tool_call_id": call.id, "content": TASK.result},
        ]
        text = answer(self.settings(**self.tools(), messages=messages)).choices[0].message.content
        return {"name": call.function.name, "arguments": json.loads(call.function.arguments), "text": text}

    def usage(self) -> dict[str, Any]:
        unary = self.client.chat.completions.create(**self.settings()).usage
        settings = self.settings(stream=True, stream_options={"include_usage": True})
        saw = {"unary": [unary.prompt_tokens, unary.completion_tokens]}
        for chunk in self.client.chat.completions.create(**settings):
            if chunk.usage:
                saw["stream"] = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens]
        return saw

    def error(self) -> dict[str, Any]:
        create = self.client.chat.completions.create
        wrong = self.connect(TASK.wrong_key).chat.completions
        saw = {
            "model": raised(lambda: create(**self.settings(model=self.target.absent)), openai.NotFoundError),
            "key": raised(lambda: wrong.create(**self.settings()), openai.AuthenticationError),
        }
        if self.target.broken:
            settings = self.settings(model=self.target.broken, stream=True)
            saw["stream"] = raised(lambda: list(create(**settings)), openai.APIError)
        return saw


if __name__ == "__main__":
    report(Chat)
