"""Stop reasons of the Messages API and ours.

Source: Anthropic API reference, "Handling stop reasons"; "Compaction": with `pause_after_compaction`, and on demand,
the turn stops for the caller to go on from the summary.

Above it: the decoder, the encoder and the answers of this package. Below it: `events`.
"""

from pipelines.events import Finished, FinishReason

_READ: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
    "compaction": "pause",
}

_WRITTEN: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "other": "end_turn",
}


def read_reason(raw: str) -> FinishReason:
    """Our reason for the provider's word; "other" for one that is not known."""
    return _READ.get(raw, "other")


def write_reason(finished: Finished, *, refused: bool) -> str:
    """The word of the wire; the provider's own where it is one of this dialect's and means the same.

    refused: the answer holds a refusal, which callers of this dialect learn from the stop reason alone.
    """
    if refused and finished.reason == "stop":
        return "refusal"
    if _READ.get(finished.raw_reason) == finished.reason:
        return finished.raw_reason
    return _WRITTEN[finished.reason]
