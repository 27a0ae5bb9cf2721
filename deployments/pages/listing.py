"""The list of models in the form of whoever asks: OpenAI's, or Anthropic's where `anthropic-version` is sent.

Sources: https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models-list.

Above it: `front`. Below it: nothing.
"""

from collections.abc import Mapping

from pipelines.conversation import Json


def listed(models: list[dict[str, Json]], wanted: str, headers: Mapping[str, str]) -> Json:
    """All models, or the one whose id is `wanted`; None where there is no such model."""
    if "anthropic-version" in headers:
        models = [_anthropic(model) for model in models]
    if wanted:
        return next((model for model in models if model["id"] == wanted), None)
    if "anthropic-version" not in headers:
        return {"object": "list", "data": models}
    first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
    return {"data": models, "has_more": False, "first_id": first, "last_id": last}


def _anthropic(model: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": "1970-01-01T00:00:00Z",
    }
