"""One line of JSON a request, with its whole story: who, what was asked, what answered and why, what each attempt and
tool did, how it went, what it used. No key; no prompt text, unless that is switched on.

Lines are gathered and written twice a second, off the token path; files rotate, and those of processes that are gone
are deleted in time (`log_files`).

Above it: `front`, `handles`, `replica`. Below it: `content`, `log_files`, `pipelines`, the standard library.
Outside it: the ledger.
"""

import asyncio
import contextlib
import logging
import logging.handlers
import time
from pathlib import Path
from typing import Annotated

import msgspec

from deployments.starting.log_files import SWEEPING, sweep
from deployments.telemetry.content import Listener, question
from pipelines.calls import Answer, Call
from pipelines.conversation import Json
from pipelines.errors import PenstockError, UpstreamError
from pipelines.routing.table import Outcome

FLUSH_SECONDS = 0.5
MAX_FILE = 50 * 1024 * 1024
KEPT_FILES = 3
MAX_WAITING = 10_000
"""Lines that may wait for the disk; further ones are counted and dropped."""

_Parts = list[dict[str, Json]] | None


def said(words: str) -> msgspec.Meta:
    """What a field means, for people (`deployments.reference`)."""
    return msgspec.Meta(description=words)


class Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line, in the order of its fields; None is left out. What is said of each is also in `docs/logs.md`."""

    time: Annotated[float, said("Seconds since 1970, when the line was made.")]
    request: Annotated[str, said("The request's id, as in `x-request-id`; the lines of one request share it.")]
    caller: Annotated[str | None, said("The id of the caller's key.")] = None
    lane: Annotated[str | None, said("`routed`, `direct`, or `hop`: a provider's part of a routed request.")] = None
    dialect: Annotated[str | None, said("The dialect that the request came in.")] = None
    path: Annotated[str, said("The path that was asked, without the provider's prefix.")]
    asked: Annotated[str | None, said("The model as it was asked for.")] = None
    stream: Annotated[bool | None, said("Whether a stream was asked for.")] = None
    tag: Annotated[str | None, said("The caller's `x-penstock-tag`, or `tag` of the body's `metadata`.")] = None
    status: Annotated[int, said("HTTP status; a stream that breaks keeps its 200.")]
    provider: Annotated[str | None, said("Who answered.")] = None
    model: Annotated[str | None, said("The model that answered.")] = None
    route: Annotated[str | None, said("Why, as in `x-penstock-route`.")] = None
    idempotency: Annotated[str | None, said("As in `x-penstock-idempotency`.")] = None
    seconds: Annotated[float, said("Seconds from the request's head to the end of its answer.")]
    queued: Annotated[float | None, said("Seconds that it waited for its turn.")] = None
    first_output: Annotated[float | None, said("Seconds from asking the provider to its first content.")] = None
    input_tokens: Annotated[int | None, said("Tokens of the question, those of the two caches among them.")] = None
    output_tokens: Annotated[int | None, said("Tokens of the answer, those of reasoning among them.")] = None
    cached_read_tokens: Annotated[int | None, said("Tokens that the provider read from its cache.")] = None
    cache_write_tokens: Annotated[int | None, said("Tokens that the provider wrote into its cache.")] = None
    reasoning_tokens: Annotated[int | None, said("Tokens of reasoning.")] = None
    estimated: Annotated[bool | None, said("Whether the numbers of tokens are our estimate.")] = None
    cost: Annotated[float | None, said("US dollars of the attempt that answered; with tools, of all turns.")] = None
    tries: Annotated[int | str | None, said("How often the provider was asked, where that was not once.")] = None
    skipped: Annotated[int | None, said("Malformed frames of the provider that were passed over.")] = None
    attempts: Annotated[_Parts, said("Every attempt, where it was not one that went well.")] = None
    tools: Annotated[_Parts, said("Every run of a tool: `name`, `seconds`, `result`.")] = None
    trace: Annotated[str | None, said("The trace's id.")] = None
    question: Annotated[Json, said("The question's text, where `observability.log_content` is on.")] = None
    answer: Annotated[Json, said("The answer's text, likewise.")] = None
    result: Annotated[str, said("`ok`, `cancelled`, or why it failed.")]


_encode = msgspec.json.Encoder().encode


class RequestLog:
    """Writes to `directory/name.jsonl`; with no directory it writes nothing.

    content: the text of questions and answers is written too.
    """

    def __init__(self, directory: Path | None, name: str, *, content: bool = False) -> None:
        self.content = content and directory is not None
        self._directory = directory
        self._handler: logging.Handler | None = None
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = logging.handlers.RotatingFileHandler(
                directory / f"{name}.jsonl", maxBytes=MAX_FILE, backupCount=KEPT_FILES, delay=True
            )
        self._lines: list[bytes] = []
        self._dropped = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to write."""
        if self._directory is not None:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._write()), loop.create_task(self._sweep(self._directory))]

    def answered(self, call: Call, answer: Answer, seconds: float, listener: Listener | None = None) -> None:
        """The line of a call that had an answer, whole or broken; it took `seconds`. listener: heard the answer."""
        if self._handler is None:
            return
        outcome = answer.outcome
        line = Line(
            time=_now(),
            request=call.id,
            caller=call.caller.id,
            lane=call.lane,
            dialect=call.dialect,
            path=call.path,
            asked=call.request.model[:200],
            stream=call.stream,
            tag=call.account.tag or None,
            status=answer.status,
            route=answer.headers.get("x-penstock-route"),
            idempotency=answer.headers.get("x-penstock-idempotency"),
            seconds=round(seconds, 4),
            queued=round(answer.queued, 4) or None,
            result=answer.result,
        )
        if outcome is None:
            line.provider = answer.headers.get("x-penstock-provider")
            _named(line, call.story.last())
        else:
            _used(line, outcome)
        _tell(line, call)
        if listener is not None:
            line.question, line.answer = question(call), listener.heard()
        self._add(line)

    def refused(self, identity: str, path: str, call: Call | None, error: PenstockError, seconds: float) -> None:
        """The line of a request without an answer; `call` is None where it was not understood."""
        if self._handler is None:
            return
        line = Line(
            time=_now(),
            request=identity,
            path=path[:200],
            status=error.status,
            seconds=round(seconds, 4),
            tries=error.headers.get("x-penstock-tries") if isinstance(error, UpstreamError) else None,
            result=error.label,
        )
        if call is not None:
            line.caller, line.lane, line.dialect, line.stream = call.caller.id, call.lane, call.dialect, call.stream
            line.asked, line.tag = call.request.model[:200], call.account.tag or None
            line.route = call.story.route or None
            if isinstance(error, UpstreamError):
                _named(line, call.story.last(error.provider))
            _tell(line, call)
            if self.content and call.lane != "hop":
                line.question = question(call)
        self._add(line)

    def add(self, **fields: Json) -> None:
        """A line of another kind; fields that are None are left out."""
        if self._handler is not None:
            said = {name: value for name, value in fields.items() if value is not None}
            self._add({"time": _now(), **said})

    def _add(self, line: "Line | dict[str, Json]") -> None:
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
        else:
            self._lines.append(_encode(line))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(_encode({"time": _now(), "dropped_lines": self._dropped}))
            self._dropped = 0
        if lines and self._handler is not None:
            text = b"\n".join(lines).decode()
            self._handler.emit(logging.LogRecord("penstock", logging.INFO, "", 0, text, None, None))

    async def close(self) -> None:
        """Write the rest and close the file."""
        for task in self._tasks:
            task.cancel()
        self.flush()
        if self._handler is not None:
            self._handler.close()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    async def _sweep(self, directory: Path) -> None:
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(sweep, directory, time.time())
            await asyncio.sleep(SWEEPING)


def _now() -> float:
    return round(time.time(), 3)


def _named(line: Line, outcome: Outcome | None) -> None:
    """Who was asked."""
    if outcome is not None and outcome.provider:
        line.provider, line.model = outcome.provider, outcome.model[:200]


def _used(line: Line, outcome: Outcome) -> None:
    """What the attempt that gave the answer took and used."""
    _named(line, outcome)
    if outcome.first_output:
        line.first_output = round(outcome.first_output, 4)
    bill = outcome.bill
    if bill is None:
        line.input_tokens, line.output_tokens = outcome.input_tokens, outcome.output_tokens
    else:
        line.input_tokens, line.output_tokens = bill.input or None, bill.output or None
        line.cached_read_tokens, line.cache_write_tokens = bill.cached_read or None, bill.cache_write or None
        line.reasoning_tokens = bill.reasoning or None
        line.estimated = bill.estimated or None
    line.cost = outcome.cost
    if outcome.tries != 1:
        line.tries = outcome.tries
    line.skipped = outcome.skipped or None


def _tell(line: Line, call: Call) -> None:
    """Attempts, where there was more than the one that the line itself tells of; tools; the trace's id."""
    story = call.story
    if len(story.attempts) > 1 or (story.attempts and (story.attempts[0].reason or story.attempts[0].cancelled)):
        line.attempts = [_attempt(one) for one in story.attempts]
    if story.tools:
        line.tools = [
            {"name": run.name, "seconds": round(run.seconds, 4), "result": run.error or "ok"} for run in story.tools
        ]
    if story.trace is not None:
        line.trace = story.trace.headers().get("traceparent", "")[3:35]


def _attempt(outcome: Outcome) -> dict[str, Json]:
    return {
        "provider": outcome.provider,
        "model": outcome.model[:200],
        "role": outcome.role,
        "seconds": round(outcome.seconds, 4),
        "tries": outcome.tries,
        "result": "cancelled" if outcome.cancelled else outcome.reason or "ok",
    }
