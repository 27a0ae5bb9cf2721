"""OpenAI's own API: chat completions and responses."""

from typing import ClassVar

from deployments.providers.base import Provider


class OpenAIProvider(Provider):
    """OpenAI, or any service that speaks both of its dialects."""

    KIND: ClassVar[str] = "openai"
    DIALECTS: ClassVar[tuple[str, ...]] = ("openai_chat", "openai_responses")
    KEY_VARIABLE: ClassVar[str] = "OPENAI_API_KEY"
    URL_VARIABLE: ClassVar[str] = "OPENAI_BASE_URL"
    BASE_URL: ClassVar[str] = "https://api.openai.com/v1"
