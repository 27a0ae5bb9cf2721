"""The part of the gateway's configuration that bounds a request's loop of models and tools.

Above it: `tool_settings`. Below it: `setting`, `pipelines.turns`. Outside it: which tools there are.
"""

import re
from typing import Self, TypeVar

from pydantic import Field, model_validator

from deployments.settings.setting import Settings
from pipelines.options import ToolOptions
from pipelines.turns import Limits

Number = TypeVar("Number", int, float)


class LoopSettings(Settings):
    """How far a request that runs tools may go. A request may ask for less (`penstock.tools`), never for more."""

    max_turns: int = Field(10, ge=1, description="Answers of models for one request.")
    max_calls: int = Field(32, ge=0, description="Calls of tools for one request.")
    parallel: int = Field(8, ge=1, description="Calls of one turn that run at the same time.")
    call_seconds: float = Field(30.0, gt=0, description="Seconds of one call, where the tool's own limit is not less.")
    max_seconds: float = Field(600.0, gt=0, description="Seconds after which no further turn is asked for.")
    max_cost: float | None = Field(None, ge=0, description="US dollars after which no further turn is asked for.")
    max_result: int = Field(65_536, ge=256, description="Bytes of one result's text that a model is shown.")
    repeats: int = Field(3, ge=2, description="The same call that often ends the loop, and is not run.")
    mistakes: int = Field(2, ge=0, description="Bad calls that a model may make; the next one ends the loop.")
    same_model: bool = Field(False, description="Whether all turns of a request go to the model of the first.")
    allow: tuple[str, ...] | None = Field(None, description="Tools that may run, as patterns of names; else all.")
    deny: tuple[str, ...] = Field((), description="Tools that may not run, whatever `allow` says.")
    approve: tuple[str, ...] = Field(
        (), description="Tools of which a person allows each call, beside those that want it themselves."
    )
    approval_seconds: float = Field(3600.0, gt=0, description="Seconds that a call waits for that person.")
    redact: tuple[str, ...] = Field(
        (), description="Regular expressions of what is taken out of results and logs, beside known secrets."
    )

    @model_validator(mode="after")
    def _can_be_matched(self) -> Self:
        for pattern in self.redact:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"redact has a pattern that is none: {error}") from None
        return self

    def limits(self, asked: ToolOptions) -> Limits:
        """As the loop takes them: the lesser of what is configured and what a request asks for."""
        return Limits(
            turns=_least(self.max_turns, asked.max_turns),
            calls=_least(self.max_calls, asked.max_calls),
            parallel=_least(self.parallel, asked.parallel),
            call_seconds=_least(self.call_seconds, asked.call_seconds),
            seconds=_least(self.max_seconds, asked.max_seconds),
            cost=asked.max_cost if self.max_cost is None else _least(self.max_cost, asked.max_cost),
            result=_least(self.max_result, asked.max_result),
            repeats=self.repeats,
            mistakes=self.mistakes,
        )


def _least(configured: Number, asked: Number | None) -> Number:
    return configured if asked is None else min(configured, asked)
