"""The `openai` package, Responses; streams by its `stream` helper and by `create`."""

import json
from types import SimpleNamespace
from typing import Any

import openai

from tests.clients_matrix.python.reporting import TASK, TOOL_SCHEMA, raised, report


class Responses:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target
        self.client = self.connect(target.key)

    def connect(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.target.url}/v1", api_key=key, max_retries=0)

    def settings(self, **more: Any) -> Any:
        items = [{"role": "user", "content": TASK.question}]
        limits = {"max_output_tokens": TASK.max_tokens, "store": False, "include": ["reasoning.encrypted_content"]}
        return {"model": self.target.model, "input": items, **limits, **more}

    def tools(self) -> dict[str, Any]:
        tool = {"name": TASK.tool.name, "description": TASK.tool.description, "parameters": TOOL_SCHEMA}
        return {"tools": [{"type": "function", **tool, "strict": True}]}

    def forced(self) -> dict[str, Any]:
        return {"tool_choice": {"type": "function", "name": TASK.tool.name}} if self.target.named else {}

    def streamed(self, settings: Any) -> Any:
        with self.client.responses.stream(**settings) as stream:
            for event in stream:
                assert event.type != "error", event
            return stream.get_final_response()

    def chat(self) -> dict[str, Any]:
        return {"text": self.client.responses.create(**self.settings()).output_text}

    def stream(self) -> dict[str, Any]:
        with self.client.responses.stream(**self.settings()) as stream:
            pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
            assert "".join(pieces) == stream.get_final_response().output_text
        return {"pieces": pieces}

    def tool_call(self) -> dict[str, Any]:
        return self.called(lambda settings: self.client.responses.create(**settings))

    def tool_stream(self) -> dict[str, Any]:
        return self.called(self.streamed)

    def called(self, ask: Any) -> dict[str, Any]:
        asked = ask(self.settings(**self.tools(), **self.forced()))
        (call,) = [item for item in asked.output if item.type == "function_call"]
        answered = {"type": "function_call_output", "call_id": call.call_id, "output": TASK.result}
        spoken = [item.to_dict() for item in asked.output]
        for item in spoken:
            item.pop("parsed_arguments", None)
        text = ask(self.settings(**self.tools(), input=[*self.settings()["input"], *spoken, answered])).output_text
        return {"name": call.name, "arguments": json.loads(call.arguments), "text": text}

    def usage(self) -> dict[str, Any]:
        answers = {"unary": self.client.responses.create(**self.settings()), "stream": self.streamed(self.settings())}
        used = {kind: answer.usage for kind, answer in answers.items() if answer.usage}
        return {kind: [usage.input_tokens, usage.output_tokens] for kind, usage in used.items()}

    def error(self) -> dict[str, Any]:
        create = self.client.responses.create
        wrong = self.connect(TASK.wrong_key).responses
        saw = {
            "model": raised(lambda: create(**self.settings(model=self.target.absent)), openai.NotFoundError),
            "key": raised(lambda: wrong.create(**self.settings()), openai.AuthenticationError),
        }
        if self.target.broken:
            saw["stream"] = self.failed(self.settings(model=self.target.broken, stream=True))
        return saw

    def failed(self, settings: Any) -> dict[str, Any]:
        """A stream that fails says so in its last event, or the client raises."""
        try:
            *_, last = self.client.responses.create(**settings)
        except openai.APIError as error:
            return {"kind": type(error).__name__, "status": None, "message": str(error)}
        assert last.type in ("response.failed", "error"), last.type
        message = last.response.error.message if last.type == "response.failed" else last.message
        return {"kind": last.type, "status": None, "message": message}


if __name__ == "__main__":
    report(Responses)
