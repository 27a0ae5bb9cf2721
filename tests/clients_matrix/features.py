"""What every client is asked to do, and what must come of it: the one description that all runners share.

A runner is a small script in the client's own language. It reads a `Task` as JSON from its only argument, does each
feature with each target through its client, and writes one line of JSON for each: `{"target", "feature", "saw"}`, or
`{"target", "feature", "error"}` with what the client raised. Runners judge nothing; `fault` does.

    chat         saw {"text"}
    stream       saw {"pieces": [text]}
    tool_call    saw {"name", "arguments", "text"}: the call, and the answer once the tool's result was handed back
    tool_stream  the same, both turns streamed; a client with tools of its own saw {"own", "text"}
    usage        saw {"unary": [input, output], "stream": [input, output]}, in tokens; a client may lack one of them
    error        saw {case: {"kind", "status", "message"}} for the cases "model", "key" and "stream"; a status of null
                 is one that the client does not tell

What a client cannot do it reports as `null`.

Above it: `__main__`. Below it: msgspec. Outside it: processes, clients.
"""

from collections.abc import Callable
from typing import Any

import msgspec

FEATURES = ("chat", "stream", "tool_call", "tool_stream", "usage", "error")

QUESTION = "What is the weather in Oslo?"
RESULT = "sunny in Oslo"
WRONG_KEY = "psk-wrong"

TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Target(msgspec.Struct, frozen=True):
    """A model to be asked through the gateway.

    url: the gateway, without `/v1`. broken: a model whose stream fails in the middle, "" for none; absent: one that
    does not exist. named: whether it calls a tool only if the request names it. steady: whether its words and its
    usage are known; those of the real model are not, and its server counts no tokens in a stream.
    """

    name: str
    url: str
    key: str
    model: str
    broken: str = ""
    absent: str = "nobody/nothing"
    named: bool = False
    steady: bool = True


class Task(msgspec.Struct, frozen=True):
    """All that a runner is told."""

    targets: tuple[Target, ...]
    question: str = QUESTION
    result: str = RESULT
    wrong_key: str = WRONG_KEY
    tool: dict[str, Any] = msgspec.field(default_factory=lambda: TOOL)
    max_tokens: int = 500


Saw = dict[str, Any]

NOTHING = "no text"
"""The fault of an answer without words."""

CHANCE = (NOTHING, "max_output_tokens", "length limit", "maximum output retries")
"""What a real model may do to a client that is in order: say nothing, or not stop."""


def fault(feature: str, saw: Saw, target: Target) -> str:
    """What is wrong with what a client saw, in one line; "" if nothing is."""
    try:
        return _CHECKS[feature](saw, target)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"cannot be read ({type(error).__name__}: {error}): {saw}"


def _chat(saw: Saw, target: Target) -> str:
    return _said(saw["text"], f"You said: {QUESTION}", target)


def _stream(saw: Saw, target: Target) -> str:
    if target.steady and len([piece for piece in saw["pieces"] if piece]) < 2:
        return f"not streamed: {saw['pieces']}"
    return _said("".join(saw["pieces"]), f"You said: {QUESTION}", target)


def _tool(saw: Saw, target: Target) -> str:
    if "own" in saw:
        return _said(saw["text"], "The tool says: ", target)
    if saw["name"] != TOOL["name"]:
        return f"called {saw['name']!r}"
    if list(saw["arguments"]) != ["city"] or not isinstance(saw["arguments"]["city"], str):
        return f"arguments {saw['arguments']}"
    return _said(saw["text"], f"The tool says: {RESULT}", target)


def _said(text: str, opening: str, target: Target) -> str:
    if not text.strip():
        return NOTHING
    return f"said {text[:60]!r}" if target.steady and not text.startswith(opening) else ""


def _usage(saw: Saw, target: Target) -> str:
    if not target.steady:
        return ""
    if not saw or any(not (isinstance(count, int) and count > 0) for counts in saw.values() for count in counts):
        return f"usage {saw}"
    return f"usage differs: {saw}" if len({tuple(counts) for counts in saw.values()}) > 1 else ""


def _error(saw: Saw, target: Target) -> str:
    expected = {"model": (404, "nothing"), "key": (401, "")} | ({"stream": (0, "broke down")} if target.broken else {})
    for case, (status, words) in expected.items():
        if case not in saw:
            return f"{case}: no error"
        said = saw[case]
        if said is None:
            continue
        if status and said["status"] not in (status, None):
            return f"{case}: {said}"
        if words not in said["message"]:
            return f"{case}: the message is lost: {said}"
    return ""


_CHECKS: dict[str, Callable[[Saw, Target], str]] = {
    "chat": _chat,
    "stream": _stream,
    "tool_call": _tool,
    "tool_stream": _tool,
    "usage": _usage,
    "error": _error,
}
