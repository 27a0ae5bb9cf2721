"""A result, cut to what a model is shown of it.

Above it: `actors.tools.workshop`, `actors.tools.executor`, `results`. Below it: `catalogue`.
"""

from collections.abc import Iterable

import msgspec

from pipelines.conversation import File, Image, Text
from pipelines.tools.catalogue import Ran

MOST_DATA = 4 * 1024 * 1024
"""Bytes of pictures and files, in base64, of one result. Half a picture is none, so these are kept or left out, and do
not count as text."""

MARGIN = 4096
"""Bytes beyond what a model is shown that are handed on, to be looked at for secrets with the rest: cut there, the one
that a limit halves is not known any more."""


def cut(ran: Ran, most: int) -> Ran:
    """`ran` with `most` bytes of text and MOST_DATA bytes of data at most; size and cut say what there was.

    An error's words are the first of the text.
    """
    size = sum(sizes_of(ran.error, ran.parts))
    if size <= most:
        return ran if ran.cut or ran.size == size else msgspec.structs.replace(ran, size=size)
    kept: list[Text | Image | File] = []
    error = _shorter(ran.error, most)
    text, data = max(0, most - size_of(Text(ran.error))), MOST_DATA
    for part in ran.parts:
        if isinstance(part, Text):
            kept.append(msgspec.structs.replace(part, text=_shorter(part.text, text)))
            text = max(0, text - size_of(part))
        elif size_of(part) <= data:
            kept.append(part)
            data -= size_of(part)
    if sum(sizes_of(error, kept)) == size:
        return msgspec.structs.replace(ran, size=size)
    return msgspec.structs.replace(ran, parts=tuple(kept), error=error, size=max(size, ran.size), cut=True)


def size_of(part: Text | Image | File) -> int:
    """Bytes of it, of data in base64."""
    if isinstance(part, Text):
        return len(part.text) if part.text.isascii() else len(part.text.encode(errors="surrogatepass"))
    return len(part.data) + len(part.url) + (len(part.text) if isinstance(part, File) else 0)


def sizes_of(error: str, parts: Iterable[Text | Image | File]) -> tuple[int, int]:
    """Bytes of a result's text, an error's words among it, and of its data."""
    text, data = size_of(Text(error)), 0
    for part in parts:
        if isinstance(part, Text):
            text += size_of(part)
        else:
            data += size_of(part)
    return text, data


def _shorter(text: str, most: int) -> str:
    """Its beginning, of `most` bytes at most and whole characters."""
    if len(text) <= most and text.isascii():
        return text
    return text[:most].encode(errors="replace")[:most].decode(errors="ignore")
