"""Reasoning on the chat wire, which OpenAI's own answers do not have and every imitator writes differently.

DeepSeek, vLLM, llama.cpp, xAI: `reasoning_content`. OpenRouter, Groq, Ollama, newer vLLM: `reasoning`. OpenRouter
also: `reasoning_details`, a list with signatures and encrypted thoughts, which it wants back unchanged
(https://openrouter.ai/docs/use-cases/reasoning-tokens). Mistral and Databricks: parts of `content`, of the types
`thinking` and `reasoning`, wanted back as such (https://docs.mistral.ai/studio-api/conversations/reasoning,
https://docs.databricks.com/aws/en/machine-learning/model-serving/query-reason-models).

Under "openai_chat", the `opaque` of a `Reasoning` part holds `field`, the name that was used, `reasoning_details`, and
the `signature` of a part of `content`; `calls`, what it carries for the calls of its message. Callers are given
`reasoning_content`, which most clients read.

Above it: the readers and writers of this package. Below it: `conversation`.
"""

from collections.abc import Iterable, Iterator

from pipelines.conversation import Json, Opaque, Part, Reasoning

KEY = "openai_chat"
"""The name of this dialect in `opaque` and `extra`."""

FIELD = "reasoning_content"
"""The member in which callers are given reasoning."""

SIGNED = frozenset(("extra_content",))
"""Members of a tool call that its provider wants back with it (Gemini)."""

_PARTS = {"thinking": ("thinking", "text"), "reasoning": ("summary", "summary_text")}
"""Types of the parts of `content` that hold thoughts: the member with their pieces, and the type of a piece."""

_FIELDS = (FIELD, "reasoning")

_WORDS = {"reasoning.text": "text", "reasoning.summary": "summary"}


def thought(holder: dict[str, Json]) -> tuple[str, str, list[Json]]:
    """(field, text, details) of a delta or a message; all empty where there is no reasoning.

    Where a server sends both fields they say the same, and the first one counts. The details' own words are not
    in `text`: see `words`.
    """
    given = holder.get("reasoning_details")
    details: list[Json] = given if isinstance(given, list) else []
    for field in _FIELDS:
        text = holder.get(field)
        if isinstance(text, str) and text:
            return field, text, details
    return "reasoning" if details else "", "", details


def words(details: list[Json]) -> str:
    """The words of details, for a server that sends them in no other member."""
    return "".join(_words(detail) for detail in details)


def joined(details: list[Json]) -> list[Json]:
    """Streamed fragments as whole details: neighbours of one kind and index are one, their words joined."""
    whole: list[Json] = []
    for detail in details:
        last: Json = whole[-1] if whole else {}
        word = _word(detail)
        if word and word == _word(last) and last.get("index") == detail.get("index"):
            given = {key: value for key, value in detail.items() if value is not None}
            whole[-1] = {**last, **given, word: _words(last) + _words(detail)}
        else:
            whole.append(detail)
    return whole


def thoughts_in(part: dict[str, Json]) -> Iterator[tuple[str, str, str]]:
    """(field, text, signature) of each piece of a part of `content`; none where it holds no thoughts."""
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        return
    inner = part.get(_PARTS[kind][0])
    for piece in inner if isinstance(inner, list) else [{"text": inner}]:
        said = piece if isinstance(piece, dict) else {}
        text, signature = said.get("text"), said.get("signature")
        yield (
            f"content.{kind}",
            text if isinstance(text, str) else "",
            signature if isinstance(signature, str) else "",
        )


def thinking_part(text: str, share: dict[str, Json]) -> dict[str, Json] | None:
    """A thought as the part of `content` that it came in; None for one that came in a member of its own."""
    kind = str(share.get("field")).removeprefix("content.")
    if kind not in _PARTS or share.get("field") == kind:
        return None
    member, piece = _PARTS[kind]
    signed = {"signature": share["signature"]} if share.get("signature") else {}
    return {"type": kind, member: [{"type": piece, "text": text, **signed}]}


def unthought(messages: list[Json]) -> list[Json]:
    """Messages for a server that knows neither thoughts in `content` nor signed calls.

    A message of which nothing is left is an empty text.
    """
    return [_unthought(message) if isinstance(message, dict) else message for message in messages]


def _unthought(message: dict[str, Json]) -> dict[str, Json]:
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list) and any(isinstance(part, dict) and part.get("type") in _PARTS for part in content):
        kept = [part for part in content if not isinstance(part, dict) or part.get("type") not in _PARTS]
        message = {**message, "content": kept or ""}
    if isinstance(calls, list) and any(isinstance(call, dict) and SIGNED & call.keys() for call in calls):
        bare = [{name: value for name, value in call.items() if name not in SIGNED} for call in calls]
        message = {**message, "tool_calls": bare}
    return message


def mark(field: str, details: list[Json]) -> Opaque:
    """What a `Reasoning` part carries, so that it can be handed back as it came."""
    return {KEY: {"field": field, **({"reasoning_details": details} if details else {})}}


def mark_calls(calls: dict[str, dict[str, Json]]) -> Opaque:
    """What an empty `Reasoning` part carries for the calls of its message: by their ids, members of them."""
    return {KEY: {"calls": calls}}


def carried(parts: Iterable[Part]) -> dict[str, dict[str, Json]]:
    """What the thoughts among the parts of a message carry for its calls, by their ids."""
    found: dict[str, dict[str, Json]] = {}
    for part in parts:
        calls = own(part.opaque).get("calls") if isinstance(part, Reasoning) else None
        for identity, members in (calls if isinstance(calls, dict) else {}).items():
            if isinstance(members, dict):
                found[identity] = {name: value for name, value in members.items() if name in SIGNED}
    return found


def read_mark(opaque: Opaque | None) -> tuple[str, list[Json]]:
    """(field, details) that `mark` put down. A caller's seal brings them back, who may have put anything in it."""
    share = own(opaque)
    field, details = share.get("field"), share.get("reasoning_details")
    return field if field in _FIELDS else FIELD, details if isinstance(details, list) else []


def own(opaque: Opaque | None) -> dict[str, Json]:
    """This dialect's share of an opaque bag, {} where there is none."""
    share = (opaque or {}).get(KEY)
    return share if isinstance(share, dict) else {}


def _word(detail: Json) -> str:
    """The member of a detail that holds its words, "" where it has none."""
    kind = detail.get("type") if isinstance(detail, dict) else None
    return _WORDS.get(kind, "") if isinstance(kind, str) else ""


def _words(detail: Json) -> str:
    word = _word(detail)
    said = detail.get(word) if word else None
    return said if isinstance(said, str) else ""
