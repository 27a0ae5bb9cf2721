"""This dialect's share of `opaque`, and how other dialects' reasoning travels through an Anthropic caller.

A caller keeps a thinking block's `signature` and sends it back unread. Encrypted reasoning of another provider
therefore travels in it, sealed (`sealing`), and comes out again unchanged. Anthropic itself is never sent a sealed
signature.

What stands under this dialect's name:
- Text: `citations`, `cache_control`, `deltas` (unknown streamed deltas); Image, File, ToolResult: `cache_control` and
  whatever else the block has; a source that no attribute expresses stands whole under `source`
- Reasoning: `signature`, or `data` for redacted thinking; ToolCall: `caller`, `cache_control`
- Finished: the members of the last `delta` that no attribute stands for, and under `beside` those of its event
- Foreign, and a File that was a search result: the block, whole
- ToolSpec: a server tool whole, or the fields of a custom one that no attribute stands for

Above it: the readers, writers, decoder and encoder of this package. Below it: `conversation`, `sealing`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Opaque
from pipelines.dialects.sealing import SEAL, opened, sealed

NAME = "anthropic_messages"
"""The dialect's key in `DIALECTS`, `opaque` and `extra`."""


_BESIDE = "beside"


def own(opaque: Opaque | None) -> dict[str, Json]:
    """What this dialect has in `opaque`, {} if nothing."""
    share = (opaque or {}).get(NAME)
    return share if isinstance(share, dict) else {}


def owned(fields: Mapping[str, Json]) -> Opaque | None:
    """`fields` as this dialect's share; None if there are none."""
    return {NAME: dict(fields)} if fields else None


def seal(opaque: Opaque | None) -> str:
    """The signature to show for a reasoning part: its own, or a sealed one, or "" if it has neither."""
    signature = own(opaque).get("signature")
    if isinstance(signature, str) and signature:
        return signature
    return sealed({key: value for key, value in (opaque or {}).items() if key != NAME})


def unseal(signature: str) -> Opaque | None:
    """What a reasoning part with this signature holds: other dialects' values, or the signature itself."""
    if not signature.startswith(SEAL):
        return owned({"signature": signature}) if signature else None
    return opened(signature)


def ending(delta: Mapping[str, Json], beside: Mapping[str, Json]) -> Opaque | None:
    """What the end of an answer brings: members of its `delta`, and members beside it."""
    return owned({**delta, **({_BESIDE: dict(beside)} if beside else {})})


def ended(opaque: Opaque | None) -> tuple[dict[str, Json], dict[str, Json]]:
    """What `ending` put together: members of `delta`, and members beside it."""
    delta = dict(own(opaque))
    beside = delta.pop(_BESIDE, {})
    return delta, beside if isinstance(beside, dict) else {}


def rest(source: Mapping[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """The fields outside `known` that say something: no nulls."""
    return {key: value for key, value in source.items() if key not in known and value is not None}
