"""The decision which models to ask, and in what order: `choose`, a pure function of a table and an `Ask`.

A wanted name is read in this order: an alias; `auto`; `provider/model`, if the part before the first slash is a
provider of the table; else a bare model name, which may contain slashes, at whichever provider lists it. Each
wanted name gives a group of candidates, best score first (`worth`); groups stand in the caller's order, those of an
alias in the order of its strategy (`strategies`). Those beyond a bound of the request come after all others, and last
those whose circuit breaker is open. Neither is ever taken out: how many of them are asked is for the `walk` to say.

`auto` leaves out whatever lacks a capability; a model that was named is refused with the field that needs it.

Above it: `record`, the gateway. Below it: `ask`, `worth`, `market`, `estimate`, `strategies`, `replicas`, `table`.
Outside it: sending anything.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter

import msgspec

from pipelines.errors import BadRequest, Denied, Overloaded, PenstockError, UnknownModel
from pipelines.keys import model_matcher
from pipelines.routing.ask import NO_BOUNDS, Ask, Candidate, Decision, Needs, Policy, printable
from pipelines.routing.estimate import Estimate
from pipelines.routing.market import RETRY_AFTER, unready
from pipelines.routing.replicas import pick
from pipelines.routing.strategies import STRATEGIES, Option, Plan, Situation, takes_canary
from pipelines.routing.table import ModelCard, Performance, Table, Target
from pipelines.routing.worth import beyond, waiting, worth

__all__ = ["AUTO", "Ask", "Candidate", "Decision", "Needs", "Policy", "choose", "pick"]

AUTO = "auto"
"""The name that leaves the choice to the router."""

SUGGESTIONS = 3
"""Close names, at most, in the message about an unknown one."""

SEARCHED = 1000
"""Names, at most, that an unknown one is compared with: each takes microseconds, and there may be many thousands."""

_AS_LISTED = Plan()
_NO_NEEDS = Needs()
_SCORE = attrgetter("score")
_Found = tuple[list[Candidate], list[Candidate]]
"""Candidates that may be asked, and those whose breaker forbids it."""


def choose(
    table: Table, ask: Ask, now: float, random: Callable[[], float], estimate: Estimate | None = None
) -> Decision:
    """Whom to ask, best first.

    now is in seconds since 1970; random gives numbers in [0, 1), for ties and for strategies of chance. estimate is
    only asked where there is a choice between models, or a bound on their quality; without it the cards' own
    qualities count. A name that leads nowhere
    is passed over while another one leads somewhere (`Decision.excluded` says why). If none does, raises Overloaded
    where one of them will again (no replica of its provider is there now), else what is wrong with the first:
    UnknownModel, BadRequest (a capability is missing; `param` names the field), ConfigurationError (nobody set the
    provider up), Denied (the key may not).
    With `ask.excluded` set, a decision without candidates means that nobody is left.
    """
    return _Search(table, ask, now, random, estimate).decision()


class _Search:
    """One decision in the making."""

    def __init__(
        self, table: Table, ask: Ask, now: float, random: Callable[[], float], estimate: Estimate | None
    ) -> None:
        self.table = table
        self.ask = ask
        self.now = now
        self.random = random
        self.estimate = estimate
        self.demanding = ask.needs != _NO_NEEDS
        self.seeing = msgspec.structs.replace(ask.needs, vision=True) if ask.needs.shown else ask.needs
        self.bounded = ask.bounds != NO_BOUNDS
        self.allowed = model_matcher(ask.allowed) if ask.allowed else None
        self.excluded: dict[str, str] = {}
        self.unknown: list[str] = []
        self.seen: set[str] = set()
        self.able: list[Candidate] = []
        self.beyond: list[Candidate] = []
        self.broken: list[Candidate] = []

    def decision(self) -> Decision:
        if not self.ask.wanted:
            raise BadRequest("no model is named", param="model")
        failures = [failure for failure in map(self.want, self.ask.wanted) if failure is not None]
        candidates = (*self.able, *self.beyond, *self.broken)
        if not candidates and failures and not self.ask.excluded:
            raise self.suggesting(_first_for_now(failures))
        return Decision(candidates, self.excluded, self.ask.wanted)

    def want(self, name: str, permitted: bool = False, aliases: frozenset[str] = frozenset()) -> PenstockError | None:
        """Add the candidates that `name` stands for; return what is wrong if there are none."""
        permitted = permitted or self.granted(name)
        if name in self.ask.aliases and name not in aliases:
            failure = self.alias(name, permitted, aliases | {name})
            return _denied(name) if isinstance(failure, Denied) else failure
        targets, failure = self.everything() if name == AUTO else self.named(name)
        failure = failure or self.add(targets, permitted, strict=name != AUTO)
        if failure is not None and not isinstance(failure, Overloaded):
            failure = self.away(name, permitted) or failure
        if isinstance(failure, Denied):
            failure = _denied(name)
        if failure is not None and name != AUTO:
            self.excluded.setdefault(printable(name[:100]), failure.message)
        return failure

    def granted(self, name: str) -> bool:
        """Whether the key may use whatever this name stands for: an alias, or `auto`, that is in its list."""
        return name in self.ask.allowed and (name in self.ask.aliases or name == AUTO)

    def alias(self, name: str, permitted: bool, aliases: frozenset[str]) -> PenstockError | None:
        """Add the candidates of an alias, in the order of its strategy."""
        plan = self.ask.plans.get(name, _AS_LISTED)
        situation = Situation(self.random, self.ask.turn, self.ask.affinity)
        failures: list[PenstockError | None] = []
        if takes_canary(plan, situation):
            failures.append(self.want(plan.canary, permitted, aliases))
        start, targets = len(self.able), list[str]()
        for target in self.ask.aliases[name]:
            failures.append(self.want(target, permitted, aliases))
            targets += [target] * (len(self.able) - start - len(targets))
        if plan.strategy != "ordered" and len(targets) > 1:
            self.able[start:] = self.ranked(self.able[start:], targets, plan, situation)
        wrong = [failure for failure in failures if failure is not None]
        return _first_for_now(wrong) if wrong and len(wrong) == len(failures) else None

    def ranked(
        self, candidates: list[Candidate], targets: list[str], plan: Plan, situation: Situation
    ) -> list[Candidate]:
        """The candidates in the order of the plan's strategy; targets: the alias's name that each came by."""
        options = [
            Option(target, plan.weights.get(target, 1.0), self.busy(candidate), candidate.seconds, candidate.dollars)
            for target, candidate in zip(targets, candidates, strict=True)
        ]
        ranks = STRATEGIES[plan.strategy](options, situation)
        return [candidates[index] for index in sorted(range(len(candidates)), key=lambda index: ranks[index])]

    def busy(self, candidate: Candidate) -> int:
        """Attempts under way at the model in the whole cluster, as far as was heard."""
        entry = self.table.provider(candidate.provider)
        performance = entry.performance.get(candidate.model) if entry is not None else None
        return performance.in_flight if performance is not None else 0

    def everything(self) -> tuple[Sequence[Target], PenstockError | None]:
        """Every listed model of every provider that is ready."""
        market = self.table.market
        self.excluded.update(market.unready)
        if market.targets:
            return market.targets, None
        return [], Overloaded("no provider with a listed model is ready", status=503, retry_after=RETRY_AFTER)

    def named(self, name: str) -> tuple[Sequence[Target], PenstockError | None]:
        """The models that `name` means: one of the provider before the slash, or that name at any provider."""
        prefix, slash, model = name.partition("/")
        entry = self.table.provider(prefix) if slash else None
        if entry is not None:
            card = entry.card(model)
            failure = unready(entry)
            if failure is None and card is None and not (entry.any_model and model):
                failure = self.nowhere(name)
            return ([] if failure else [Target(entry, model, card, name)]), failure
        targets = [target for entry in self.table.providers for target in entry.targets if target.model == name]
        ready = [target for target in targets if unready(target.entry) is None]
        if ready:
            return ready, None
        return [], unready(targets[0].entry) if targets else self.nowhere(name)

    def away(self, name: str, permitted: bool) -> PenstockError | None:
        """Why a model of that name, or any one for `auto`, cannot be asked for now that could be asked otherwise."""
        for entry in self.table.providers:
            failure = unready(entry)
            if not isinstance(failure, Overloaded) or (name == AUTO and entry.simulated and self.table.market.real):
                continue
            named = (target for target in entry.targets if name in (AUTO, target.model))
            if any(self.refused(target, permitted, strict=name != AUTO) is None for target in named):
                return failure
        return None

    def add(self, targets: Sequence[Target], permitted: bool, *, strict: bool) -> PenstockError | None:
        """Sort the targets that can be asked in; return what is wrong with the others if none can.

        strict: the model was named, so a context that may be too small (an estimate) is for the provider to
        judge. Of several faults, what the request lacks (400) says more than what the key may not (403).
        """
        failures: list[PenstockError] = []
        accepted: Sequence[int] = range(len(targets))
        if strict or self.seen or not self.free():
            accepted = [
                index for index, target in enumerate(targets) if self.accepted(target, permitted, strict, failures)
            ]
        elif targets:
            self.seen.update(self.table.market.names)
        expected, drawn = self.expectations(len(targets), explores=not strict)
        if strict:
            found, broken = self.valued([targets[index] for index in accepted], expected)
        else:
            found, broken = self.valued_at_once(accepted, expected, drawn)
        for candidate in self.sorted(found):
            (self.beyond if candidate.beyond else self.able).append(candidate)
        self.broken += (msgspec.structs.replace(candidate, broken=True) for candidate in self.sorted(broken))
        return min(failures, key=lambda wrong: wrong.status) if failures and not accepted else None

    def free(self) -> bool:
        """Whether `auto` can be any model for this request, so that nobody has to look at each."""
        ask, market = self.ask, self.table.market
        fits = not market.shortest or ask.prompt_tokens <= market.shortest
        fits = fits and (not market.tersest or (ask.max_tokens or 0) <= market.tersest)
        return fits and self.allowed is None and not self.demanding and not ask.excluded

    def accepted(self, target: Target, permitted: bool, strict: bool, failures: list[PenstockError]) -> bool:
        """Whether the target can be asked and is new; what is wrong with it is added to `failures`."""
        wrong = self.refused(target, permitted, strict)
        if wrong is not None:
            self.excluded[target.name] = wrong.message
            failures.append(wrong)
            return False
        if target.name in self.seen:
            return False
        self.seen.add(target.name)
        if (target.entry.name, target.model) in self.ask.excluded:
            self.excluded[target.name] = "was asked already"
            return False
        return True

    def sorted(self, found: list[Candidate]) -> list[Candidate]:
        """The best score first; equal ones, which are rare, by chance."""
        if len(set(map(_SCORE, found))) < len(found):
            chances = [self.random() for _ in found]
            found = [found[index] for index in sorted(range(len(found)), key=chances.__getitem__)]
        return sorted(found, key=_SCORE, reverse=True)

    def expectations(self, targets: int, *, explores: bool) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The expected qualities and the drawn ones, by name; nobody asks for those of a model that has no rival."""
        if self.estimate is None or (targets < 2 and self.ask.bounds.min_quality is None):
            return {}, {}
        return self.estimate.mean, self.estimate.drawn if explores else {}

    def refused(self, target: Target, permitted: bool, strict: bool) -> PenstockError | None:
        """Why the target may not be asked, if so."""
        allowed, card = self.allowed, target.card
        if allowed is not None and not (permitted or allowed(target.entry.name, target.model)):
            return _denied(target.name)
        if card is None or (strict and not self.demanding):
            return None
        if strict:
            return lacking(card, self.ask.needs)
        return lacking(card, self.seeing, self.ask.prompt_tokens, self.ask.max_tokens or 0)

    def valued(self, targets: Iterable[Target], expected: Mapping[str, float]) -> _Found:
        """The candidates that named targets are."""
        found, broken = list[Candidate](), list[Candidate]()
        for target in targets:
            card = target.card or ModelCard(target.model)
            performance = target.entry.performance.get(target.model)
            closed = performance is None or performance.breaker == "closed"
            probe = not closed and self.may_probe(target)
            quality = expected.get(target.name, card.quality)
            one = worth(card, performance, self.ask, waiting(target.entry), quality, probe=probe)
            candidate = Candidate(
                target.entry.name, target.model, one.score, one.terms, one.quality, one.dollars, one.seconds
            )
            (found if closed or probe else broken).append(self.measured(candidate))
        return found, broken

    def valued_at_once(
        self, accepted: Sequence[int], expected: Mapping[str, float], drawn: Mapping[str, float]
    ) -> _Found:
        """The candidates that these targets of the market are."""
        market = self.table.market
        probed = [index for index in accepted if index in market.broken and self.may_probe(market.targets[index])]
        every = market.candidates(self.ask, expected, drawn, probed)
        closed = market.broken.difference(probed)
        if not closed and not self.bounded and len(accepted) == len(every):
            return every, []
        found = [self.measured(every[index]) for index in accepted if index not in closed]
        return found, [self.measured(every[index]) for index in accepted if index in closed]

    def measured(self, candidate: Candidate) -> Candidate:
        """The candidate, with the bound that it does not keep."""
        limit = beyond(candidate, self.ask.bounds) if self.bounded else None
        return candidate if limit is None else msgspec.structs.replace(candidate, beyond=limit)

    def may_probe(self, target: Target) -> bool:
        """Whether this request may find out if the provider is back: one at a time, from one gateway.

        An open breaker whose time is over counts as half-open: the router may be away.
        """
        performance = target.entry.performance.get(target.model) or Performance()
        if performance.breaker == "open" and self.now < performance.open_until:
            return False
        if (target.entry.name, target.model) in self.ask.in_flight:
            return False
        if performance.prober and self.ask.gateway:
            return performance.prober == self.ask.gateway
        return performance.in_flight == 0

    def nowhere(self, name: str) -> PenstockError:
        """No such model; or, in the first seconds of a router, none that it has heard of yet."""
        if not self.table.settled or not self.table.providers:
            return Overloaded("the providers are starting", status=503, retry_after=RETRY_AFTER)
        self.unknown.append(name[:100])
        return UnknownModel(f"no provider has the model {printable(name[:100])!r}", param="model")

    def usable(self) -> tuple[list[Target], list[str]]:
        """The listed models and the aliases that the key may use: it learns of no others."""
        targets = [target for entry in self.table.providers for target in entry.targets]
        allowed = self.allowed
        if allowed is None:
            return targets, list(self.ask.aliases)
        return [one for one in targets if allowed(one.entry.name, one.model)], list(
            filter(self.granted, self.ask.aliases)
        )

    def suggesting(self, failure: PenstockError) -> PenstockError:
        """What is raised, with the names that are close where it is an unknown one: then it is the first of these."""
        if not isinstance(failure, UnknownModel):
            return failure
        close = suggestions(self.unknown[0], *self.usable())
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return UnknownModel(failure.message + hint, param=failure.param)


def lacking(card: ModelCard, needs: Needs, prompt_tokens: int = 0, max_tokens: int = 0) -> BadRequest | None:
    """The capability that the request needs and the model lacks, with the field that needs it in `param`.

    prompt_tokens: the estimated length, 0 where only a certain one counts; max_tokens: the longest answer that is
    asked for, 0 where the provider is to judge. An unknown context or longest answer passes.
    """
    if needs.vision and not card.vision:
        return BadRequest(f"the model {card.name} takes no images", param="messages")
    if needs.audio and not card.audio:
        return BadRequest(f"the model {card.name} takes no audio", param="messages")
    if needs.tools and not card.tools:
        return BadRequest(f"the model {card.name} takes no tools", param="tools")
    if needs.json_schema and not card.json_schema:
        return BadRequest(f"the model {card.name} takes no JSON schema", param="response_format")
    context = max(needs.context, prompt_tokens)
    if card.context and context > card.context:
        message = f"the model {card.name} takes {card.context} tokens, the request needs {context}"
        return BadRequest(message, param="messages", code="context_length_exceeded")
    if card.max_output and max_tokens > card.max_output:
        message = f"the model {card.name} answers with {card.max_output} tokens at most, {max_tokens} are asked for"
        return BadRequest(message, param="max_tokens")
    return None


def _denied(name: str) -> Denied:
    """The key may not use what the caller named: which models that stands for, he may not know either."""
    return Denied(f"this key may not use the model {printable(name[:100])}", status=403, code="permission")


def _first_for_now(failures: Sequence[PenstockError]) -> PenstockError:
    """What will pass, if one of them is such; else the first: whoever comes again later should be told so."""
    return next((failure for failure in failures if isinstance(failure, Overloaded)), failures[0])


def suggestions(name: str, targets: Iterable[Target], aliases: Iterable[str]) -> list[str]:
    """At most three names that look like `name`: models with and without their provider, aliases.

    Of more than SEARCHED those are looked at first whose model begins like the one that is meant.
    """
    known: dict[str, str] = {alias: alias for alias in aliases}
    for target in targets:
        known[target.name] = target.name
        known.setdefault(target.model, target.name)
    if len(known) > SEARCHED:
        start = _start(name)
        near = [one for one in known if _start(one) == start]
        known = {one: known[one] for one in islice(dict.fromkeys([*near, *known]), SEARCHED)}
    close = difflib.get_close_matches(name, known, n=SUGGESTIONS)
    return list(dict.fromkeys(known[match] for match in close))


def _start(name: str) -> str:
    return name.rpartition("/")[2][:3].lower()
