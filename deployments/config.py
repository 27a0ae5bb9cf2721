"""What people write: the typed arguments of the application builders, and where state lives.

Values here are pydantic, refuse unknown fields, and name variables or files, never a key itself: `serve config`
shows an application's arguments to whoever can reach the Ray dashboard.

Above it: `app`, the replicas, `launch`. Below it: pydantic, `pipelines.resilience`, `pipelines.routing`.
"""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import msgspec
from pydantic import Field, model_validator

from actors.credentials import credential
from actors.money.ledger_place import Place
from deployments.settings.guardrail_settings import GuardrailSettings
from deployments.settings.money_settings import PriceSettings, RetentionSettings
from deployments.settings.scaling_settings import AutoscalingSettings
from deployments.settings.setting import Settings
from deployments.settings.tool_settings import ToolSettings
from pipelines.errors import ConfigurationError
from pipelines.options import TimeoutOptions
from pipelines.resilience import RetryPolicy, Timeouts
from pipelines.routing.ask import Policy
from pipelines.routing.strategies import Plan, Strategy
from pipelines.routing.table import ModelCard
from pipelines.upstream_keys import UpstreamKey


def state_directory() -> Path:
    """Where keys, the cluster's secret and logs are: `PENSTOCK_STATE_DIR`, or `~/.penstock`."""
    return Path(os.environ.get("PENSTOCK_STATE_DIR") or "~/.penstock").expanduser()


class ListenSettings(Settings):
    """A replica's own listener for callers. The replicas of a node share the port."""

    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless you say otherwise.")
    port: int = Field(description="Port of the replica's own listener; 0 switches it off.", ge=0, le=65535)


class TimeoutSettings(Settings):
    """Patience with a provider, by phase."""

    connect: float = Field(5.0, gt=0, description="Seconds until a connection must stand.")
    first_event: float = Field(30.0, gt=0, description="Seconds until a stream's first event.")
    idle: float = Field(30.0, gt=0, description="Seconds between two events; pings do not count.")
    total: float = Field(600.0, gt=0, description="Seconds for the whole answer.")

    def value(self) -> Timeouts:
        """As the rules take them."""
        return Timeouts(**self.model_dump())


class RetrySettings(Settings):
    """How often and how soon the same provider is asked again before its first output."""

    attempts: int = Field(3, ge=1, le=10, description="Tries in all, the first included.")
    base: float = Field(0.25, gt=0, description="Seconds of the first backoff; it doubles, with full jitter.")
    cap: float = Field(4.0, gt=0, description="Longest backoff in seconds.")
    patience: float = Field(10.0, ge=0, description="Longest Retry-After in seconds that is waited for.")

    def value(self) -> RetryPolicy:
        """As the rules take them."""
        return RetryPolicy(**self.model_dump())


class ModelTimeoutSettings(Settings):
    """Patience with one model; what is left out is the provider's."""

    connect: float | None = Field(None, gt=0, description="Seconds until a connection must stand.")
    first_event: float | None = Field(None, gt=0, description="Seconds until a stream's first event.")
    idle: float | None = Field(None, gt=0, description="Seconds between two events; pings do not count.")
    total: float | None = Field(None, gt=0, description="Seconds for the whole answer.")

    def value(self) -> TimeoutOptions:
        """As the provider takes them."""
        return TimeoutOptions(**self.model_dump())


class KeySettings(Settings):
    """One of several keys at a provider, named by its variable or its file."""

    variable: str | None = Field(None, description="Environment variable that holds the key.")
    file: Path | None = Field(None, description="File that holds the key.")
    requests_per_minute: float | None = Field(None, gt=0, description="The provider's limit for this key, if known.")
    tokens_per_minute: float | None = Field(None, gt=0, description="The provider's limit for this key, if known.")

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.variable is None) == (self.file is None):
            raise ValueError("a key needs either a variable or a file")
        return self

    def value(self) -> UpstreamKey:
        """The key itself; empty where its variable is. Raises ConfigurationError for a file that cannot be read."""
        if self.file is not None:
            secret, label = _read_key(self.file), str(self.file)
        else:
            label = self.variable or ""
            secret = credential(label)
        return UpstreamKey(secret, label, self.requests_per_minute, self.tokens_per_minute)


class ModelSettings(Settings):
    """What the router knows of a model beforehand."""

    name: str = Field(description="The provider's own name of the model.")
    context: int = Field(0, ge=0, description="Context length in tokens; 0: unknown.")
    max_output: int = Field(
        0,
        ge=0,
        description="Longest answer in tokens: bounds whom `auto` asks, and what Anthropic is asked for; 0: unknown.",
    )
    vision: bool = Field(False, description="Takes images.")
    audio: bool = Field(False, description="Takes sound.")
    tools: bool = Field(True, description="Calls tools.")
    json_schema: bool = Field(True, description="Answers by a JSON schema.")
    reasoning: bool = Field(False, description="Thinks before it answers.")
    input_price: float | None = Field(None, ge=0, description="US dollars per million prompt tokens.")
    output_price: float | None = Field(None, ge=0, description="US dollars per million output tokens.")
    cached_price: float | None = Field(None, ge=0, description="US dollars per million cached prompt tokens.")
    cache_write_price: float | None = Field(
        None, ge=0, description="US dollars per million prompt tokens that are put into the cache."
    )
    quality: float = Field(0.5, ge=0, le=1, description="Prior expectation that its answer is right.")
    timeouts: ModelTimeoutSettings | None = Field(None, description="Over the provider's, where they are set.")

    def value(self) -> ModelCard:
        """As the router takes it."""
        return msgspec.convert(self.model_dump(exclude={"timeouts"}), ModelCard)

    def over(self, listed: ModelCard) -> ModelCard:
        """The model as the provider's own list has it, but for what is written here."""
        return msgspec.structs.replace(listed, **self.model_dump(include=self.model_fields_set - {"timeouts"}))


class LedgerSettings(Settings):
    """Where the ledger is, and what happens without it. The address is the same for every application."""

    url_variable: str = Field(
        "PENSTOCK_LEDGER_URL", description="Environment variable that holds the database's URL (`postgresql://…`)."
    )
    url_file: Path | None = Field(
        None, description="File that holds it, where the variable is empty; neither: SQLite in the state directory."
    )
    when_away: Literal["refuse", "continue"] = Field(
        "refuse",
        description="Whether calls are refused (503) once `waiting` rows could not be written, "
        "and those of a key with limits once these cannot be looked up.",
    )
    waiting: int = Field(2000, ge=10, description="Rows that one replica keeps while the ledger is away.")

    def place(self) -> Place:
        """As the ledger takes it."""
        return Place(self.url_variable, str(self.url_file or ""))


class ObservabilitySettings(Settings):
    """What is counted and written down. Traces are switched on by OpenTelemetry's own variables."""

    metrics: bool = Field(True, description="Whether this application counts for `GET /metrics`.")
    request_log: bool = Field(True, description="Whether there is a line of JSON for each request.")
    log_content: bool = Field(False, description="Whether that line holds the text of questions and answers.")


class ReplicaSettings(Settings):
    """What every deployment of ours has. LIVE: the fields that Serve's `user_config` may change without a restart."""

    LIVE: ClassVar[frozenset[str]] = frozenset()

    replicas: int = Field(1, ge=1, description="Replicas, where `autoscaling` does not say how many.")
    autoscaling: AutoscalingSettings | None = Field(
        None, description="More or fewer replicas by the calls in flight; `replicas` is not looked at then."
    )
    per_node: int | None = Field(
        None, ge=1, le=100, description="Replicas on one node at most; they are spread over the nodes anyway."
    )
    cpus: float = Field(
        0.0, ge=0, description="CPUs that Ray sets aside for a replica: a cluster that adds nodes goes by them."
    )
    concurrent: int = Field(1000, ge=1, description="Calls that one replica serves at once, over all lanes.")
    queued: int = Field(500, ge=0, description="Calls that may wait at one replica; more are refused.")
    patience: float = Field(30.0, gt=0, description="Seconds that a call may wait for its turn.")
    drain: float = Field(600.0, ge=0, description="Seconds that a leaving replica gives its streams.")
    health_timeout: float = Field(
        2.0,
        gt=0,
        description="Seconds in which a health check must be answered; after three that were not the replica is "
        "replaced, and its streams end. More where nodes may be starved of CPU.",
    )
    origins: tuple[str, ...] = Field((), description="Web origins whose pages may call (CORS); `*` for all.")
    listen: ListenSettings | None = Field(None, description="The own listener; none where absent.")
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    observability: ObservabilitySettings = Field(default_factory=ObservabilitySettings)
    guardrails: tuple[GuardrailSettings, ...] = Field(
        (), description="Who looks at requests and answers, in this order."
    )


class ProviderSettings(ReplicaSettings):
    """Arguments of one provider application."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"models", "timeouts"})

    kind: Literal["openai", "anthropic", "openrouter", "local", "ollama", "simulator"] = Field(
        description="Which adapter; a compatible service is `local` with a base_url."
    )
    name: str = Field("", description="Name of the provider and prefix of its route; the kind's name if empty.")
    base_url: str | None = Field(None, description="Where the service is; else the kind's variable or default.")
    key_variable: str | None = Field(None, description="Environment variable that holds the key.")
    key_file: Path | None = Field(None, description="File that holds the key; wins over the variable.")
    keys: tuple[KeySettings, ...] = Field((), description="Several keys, in place of the one; used in turn.")
    proxy: str = Field("", description="Proxy on the way to the provider (`http://host:3128`), without a password.")
    proxy_variable: str | None = Field(
        None, description="Environment variable that holds the proxy's address, for one with a password."
    )
    ca_file: Path | None = Field(None, description="PEM bundle of authorities to trust beside the usual ones.")
    api_version: Literal["", "2023-06-01", "2026-10-21"] = Field(
        "", description="Kind `anthropic` only: the version its models want; empty: the caller's own."
    )
    stream_usage: bool | None = Field(
        None,
        description="Kind `local`: whether a stream's usage is asked for; unset: unless the host is known to refuse.",
    )
    models: tuple[ModelSettings, ...] = Field((), description="Models known beforehand.")
    any_model: bool | None = Field(None, description="Whether names outside `models` are taken.")
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    prices: PriceSettings = Field(default_factory=PriceSettings)
    adaptive: bool = Field(
        True, description="Whether a replica serves fewer than `concurrent` while the provider is slow or refuses."
    )
    least_concurrent: int = Field(
        20, ge=1, description="Calls that an adaptive replica serves at once, whatever comes."
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.api_version and self.kind != "anthropic":
            raise ValueError("api_version is for the kind anthropic only")
        if self.stream_usage is not None and self.kind != "local":
            raise ValueError("stream_usage is for the kind local only")
        if self.keys and (self.key_variable or self.key_file):
            raise ValueError("keys takes the place of key_variable and key_file")
        if self.proxy and self.proxy_variable:
            raise ValueError("proxy_variable takes the place of proxy")
        if "@" in self.proxy:
            raise ValueError("a proxy's password is for a variable (proxy_variable), not for the configuration")
        return self

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.name or self.kind

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The files that hold keys."""
        return tuple(file for file in (self.key_file, *(key.file for key in self.keys)) if file is not None)

    def upstream_keys(self) -> tuple[UpstreamKey, ...]:
        """The keys that are listed, or the one in the file. Raises ConfigurationError where a file cannot be read."""
        if self.key_file is not None:
            return (UpstreamKey(_read_key(self.key_file), str(self.key_file)),)
        return tuple(key.value() for key in self.keys)

    def way_out(self) -> str:
        """The proxy's address, "" for none. Raises ConfigurationError for an empty variable: never past the proxy."""
        if not self.proxy_variable:
            return self.proxy
        address = credential(self.proxy_variable)
        if not address:
            raise ConfigurationError(f"the proxy's variable {self.proxy_variable} is empty")
        return address

    def arguments(self) -> dict[str, Any]:
        """What the adapter's constructor takes."""
        given: dict[str, Any] = {
            "name": self.provider,
            "key_variable": self.key_variable,
            "base_url": self.base_url,
            "any_model": self.any_model,
            "timeouts": self.timeouts.value(),
            "model_timeouts": {model.name: model.timeouts.value() for model in self.models if model.timeouts},
            "retry": self.retry.value(),
            "keys": self.upstream_keys(),
            "proxy": self.way_out(),
            "ca_file": self.ca_file,
        }
        if self.api_version:
            given["api_version"] = self.api_version
        if self.stream_usage is not None:
            given["stream_usage"] = self.stream_usage
        if self.models:
            given["models"] = tuple(model.value() for model in self.models)
        return given


def _read_key(file: Path) -> str:
    """The key in a file, "" for an empty one. Raises ConfigurationError where there is none to be read."""
    try:
        # Windows' tools begin a text with a mark.
        key = file.expanduser().read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigurationError(f"the key file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError("the key file cannot be read: it is no text in UTF-8") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the key file holds something else than one key")
    return key


class AliasSettings(Settings):
    """An alias that is more than a list: models and the way to choose among them."""

    models: tuple[str, ...] = Field(min_length=1, description="What it stands for: models, aliases, `auto`.")
    strategy: Strategy = Field("ordered", description="Who is asked first; the others follow where that one fails.")
    weights: dict[str, float] = Field(
        default_factory=dict, description="For `weighted` and `sticky`, by name in `models`; 1 where none is given."
    )
    canary: str = Field("", description="One more model, asked first for `percent` of the requests.")
    percent: float = Field(0.0, ge=0, le=100, description="The canary's share.")

    @model_validator(mode="after")
    def _weighs_its_own(self) -> Self:
        if unknown := sorted(self.weights.keys() - set(self.models)):
            raise ValueError(f"weights names {unknown[0]}, which is not in models")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a weight is 0 at least")
        if self.percent and not self.canary:
            raise ValueError("percent wants a canary")
        return self

    def plan(self) -> Plan:
        """As the router takes it."""
        return Plan(self.strategy, self.weights, self.canary, self.percent)


class TrialSettings(Settings):
    """Requests that a second model is given too, at a cost of its own: off by default."""

    shadow: float = Field(
        0.0, ge=0, le=1, description="Share of requests whose second answer is thrown away once it was measured."
    )
    duel: float = Field(0.0, ge=0, le=1, description="Share of requests whose two answers are compared.")
    judge: str = Field("", description="Model or alias that compares them; empty: the callers may.")
    judge_own: bool = Field(False, description="Whether a model may judge its own answers.")
    models: tuple[str, ...] = Field(
        (), description="Patterns (`openai/*`) of who may be second; empty: whoever could have been first."
    )
    concurrent: int = Field(4, ge=1, description="Trials that one replica runs at once; beyond it nothing is tried.")
    patience: float = Field(120.0, gt=0, description="Seconds that a trial may take, its judge included.")


class GatewaySettings(ReplicaSettings):
    """Arguments of the gateway application."""

    LIVE: ClassVar[frozenset[str]] = frozenset(
        {
            *("aliases", "policy", "max_cost", "max_latency", "min_quality", "explore"),
            *("fall_back", "fall_back_reasons", "hedge", "wait_for_replica"),
        }
    )

    aliases: dict[str, tuple[str, ...] | AliasSettings] = Field(
        default_factory=dict,
        description="Names that callers may use, each for models in order of preference, or with a strategy.",
    )
    policy: Policy = Field("balanced", description="What `auto` weighs most.")
    max_cost: float | None = Field(None, ge=0, description="US dollars of a request; dearer models are asked last.")
    max_latency: float | None = Field(None, ge=0, description="Seconds of an answer; slower models are asked last.")
    min_quality: float | None = Field(
        None, ge=0, le=1, description="Expected quality of an answer; lesser models are asked last."
    )
    explore: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Share of `auto` requests on which models are tried for what they may prove to be.",
    )
    trials: TrialSettings = Field(default_factory=TrialSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    tools: ToolSettings = Field(default_factory=ToolSettings)
    fall_back: bool = Field(True, description="Whether another candidate is asked when one fails.")
    fall_back_reasons: tuple[Literal["content_policy", "authentication", "permission", "not_found"], ...] = Field(
        (), description="Refusals after which another candidate is asked too; usually the caller hears them."
    )
    hedge: bool = Field(
        False, description="Whether a stream's next candidate is asked beside one that is slower than usual."
    )
    wait_for_replica: float = Field(
        10.0, ge=0, description="Seconds to wait for a provider whose replicas are all restarting."
    )
