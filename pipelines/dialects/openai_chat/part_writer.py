"""Parts of a message for a provider of this dialect.

Above it: `message_writer`. Below it: `file_names`, `conversation`.
"""

from collections.abc import Sequence

from pipelines.conversation import Audio, File, Foreign, Image, Json, Opaque, Part, Text
from pipelines.dialects.file_names import file_name
from pipelines.dialects.openai_chat.thoughts import KEY, own

Dropped = dict[str, None]
"""The names of what could not be said, each once, in order."""

_DECODED = frozenset(("logprobs", "annotations"))


def own_share(opaque: Opaque | None, what: str, dropped: Dropped) -> dict[str, Json]:
    """This dialect's share of `opaque`; the shares of others are named in `dropped`, as `what.dialect`."""
    for name in opaque or ():
        if name != KEY:
            dropped[f"{what}.{name}"] = None
    return own(opaque)


def content(parts: Sequence[Part], dropped: Dropped) -> str | list[Json]:
    """A string for one plain text, an array for anything more, "" for nothing."""
    if len(parts) == 1 and isinstance(parts[0], Text) and parts[0].text and not parts[0].opaque:
        return parts[0].text
    written = [entry for part in parts if (entry := write_part(part, dropped)) is not None]
    if len(written) == 1 and written[0].keys() == {"type", "text"} and written[0]["text"]:
        plain: str = written[0]["text"]
        return plain
    return list(written) or ""


def write_part(part: Part, dropped: Dropped) -> dict[str, Json] | None:
    """One content part; None for one that the wire has no form for."""
    if isinstance(part, Foreign):
        share = own(part.opaque)
        if share.get("type"):
            return share
        dropped["foreign"] = None
        return None
    if not isinstance(part, Text | Image | File | Audio) or _is_empty(part):
        dropped[type(part).__name__.lower()] = None
        return None
    share = own_share(part.opaque, type(part).__name__.lower(), dropped)
    others = {name: value for name, value in share.items() if name not in _DECODED}
    match part:
        case Text():
            return {"type": "text", "text": part.text, **others}
        case Image():
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            picture = {"url": url, "detail": part.detail} if part.detail else {"url": url}
            return {"type": "image_url", "image_url": picture, **others}
        case Audio():
            sound = {"data": part.data, "format": part.format}
            return {"type": "input_audio", "input_audio": sound, **others}
        case File():
            return {**_file(part), **others}


def _is_empty(part: Part) -> bool:
    """Whether nothing of a picture or document can be said: another dialect has it by an id, or in blocks."""
    match part:
        case Image():
            return not (part.url or part.data)
        case File():
            return not (part.url or part.data or part.text or part.file_id)
    return False


def _file(file: File) -> dict[str, Json]:
    """A document. One that is plain text goes as text, for the wire takes only binary files."""
    if file.text:
        return {"type": "text", "text": file.text}
    data = file.url or (f"data:{file.media_type};base64,{file.data}" if file.media_type else file.data)
    name = file_name(file) if file.data else file.name
    members = {"file_data": data, "filename": name, "file_id": file.file_id}
    return {"type": "file", "file": {name: value for name, value in members.items() if value}}
