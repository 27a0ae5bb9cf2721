"""A LiteLLM proxy's configuration as one of ours: providers, models, aliases, strategies, fallbacks, timeouts.

Source: https://docs.litellm.ai/docs/proxy/configs (the file).

What has no counterpart here is named, never dropped in silence. A key that stands in the file itself is not carried
over: it belongs into a variable, which is named in its place.

Above it: `cli`. Below it: `config`, which checks the result, `litellm_models` and `litellm_names`. Outside it: files.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from deployments import providers
from deployments.config import GatewaySettings, ProviderSettings
from deployments.litellm_models import Notes, card_of, completed
from deployments.litellm_names import (
    CARRIED,
    COMPATIBLE,
    CONVERSATIONS,
    KEYED,
    KINDS,
    OPERATIONS,
    SERVERS,
    STRATEGIES,
    VARIABLE,
    mode_of,
    service_of,
    taken_variables,
    usual_variable,
)
from deployments.providers.openai import is_own
from pipelines.errors import ConfigurationError

FIRST_PORT = 8100
"""Of the own listeners, as in `ray_config.yaml`."""


class Imported(NamedTuple):
    """configuration: as `ray_config.yaml` has it; notes: what a person should know, one sentence each."""

    configuration: dict[str, Any]
    notes: list[str]


class _Deployment(NamedTuple):
    """One entry of `model_list`: who is asked, for what, and how."""

    group: str
    provider: str
    model: str
    weight: float

    @property
    def target(self) -> str:
        return f"{self.provider}/{self.model}"


def imported(given: Any) -> Imported:
    """The configuration that does the same. Raises ConfigurationError for a file that is none of LiteLLM's."""
    if not isinstance(given, Mapping) or not isinstance(given.get("model_list"), list):
        raise ConfigurationError("this is no LiteLLM configuration: it has no list `model_list`")
    try:
        return _Import(given).result()
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigurationError(f"this LiteLLM configuration cannot be read: {' '.join(str(error).split())}") from None


class _Import:
    """One import under way."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._identities: dict[str, tuple[Any, ...]] = {}
        self._variables: dict[tuple[str, str], str] = {}
        self._taken = taken_variables(given)
        self._left_out: set[str] = set()
        self._router = _object(given, "router_settings")
        self._library = _object(given, "litellm_settings")
        self._providers: dict[str, dict[str, Any]] = {}
        self._rates: dict[str, dict[str, dict[str, float | None]]] = {}
        self._deployments: list[_Deployment] = []
        self.notes = Notes()

    def result(self) -> Imported:
        """Read everything, and check what came of it against our own settings."""
        for section in ("the file", "router_settings", "litellm_settings", "general_settings"):
            self._leftover(section, self._given if section == "the file" else _object(self._given, section))
        for entry in self._given["model_list"]:
            self._deployment(entry)
        self._limited()
        aliases = self._aliases()
        GatewaySettings.model_validate({"aliases": aliases})
        applications = [_application("gateway", "/", "gateway", {"listen": _listen(0), "aliases": aliases})]
        for number, (name, settings) in enumerate(self._providers.items(), 1):
            models = [completed(card, settings["kind"], settings.get("base_url", "")) for card in settings["models"]]
            arguments = {"listen": _listen(number), **settings, "models": models}
            ProviderSettings.model_validate(arguments)
            applications.append(_application(name, f"/{name}", "provider", arguments))
        if "master_key" in _object(self._given, "general_settings"):
            self.notes.add("the master key: put it into PENSTOCK_API_KEY, it becomes the administrator's key")
        return Imported(
            {
                "proxy_location": "EveryNode",
                "http_options": {"host": "127.0.0.1", "port": 8000},
                "applications": applications,
            },
            self.notes.sentences,
        )

    def _deployment(self, entry: Any) -> None:
        params = _object(entry, "litellm_params")
        group, asked = (str(name) if name else "" for name in (_named(entry, "model_name"), params.get("model")))
        if not group or not asked:
            raise ConfigurationError("an entry of `model_list` has no model_name, or no litellm_params.model")
        self._leftover("model_list", entry)
        self._leftover("litellm_params", params)
        info = _object(entry, "model_info")
        self._leftover("model_info", info)
        prefix, model = service_of(asked)
        if "*" in model or "*" in group:
            self.notes.add(f"{group}: wildcards need no entry, callers may ask for `{prefix}/<model>`")
        mode = self._mode(group, model, info)
        settings = self._service(group, prefix, params) if mode in CONVERSATIONS | OPERATIONS else None
        if settings is None:
            self._left_out.add(group)
            return
        provider = self._provider(prefix, settings)
        limits = {
            name: self.notes.number(f"{group}: {name}", params.get(name) if entry.get(name) is None else entry[name])
            for name in ("rpm", "tpm")
        }
        self._rate(provider, model, limits)
        if "*" in model or "*" in group:
            return
        card = card_of(group, model, info, self.notes)
        if timeouts := self._timeouts(group, params):
            card["timeouts"] = timeouts
        if mode in CONVERSATIONS:
            self._model(provider, card)
        elif unlisted := sorted(card.keys() - {"name"}):
            # A model that is listed is one that `auto` may choose.
            self.notes.add(f"{group}: not carried over, for `auto` is to pass it over: {', '.join(unlisted)}")
        weights = (self.notes.number(f"{group}: weight", params.get("weight")), limits["rpm"], limits["tpm"], 1.0)
        weight = next(one for one in weights if one is not None)
        self._deployments.append(_Deployment(group, provider, model, max(0.0, weight)))

    def _mode(self, group: str, model: str, info: Mapping[str, Any]) -> str:
        """What the model is for. A note says where its name had to tell, and what is not asked here."""
        mode = str(info.get("mode") or mode_of(model))
        if mode not in CONVERSATIONS | OPERATIONS:
            self.notes.add(f"{group}: mode `{mode}` is not on the routed lane; it is left out")
        if mode not in CONVERSATIONS and not info.get("mode"):
            self.notes.add(f"{group}: by its name `{model}` is of the mode `{mode}`; `mode` in model_info says another")
        return mode

    def _service(self, group: str, prefix: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Kind, address and key of who is asked; None, and a note, where nothing of ours can."""
        base = self._plain(params.get("api_base") or params.get("base_url"), f"{group}: api_base")
        settings: dict[str, Any] = {}
        if prefix in KINDS:
            settings["kind"] = KINDS[prefix] if prefix != "openai" or not base or is_own(base) else "local"
        elif prefix in COMPATIBLE:
            settings["kind"], base = "local", base or COMPATIBLE[prefix]
        elif prefix in SERVERS and base:
            settings["kind"] = "local"
        else:
            self.notes.add(f"{group}: nothing here asks `{prefix}` models; it is left out")
            return None
        if base:
            settings["base_url"] = base
        key = params.get("api_key")
        if isinstance(key, str) and key.startswith(VARIABLE):
            settings["key_variable"] = key.removeprefix(VARIABLE)
        elif key:
            settings["key_variable"] = self._variable(prefix, str(key))
            self.notes.add(f"{group}: its key stands in the file; put it into the variable {settings['key_variable']}")
        elif prefix in COMPATIBLE or settings["kind"] in KEYED:
            settings["key_variable"] = usual_variable(prefix)
        return settings

    def _variable(self, prefix: str, key: str) -> str:
        """The variable for a key that stands in the file: the usual one, or the next that is nobody else's."""
        name, number = usual_variable(prefix), 1
        while (prefix, key) not in self._variables:
            if name not in self._taken:
                self._taken.add(name)
                self._variables[prefix, key] = name
            number += 1
            name = f"{usual_variable(prefix)}_{number}"
        return self._variables[prefix, key]

    def _provider(self, prefix: str, settings: dict[str, Any]) -> str:
        """The name of the provider that is asked so; the same service with the same key is one provider."""
        wanted = re.sub(r"[^a-z0-9-]+", "-", prefix.lower())
        kind, base = settings["kind"], settings.get("base_url")
        identity = (kind, base or providers.KINDS[kind].BASE_URL, settings.get("key_variable"))
        name, number = wanted, 1
        while self._identities.get(name, identity) != identity:
            number += 1
            name = f"{wanted}-{number}"
        if name not in self._providers:
            self._identities[name] = identity
            named = {} if name == settings["kind"] else {"name": name}
            self._providers[name] = {**settings, **named, **self._patience(), "models": []}
        return name

    def _rate(self, provider: str, model: str, limits: Mapping[str, float | None]) -> None:
        """Note the limits of one entry; of several for one model the largest holds."""
        rates = self._rates.setdefault(provider, {}).setdefault(model, dict.fromkeys(limits))
        for name, limit in limits.items():
            if limit is not None and limit > 0:
                rates[name] = max(limit, rates[name] or 0.0)

    def _limited(self) -> None:
        """Limit the keys: LiteLLM has limits by model, here they are the key's, and so the sum of its models'."""
        for provider, models in self._rates.items():
            settings, limits = self._providers[provider], dict[str, float]()
            for ours, theirs in (("requests_per_minute", "rpm"), ("tokens_per_minute", "tpm")):
                found = [rates[theirs] for rates in models.values()]
                known = [one for one in found if one is not None]
                if known and "key_variable" not in settings:
                    self.notes.add(f"{provider}: {theirs} not carried over, for it has no key")
                elif known and len(known) < len(found):
                    open_one = next(model for model, rates in models.items() if rates[theirs] is None)
                    self.notes.add(f"{provider}: {theirs} not carried over, for {open_one} of the same key has none")
                elif known:
                    limits[ours] = sum(known)
            if limits:
                variable = settings.pop("key_variable")
                settings["keys"] = [{"variable": variable, **limits}]
                self.notes.add(f"{provider}: rpm and tpm limit the key {variable}, as the sum over all of its models")

    def _model(self, provider: str, card: dict[str, Any]) -> None:
        """One model is one card, whatever groups it is in: what the first entry does not say another may."""
        models = self._providers[provider]["models"]
        known = next((one for one in models if one["name"] == card["name"]), None)
        if known is None:
            models.append(card)
            return
        for name, value in card.items():
            if known.setdefault(name, value) != value:
                where = f"{provider}/{card['name']}"
                self.notes.add(f"{where}: {name} differs among its entries; that of the first is taken")

    def _patience(self) -> dict[str, Any]:
        """Timeouts and retries that LiteLLM has for all models."""
        found: dict[str, Any] = {}
        total = self._router.get("timeout") or self._library.get("request_timeout")
        if timeouts := self.notes.timeouts("router_settings", total, self._router.get("stream_timeout")):
            found["timeouts"] = timeouts
        retries = self._router.get("num_retries", self._library.get("num_retries"))
        if isinstance(retries, int):
            found["retry"] = {"attempts": max(1, min(10, retries + 1))}
        return found

    def _aliases(self) -> dict[str, Any]:
        strategy = STRATEGIES.get(self._router.get("routing_strategy", "simple-shuffle"))
        if strategy is None:
            self.notes.add(f"the strategy {self._router['routing_strategy']!r} is not known here: weights decide")
            strategy = "weighted"
        groups: dict[str, list[_Deployment]] = {}
        for deployment in self._deployments:
            groups.setdefault(deployment.group, []).append(deployment)
        aliases: dict[str, Any] = {name: _alias(found, strategy) for name, found in groups.items()}
        for name, others in self._fallbacks():
            there = [other for other in others if other not in self._left_out or other in groups]
            for other in others:
                if other not in there:
                    self.notes.add(f"fallbacks of {name}: {other} is left out")
            if name == "*":
                for group in groups:
                    _append(aliases, group, there)
            elif name in aliases:
                _append(aliases, name, there)
            elif name in self._left_out and there:
                # LiteLLM's callers of a group that cannot be asked get its fallbacks.
                aliases[name] = there
            else:
                self.notes.add(f"fallbacks of {name}: there is no such group here")
        self._stand_ins(aliases)
        return aliases

    def _stand_ins(self, aliases: dict[str, Any]) -> None:
        """Add the further names that groups have, but those of groups that are not there."""
        for name, target in _object(self._router, "model_group_alias").items():
            meant = target.get("model") if isinstance(target, dict) else target
            if not meant:
                self.notes.add(f"model_group_alias: {name} stands for no group")
            elif meant in self._left_out and meant not in aliases:
                self.notes.add(f"model_group_alias: {name} stands for {meant}, which is left out")
            else:
                aliases[name] = [meant]

    def _fallbacks(self) -> Iterable[tuple[str, list[str]]]:
        """Fallbacks by group, those for all of them last. For a long prompt only a larger context is asked anyway."""
        for section in (self._router, self._library):
            for kind in ("fallbacks", "context_window_fallbacks"):
                for one in section.get(kind) or []:
                    yield from one.items()
        for section in (self._router, self._library):
            if others := section.get("default_fallbacks"):
                yield "*", others

    def _plain(self, value: Any, what: str) -> str | None:
        """A value that may be the name of a variable, which settings of ours do not read."""
        if isinstance(value, str) and value.startswith(VARIABLE):
            variable = value.removeprefix(VARIABLE)
            self.notes.add(f"{what} stands in the variable {variable}: write its value into base_url")
            place = re.sub(r"[^a-z0-9]+", "-", variable.lower()).strip("-")
            return f"http://set-{place}.invalid/v1"
        return str(value).rstrip("/") if value else None

    def _timeouts(self, group: str, params: Mapping[str, Any]) -> dict[str, float]:
        """What an entry says of its own patience."""
        silent = self._router.get("stream_timeout")
        return self.notes.timeouts(group, params.get("timeout"), params.get("stream_timeout"), silent=silent)

    def _leftover(self, section: str, given: Mapping[str, Any]) -> None:
        unknown = sorted(given.keys() - set(CARRIED[section].split()))
        if unknown:
            self.notes.add(f"{section}: not carried over: {', '.join(unknown)}")
        variables = given.get("environment_variables") if section == "the file" else None
        if variables:
            self.notes.add(f"environment_variables: set them yourself: {', '.join(sorted(variables))}")


def _alias(found: list[_Deployment], strategy: str) -> Any:
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


def _application(name: str, prefix: str, builder: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "route_prefix": prefix, "import_path": f"deployments.app:{builder}", "args": arguments}


def _listen(number: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": FIRST_PORT + number}


def _named(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else None


def _object(given: Any, name: str) -> dict[str, Any]:
    """A member that is an object; what is missing is an empty one. Raises ConfigurationError for anything else."""
    found = _named(given, name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"`{name}` must be an object")
    return found
