"""What became of a call, as the model is told: cut to size, secrets out, always an answer.

A result is data. It is text in a message of the role "tool" and nothing else: it names no tools and moves no limit.

Above it: `turns`. Below it: `catalogue`, `cutting`, `redaction`, `conversation`.
"""

from itertools import takewhile

from pipelines.conversation import File, Image, Text, ToolResult
from pipelines.tools.catalogue import Exit, Ran
from pipelines.tools.cutting import MARGIN, MOST_DATA, size_of, sizes_of
from pipelines.tools.redaction import Redactor

_WORDS: dict[Exit, str] = {
    "error": "the tool failed",
    "timeout": "the tool took too long and was stopped",
    "crash": "the tool's process died",
    "refused": "the call was refused",
    "cancelled": "the call was given up",
}


def failed(call_id: str, why: str) -> ToolResult:
    """The answer to a call that was not run, or did not go well."""
    return ToolResult(call_id, (Text(f"Error: {why}"),), is_error=True)


def result_of(call_id: str, ran: Ran, limit: int, redactor: Redactor, data: int = MOST_DATA) -> ToolResult:
    """The answer to a call that ran, as the model is shown it.

    limit: bytes of its text, an error's words first; data: bytes of its pictures and files together, in base64. Each of
    those is whole, or a word says what was there.
    """
    error = ran.error or ("" if ran.exit == "ok" else _WORDS[ran.exit])
    given = (Text(error), *ran.parts) if error else ran.parts
    text_given, data_given = sizes_of(error, ran.parts)
    total = max(ran.size, text_given + data_given)
    parts: list[Text | Image | File] = []
    left, noted = limit, False
    for part in given:
        size = size_of(part)
        if not isinstance(part, Text):
            fits = size <= data
            parts.append(part if fits else Text(f"[{type(part).__name__} of {size} bytes: too large to be shown]"))
            data -= size if fits else 0
            continue
        # Where it was cut a character of up to four bytes was not halved.
        halved = ran.cut and size > left + MARGIN - 4
        kept, whole = _beginning(part.text, max(left, 0), redactor, halved=halved)
        left -= size
        if whole or not noted:
            parts.append(Text(kept if whole else f"{kept}\n{_note(limit, total - data_given)}"))
        noted = noted or not whole
    if error and isinstance(first := parts[0], Text):
        parts[0] = Text(f"Error: {first.text}")
    if ran.cut and not noted:
        parts.append(Text(f"[cut: there were at least {total} bytes]"))
    return ToolResult(call_id, tuple(parts) or (Text(""),), is_error=bool(error))


def shown(text: str, limit: int, redactor: Redactor) -> str:
    """`text` without secrets, at most `limit` bytes of it, saying so where there was more."""
    kept, whole = _beginning(text, limit, redactor)
    return kept if whole else f"{kept}\n{_note(limit, size_of(Text(text)))}"


def _beginning(text: str, limit: int, redactor: Redactor, *, halved: bool = False) -> tuple[str, bool]:
    """At most `limit` bytes of `text` without secrets, and whether that is all. halved: it goes on where it ends."""
    looked_at = text[: limit + MARGIN]
    halved = halved or len(text) > len(looked_at)
    encoded = redactor.redacted(looked_at).encode("utf-8", "surrogatepass")
    if len(encoded) <= limit and not halved:
        return encoded.decode("utf-8", "surrogatepass"), True
    end = min(limit, len(encoded) - _untouched(looked_at, encoded)) if halved else limit
    return encoded[:end].decode("utf-8", "ignore"), False


def _untouched(text: str, encoded: bytes) -> int:
    """Bytes at the end of what was looked at that may be half a secret, known by nothing: MARGIN of them at most.

    They stand beyond the limit, unless what was taken out before them makes room for them.
    """
    pairs = zip(reversed(text.encode("utf-8", "surrogatepass")[-MARGIN:]), reversed(encoded), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _note(limit: int, size: int) -> str:
    return f"[cut: the first {limit} of {size} bytes]"


def text_of(result: ToolResult) -> str:
    """The text of a result, as the caller is shown it."""
    return "\n".join(part.text for part in result.parts if isinstance(part, Text))
