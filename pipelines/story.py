"""What became of one call, gathered on its way: for the request log's line and for traces.

A call's copies share one story. Where nobody traces, `trace` is None, and that is all that tracing costs.

Above it: `calls`, whoever answers them. Below it: `routing.table`. Outside it: how a trace is told.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from pipelines.routing.table import Outcome

MOST_TOLD = 64
"""Attempts, and runs of tools, of one call that are told; the rest are in the ledger and the metrics."""

Attributes = Mapping[str, str | int | float | bool | tuple[str, ...]]


class Trace(Protocol):
    """One span of a trace, open until `end`."""

    def child(self, name: str, attributes: Attributes, *, asks: bool = False) -> "Trace":
        """A span below this one. asks: it stands for a request to somebody else (OpenTelemetry's kind CLIENT)."""

    def tell(self, attributes: Attributes) -> None:
        """More about it."""

    def headers(self) -> dict[str, str]:
        """What makes a request that is sent on part of this span (W3C Trace Context)."""

    def end(self, error: str = "") -> None:
        """It is over; error: one word for why it failed. Further calls do nothing."""

    @property
    def captures(self) -> bool:
        """Whether text of prompts and answers may be told."""


class ToolRun(NamedTuple):
    """One run of a tool; error: one word for why it failed, "" if it did not."""

    name: str
    seconds: float
    error: str = ""


class Story:
    """trace: the request's span; route: why these candidates, "" where the caller chose; attempts: how each attempt
    went, in the order of their ends; tools: likewise.
    """

    __slots__ = ("attempts", "route", "tools", "trace")

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self.route = ""
        self.attempts: list[Outcome] = []
        self.tools: list[ToolRun] = []

    def attempted(self, outcome: Outcome) -> None:
        """An attempt has ended."""
        if len(self.attempts) < MOST_TOLD:
            self.attempts.append(outcome)

    def last(self, provider: str = "") -> Outcome | None:
        """The attempt that a call without a whole answer ended with: the last one at `provider`, else of all."""
        at = [outcome for outcome in self.attempts if outcome.provider == provider] or self.attempts
        return at[-1] if at else None

    def ran(self, run: ToolRun) -> None:
        """A tool has been run."""
        if len(self.tools) < MOST_TOLD:
            self.tools.append(run)
