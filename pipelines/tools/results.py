"""What became of a call, as the model is told: cut to size, secrets out, always an answer.

A result is data. It is text in a message of the role "tool" and nothing else: it names no tools and moves no limit.

Above it: `turns`. Below it: `catalogue`, `redaction`, `conversation`.
"""

from pipelines.conversation import File, Image, Text, ToolResult
from pipelines.tools.catalogue import Exit, Ran
from pipelines.tools.redaction import Redactor

MARGIN = 4096
"""Characters beyond the limit that are looked at for secrets: the cut must not hide what one is known by."""

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


def result_of(call_id: str, ran: Ran, limit: int, redactor: Redactor) -> ToolResult:
    """The answer to a call that ran. limit: bytes of it that the model is shown; pictures and files count too."""
    parts: list[Text | Image | File] = []
    left = limit
    error = ran.error or ("" if ran.exit == "ok" else _WORDS[ran.exit])
    if error:
        parts.append(Text(f"Error: {shown(error, limit, redactor)}"))
        left -= len(error)
    for part in ran.parts:
        if isinstance(part, Text):
            parts.append(Text(shown(part.text, max(left, 0), redactor)))
            left -= len(part.text.encode("utf-8", "surrogatepass"))
        elif (size := _size(part)) <= left:
            parts.append(part)
            left -= size
        else:
            parts.append(Text(f"[{type(part).__name__} of {size} bytes: too large to be shown]"))
    return ToolResult(call_id, tuple(parts) or (Text(""),), is_error=bool(error))


def shown(text: str, limit: int, redactor: Redactor) -> str:
    """`text` without secrets, at most `limit` bytes of it, saying so where there was more."""
    looked_at = redactor.redacted(text[: limit + MARGIN])
    encoded = looked_at.encode("utf-8", "surrogatepass")
    if len(encoded) <= limit and len(text) <= limit + MARGIN:
        return looked_at
    kept = encoded[:limit].decode("utf-8", "ignore")
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"{kept}\n[cut: the first {limit} of {size} bytes]"


def text_of(result: ToolResult) -> str:
    """The text of a result, as the caller is shown it."""
    return "\n".join(part.text for part in result.parts if isinstance(part, Text))


def _size(part: Image | File) -> int:
    return len(part.data) + len(part.url) + (len(part.text) if isinstance(part, File) else 0)
