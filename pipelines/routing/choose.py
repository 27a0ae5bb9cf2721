"""The decision which models to ask, and in what order: `choose`, a pure function of a table and an `Ask`.

A wanted name is read in this order: an alias; `auto`; `provider/model`, if the part before the first slash is a
provider of the table; else a bare model name, which may contain slashes, at whichever provider lists it. Each
wanted name gives a group of candidates, best score first (`scoring`); groups stand in the caller's order. Those
whose circuit breaker is open come after all others and are never taken out: the last candidate is asked.

`auto` leaves out whatever lacks a capability; a model that was named is refused with the field that needs it.

Above it: the gateway. Below it: `ask`, `scoring`, `replicas`, `table`, `errors`. Outside it: sending anything.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from pipelines.errors import BadRequest, ConfigurationError, Denied, Overloaded, PenstockError, UnknownModel
from pipelines.routing.ask import Ask, Candidate, Decision, Needs, Policy, printable
from pipelines.routing.replicas import pick
from pipelines.routing.scoring import terms_of, waiting
from pipelines.routing.table import ModelCard, Performance, ProviderEntry, Table

__all__ = ["AUTO", "Ask", "Candidate", "Decision", "Needs", "Policy", "choose", "pick"]

AUTO = "auto"
"""The name that leaves the choice to the router."""

SUGGESTIONS = 3
"""Close names, at most, in the message about an unknown one."""

RETRY_AFTER = 1.0
"""Seconds after which a provider without a replica may be asked again."""


class _Target(NamedTuple):
    """One model at one provider, with its card if there is one."""

    entry: ProviderEntry
    model: str
    card: ModelCard | None

    @property
    def name(self) -> str:
        return f"{self.entry.name}/{self.model}"


def choose(table: Table, ask: Ask, now: float, random: Callable[[], float]) -> Decision:
    """Whom to ask, best first.

    now is in seconds since 1970; random gives numbers in [0, 1) and only breaks ties. A name that leads nowhere
    is passed over while another one leads somewhere (`Decision.excluded` says why). If none does, raises what is
    wrong with the first: UnknownModel, BadRequest (a capability is missing; `param` names the field),
    ConfigurationError (nobody set the provider up), Overloaded (no replica is there), Denied (the key may not).
    With `ask.excluded` set, a decision without candidates means that nobody is left.
    """
    return _Search(table, ask, now, random).decision()


@lru_cache(maxsize=1024)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Matches a name that one of the shell patterns stands for, case and all."""
    return re.compile("|".join(map(translate, patterns))).match


class _Search:
    """One decision in the making."""

    def __init__(self, table: Table, ask: Ask, now: float, random: Callable[[], float]) -> None:
        self.table = table
        self.ask = ask
        self.now = now
        self.random = random
        self.allowed = _matcher(ask.allowed) if ask.allowed else None
        self.excluded: dict[str, str] = {}
        self.seen: set[tuple[str, str]] = set()
        self.able: list[Candidate] = []
        self.broken: list[Candidate] = []

    def decision(self) -> Decision:
        if not self.ask.wanted:
            raise BadRequest("no model is named", param="model")
        failures = [failure for failure in map(self.want, self.ask.wanted) if failure is not None]
        candidates = (*self.able, *self.broken)
        if not candidates and failures and not self.ask.excluded:
            raise failures[0]
        return Decision(candidates, self.excluded, self.ask.wanted)

    def want(self, name: str, permitted: bool = False, aliases: frozenset[str] = frozenset()) -> PenstockError | None:
        """Add the candidates that `name` stands for; return what is wrong if there are none."""
        permitted = permitted or name in self.ask.allowed
        if name in self.ask.aliases and name not in aliases:
            failures = [self.want(target, permitted, aliases | {name}) for target in self.ask.aliases[name]]
            return failures[0] if failures and all(failures) else None
        targets, failure = self.everything() if name == AUTO else self.named(name)
        failure = failure or self.add(targets, permitted, strict=name != AUTO)
        if failure is not None and name != AUTO:
            self.excluded.setdefault(printable(name[:100]), failure.message)
        return failure

    def everything(self) -> tuple[list[_Target], PenstockError | None]:
        """Every listed model of every provider that is ready.

        A simulated provider only counts while no real one is set up: when real ones fail, an invented answer in
        their place is worse than an error.
        """
        targets: list[_Target] = []
        real = any(not entry.simulated and entry.state != "unconfigured" for entry in self.table.providers)
        for entry in self.table.providers:
            failure = unready(entry)
            if failure is None and entry.simulated and real:
                failure = Overloaded("simulated, while real providers are set up")
            if failure is not None:
                self.excluded[entry.name] = failure.message
            else:
                targets += [_Target(entry, card.name, card) for card in entry.models]
        if targets:
            return targets, None
        return [], Overloaded("no provider with a listed model is ready", status=503, retry_after=RETRY_AFTER)

    def named(self, name: str) -> tuple[list[_Target], PenstockError | None]:
        """The models that `name` means: one of the provider before the slash, or that name at any provider."""
        prefix, slash, model = name.partition("/")
        entry = self.table.provider(prefix) if slash else None
        if entry is not None:
            card = next((card for card in entry.models if card.name == model), None)
            failure = unready(entry)
            if failure is None and card is None and not (entry.any_model and model):
                failure = self.unknown(name)
            return ([] if failure else [_Target(entry, model, card)]), failure
        targets = [
            _Target(entry, name, card) for entry in self.table.providers for card in entry.models if card.name == name
        ]
        ready = [target for target in targets if unready(target.entry) is None]
        if ready:
            return ready, None
        return [], unready(targets[0].entry) if targets else self.unknown(name)

    def add(self, targets: list[_Target], permitted: bool, *, strict: bool) -> PenstockError | None:
        """Sort the targets that can be asked in; return what is wrong with the others if none can.

        strict: the model was named, so a context that may be too small (an estimate) is for the provider to
        judge. Of several faults, what the request lacks (400) says more than what the key may not (403).
        """
        found: list[tuple[float, float, bool, Candidate]] = []
        failures: list[PenstockError] = []
        queues: dict[str, float] = {}
        for target in targets:
            wrong = self.refused(target, permitted, strict)
            if wrong is not None:
                self.excluded[target.name] = wrong.message
                failures.append(wrong)
                continue
            key = (target.entry.name, target.model)
            if key in self.seen:
                continue
            self.seen.add(key)
            if key in self.ask.excluded:
                self.excluded[target.name] = "was asked already"
                continue
            if target.entry.name not in queues:
                queues[target.entry.name] = waiting(target.entry)
            candidate, closed = self.scored(target, queues[target.entry.name])
            found.append((-candidate.score, self.random(), closed, candidate))
        found.sort(key=lambda item: item[:2])
        self.able += [candidate for _, _, closed, candidate in found if closed]
        self.broken += [candidate for _, _, closed, candidate in found if not closed]
        return min(failures, key=lambda wrong: wrong.status) if failures and not found else None

    def refused(self, target: _Target, permitted: bool, strict: bool) -> PenstockError | None:
        """Why the target may not be asked, if so."""
        if self.allowed is not None and not permitted:
            name = f"{target.entry.name}/{target.model}"
            if not self.allowed(name) and not self.allowed(target.model):
                message = f"this key may not use the model {printable(name[:100])}"
                return Denied(message, status=403, code="permission")
        if target.card is None:
            return None
        return lacking(target.card, self.ask.needs, 0 if strict else self.ask.prompt_tokens)

    def scored(self, target: _Target, queue: float) -> tuple[Candidate, bool]:
        """The candidate, and whether its breaker lets requests of this gateway pass."""
        performance = target.entry.performance.get(target.model)
        closed = performance is None or performance.breaker == "closed"
        probe = not closed and performance is not None and self.may_probe(target, performance)
        terms = terms_of(target.card or ModelCard(target.model), performance, self.ask, queue, probe=probe)
        score = terms["quality"] + terms["cost"] + terms["time"]
        return Candidate(target.entry.name, target.model, score, terms), closed or probe

    def may_probe(self, target: _Target, performance: Performance) -> bool:
        """Whether this request may find out if the provider is back: one at a time, from one gateway.

        An open breaker whose time is over counts as half-open: the router may be away.
        """
        if performance.breaker == "open" and self.now < performance.open_until:
            return False
        if (target.entry.name, target.model) in self.ask.in_flight:
            return False
        if performance.prober and self.ask.gateway:
            return performance.prober == self.ask.gateway
        return performance.in_flight == 0

    def unknown(self, name: str) -> PenstockError:
        """No such model; or, in the first seconds of a router, none that it has heard of yet."""
        if not self.table.settled or not self.table.providers:
            return Overloaded("the providers are starting", status=503, retry_after=RETRY_AFTER)
        shown = printable(name[:100])
        close = suggestions(name[:100], self.table.providers, self.ask.aliases)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return UnknownModel(f"no provider has the model {shown!r}{hint}", param="model")


def unready(entry: ProviderEntry) -> PenstockError | None:
    """Why nobody of this provider can be asked, if so."""
    if entry.state == "unconfigured":
        return ConfigurationError(f"{entry.name} is not configured: {entry.why or 'no reason given'}")
    if entry.state != "ready" or not entry.replicas:
        why = f": {entry.why}" if entry.why else ""
        state = "has no replica" if entry.state == "ready" else f"is {entry.state}"
        return Overloaded(f"{entry.name} {state}{why}", status=503, retry_after=RETRY_AFTER)
    return None


def lacking(card: ModelCard, needs: Needs, prompt_tokens: int = 0) -> BadRequest | None:
    """The capability that the request needs and the model lacks, with the field that needs it in `param`.

    prompt_tokens: the estimated length, 0 where only a certain one counts. An unknown context passes.
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
    return None


def suggestions(name: str, providers: Iterable[ProviderEntry], aliases: Iterable[str]) -> list[str]:
    """At most three names that look like `name`: models with and without their provider, aliases."""
    known: dict[str, str] = {alias: alias for alias in aliases}
    for entry in providers:
        for card in entry.models:
            full = f"{entry.name}/{card.name}"
            known[full] = full
            known.setdefault(card.name, full)
    close = difflib.get_close_matches(name, known, n=SUGGESTIONS)
    return list(dict.fromkeys(known[match] for match in close))
