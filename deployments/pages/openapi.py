"""The OpenAPI document of a face: what can be asked where.

Above it: the replicas. Below it: nothing. Outside it: the bodies' full schemas, which are the vendors' own.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.conversation import Json
from pipelines.version import VERSION

_OPENAI, _ANTHROPIC = "https://platform.openai.com/docs/api-reference", "https://docs.anthropic.com/en/api"

_CALLS = {
    "/v1/chat/completions": ("Chat completions (OpenAI)", f"{_OPENAI}/chat", "messages"),
    "/v1/responses": ("Responses (OpenAI)", f"{_OPENAI}/responses", "input"),
    "/v1/messages": ("Messages (Anthropic)", f"{_ANTHROPIC}/messages", "messages"),
    "/v1/messages/count_tokens": ("Counts tokens (Anthropic)", f"{_ANTHROPIC}/messages-count-tokens", "messages"),
    "/v1/embeddings": ("Embeddings (OpenAI)", f"{_OPENAI}/embeddings", "input"),
    "/v1/completions": ("Completions (OpenAI, legacy)", f"{_OPENAI}/completions", "prompt"),
}
"""What is asked of a model: in words, where the vendor describes it, the field that it wants beside `model`."""

_LISTS = {
    ("get", "/v1/models"): "The models on offer, in OpenAI's list form",
    ("get", "/v1/models/{id}"): "One model",
}


def document(title: str, *, prefix: str = "", pages: Mapping[tuple[str, str], str] = MappingProxyType({})) -> Json:
    """An OpenAPI 3.1 document. prefix stands before every path; pages are summaries by method and path."""
    paths: dict[str, Any] = {prefix + path: {"post": _post(*about)} for path, about in _CALLS.items()}
    for (method, path), summary in (_LISTS | dict(pages)).items():
        taken = {"requestBody": _ANY_BODY} if method in ("post", "patch") else {}
        paths.setdefault(prefix + path, {})[method] = {**_get(summary, path), **taken}
    paths[f"{prefix}/healthz"] = {"get": {**_get("Whether this process serves", ""), "security": []}}
    paths[f"{prefix}/readyz"] = {"get": {**_get("Whether new work is welcome", ""), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION},
        "security": [{"bearer": []}, {"header": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            }
        },
        "paths": paths,
    }


def _post(summary: str, source: str, field: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": [field],
        "anyOf": [{"required": ["model"]}, {"required": ["models"]}],
        "properties": {
            "model": {"type": "string", "description": "`provider/model`, an alias, or `auto`"},
            "models": {"type": "array", "items": {"type": "string"}, "description": "Fallbacks, or all, in order"},
            "stream": {"type": "boolean"},
        },
        "additionalProperties": True,
    }
    return {
        "summary": summary,
        "externalDocs": {"url": source},
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The answer, or a stream of server-sent events",
                "content": {"application/json": _ANY, "text/event-stream": {"schema": {"type": "string"}}},
            },
            "default": {
                "description": "An error in the dialect's own form",
                "content": {"application/json": _ANY},
            },
        },
    }


def _get(summary: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {"application/json": _ANY}}},
    }
    if names := re.findall(r"{(\w+)}", path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return operation


_ANY: Mapping[str, Any] = {"schema": {"type": "object"}}
_ANY_BODY: Mapping[str, Any] = {"required": True, "content": {"application/json": _ANY}}
