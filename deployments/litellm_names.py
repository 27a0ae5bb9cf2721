"""What LiteLLM's names stand for: prefixes of models, strategies, variables, and the members of its configuration.

Sources: https://docs.litellm.ai/docs/providers (prefixes of model names and the addresses behind them),
https://docs.litellm.ai/docs/routing (strategies), https://docs.litellm.ai/docs/proxy/configs (the members).

Above it: `litellm_import`. Below it: the standard library. Outside it: what is made of them.
"""

import re
from collections.abc import Mapping
from typing import Any

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
    "litellm_params": "model api_key api_base base_url rpm tpm weight timeout stream_timeout",
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


def service_of(asked: str) -> tuple[str, str]:
    """The prefix of a model's name, and the name without it; a name without a prefix says by itself whose it is."""
    prefix, slash, model = asked.partition("/")
    return (prefix, model) if slash else ("anthropic" if asked.startswith("claude") else "openai", asked)


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
            found.add(usual_variable(service_of(str(params.get("model")))[0]))
        elif isinstance(key, str) and key.startswith(VARIABLE):
            found.add(key.removeprefix(VARIABLE))
    return found
