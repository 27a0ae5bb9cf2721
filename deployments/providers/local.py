"""Any OpenAI-compatible server: llama.cpp, Ollama, vLLM, or a hosted service with another base URL."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.dialects.base import Written

_REFUSE_USAGE = (".mistral.ai",)
"""How the hosts end, with a dot before the first name, that refuse `stream_options.include_usage` (422); they send the
usage of a stream unasked."""


class LocalProvider(Provider):
    """A compatible server. A key is sent if there is one; the address must be given.

    stream_usage: whether the usage of a stream is asked for; where not given, unless the server is known to refuse it.
    """

    KIND: ClassVar[str] = "local"
    KEY_VARIABLE: ClassVar[str] = "LOCAL_API_KEY"
    URL_VARIABLE: ClassVar[str] = "LOCAL_BASE_URL"
    NEEDS_KEY: ClassVar[bool] = False

    def __init__(self, *, stream_usage: bool | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        if stream_usage is None:
            stream_usage = not f".{urlsplit(self.base_url).hostname or ''}".endswith(_REFUSE_USAGE)
        self._stream_usage = stream_usage

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """With `max_tokens` in place of its newer name, which most compatible servers pass over, and then never stop;
        Mistral and Cerebras refuse the newer name, Volcengine both together, as OpenAI does.

        Without a `content` of null, as clients hand back a message that only calls tools: llama.cpp's Python server
        takes a message without content, but not that.
        """
        body = dict(body)
        newer = body.pop("max_completion_tokens", None)
        if newer is not None and body.get("max_tokens") is None:
            body["max_tokens"] = newer
        options = body.get("stream_options")
        if not self._stream_usage and isinstance(options, dict):
            others = {name: value for name, value in options.items() if name != "include_usage"}
            del body["stream_options"]
            body |= {"stream_options": others} if others else {}
        messages = body.get("messages")
        if isinstance(messages, list):
            body["messages"] = [_without_null(message) for message in messages]
        return Written(body)


def _without_null(message: Json) -> Json:
    if not isinstance(message, dict) or message.get("content", "") is not None:
        return message
    return {name: value for name, value in message.items() if name != "content"}
