"""The same dialect on both sides: what is changed of a caller's body and of a provider's frames. It is little.

Above it: `dialect`. Below it: msgspec.
"""

import re
from collections.abc import Mapping

import msgspec

from pipelines.conversation import Json
from pipelines.dialects import base

TELLING = re.compile(
    rb"\A(?!data: ?\{(?:[^:\r\n]*+:(?!(?<=[nertx]\":)(?:"
    rb'(?<=finish_reason":)\s*"[^"]|(?<="usage":)\s*\{|(?<="error":)\s*[^\sn]|(?<="object":)\s*"error"'
    rb'|(?<="index":)\s*[1-9]|(?<="status_code":)\s*[1-9])))*+[^:\r\n]*+[\r\n]*+\Z)'
)
"""Matches a frame that is more than content of the first choice.

Written as what content is: one line `data: {…`, in which no colon is that of a finish reason, a usage object, an
error or its status (MiniMax), or an index above 0 (a second choice or tool call, which the decoder must know of).
Inside a JSON string every quote is escaped, so `"usage":` stands only for a member. Going from colon to colon costs a
third of what an alternation of names costs.
"""


def relay_request(body: dict[str, Json], model: str) -> dict[str, Json]:
    """See `base.Dialect.relay_request`."""
    sent = base.relay_request(body, model)
    if sent.get("stream") is True:
        options = sent.get("stream_options")
        sent["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return sent


def relay_frame(raw: bytes, body: Mapping[str, Json]) -> bytes:
    """See `base.Dialect.relay_frame`: only the chunk that holds nothing but usage is withheld."""
    if b'"usage"' not in raw or wants_usage(body):
        return raw
    start = raw.find(b"data:")
    try:
        chunk = msgspec.json.decode(raw[start + 5 :])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    only_usage = isinstance(chunk, dict) and chunk.get("usage") and not chunk.get("choices") and not chunk.get("error")
    return b"" if only_usage else raw


def set_cost(chunk: dict[str, Json], cost: float | None) -> bool:
    """See `base.Dialect.set_cost`: the member `cost` of the usage, as OpenRouter has it ("Usage accounting").

    What the provider says itself stays.
    """
    usage = chunk.get("usage")
    if not isinstance(usage, dict) or usage.get("cost") is not None:
        return False
    usage["cost"] = cost
    return True


def wants_usage(body: Mapping[str, Json]) -> bool:
    """Whether the caller asked for the usage of his stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
