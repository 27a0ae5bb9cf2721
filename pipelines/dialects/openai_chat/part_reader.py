"""Parts of a caller's message: text, pictures, sound, documents. A kind that only a provider knows is kept whole.

Source: OpenAI API reference, "Create chat completion", content parts; OpenRouter (`file_data` as URL).

Above it: `message_reader`. Below it: `fields`, `conversation`.
"""

import re

from pipelines.conversation import Audio, File, Foreign, Image, Json, Opaque, Part, Refusal, Text
from pipelines.dialects.openai_chat.fields import kind, needed_mapping, needed_text, rest, text, wrong
from pipelines.dialects.openai_chat.thoughts import KEY

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)
"""The plain form of a data: URL. Any other form is kept as it is, as a URL."""

_PLAIN: dict[str, frozenset[str]] = {
    "text": frozenset(("type", "text")),
    "refusal": frozenset(("type", "refusal")),
    "image_url": frozenset(("type", "image_url")),
    "input_audio": frozenset(("type", "input_audio")),
    "file": frozenset(("type", "file")),
}


def read_content(value: Json, path: str) -> tuple[Part, ...]:
    """`content`: a string or an array of parts. An empty string is no part."""
    if isinstance(value, str):
        return (Text(value),) if value else ()
    if not isinstance(value, list):
        wrong(path, f"must be a string or an array of parts, not {kind(value)}")
    return tuple([_part(entry, f"{path}.{place}") for place, entry in enumerate(value)])


def _part(entry: Json, path: str) -> Part:
    if not isinstance(entry, dict):
        wrong(path, f"must be an object, not {kind(entry)}")
    name = needed_text(entry, "type", path)
    plain = _PLAIN.get(name)
    if plain is None:
        return Foreign({KEY: entry})
    others = rest(entry, plain)
    opaque = {KEY: others} if others else None
    match name:
        case "text":
            if not isinstance(entry.get("text"), str):
                wrong(f"{path}.text", f"must be a string, not {kind(entry.get('text'))}")
            return Text(entry["text"], opaque)
        case "refusal":
            return Refusal(needed_text(entry, "refusal", path))
        case "image_url":
            return _image(entry, path, opaque)
        case "input_audio":
            sound = needed_mapping(entry, name, path)
            inner = f"{path}.{name}"
            return Audio(needed_text(sound, "data", inner), needed_text(sound, "format", inner), opaque=opaque)
        case _:
            return _file(needed_mapping(entry, name, path), f"{path}.{name}", opaque)


def _image(entry: dict[str, Json], path: str, opaque: Opaque | None) -> Image:
    given = entry.get("image_url")
    picture = {"url": given} if isinstance(given, str) else needed_mapping(entry, "image_url", path)
    path = f"{path}.image_url"
    url, detail = needed_text(picture, "url", path), text(picture, "detail", path)
    found = DATA_URL.match(url)
    if found is None:
        return Image(url=url, detail=detail, opaque=opaque)
    return Image(data=url[found.end() :], media_type=found.group(1), detail=detail, opaque=opaque)


def _file(file: dict[str, Json], path: str, opaque: Opaque | None) -> File:
    data, name, identity = text(file, "file_data", path), text(file, "filename", path), text(file, "file_id", path)
    if not data and not identity:
        wrong(path, "needs file_data or file_id")
    if data.startswith(("http://", "https://")):
        return File(name=name, url=data, file_id=identity, opaque=opaque)
    found = DATA_URL.match(data)
    if found is None:
        return File(name=name, data=data, file_id=identity, opaque=opaque)
    return File(name=name, data=data[found.end() :], media_type=found.group(1), file_id=identity, opaque=opaque)
