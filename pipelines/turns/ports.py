"""What the loop asks of the floors above: a model for a turn, and somebody who takes notes.

Above it: `loop`, the gateway's tool lane. Below it: `conversation`, `events`, `tools`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple, Protocol

import msgspec

from pipelines.conversation import Json, Message, Request, ToolCall, ToolResult
from pipelines.events import Event, Started
from pipelines.tools.arguments import Checker
from pipelines.tools.catalogue import Exit, Tool, Toolbox
from pipelines.tools.policy import Rights
from pipelines.tools.redaction import Redactor
from pipelines.turns.limits import Limits, Tally


class Model(Protocol):
    """Who answers a turn."""

    @property
    def answered(self) -> str:
        """Who gave the last answer, in words that `ask` takes; "" where that is not known."""

    @property
    def cost(self) -> float:
        """US dollars of all turns so far, as far as they are known."""

    def ask(self, request: Request, pinned: str) -> AsyncGenerator[Event, None]:
        """One whole answer in the grammar of `events`. pinned: who must give it, "" for anybody.

        Raises UpstreamError where it breaks, PenstockError where nobody answers.
        """


class CallRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One call of a tool as the log has it, whatever became of it.

    turn: from 0; call: its id in the answer; arguments: its fingerprint; preview: the beginning of the arguments
    without secrets; decisions: what each step of the policy said, in order; seconds: that it ran; size: bytes of its
    result before it was cut.
    """

    turn: int
    call: str
    tool: str
    source: str = ""
    arguments: str = ""
    preview: str = ""
    decisions: tuple[str, ...] = ()
    exit: Exit = "ok"
    seconds: float = 0.0
    size: int = 0
    cut: bool = False


class Paused(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A loop that waits until a person has allowed or denied one call: all that is needed to go on with it, anywhere.

    request: as the next turn has it, without the turn that is waiting; message: that turn; results: those of its calls
    that are answered; call: the id of the one that waits; arguments: its fingerprint; definition: the tool's;
    answered: who gave the turn.
    """

    request: Request
    message: Message
    call: ToolCall
    arguments: str
    definition: str = ""
    results: tuple[ToolResult, ...] = ()
    tally: Tally = msgspec.field(default_factory=Tally)
    started: Started = Started()
    answered: str = ""


class Resumed(NamedTuple):
    """A loop that goes on: allowed says what became of the call that waited."""

    paused: Paused
    allowed: bool


Holding = Callable[[Paused], Awaitable[dict[str, Json]]]
"""Keeps a loop that waits, durably; what the caller is told of it. Raises PenstockError where it cannot be kept."""

Guarding = Callable[[Tool, dict[str, Json]], Awaitable[str]]
"""Looks at arguments as the tool's guards want it: why they are refused, in words for the model; "" if they are not."""


async def unguarded(tool: Tool, arguments: dict[str, Json]) -> str:
    """Refuses what has guards, since nobody here looks at them."""
    return "its arguments cannot be checked here" if tool.policy.guards else ""


class Setting(NamedTuple):
    """One request's loop: what it may use, and by what.

    tools: those that were offered, by name; now: seconds of a clock that only goes forward; record: takes the log's
    rows; approves: whether a person must allow each call of this tool; hold: keeps what waits for that, None where
    nobody can be asked; id: of the request, for the ids of calls; request_id: the caller's own; key: the id of his key;
    same_model: every turn goes to the model of the first.
    """

    toolbox: Toolbox
    tools: dict[str, Tool]
    rights: Rights
    limits: Limits
    checker: Checker
    redactor: Redactor
    now: Callable[[], float]
    record: Callable[[CallRecord], None]
    approves: Callable[[Tool], bool] = lambda tool: tool.policy.requires_approval
    guard: Guarding = unguarded
    hold: Holding | None = None
    id: str = ""
    request_id: str = ""
    key: str = ""
    same_model: bool = False
