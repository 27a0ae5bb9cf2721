"""How many tokens a conversation is likely to have, before any provider has counted them.

Words count by their length. Pictures, sound and documents are many bytes and few tokens: they count by flat figures,
which are high. What only one dialect understands (signatures, encrypted reasoning) is not counted.

Sources: OpenAI, "What are tokens and how to count them" (4 characters of English text); Anthropic, "Vision" (about
1,600 tokens for the largest picture that is not made smaller), "PDF support" (1,500 to 3,000 tokens of text a page,
100 pages); OpenAI, "Managing costs" of the Realtime API (ten tokens a second of a caller's sound).

Above it: the ledger, the budgets, whoever must know before the provider says. Below it: `conversation`.
"""

from typing import NamedTuple

import msgspec

from pipelines.conversation import (
    Audio,
    File,
    Image,
    Json,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
)

BYTES_A_TOKEN = 4
"""Of UTF-8 text."""

IMAGE_TOKENS = 1600

PAGE_TOKENS = 3000
PAGE_BYTES = 50_000
MOST_PAGES = 100

SOUND_BYTES_A_TOKEN = 1600
"""A tenth of a second of compressed sound (128 kbit/s)."""

_TEXTUAL = ("text/", "application/json")


class Size(NamedTuple):
    """words: bytes of text as UTF-8; others: tokens of pictures, sound and documents."""

    words: int = 0
    others: int = 0


def likely_input(request: Request) -> int:
    """About how many tokens a conversation has, with all that goes along with it."""
    size = size_of(request)
    return size.words // BYTES_A_TOKEN + size.others


def size_of(request: Request) -> Size:
    """The size of all messages, of the tools that are offered and of the form that the answer is to have."""
    form = request.output_format.schema if request.output_format is not None else None
    words, others = _written(form), 0
    for tool in request.tools:
        words += length(tool.name) + length(tool.description) + _written(tool.schema)
    for message in request.messages:
        for part in message.parts:
            size = _size(part)
            words += size.words
            others += size.others
    return Size(words, others)


def _size(part: Part) -> Size:
    match part:
        case Text() | Reasoning() | Refusal():
            return Size(length(part.text))
        case ToolCall():
            return Size(length(part.name) + length(part.arguments))
        case ToolResult():
            sizes = [_size(inner) for inner in part.parts]
            return Size(sum(size.words for size in sizes), sum(size.others for size in sizes))
        case Image():
            return Size(0, IMAGE_TOKENS)
        case Audio():
            return Size(0, _decoded(part.data) // SOUND_BYTES_A_TOKEN)
        case File():
            return _document(part)
        case _:
            return Size()


def _document(file: File) -> Size:
    if file.text:
        return Size(length(file.text))
    if file.data and file.media_type.startswith(_TEXTUAL):
        return Size(_decoded(file.data))
    return Size(0, min(1 + _decoded(file.data) // PAGE_BYTES, MOST_PAGES) * PAGE_TOKENS)


def _written(value: Json) -> int:
    """Bytes as JSON: writing it takes a tenth of the time that walking through it would."""
    return len(msgspec.json.encode(value)) if value else 0


def length(text: str) -> int:
    """Bytes of a text as UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _decoded(data: str) -> int:
    """Bytes behind base64."""
    return len(data) * 3 // 4
