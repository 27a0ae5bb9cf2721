"""One gateway replica's choice of a model: a call becomes a question, a decision, and a record to learn from.

Above it: `routed_lane`, `routing_pages`. Below it: `actors.routing.client`, `pipelines.routing`. Outside it: asking
anybody.
"""

import random
import time
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import msgspec

from actors.routing.client import RouterClient
from deployments.config import AliasSettings, GatewaySettings
from deployments.guard import may_ask
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, PenstockError
from pipelines.events import assemble
from pipelines.keys import may_use
from pipelines.prompt_tokens import likely_input
from pipelines.resilience import RetryBudget
from pipelines.routing.ask import Ask, Bounds, Candidate, Decision, needs_of
from pipelines.routing.choose import AUTO, choose
from pipelines.routing.estimate import Estimate, read
from pipelines.routing.form import asks_for_form, seen
from pipelines.routing.learning.decisions import rated
from pipelines.routing.learning.repeats import conversation_hash
from pipelines.routing.learning.view import View, explores
from pipelines.routing.record import Record, without_unused
from pipelines.routing.strategies import affinity_of
from pipelines.routing.table import Decided, Published, Table

MAX_FALLBACKS = 16
"""Length of the caller's `models`."""

READS = 10.0
"""Requests a second, beyond those that had to be read to decide, that are read to be remembered: a caller may rate
the answer of a model that he named, and reading every request would cost more than handing it on."""

LARGEST_FORM = 256 * 1024
"""Bytes of an answer, at most, whose form is looked at."""

_views = msgspec.msgpack.Decoder(View)


class Chosen(NamedTuple):
    """A decision, and all that it was made of."""

    decision: Decision
    ask: Ask
    seed: int
    at: float
    table: Table
    view: tuple[str, int]
    estimate: Estimate

    @property
    def task(self) -> str:
        """What kind of request it is: as it was read, or where nobody read it as its form says; "" for the others."""
        if self.estimate.was_read:
            return self.estimate.known.profile.task
        needs = self.ask.needs
        if needs.vision or needs.shown:
            return "vision"
        return "tool_use" if needs.tools else "extraction" if needs.json_schema else ""


class Chooser:
    """Decides by the router's latest table and the latest view of what was learned.

    meanings: all names that an alias may lead to, its canary too; another object with every change.
    """

    def __init__(self, settings: GatewaySettings, router: RouterClient) -> None:
        self._router = router
        self._view, self._version = View(), ("", 0)
        self._turns: Counter[str] = Counter()
        self._reads = RetryBudget(time.monotonic(), 0.0, READS)
        self.configure(settings)

    def configure(self, settings: GatewaySettings) -> None:
        """Go by these settings from the next decision on."""
        self._settings = settings
        plans = {name: one for name, one in settings.aliases.items() if isinstance(one, AliasSettings)}
        self._aliases = {
            name: one.models if isinstance(one, AliasSettings) else one for name, one in settings.aliases.items()
        }
        self._plans = {name: one.plan() for name, one in plans.items()}
        self._planned = {name for name in self._aliases if self._leads_to_plan(name, frozenset())}
        canaries = {name: (plan.canary,) for name, plan in self._plans.items() if plan.canary}
        self.meanings = {name: (*models, *canaries.get(name, ())) for name, models in self._aliases.items()}
        self._sticky = any(plan.strategy == "sticky" for plan in self._plans.values())
        self._bounds = Bounds(settings.max_cost, settings.max_latency, settings.min_quality)

    def _leads_to_plan(self, name: str, aliases: frozenset[str]) -> bool:
        if name in aliases or name not in self._aliases:
            return False
        return name in self._plans or any(self._leads_to_plan(one, aliases | {name}) for one in self._aliases[name])

    def learned(self, published: Published) -> None:
        """A newer view came."""
        self._view = _views.decode(published.view)
        self._version = (published.epoch, published.version)

    def choose(self, call: Call, *, rehearsal: bool = False) -> Chosen:
        """The decision for a call, as of now. Raises as `choose` does.

        A rehearsal explores nothing, and is nobody's turn.
        """
        ask = self._question(call, rehearsal)
        exploring = (
            not rehearsal
            and explores(random.random, self._settings.explore)
            and call.may_explore
            and AUTO in self._reached(ask)
        )
        estimate = Estimate(self._view, partial(read, call.request), explores=exploring)
        seed, at, table = random.getrandbits(53), time.time(), self._router.table
        decision = choose(table, ask, at, _Dice(seed), estimate)
        return Chosen(decision, ask, seed, at, table, self._version, estimate)

    def answered(self, call: Call, chosen: Chosen, candidate: Candidate, answer: Answer) -> None:
        """Remember who answered, so that the router can learn from what becomes of it."""
        needed = chosen.estimate.was_read
        if answer.status != 200 or call.operation or not (needed or self._reads.withdraw(time.monotonic())):
            return
        record = recorded(chosen, candidate, known=needed)
        evidence = evidence_of(call, answer, record) if needed else b""
        conversation = conversation_hash(call.caller.id, call.request) if answer.result == "ok" else b""
        self._router.decided(Decided(call.caller.id, call.id, msgspec.msgpack.encode(record), evidence, conversation))

    def explained(self, call: Call) -> dict[str, Json]:
        """The decision for a call, for a person: what was read of it, every candidate's terms, why others are none.

        Raises as `choose` does.
        """
        chosen = self.choose(call, rehearsal=True)
        about = chosen.estimate.known.profile
        return {
            "object": "route",
            "wanted": chosen.ask.wanted,
            "task": about.task,
            "difficulty": about.difficulty,
            "signals": about.signals,
            "policy": chosen.ask.policy,
            "bounds": msgspec.to_builtins(chosen.ask.bounds),
            "view": chosen.view[1],
            "explanation": chosen.decision.explain,
            "candidates": [_told(candidate) for candidate in chosen.decision.candidates],
            "excluded": self._excluded(chosen, call.caller),
        }

    def _excluded(self, chosen: Chosen, caller: Caller) -> dict[str, str]:
        """Why others are none of the candidates. Without the right `usage` only what `/v1/models` and `/v1/providers`
        show as well: of the models that the caller may ask, or has named himself, and of providers no more than their
        state."""
        if caller.may("usage"):
            return chosen.decision.excluded
        shown: dict[str, str] = {}
        for name, why in chosen.decision.excluded.items():
            entry = chosen.table.provider(name)
            if entry is not None:
                shown[name] = entry.state if entry.why else why
            elif name in chosen.ask.wanted or self._may_ask(caller, name, frozenset()):
                shown[name] = why
        return shown

    def aliases(self, caller: Caller) -> list[str]:
        """The aliases that stand for something which the caller may ask."""
        return [alias for alias in self._aliases if self._may_ask(caller, alias, frozenset())]

    def _may_ask(self, caller: Caller, name: str, aliases: frozenset[str]) -> bool:
        if caller.models is None or name == AUTO or name in caller.models:
            return True
        if name in self._aliases and name not in aliases:
            return any(self._may_ask(caller, target, aliases | {name}) for target in self._aliases[name])
        provider, _, model = name.partition("/")
        return may_ask(caller, provider, model) if model else may_use(caller.models, name)

    def _question(self, call: Call, rehearsal: bool) -> Ask:
        request, wishes, usual = call.request, call.options.route, call.caller.route
        # Without a `model` in the body the request's is the first of `models`.
        wanted = tuple(dict.fromkeys((request.model, *fallbacks(call.body))))
        planned = next((name for name in wanted if name in self._planned), "") if self._planned else ""
        turn = self._turns[planned]
        if planned and not rehearsal:
            self._turns[planned] += 1
        return Ask(
            wanted=wanted,
            needs=needs_of(request),
            policy=wishes.policy or usual.policy or self._settings.policy,
            aliases=self._aliases,
            prompt_tokens=likely_input(request),
            max_tokens=request.max_tokens,
            allowed=call.caller.models or (),
            gateway=self._router.reporter,
            in_flight=self._router.in_flight,
            bounds=wishes.bounds(usual.bounds(self._bounds)),
            plans=self._plans,
            turn=turn,
            affinity=affinity_of(request) if self._sticky and not self._aliases.keys().isdisjoint(wanted) else "",
        )

    def _reached(self, ask: Ask) -> set[str]:
        """The caller's names, and what those that are aliases stand for."""
        return {*ask.wanted, *(target for name in ask.wanted for target in self._aliases.get(name, ()))}


class _Dice:
    """The numbers of a seed, made only where somebody asks: most decisions leave nothing to chance."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._source: random.Random | None = None

    def __call__(self) -> float:
        """The next number in [0, 1)."""
        if self._source is None:
            self._source = random.Random(self._seed)
        return self._source.random()


def _told(candidate: Candidate) -> dict[str, Json]:
    told: dict[str, Json] = {
        "model": candidate.name,
        "score": candidate.score,
        "terms": candidate.terms,
        "quality": candidate.quality,
        "dollars": candidate.dollars,
        "seconds": candidate.seconds,
    }
    return {**told, "beyond": candidate.beyond} if candidate.beyond else told


def recorded(chosen: Chosen, candidate: Candidate, *, known: bool = True) -> Record:
    """A decision as it is kept, with the candidate that answered. known: its quality was looked at."""
    read_of_it = chosen.estimate.known
    return Record(
        without_unused(chosen.ask),
        chosen.seed,
        chosen.at,
        (chosen.table.epoch, chosen.table.version),
        chosen.view,
        read_of_it.profile.task,
        read_of_it.features,
        candidate.name,
        candidate.quality if known else None,
        chosen.estimate.explores,
    )


def evidence_of(call: Call, answer: Answer, record: Record) -> bytes:
    """What a whole answer shows of itself, encoded; b"" where it shows nothing, or is a stream."""
    if answer.frames is not None or len(answer.body) > LARGEST_FORM or not asks_for_form(call.request):
        return b""
    try:
        found = seen(call.request, assemble(DIALECTS[call.dialect].read_answer(answer.body)))
    except PenstockError:
        return b""
    return msgspec.msgpack.encode(rated(record, *found)) if found is not None else b""


def fallbacks(body: dict[str, Any]) -> tuple[str, ...]:
    """The caller's own list of further models (`models`, as OpenRouter has it). Raises BadRequest for what is none."""
    models = body.get("models", [])
    if models is None:
        return ()
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise BadRequest("`models` must be a list of model names", param="models")
    if len(models) > MAX_FALLBACKS:
        raise BadRequest(f"`models` has more than {MAX_FALLBACKS} names", param="models")
    return tuple(models)
