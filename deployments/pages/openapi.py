"""The OpenAPI document of a face: what can be asked where.

Above it: the replicas. Below it: nothing. Outside it: the bodies' full schemas, which are the vendors' own.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SOURCES = {
    "/v1/chat/completions": ("Chat completions (OpenAI)", "https://platform.openai.com/docs/api-reference/chat"),
    "/v1/responses": ("Responses (OpenAI)", "https://platform.openai.com/docs/api-reference/responses"),
    "/v1/messages": ("Messages (Anthropic)", "https://docs.anthropic.com/en/api/messages"),
}

_PAGES = {
    "/v1/models": "The models on offer, in OpenAI's list form",
    "/v1/models/{id}": "One model",
    "/v1/providers": "Every provider: name, state and why",
    "/v1/tools": "The tools that Penstock runs",
    "/v1/performance": "How the models stand: win rates, and the frontier of quality, cost and time",
    "/v1/usage": "Sums of requests, tokens and cost: since, until, by=key,tag,model,provider,task,day,hour",
    "/v1/usage/export": "Rows as CSV or lines of JSON: format=csv|json, kind=requests|attempts",
    "/v1/requests": "Requests, newest first, a page at a time (cursor, limit)",
    "/v1/requests/{id}": "One request with its attempts",
}

_ACTIONS = {
    "/v1/route": "Explains which models would be asked, and asks none; the body of any conversation",
    "/v1/feedback": "What you think of an answer: a score or a thumb, or which of two was better",
}


def document(
    title: str,
    *,
    prefix: str = "",
    pages: tuple[str, ...] = (),
    actions: tuple[str, ...] = (),
    more: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> dict[str, Any]:
    """An OpenAPI 3.1 document. prefix stands before every path; pages are GET paths beyond the models, actions POST.

    more: further summaries, by method and path.
    """
    paths: dict[str, Any] = {prefix + path: {"post": _post(*about)} for path, about in _SOURCES.items()}
    for path in ("/v1/models", "/v1/models/{id}", *(page for page in pages if page in _PAGES)):
        paths[prefix + path] = {"get": _get(_PAGES[path], path)}
    for path in actions:
        paths[prefix + path] = {"post": {**_get(_ACTIONS[path], path), "requestBody": _ANY_BODY}}
    for (method, path), summary in more.items():
        taken = {"requestBody": _ANY_BODY} if method in ("post", "patch") else {}
        paths.setdefault(prefix + path, {})[method] = {**_get(summary, path), **taken}
    paths[f"{prefix}/healthz"] = {"get": {**_get("Whether this process serves", ""), "security": []}}
    paths[f"{prefix}/readyz"] = {"get": {**_get("Whether new work is welcome", ""), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "0.1.0"},
        "security": [{"bearer": []}, {"header": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            }
        },
        "paths": paths,
    }


def _post(summary: str, source: str) -> dict[str, Any]:
    required = {"chat": ["model", "messages"], "responses": ["model", "input"], "messages": ["model", "messages"]}
    body = {
        "type": "object",
        "required": required[source.rsplit("/", 1)[-1]],
        "properties": {
            "model": {"type": "string", "description": "`provider/model`, an alias, or `auto`"},
            "models": {"type": "array", "items": {"type": "string"}, "description": "Fallbacks, in order"},
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
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


_ANY: Mapping[str, Any] = {"schema": {"type": "object"}}
_ANY_BODY: Mapping[str, Any] = {"required": True, "content": {"application/json": _ANY}}
