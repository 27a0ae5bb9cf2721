"""Any OpenAI-compatible server: llama.cpp, Ollama, vLLM, or a hosted service with another base URL."""

from typing import ClassVar

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.dialects.base import Written


class LocalProvider(Provider):
    """A compatible server. A key is sent if there is one; the address must be given."""

    KIND: ClassVar[str] = "local"
    KEY_VARIABLE: ClassVar[str] = "LOCAL_API_KEY"
    URL_VARIABLE: ClassVar[str] = "LOCAL_BASE_URL"
    NEEDS_KEY: ClassVar[bool] = False

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """With `max_tokens`: most compatible servers pass over its newer name, and then never stop.

        Without a `content` of null, as clients hand back a message that only calls tools: llama.cpp's Python server
        takes a message without content, but not that.
        """
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is not None:
            body = {**body, "max_tokens": body["max_completion_tokens"]}
        messages = body.get("messages")
        if isinstance(messages, list):
            body = {**body, "messages": [_without_null(message) for message in messages]}
        return Written(body)


def _without_null(message: Json) -> Json:
    if not isinstance(message, dict) or message.get("content", "") is not None:
        return message
    return {name: value for name, value in message.items() if name != "content"}
