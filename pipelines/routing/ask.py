"""What goes into a decision and what comes out of it: `Ask` and `Decision`.

Above it: `choose`, `worth`, the gateway. Below it: `strategies`, msgspec. Outside it: how the decision is made.
"""

import re
from typing import Literal

import msgspec

from pipelines.conversation import Audio, File, Image, Part, Request, is_picture, parts_of
from pipelines.routing.strategies import Plan

Policy = Literal["quality", "balanced", "cheap", "fast"]

EXPLANATION_LENGTH = 199
"""Characters of `Decision.explain` at most: it travels as a response header."""

SHOWN = 10
"""Candidates that the explanation names at most."""

_UNPRINTABLE = re.compile(r"[^ -~]")


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """Frozen, compact on the wire."""


class Needs(_Value, frozen=True):
    """What a model must be able to do. context is in tokens and a certain minimum, not an estimate.

    shown: pictures stand in results of tools only. A model that was named may be asked all the same: the call has been
    made, and its provider judges.
    """

    vision: bool = False
    shown: bool = False
    audio: bool = False
    tools: bool = False
    json_schema: bool = False
    context: int = 0


def needs_of(request: Request) -> Needs:
    """What a model must be able to do for this request."""
    parts = parts_of(request.messages)
    # There may be thousands of parts, and nearly all of them are text.
    kinds: set[type[Part]] = set(map(type, parts))
    form = request.output_format
    pictures = (Image in kinds or File in kinds) and any(map(is_picture, parts))
    own = pictures and any(is_picture(part) for message in request.messages for part in message.parts)
    return Needs(
        vision=own,
        shown=pictures and not own,
        audio=Audio in kinds,
        tools=bool(request.tools),
        json_schema=form is not None and form.kind == "json_schema",
    )


class Bounds(_Value, frozen=True):
    """What a request demands: US dollars, seconds, expected quality (0 to 1). None: no bound."""

    max_cost: float | None = None
    max_latency: float | None = None
    min_quality: float | None = None


NO_BOUNDS = Bounds()


class Ask(_Value, frozen=True):
    """One question to `choose`.

    wanted: what the caller named, best first: `provider/model`, a bare model name, an alias, or `auto`.
    aliases: what each alias stands for, best first; plans: how it is read where that is not "in this order". turn and
    affinity are those of `strategies.Situation`. prompt_tokens is an estimate; max_tokens bounds the output
    (None: unbounded). allowed: patterns (`openai/*`, `gpt-4o*`) or exact aliases of the caller's key; empty
    allows everything. excluded: (provider, model) that are not to be asked again.
    gateway: this gateway's name as a reporter; in_flight: the (provider, model) that it is asking right now.
    """

    wanted: tuple[str, ...]
    needs: Needs = Needs()
    policy: Policy = "balanced"
    aliases: dict[str, tuple[str, ...]] = {}
    prompt_tokens: int = 0
    max_tokens: int | None = None
    allowed: tuple[str, ...] = ()
    excluded: frozenset[tuple[str, str]] = frozenset()
    gateway: str = ""
    in_flight: frozenset[tuple[str, str]] = frozenset()
    bounds: Bounds = NO_BOUNDS
    plans: dict[str, Plan] = {}
    turn: int = 0
    affinity: str = ""


class Candidate(_Value, frozen=True, gc=False):
    """A model that can be asked. `terms` add up to `score`, which is between 0 and 1.

    quality (0 to 1), dollars (None: unknown) and seconds are what is expected of it for this request; beyond says in
    words which bound it does not keep. unnamed: it is one of all that `auto` may choose. broken: its breaker is open.
    """

    provider: str
    model: str
    score: float
    terms: dict[str, float]
    quality: float = 0.0
    dollars: float | None = None
    seconds: float = 0.0
    beyond: str = ""
    unnamed: bool = False
    broken: bool = False

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


class Decision(_Value, frozen=True):
    """Whom to ask, best first; `excluded` says why the others are not among them, by their name."""

    candidates: tuple[Candidate, ...]
    excluded: dict[str, str] = {}
    wanted: tuple[str, ...] = ()

    @property
    def explain(self) -> str:
        """The decision in one line of printable ASCII, fit for a header, under 200 characters."""
        label = ", ".join(self.wanted)
        label = label if len(label) <= 50 else label[:47] + "..."
        if not self.candidates:
            return printable(f"{label}: nobody left to ask")[:EXPLANATION_LENGTH]
        first, others = self.candidates[0], self.candidates[1:SHOWN]
        terms = " ".join(f"{name} {value:.2f}" for name, value in first.terms.items())
        text = f"{label}: {first.name} (score {first.score:.2f}: {terms})"
        if others:
            text += ", then " + ", ".join(other.name for other in others)
        text = printable(text)
        return text if len(text) <= EXPLANATION_LENGTH else text[: EXPLANATION_LENGTH - 3] + "..."


def printable(text: str) -> str:
    """`text` with everything but printable ASCII replaced by `?`, so that it cannot break a header or a log."""
    return _UNPRINTABLE.sub("?", text)
