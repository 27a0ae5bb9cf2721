"""What LiteLLM's names stand for: prefixes of models, strategies, variables, and the members of its configuration.

Sources: https://docs.litellm.ai/docs/providers (prefixes of model names and the addresses behind them),
https://docs.litellm.ai/docs/routing (strategies), https://docs.litellm.ai/docs/proxy/configs (the members).

Above it: `litellm_import`, `litellm_groups`. Below it: `pipelines.errors`. Outside it: what is made of them.
"""

import re
from collections.abc import Mapping
from typing import Any

from pipelines.errors import ConfigurationError

VARIABLE = "os.environ/"
"""Stands before the name of a variable, in place of a value."""

KINDS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "openrouter": "openrouter",
    "ollama": "ollama",
    "ollama_chat": "ollama",
}
"""Prefixes of model names that an adapter of ours stands for."""

COMPATIBLE = {
    "groq": "https://api.groq.com/openai/v1",
    "together_ai": "https://api.together.xyz/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "perplexity": "https://api.perplexity.ai",
    "xai": "https://api.x.ai/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
}
"""Prefixes of services that speak OpenAI's dialect, and where they are."""

_BARE = {"claude": "anthropic", "gemini": "vertex_ai", "command": "cohere"}
"""How names without a prefix begin that are not OpenAI's, and whose they are."""

_BESIDE = {"vertex_ai": "vertex_", "bedrock": "aws_"}
"""How parameters begin that only one service takes."""

RESPONSES = "responses/"
"""Stands before the name of a model that LiteLLM asks at OpenAI's `/responses` for callers of the chat API, too."""

KEYED = ("openai", "anthropic", "openrouter")
"""Kinds that are never asked without a key: without another variable it stands in the usual one, here as there."""

SERVERS = ("hosted_vllm", "vllm", "openai_like", "custom_openai", "lm_studio", "llamafile", "text-completion-openai")
"""Prefixes of servers of one's own, whose address stands in `api_base`."""

STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "lowest_latency",
    "cost-based-routing": "cheapest",
    "usage-based-routing": "least_busy",
    "usage-based-routing-v2": "least_busy",
}

CONVERSATIONS = frozenset({"chat", "responses"})
"""Values of `mode` whose models answer conversations, which `auto` may choose them for."""

OPERATIONS = frozenset({"embedding", "completion"})
"""Values of `mode` whose models are asked for something else that the routed lane has too."""

_MODES = {
    "embedding": r"embed|(?:^|/)(?:bge|e5|gte)-|voyage-",
    "completion": r"gpt-3\.5-turbo-instruct|davinci-|babbage-",
    "image_generation": r"dall-e|gpt-image|imagen|stable-diffusion|(?:^|/)flux|recraft",
    "video_generation": r"(?:^|/)(?:sora|veo)-",
    "audio_transcription": r"whisper|transcribe",
    "audio_speech": r"(?:^|-)tts(?:-|$)",
    "rerank": r"rerank",
    "moderation": r"moderation",
    "realtime": r"realtime",
}
"""Modes, and what names of their models have in common."""

CARRIED = {
    "model_list": "model_name litellm_params model_info rpm tpm",
    "litellm_params": "model custom_llm_provider api_key api_base base_url rpm tpm weight timeout stream_timeout",
    "model_info": "id mode base_model max_input_tokens max_tokens max_output_tokens input_cost_per_token "
    "output_cost_per_token supports_vision supports_audio_input supports_function_calling supports_response_schema "
    "supports_reasoning",
    "router_settings": "routing_strategy fallbacks context_window_fallbacks default_fallbacks model_group_alias "
    "num_retries timeout stream_timeout enable_pre_call_checks allowed_fails cooldown_time",
    "litellm_settings": "fallbacks context_window_fallbacks default_fallbacks num_retries request_timeout drop_params "
    "set_verbose",
    "general_settings": "master_key",
    "the file": "model_list router_settings litellm_settings general_settings environment_variables",
}
"""Members that are carried over, or that what happens here anyway makes needless."""


def service_of(params: Mapping[str, Any]) -> tuple[str, str]:
    """Whose the model of these `litellm_params` is, as a prefix of LiteLLM's, and its name without the prefix.

    A name without one says by itself whose it is, or what stands beside it.
    """
    asked, named = str(params.get("model")), params.get("custom_llm_provider")
    if named:
        return str(named), asked.removeprefix(f"{named}/")
    prefix, slash, model = asked.partition("/")
    if slash:
        return prefix, model
    beside = (prefix for prefix, start in _BESIDE.items() if any(str(name).startswith(start) for name in params))
    bare = (prefix for start, prefix in _BARE.items() if asked.startswith(start))
    return next(beside, None) or next(bare, "openai"), asked


def mode_of(model: str) -> str:
    """What a model is for, in LiteLLM's word for it, by its name alone: `chat` where the name says nothing else."""
    return next((mode for mode, pattern in _MODES.items() if re.search(pattern, model.lower())), "chat")


def usual_variable(prefix: str) -> str:
    """The variable that a service's key is looked for in where none is named."""
    return f"{re.sub(r'[^A-Z0-9]+', '_', prefix.upper())}_API_KEY"


def taken_variables(given: Mapping[str, Any]) -> set[str]:
    """The variables that have a meaning already: set in the configuration, named by an entry, or the usual ones of
    entries without a key. A key that stands in the file gets none of them: it may be another account's."""
    found = set(given.get("environment_variables") or ())
    for entry in given["model_list"]:
        params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
        if not isinstance(params, Mapping):
            continue
        key = params.get("api_key")
        if not key:
            found.add(usual_variable(service_of(params)[0]))
        elif isinstance(key, str) and key.startswith(VARIABLE):
            found.add(key.removeprefix(VARIABLE))
    return found


def member(given: Any, name: str) -> Any:
    """A member of what may be no object."""
    return given.get(name) if isinstance(given, Mapping) else None


def object_in(given: Any, name: str) -> dict[str, Any]:
    """A member that is an object; what is missing is an empty one. Raises ConfigurationError for anything else."""
    found = member(given, name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"`{name}` must be an object")
    return found
