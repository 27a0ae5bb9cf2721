"""The two versions of the API in use, and a body for each.

`2023-06-01` (`x-api-key`) takes everything that this package writes. `2026-10-21` (`Authorization: Bearer`) answers
400 to `temperature`, `top_p` and `top_k`, to document blocks directly in assistant messages and to citations that are
not empty on text blocks of user messages.

Source: Anthropic API reference, "Versions".

Above it: the provider that knows its model's version. Below it: `base`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json
from pipelines.dialects.base import Written

CLASSIC = "2023-06-01"
"""The version with `x-api-key`."""

BEARER = "2026-10-21"
"""The version with `Authorization: Bearer`."""

VERSIONS = (CLASSIC, BEARER)

_SAMPLING = ("temperature", "top_p", "top_k")

Block = dict[str, Json]


def for_version(body: Mapping[str, Json], version: str) -> Written:
    """`body` as `version` takes it, and the names (or paths) of what was taken out or made into text.

    A document in an assistant message becomes a text block: its text where it has one, else its title. A body for
    any version but `2026-10-21` is returned as it is. The given body is not changed.
    """
    sent = dict(body)
    if version != BEARER:
        return Written(sent)
    dropped = [name for name in _SAMPLING if sent.pop(name, None) is not None]
    messages = sent.get("messages")
    if isinstance(messages, list):
        sent["messages"] = [_message(entry, f"messages.{place}", dropped) for place, entry in enumerate(messages)]
    return Written(sent, tuple(dropped))


def _message(message: Json, path: str, dropped: list[str]) -> Json:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    convert = _spoken if message.get("role") == "assistant" else _uncited
    kept = [convert(block, f"{path}.content.{place}", dropped) for place, block in enumerate(content)]
    return {**message, "content": kept}


def _spoken(block: Json, path: str, dropped: list[str]) -> Json:
    """A block of an assistant message: a document as text."""
    if not isinstance(block, dict) or block.get("type") != "document":
        return block
    dropped.append(path)
    source = block.get("source")
    text = source.get("data") if isinstance(source, dict) and source.get("type") == "text" else None
    return {"type": "text", "text": text or f"[document: {block.get('title') or 'untitled'}]"}


def _uncited(block: Json, path: str, dropped: list[str]) -> Json:
    """A block of a user message: text without citations, in tool results too."""
    if not isinstance(block, dict):
        return block
    if block.get("type") == "text" and block.get("citations"):
        dropped.append(f"{path}.citations")
        return {key: value for key, value in block.items() if key != "citations"}
    inner = block.get("content")
    if block.get("type") != "tool_result" or not isinstance(inner, list):
        return block
    kept = [_uncited(entry, f"{path}.content.{place}", dropped) for place, entry in enumerate(inner)]
    return {**block, "content": kept}
