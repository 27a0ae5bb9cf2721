"""OpenAI's own API: chat completions and responses."""

from typing import ClassVar
from urllib.parse import urlsplit

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.dialects.base import Written

_OWN_HOSTS = (".api.openai.com", ".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
"""How the hosts of OpenAI's own servers end, and of Azure's, with a dot before the first name."""


def is_own(base_url: str) -> bool:
    """Whether the address is one of OpenAI's own servers, or of Azure's: they speak both dialects."""
    return f".{urlsplit(base_url).hostname or ''}".endswith(_OWN_HOSTS)


class OpenAIProvider(Provider):
    """OpenAI, or any service that speaks both of its dialects."""

    KIND: ClassVar[str] = "openai"
    DIALECTS: ClassVar[tuple[str, ...]] = ("openai_chat", "openai_responses")
    KEY_VARIABLE: ClassVar[str] = "OPENAI_API_KEY"
    URL_VARIABLE: ClassVar[str] = "OPENAI_BASE_URL"
    BASE_URL: ClassVar[str] = "https://api.openai.com/v1"

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """Without `top_k`, which these servers refuse (400), where the caller's dialect knows it and this one does not.

        Compatible servers take it, and a caller of the chat dialect who sends it hears what the server says.
        """
        if call.dialect in self.DIALECTS or "top_k" not in body or not is_own(self.base_url):
            return Written(body)
        return Written({name: value for name, value in body.items() if name != "top_k"}, ("top_k",))
