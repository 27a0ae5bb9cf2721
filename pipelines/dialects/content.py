"""How much a relayed frame says: asked of each, so that an answer which nobody sees to its end can be counted.

One typed reading a frame, whatever the dialect: it tells whether the frame is JSON at all, and takes no longer than
twice what that alone would. What stands in no known member (sound, logprobs) counts nothing.

Above it: `exchange`, `verbatim`. Below it: msgspec.
"""

import msgspec

from pipelines.prompt_tokens import length


class _Function(msgspec.Struct):
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    """What is new in a chat's choice or in an Anthropic block; OpenAI Responses say a text in its place."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Choice(msgspec.Struct):
    """Of a chat, or (`text`) of a legacy completion."""

    delta: _Delta | None = None
    text: str | None = None


class _Frame(msgspec.Struct):
    choices: list[_Choice] | None = None
    delta: _Delta | str | None = None


_read = msgspec.json.Decoder(_Frame).decode


def bytes_of_content(raw: bytes) -> int:
    """Bytes of text (UTF-8) that a raw frame adds to the answer; -1 where it is no frame of a known form."""
    start = raw.find(b"data:")
    if start < 0:
        return -1
    try:
        frame = _read(raw[start + 5 :])
    except msgspec.DecodeError:
        return -1
    if not frame.choices:
        return _size(frame.delta)
    return sum([_size(choice.delta) if choice.delta is not None else _size(choice.text) for choice in frame.choices])


def _size(said: _Delta | str | None) -> int:
    if said is None:
        return 0
    if isinstance(said, str):
        return length(said)
    size = 0
    thought = said.reasoning_content or said.reasoning or said.thinking
    for text in (said.content or said.text, thought, said.partial_json or said.refusal):
        if text:
            size += length(text)
    for call in said.tool_calls or ():
        if call.function is not None and call.function.arguments:
            size += length(call.function.arguments)
    return size
