"""Ollama, over its own wire rather than the compatible one, which has no place for its thinking and its settings.

`OLLAMA_HOST` is the variable that Ollama's own clients read, in their forms (`host`, `host:port`, an address). The
base URL is that of its OpenAI-compatible paths (embeddings, legacy completions, whatever is forwarded); conversations,
the list of models and what each can do are Ollama's own.

Sources: Ollama, docs/api.md, "List Local Models", "Show Model Information"; docs/openai.md; docs/faq.md, on
`OLLAMA_HOST`.

Above it: `providers`. Below it: `base`, the wire `ollama_chat`.
"""

import re
from typing import Any, ClassVar

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.dialects import WIRES
from pipelines.errors import UpstreamError
from pipelines.routing.table import ModelCard

PORT = 11434
"""Where an Ollama server listens unless told otherwise."""

_PORTED = re.compile(r":\d+$")


class OllamaProvider(Provider):
    """An Ollama server. It wants no key; one is sent if there is one (ollama.com, a proxy in front).

    What a model can do is asked once for each (name, digest): a model that is pulled anew has another digest.
    """

    KIND: ClassVar[str] = "ollama"
    DIALECTS: ClassVar[tuple[str, ...]] = ("ollama_chat",)
    KEY_VARIABLE: ClassVar[str] = "OLLAMA_API_KEY"
    URL_VARIABLE: ClassVar[str] = "OLLAMA_HOST"
    BASE_URL: ClassVar[str] = f"http://127.0.0.1:{PORT}"
    NEEDS_KEY: ClassVar[bool] = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._shown: dict[tuple[str, str], ModelCard] = {}

    def normal_url(self, url: str) -> str:
        """With scheme and port, which `OLLAMA_HOST` may leave out, and with `/v1`."""
        url = url.rstrip("/").removesuffix("/v1").removesuffix("/api")
        if "://" not in url:
            url = f"http://{url}" if _PORTED.search(url) else f"http://{url}:{PORT}"
        return f"{url}/v1"

    def address(self, call: Call, dialect: str) -> str:
        """Conversations go to Ollama's own path."""
        return super().address(call, dialect) if call.operation else self._own(WIRES[dialect].path)

    async def list_models(self) -> list[ModelCard]:
        """What is installed. Raises UpstreamError if it cannot be read."""
        listed = await self.fetch("GET", self._own("/api/tags"))
        try:
            models = [(str(item["name"]), str(item.get("digest"))) for item in listed["models"] or ()]
        except (KeyError, TypeError, AttributeError):
            raise self.unreadable() from None
        for model in models:
            if model not in self._shown:
                self._shown[model] = await self._show(model[0])
        self._shown = {model: self._shown[model] for model in models}
        return list(self._shown.values())

    async def _show(self, name: str) -> ModelCard:
        """What one model can do; older servers do not say, and then nothing is known but its name.

        The context length is left open: what a server uses of the trained one is its own setting, and often far less.
        """
        try:
            said = (await self.fetch("POST", self._own("/api/show"), {"model": name})).get("capabilities")
        except UpstreamError as error:
            if not error.upstream_status:
                raise
            said = None
        if not isinstance(said, list):
            return ModelCard(name)
        return ModelCard(name, vision="vision" in said, tools="tools" in said, reasoning="thinking" in said)

    def listed_as(self, model: str) -> str:
        """With the tag, which is `latest` where a name has none (docs/api.md, "Model names")."""
        return model if ":" in model else f"{model}:latest"

    def _own(self, path: str) -> str:
        return self.base_url.removesuffix("/v1") + path
