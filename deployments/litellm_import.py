"""A LiteLLM proxy's configuration as one of ours: providers, models, aliases, strategies, fallbacks, timeouts.

Source: https://docs.litellm.ai/docs/proxy/configs (the file).

What has no counterpart here is named, never dropped in silence. A key that stands in the file itself is not carried
over: it belongs into a variable, which is named in its place.

Above it: `cli`. Below it: `config`, which checks the result, `litellm_groups`,
`litellm_models` and `litellm_names`. Outside it: files.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from deployments import providers
from deployments.config import GatewaySettings, ProviderSettings
from deployments.litellm_groups import FOR_LONGER, Deployment, aliases_of, fallbacks_of
from deployments.litellm_models import Notes, card_of, completed
from deployments.litellm_names import (
    CARRIED,
    COMPATIBLE,
    CONVERSATIONS,
    KEYED,
    KINDS,
    OPERATIONS,
    RESPONSES,
    SERVERS,
    VARIABLE,
    member,
    mode_of,
    object_in,
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
        self._router = object_in(given, "router_settings")
        self._library = object_in(given, "litellm_settings")
        self._providers: dict[str, dict[str, Any]] = {}
        self._rates: dict[str, dict[str, dict[str, float | None]]] = {}
        self._deployments: list[Deployment] = []
        self.notes = Notes()

    def result(self) -> Imported:
        """Read everything, and check what came of it against our own settings."""
        for section in ("the file", "router_settings", "litellm_settings", "general_settings"):
            self._leftover(section, self._given if section == "the file" else object_in(self._given, section))
        for entry in self._given["model_list"]:
            self._deployment(entry)
        self._limited()
        sections = (self._router, self._library)
        aliases = aliases_of(self._deployments, self._left_out, self._providers, sections, self.notes)
        GatewaySettings.model_validate({"aliases": aliases})
        applications = [_application("gateway", "/", "gateway", {"listen": _listen(0), "aliases": aliases})]
        for number, (name, settings) in enumerate(self._providers.items(), 1):
            models = [completed(card, settings["kind"], settings.get("base_url", "")) for card in settings["models"]]
            arguments = {"listen": _listen(number), **settings, "models": models}
            self._unknown_contexts(name, models)
            ProviderSettings.model_validate(arguments)
            applications.append(_application(name, f"/{name}", "provider", arguments))
        if "master_key" in object_in(self._given, "general_settings"):
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
        params = object_in(entry, "litellm_params")
        group, asked = (str(name) if name else "" for name in (member(entry, "model_name"), params.get("model")))
        if not group or not asked:
            raise ConfigurationError("an entry of `model_list` has no model_name, or no litellm_params.model")
        self._leftover("model_list", entry)
        self._leftover("litellm_params", params)
        info = object_in(entry, "model_info")
        self._leftover("model_info", info)
        prefix, model = service_of(params)
        wildcard = "*" in model or "*" in group
        mode = self._mode(group, model, info)
        if mode == "responses" or model.startswith(RESPONSES):
            model = model.removeprefix(RESPONSES)
            self.notes.add(
                f"{group}: {model} is asked at /v1/responses only; the chat dialect is not put into its words"
            )
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
        if wildcard:
            self.notes.add(f"{group}: wildcards need no entry, callers may ask for `{provider}/<model>`")
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
        self._deployments.append(Deployment(group, provider, model, max(0.0, weight)))

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
        if (number := self.notes.number("num_retries", retries)) is not None:
            found["retry"] = {"attempts": max(1, min(10, int(number) + 1))}
        return found

    def _unknown_contexts(self, provider: str, models: list[dict[str, Any]]) -> None:
        """Say whose context nobody knows, of groups that are to be followed by a larger one."""
        followed = {one.name for one in fallbacks_of((self._router, self._library)) if one.kind == FOR_LONGER}
        unknown = {card["name"] for card in models if "context" not in card}
        for one in self._deployments:
            if one.provider == provider and one.model in unknown and one.group in followed:
                self.notes.add(f"{FOR_LONGER} of {one.group}: write `context` to {one.target}, for nobody knows it")

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


def _application(name: str, prefix: str, builder: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "route_prefix": prefix, "import_path": f"deployments.app:{builder}", "args": arguments}


def _listen(number: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": FIRST_PORT + number}
