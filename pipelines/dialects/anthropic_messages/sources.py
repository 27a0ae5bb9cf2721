"""Images and documents: the `source` of a block, both directions; and search results, which are documents elsewhere.

Source: Anthropic API reference, "Create a Message"; "Vision"; "PDF support"; "Files API"; "Search results".

Above it: `content_reader`, `content_writer`. Below it: `conversation`, `opaque`.
"""

import base64
import binascii

from pipelines.conversation import File, Foreign, Image, Json
from pipelines.dialects.anthropic_messages.opaque import NAME, own, owned, rest
from pipelines.dialects.openai_responses.fields import required
from pipelines.errors import BadRequest

_IMAGE_FIELDS = frozenset({"type", "source"})
_DOCUMENT_FIELDS = frozenset({"type", "source", "title"})

_PDF = "application/pdf"
_SEARCH_RESULT = "search_result"
_OPENAI_FILE = "file-"
"""How file ids of OpenAI begin; Anthropic's begin with `file_`. No provider knows another's files."""

Block = dict[str, Json]


def read_image(block: Block, path: str) -> Image | Foreign:
    """An image block; one by file id, which no `Image` can hold, stays a foreign block."""
    source = required(block, "source", dict, path)
    opaque = owned(rest(block, _IMAGE_FIELDS))
    inner = f"{path}source."
    match required(source, "type", str, inner):
        case "base64":
            data, media_type = required(source, "data", str, inner), required(source, "media_type", str, inner)
            return Image(data=data, media_type=media_type, opaque=opaque)
        case "url":
            return Image(url=required(source, "url", str, inner), opaque=opaque)
        case "file":
            required(source, "file_id", str, inner)
            return Foreign({NAME: dict(block)})
    raise BadRequest(f"`{inner}type` must be base64, url or file", param=f"{inner}type")


def read_document(block: Block, path: str) -> File:
    """A document block. Content given as blocks is shown as its text and kept whole in `opaque`."""
    source = required(block, "source", dict, path)
    name, opaque = _title(block, path), owned(rest(block, _DOCUMENT_FIELDS))
    inner = f"{path}source."
    match required(source, "type", str, inner):
        case "base64":
            data, media_type = required(source, "data", str, inner), required(source, "media_type", str, inner)
            return File(name=name, data=data, media_type=media_type, opaque=opaque)
        case "text":
            text = required(source, "data", str, inner)
            return File(name=name, text=text, media_type=source.get("media_type") or "text/plain", opaque=opaque)
        case "url":
            return File(name=name, url=required(source, "url", str, inner), opaque=opaque)
        case "file":
            return File(name=name, file_id=required(source, "file_id", str, inner), opaque=opaque)
        case "content":
            text = _content_text(source.get("content"), f"{inner}content")
            return File(name=name, text=text, opaque={NAME: {**own(opaque), "source": source}})
    raise BadRequest(f"`{inner}type` must be base64, text, url, file or content", param=f"{inner}type")


def read_search_result(block: Block, path: str) -> File | Foreign:
    """A search result: its text to other dialects, its block whole to this one. One without text stays foreign."""
    required(block, "source", str, path)
    text = _content_text(block.get("content"), f"{path}content")
    return (
        File(name=_title(block, path), text=text, opaque={NAME: dict(block)}) if text else Foreign({NAME: dict(block)})
    )


def write_image(image: Image) -> Block | None:
    """An image block; None where there is neither address nor data."""
    if image.data:
        source = {"type": "base64", "media_type": image.media_type or "image/png", "data": image.data}
    elif image.url.startswith("data:"):
        head, _, data = image.url[5:].partition(",")
        source = {"type": "base64", "media_type": head.partition(";")[0] or "image/png", "data": data}
    elif image.url:
        source = {"type": "url", "url": image.url}
    else:
        return None
    return {**own(image.opaque), "type": "image", "source": source}


def write_document(file: File) -> Block | None:
    """A document block; None for what no source can hold (a file id of OpenAI, a type that is neither PDF nor text)."""
    share = own(file.opaque)
    if share.get("type") == _SEARCH_RESULT:
        return share
    source = share.get("source") or _source(file)
    if source is None:
        return None
    title = {"title": file.name} if file.name else {}
    return {**share, "type": "document", "source": source, **title}


def _source(file: File) -> Block | None:
    kind = file.media_type.partition(";")[0]
    if file.text:
        return {"type": "text", "media_type": "text/plain", "data": file.text}
    if file.data and kind in ("", _PDF):
        return {"type": "base64", "media_type": _PDF, "data": file.data}
    if file.data and (kind.startswith("text/") or kind == "application/json"):
        try:
            words = base64.b64decode(file.data).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return {"type": "text", "media_type": "text/plain", "data": words}
    if file.url:
        return {"type": "url", "url": file.url}
    if file.file_id and not file.file_id.startswith(_OPENAI_FILE):
        return {"type": "file", "file_id": file.file_id}
    return None


def _title(block: Block, path: str) -> str:
    title = block.get("title")
    if title is not None and not isinstance(title, str):
        raise BadRequest(f"`{path}title` must be a string", param=f"{path}title")
    return title or ""


def _content_text(content: Json, path: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"`{path}` must be a string or an array", param=path)
    texts = (block.get("text") for block in content if isinstance(block, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
