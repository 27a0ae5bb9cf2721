"""This dialect's share of `opaque`, and how other dialects' reasoning travels through a Responses caller.

A caller of Responses keeps a reasoning item's `encrypted_content` and sends it back unread. Signatures of another
provider (Anthropic's, say) therefore travel in it, sealed (`sealing`), and come out again unchanged.

Above it: the readers, writers, decoder and encoder of this package. Below it: `conversation`, `sealing`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Opaque, Reasoning
from pipelines.dialects.openai_responses.fields import objects_of, rest, text_of
from pipelines.dialects.sealing import SEAL, opened, sealed

NAME = "openai_responses"
"""The dialect's key in `DIALECTS`, `opaque` and `extra`."""

CONTENT_PART = "content_part"
"""The key of a `Foreign` that is not an item but content of a message, of a kind that is unknown here."""

OUR_ID = "rs_penstock_"
"""What the ids begin with that we give to reasoning without one of its own; they are not kept."""

BREAK = "\n\n"
"""What stands between the parts of a reasoning summary in `Reasoning.text`."""

_REASONING_FIELDS = frozenset({"id", "type", "status", "summary", "content", "encrypted_content"})


def own(opaque: Opaque | None) -> dict[str, Json]:
    """What this dialect has in `opaque`, {} if nothing."""
    mine = (opaque or {}).get(NAME)
    return mine if isinstance(mine, dict) else {}


def owned(fields: Mapping[str, Json]) -> Opaque | None:
    """`fields` as this dialect's share; None if there are none."""
    return {NAME: dict(fields)} if fields else None


def seal(opaque: Opaque | None) -> str:
    """What other dialects have in `opaque`, as a string for `encrypted_content`; "" if nothing."""
    return sealed({key: value for key, value in (opaque or {}).items() if key != NAME and isinstance(value, dict)})


def unseal(encrypted: str) -> Opaque | None:
    """What `seal` put into the string; None where it is a provider's own, or damaged."""
    shares = opened(encrypted) or {}
    return {key: value for key, value in shares.items() if key != NAME and isinstance(value, dict)} or None


def reasoning_id(item: Mapping[str, Json]) -> dict[str, Json]:
    """The item's id as a field, unless it is one of ours."""
    identity = text_of(item, "id")
    return {"id": identity} if identity and not identity.startswith(OUR_ID) else {}


def reasoning_opaque(item: Mapping[str, Json], form: str) -> Opaque | None:
    """What a reasoning item holds besides its text.

    form: "summary" or "content", whichever of the two the text came from; the other is kept whole. The id is kept
    because OpenAI refuses encrypted content under another id than its own.
    """
    fields = {**reasoning_id(item), **rest(item, _REASONING_FIELDS)}
    encrypted = text_of(item, "encrypted_content")
    opened = unseal(encrypted)
    if encrypted and not encrypted.startswith(SEAL):
        fields["encrypted_content"] = encrypted
    if form == "content":
        fields["form"] = form
    other = "summary" if form == "content" else "content"
    if objects_of(item, other):
        fields[other] = objects_of(item, other)
    merged = {**(opened or {}), **(owned(fields) or {})}
    return merged or None


def reasoning_pieces(part: Reasoning) -> list[str]:
    """The text of a reasoning part, cut into the pieces that it had on this wire."""
    breaks = own(part.opaque).get("breaks")
    pieces, start = [], 0
    for offset in breaks if isinstance(breaks, list) else []:
        if isinstance(offset, int) and offset >= start and part.text.startswith(BREAK, offset):
            pieces.append(part.text[start:offset])
            start = offset + len(BREAK)
    pieces.append(part.text[start:])
    return pieces if part.text else []


def reasoning_item(part: Reasoning, identity: str) -> dict[str, Json]:
    """A reasoning part as an item of this wire. identity: its id where it has none of its own."""
    fields = own(part.opaque)
    kept = {key: value for key, value in fields.items() if key not in ("form", "breaks")}
    pieces = reasoning_pieces(part)
    item: dict[str, Json] = {"type": "reasoning", "id": identity, "summary": []}
    if fields.get("form") == "content":
        item["content"] = [{"type": "reasoning_text", "text": piece} for piece in pieces]
    else:
        item["summary"] = [{"type": "summary_text", "text": piece} for piece in pieces]
    sealed = "" if fields.get("encrypted_content") else seal(part.opaque)
    if sealed:
        item["encrypted_content"] = sealed
    item |= kept
    return item
