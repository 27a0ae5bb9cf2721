"""LiteLLM's groups of models, their fallbacks and further names as aliases of ours.

Sources: https://docs.litellm.ai/docs/routing (groups, strategies), https://docs.litellm.ai/docs/proxy/reliability
(fallbacks).

Above it: `litellm_import`. Below it: `litellm_models`, `litellm_names`. Outside it: who is behind a group.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from deployments.litellm_models import Notes
from deployments.litellm_names import STRATEGIES, object_in
from pipelines.errors import ConfigurationError

FOR_LONGER = "context_window_fallbacks"


class Deployment(NamedTuple):
    """One entry of `model_list`: who is asked, for what, and how."""

    group: str
    provider: str
    model: str
    weight: float

    @property
    def target(self) -> str:
        """The name by which routing asks for it."""
        return f"{self.provider}/{self.model}"


class Fallbacks(NamedTuple):
    """name: the group that fails, `*` for each; others: who is asked then; kind: the member that says so."""

    name: str
    others: Sequence[str]
    kind: str


def aliases_of(
    deployments: Sequence[Deployment],
    left_out: Iterable[str],
    providers: Iterable[str],
    sections: Sequence[Mapping[str, Any]],
    notes: Notes,
) -> dict[str, Any]:
    """The aliases. left_out: groups that nothing here asks; sections: `router_settings` and `litellm_settings`.

    Raises ConfigurationError for members that are not in LiteLLM's form.
    """
    router, away = sections[0], set(left_out)
    strategy = _strategy(router, notes)
    groups: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        groups.setdefault(deployment.group, []).append(deployment)
    aliases: dict[str, Any] = {name: _alias(found, strategy) for name, found in groups.items()}
    further, known = _further_names(router), set(providers)
    for name, others, kind in fallbacks_of(sections):
        there = []
        for other in others:
            if other in groups or other in further or (other not in away and other.partition("/")[0] in known):
                there.append(other)
            else:
                notes.add(f"{kind} of {name}: {other} {'is left out' if other in away else 'is no group here'}")
        if name == "*":
            for group in groups:
                _append(aliases, group, there)
        elif name in aliases:
            _append(aliases, name, there)
        elif name in away and there:
            # LiteLLM's callers of a group that cannot be asked get its fallbacks.
            aliases[name] = there
        elif name not in away:
            notes.add(f"{kind} of {name}: there is no such group here")
    _stand_ins(aliases, further, away, notes)
    return aliases


def _strategy(router: Mapping[str, Any], notes: Notes) -> str:
    named = router.get("routing_strategy") or "simple-shuffle"
    if not isinstance(named, str):
        raise ConfigurationError("`routing_strategy` must be a name")
    if named not in STRATEGIES:
        notes.add(f"the strategy {named!r} is not known here: weights decide")
    return STRATEGIES.get(named, "weighted")


def fallbacks_of(sections: Iterable[Mapping[str, Any]]) -> Iterator[Fallbacks]:
    """Fallbacks by group, those for all of them last. For a long prompt only a larger context is asked anyway.

    Raises ConfigurationError for another form.
    """
    for section in sections:
        for kind in ("fallbacks", FOR_LONGER):
            for one in _list(section.get(kind), kind, dict, "objects"):
                for name, others in one.items():
                    yield Fallbacks(str(name), _list(others, f"{kind}: {name}", str, "names"), kind)
    for section in sections:
        if others := _list(section.get("default_fallbacks"), "default_fallbacks", str, "names"):
            yield Fallbacks("*", others, "default_fallbacks")


def _list(given: Any, place: str, kind: type, words: str) -> list[Any]:
    """A list of that kind; an empty one where nothing is. Raises ConfigurationError for anything else."""
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(one, kind) for one in given):
        raise ConfigurationError(f"`{place}` must be a list of {words}")
    return given


def _further_names(router: Mapping[str, Any]) -> dict[str, str]:
    """Further names of groups and what they stand for, "" where that is nothing. Raises ConfigurationError."""
    found = {}
    for name, target in object_in(router, "model_group_alias").items():
        meant = target.get("model") if isinstance(target, dict) else target
        if meant is not None and not isinstance(meant, str):
            raise ConfigurationError(f"`model_group_alias: {name}` must be the name of a group")
        found[str(name)] = meant or ""
    return found


def _stand_ins(aliases: dict[str, Any], further: Mapping[str, str], left_out: set[str], notes: Notes) -> None:
    """Add the further names that groups have, but those of groups that are not there."""
    for name, meant in further.items():
        if not meant:
            notes.add(f"model_group_alias: {name} stands for no group")
        elif meant in left_out and meant not in aliases:
            notes.add(f"model_group_alias: {name} stands for {meant}, which is left out")
        else:
            aliases[name] = [meant]


def _alias(found: list[Deployment], strategy: str) -> Any:
    """One name for a group: as many targets as there are, chosen as LiteLLM would."""
    weights: dict[str, float] = {}
    for one in found:
        weights[one.target] = weights.get(one.target, 0.0) + one.weight
    if len(weights) == 1:
        return list(weights)
    alias: dict[str, Any] = {"models": list(weights), "strategy": strategy}
    return alias | ({"weights": weights} if strategy == "weighted" and len(set(weights.values())) > 1 else {})


def _append(aliases: dict[str, Any], name: str, others: list[str]) -> None:
    """Those who are asked where the group itself fails, in their order."""
    alias = aliases[name]
    group = alias if isinstance(alias, list) else alias["models"]
    fresh = [other for other in others if other not in group and other != name]
    if isinstance(alias, list):
        aliases[name] = group + fresh
    elif fresh:
        # A strategy orders all of its models: those of the group stay among themselves.
        aliases[f"{name} (group)"] = alias
        aliases[name] = [f"{name} (group)", *fresh]
