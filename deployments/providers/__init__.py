"""The adapters: one small file a kind of provider, and `base`, which does the work for all of them.

Each is plain Python (`OpenRouterProvider(api_key=…).generate_stream(messages, model=…)`), needs no Ray, and is
what `deployments.provider_replica` puts on the cluster.
"""

from deployments.providers.anthropic import AnthropicProvider
from deployments.providers.base import Provider
from deployments.providers.local import LocalProvider
from deployments.providers.ollama import OllamaProvider
from deployments.providers.openai import OpenAIProvider
from deployments.providers.openrouter import OpenRouterProvider
from deployments.providers.simulator import SimulatorProvider

KINDS: dict[str, type[Provider]] = {
    "openai": OpenAIProvider,
    "anthropic": AnthropicProvider,
    "openrouter": OpenRouterProvider,
    "local": LocalProvider,
    "ollama": OllamaProvider,
    "simulator": SimulatorProvider,
}
"""What `kind` in an application's args may be."""

__all__ = [
    "KINDS",
    "AnthropicProvider",
    "LocalProvider",
    "OllamaProvider",
    "OpenAIProvider",
    "OpenRouterProvider",
    "Provider",
    "SimulatorProvider",
]
