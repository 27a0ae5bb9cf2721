"""In what order an alias's models are asked: small pure functions of one interface, by name in `STRATEGIES`.

Each takes the options of an alias and the situation of the request, and gives a rank to every option: the lowest is
asked first, and equal ones keep the alias's own order. What breaks is followed by the next one under each of them.

| strategy | first |
|---|---|
| ordered | as the alias lists them |
| weighted | by chance, in proportion to the weights |
| round_robin | each in turn, counted by each gateway replica |
| least_busy | the fewest attempts under way in the whole cluster |
| lowest_latency, cheapest | the least expected seconds, US dollars of this request (an unknown price comes last) |
| sticky | the same for the same session, for the sake of the provider's cache of prompts |

Above it: `choose`, the gateway. Below it: `conversation`. Outside it: what is expected of a model (`worth`).
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from pipelines.conversation import Request

Strategy = Literal["ordered", "weighted", "round_robin", "least_busy", "lowest_latency", "cheapest", "sticky"]

PREFIX = 1000
"""Characters of each instruction and of the user's first message that make a session, where the caller names none."""


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an alias is read. weights: by its names, 1 where none is given (for weighted and sticky).

    canary: a name that is asked first for `percent` of the requests, and by the others not at all on its account.
    """

    strategy: Strategy = "ordered"
    weights: dict[str, float] = {}
    canary: str = ""
    percent: float = 0.0


class Option(NamedTuple):
    """One candidate. target: the alias's name that it came by; busy: attempts under way; dollars: None: unknown."""

    target: str
    weight: float
    busy: int
    seconds: float
    dollars: float | None


class Situation(NamedTuple):
    """One request. random gives numbers in [0, 1); turn counts requests; affinity: its session, "" without one."""

    random: Callable[[], float]
    turn: int = 0
    affinity: str = ""


Rank = Callable[[Sequence[Option], Situation], Sequence[float]]
"""A number for every option; lower ones come first."""


def ordered(options: Sequence[Option], situation: Situation) -> list[float]:
    """As they stand."""
    return [0.0] * len(options)


def weighted(options: Sequence[Option], situation: Situation) -> list[float]:
    """Each target is first as often as its weight says, and so on among the rest.

    The least of exponential variates with rates w is number i with probability w_i / sum(w): P. Efraimidis and
    P. Spirakis, "Weighted random sampling with a reservoir", IPL 97(5), 2006.
    """
    weights = _weights(options)
    drawn = {target: _exponential(situation.random(), weight) for target, weight in weights.items()}
    return [drawn[option.target] for option in options]


def round_robin(options: Sequence[Option], situation: Situation) -> list[float]:
    """Each target in turn."""
    targets = list(_weights(options))
    return [float((targets.index(option.target) - situation.turn) % len(targets)) for option in options]


def least_busy(options: Sequence[Option], situation: Situation) -> list[float]:
    """By attempts under way; equals by chance, since many replicas look at the same table."""
    return [option.busy + 0.5 * situation.random() for option in options]


def lowest_latency(options: Sequence[Option], situation: Situation) -> list[float]:
    """By expected seconds."""
    return [option.seconds for option in options]


def cheapest(options: Sequence[Option], situation: Situation) -> list[float]:
    """By expected dollars."""
    return [math.inf if option.dollars is None else option.dollars for option in options]


def sticky(options: Sequence[Option], situation: Situation) -> list[float]:
    """Rendezvous hashing: when a target comes or goes, no session moves that has nothing to do with it.

    Source: D. Thaler and C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on
    Networking 6(1), 1998; the weights as in `weighted`, with a hash in place of chance.
    """
    if not situation.affinity:
        return ordered(options, situation)
    weights = _weights(options)
    drawn = {target: _exponential(share(situation.affinity, target), weight) for target, weight in weights.items()}
    return [drawn[option.target] for option in options]


STRATEGIES: Mapping[Strategy, Rank] = {
    "ordered": ordered,
    "weighted": weighted,
    "round_robin": round_robin,
    "least_busy": least_busy,
    "lowest_latency": lowest_latency,
    "cheapest": cheapest,
    "sticky": sticky,
}


def takes_canary(plan: Plan, situation: Situation) -> bool:
    """Whether this request is one of the canary's. A sticky session is so wholly or not at all."""
    if not plan.canary or plan.percent <= 0.0:
        return False
    by_session = plan.strategy == "sticky" and situation.affinity
    drawn = share(situation.affinity, plan.canary + " (canary)") if by_session else situation.random()
    return 100.0 * drawn < plan.percent


def share(affinity: str, target: str) -> float:
    """A number in [0, 1) that is always the same for a session and a target, and like chance over all of them."""
    digest = hashlib.blake2b(f"{affinity}\0{target}".encode("utf-8", "replace"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def affinity_of(request: Request) -> str:
    """The session of a request: the caller's `user`, his `metadata.user_id`, or a hash of how the prompt begins.

    That is up to the user's first message, for what comes after it is not there yet at the first turn.
    """
    named = request.user or (request.metadata or {}).get("user_id", "")
    if named:
        return named
    beginning: list[str] = []
    for message in request.messages:
        if message.role in ("system", "developer", "user"):
            beginning.append(message.text[:PREFIX])
        if message.role == "user":
            break
    first = "\0".join(beginning)
    return hashlib.blake2b(first.encode("utf-8", "replace"), digest_size=16).hexdigest() if any(beginning) else ""


def _weights(options: Sequence[Option]) -> dict[str, float]:
    return {option.target: option.weight for option in options}


def _exponential(drawn: float, weight: float) -> float:
    return -math.log1p(-drawn) / weight if weight > 0.0 else math.inf
