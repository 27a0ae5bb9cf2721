"""What a caller hears: an answer on a raw socket, read by itself and not by the code that it tests.

Above it: the parts. Below it: `tests.clients`. Outside it: what was to be expected.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.clients import BrokenBody, Caller, Frame
from tests.cluster.running import KEY
from tests.faults.ways import Dialect

PATIENCE = 40.0
"""Seconds without a byte after which a caller gives up."""


class Heard(msgspec.Struct):
    """One answer as the caller had it.

    status: 0 where none came; reason: the finish reason; sentinels: how often the stream's end was said; error: the
    code or type of the error that was said; broken: how the transfer broke; wrong: what no answer may hold.
    tools: name and arguments of each tool call; seconds: to the end; first: to the first text.
    """

    status: int = 0
    headers: Mapping[str, str] = {}
    text: list[str] = []
    reason: str = ""
    sentinels: int = 0
    error: str = ""
    message: str = ""
    broken: str = ""
    wrong: str = ""
    usage: Any = None
    tools: dict[int, list[str]] = {}
    stream: bool = True
    seconds: float = 0.0
    first: float = 0.0

    @property
    def words(self) -> str:
        """All text."""
        return "".join(self.text)

    @property
    def complete(self) -> bool:
        """Whether the answer says of itself that it is whole."""
        ended = self.sentinels > 0 if self.stream else True
        return self.status == 200 and ended and bool(self.reason) and not self.error and not self.broken

    @property
    def provider(self) -> str:
        """Who answered, by the response header."""
        return self.headers.get("x-penstock-provider", "")


async def ask(
    url: str,
    path: str,
    dialect: Dialect,
    body: dict[str, Any],
    *,
    key: str = KEY,
    timeout: float = PATIENCE,
    headers: Mapping[str, str] = {},
) -> Heard:
    """Post `body` on a connection of its own and hear the answer to its end. Raises nothing of the network's."""
    heard = Heard(stream=bool(body.get("stream")), text=[], tools={})
    began = time.monotonic()
    try:
        async with await Caller.connect(url, timeout=timeout) as caller:
            await caller.request("POST", path, body, headers={"authorization": f"Bearer {key}", **headers})
            await hear(caller, dialect, heard, began)
    except (BrokenBody, OSError) as error:
        heard.broken = str(error) or type(error).__name__
    except TimeoutError:
        heard.broken = f"nothing for {timeout:g} s"
    heard.seconds = time.monotonic() - began
    return heard


async def hear(caller: Caller, dialect: Dialect, heard: Heard, began: float) -> None:
    """Read one response into `heard`. Raises BrokenBody, OSError, TimeoutError where it ends too early."""
    head = await caller.head()
    heard.status, heard.headers = head.status, head.headers
    if not head.headers.get("content-type", "").startswith("text/event-stream"):
        if heard.stream and head.status == 200:
            heard.wrong = "a stream was asked for"
        whole(await caller.body(), dialect, heard)
        return
    while (frame := await caller.frame()) is not None:
        take(frame, dialect, heard)
        if heard.text and not heard.first:
            heard.first = time.monotonic() - began


def whole(raw: bytes, dialect: Dialect, heard: Heard) -> None:
    """An answer or an error without a stream."""
    try:
        body = json.loads(raw)
    except ValueError:
        heard.wrong = heard.wrong or f"no JSON: {raw[:60]!r}"
        return
    if "error" in body or heard.status != 200:
        said(body, heard)
    elif dialect == "chat":
        choice = body["choices"][0]
        heard.text.append(choice["message"].get("content") or "")
        heard.reason, heard.usage = choice["finish_reason"] or "", body.get("usage")
        for number, call in enumerate(choice["message"].get("tool_calls") or ()):
            heard.tools[number] = [call["function"]["name"], call["function"]["arguments"]]
    else:
        heard.text += [block["text"] for block in body["content"] if block["type"] == "text"]
        heard.reason, heard.usage = body["stop_reason"] or "", body.get("usage")
        for number, block in enumerate(block for block in body["content"] if block["type"] == "tool_use"):
            heard.tools[number] = [block["name"], json.dumps(block["input"])]


def take(frame: Frame, dialect: Dialect, heard: Heard) -> None:
    """One event of a stream."""
    if not frame.data:
        return
    if heard.sentinels and dialect == "messages":
        heard.wrong = "an event after the end"
    if dialect == "chat" and frame.data == b"[DONE]":
        heard.sentinels += 1
        return
    try:
        body = json.loads(frame.data)
    except ValueError:
        heard.wrong = f"an event that is no JSON: {frame.data[:60]!r}"
        return
    if body.get("error"):
        said(body, heard)
    elif dialect == "chat":
        take_chat(body, heard)
    else:
        take_message(body, heard)


def take_chat(body: dict[str, Any], heard: Heard) -> None:
    """One chunk of a chat completion."""
    heard.usage = body.get("usage") or heard.usage
    for choice in body.get("choices", ()):
        delta = choice.get("delta") or {}
        if delta.get("content"):
            heard.text.append(delta["content"])
        for call in delta.get("tool_calls") or ():
            name_and_arguments = heard.tools.setdefault(call["index"], ["", ""])
            name_and_arguments[0] += call["function"].get("name") or ""
            name_and_arguments[1] += call["function"].get("arguments") or ""
        heard.reason = choice.get("finish_reason") or heard.reason


def take_message(body: dict[str, Any], heard: Heard) -> None:
    """One event of Anthropic's stream."""
    kind, delta = body["type"], body.get("delta") or {}
    if kind == "content_block_start" and body["content_block"]["type"] == "tool_use":
        heard.tools[body["index"]] = [body["content_block"]["name"], ""]
    elif kind == "content_block_delta" and delta["type"] == "text_delta":
        heard.text.append(delta["text"])
    elif kind == "content_block_delta" and delta["type"] == "input_json_delta":
        heard.tools[body["index"]][1] += delta["partial_json"]
    elif kind == "message_delta":
        heard.reason = delta.get("stop_reason") or heard.reason
        heard.usage = body.get("usage")
    elif kind == "message_stop":
        heard.sentinels += 1


def said(body: dict[str, Any], heard: Heard) -> None:
    """The error that an answer or an event says."""
    error = body.get("error")
    if not isinstance(error, dict):
        heard.wrong = f"an error in no dialect: {str(body)[:60]}"
        return
    heard.error = str(error.get("code") or error.get("type") or "unnamed")
    heard.message = str(error.get("message") or "")
