"""OpenAI's own API: chat completions and responses."""

from typing import ClassVar
from urllib.parse import urlsplit

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.dialects.base import Written
from pipelines.dialects.openai_chat.thoughts import unthought

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
        """What was translated, without what OpenAI's own servers refuse (400): `top_k`, and what Mistral, Databricks
        and Gemini want back of their answers.

        Compatible servers take it, and a caller of the chat dialect who sends it hears what the server says.
        """
        if call.dialect == "openai_chat" or "messages" not in body or not is_own(self.base_url):
            return Written(body)
        sent = {name: value for name, value in body.items() if name != "top_k"}
        sent["messages"] = unthought(body["messages"])
        thoughts = ("reasoning",) if sent["messages"] != body["messages"] else ()
        return Written(sent, (*(("top_k",) if "top_k" in body else ()), *thoughts))
