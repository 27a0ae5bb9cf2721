"""What the router publishes and what it hears: the values that cross between replicas and the router actor.

A provider replica sends an `Announcement` when it starts and every second or two after; a gateway replica sends
`Outcome`s in batches, as a `Report`; the router answers with a versioned `Table`. A replica that stays silent for
`ANNOUNCEMENT_LIFETIME` seconds drops out of the table.

Above it: `actors.routing.router`, `deployments`. Below it: `options`, msgspec.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from pipelines.errors import Reason
from pipelines.keys import Right
from pipelines.options import RouteOptions

if TYPE_CHECKING:
    from pipelines.routing.market import Market

ANNOUNCEMENT_LIFETIME = 5.0
"""Seconds after which a silent replica is gone."""

Role = Literal["first", "fallback", "hedge", "recovery", "shadow", "duel", "judge"]
"""Why an attempt was made: as the first choice, after a failure, beside a slow one, to continue a broken stream; or,
with an answer that nobody is given, to see how another model does, to compare two models, to judge between two answers.
"""

Basis = Literal["none", "reported", "computed", "unknown", "cached"]
"""Who says a cost: nothing was used; the provider said it; we computed it; nobody knows; it is that of a cached answer,
none.
"""

ProviderState = Literal["ready", "unconfigured", "unreachable", "draining"]

BreakerState = Literal["closed", "open", "half_open"]


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """Frozen, compact on the wire."""


class ModelCard(_Value, frozen=True):
    """What is known of one model of a provider.

    context and max_output are in tokens (0: unknown); prices in US dollars per million tokens (None: unknown);
    quality is the prior expectation between 0 and 1 that its answer is right.
    """

    name: str
    context: int = 0
    max_output: int = 0
    vision: bool = False
    audio: bool = False
    tools: bool = True
    json_schema: bool = True
    reasoning: bool = False
    input_price: float | None = None
    output_price: float | None = None
    cached_price: float | None = None
    cache_write_price: float | None = None
    quality: float = 0.5


class Announcement(_Value, frozen=True):
    """One provider replica, as it says itself.

    address is its own port for the hop (`host:port`). `why` explains a state that is not "ready".
    any_model: the provider takes names that are not in `models` (OpenRouter, a local server).
    simulated: its answers come from no model; `auto` takes it only where nothing else is set up.
    """

    provider: str
    replica: str
    address: str
    state: ProviderState = "ready"
    why: str = ""
    dialects: tuple[str, ...] = ("openai_chat",)
    models: tuple[ModelCard, ...] = ()
    any_model: bool = False
    simulated: bool = False
    in_flight: int = 0
    queued: int = 0
    limit: int = 0


class Bill(_Value, frozen=True, kw_only=True):
    """What one attempt used, in tokens as `conversation.Usage` counts them, and what it costs.

    cost: in nano-dollars, None where nobody knows; basis: who says so; prices: the list and version that it was
    computed by; estimated: the provider did not count to the end; answered: the model as the provider names it.
    """

    input: int = 0
    cached_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    cost: int | None = 0
    basis: Basis = "none"
    prices: str = ""
    answered: str = ""


class Outcome(_Value, frozen=True):
    """How one attempt went. Times in seconds; `reason` is None where it went well.

    cancelled: the caller went away, which is nobody's failure. first_output is the time to the first content.
    tries: how often the provider was asked; skipped: malformed frames that were passed over; role: why this attempt.
    bill: for the ledger; the router is not told. pieces: how many frames of content a stream had; queued: how long the
    attempt waited for its turn; begun: its stream has begun and goes on, which matters to a breaker only.
    """

    provider: str
    model: str
    seconds: float
    reason: Reason | None = None
    cancelled: bool = False
    first_output: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    tries: int = 1
    skipped: int = 0
    role: Role = "first"
    bill: Bill | None = None
    pieces: int = 0
    queued: float = 0.0
    begun: bool = False


class Decided(_Value, frozen=True):
    """One decision that was answered: the caller's key, his request's id, and an encoded `record.Record`.

    evidence: an encoded `learning.evidence.Evidence` where the answer itself showed some, or a judge. conversation: its
    hash (`learning.repeats`), to notice who asks the same again; empty where that is of no interest.
    """

    caller: str
    request: str
    record: bytes
    evidence: bytes = b""
    conversation: bytes = b""


class Report(_Value, frozen=True):
    """What one reporter (a gateway replica, by a name that is its own) saw since its last report.

    in_flight counts its attempts under way by provider and model, all of them, every time. measured: an encoded
    `metering.meter.Measured`.
    """

    reporter: str
    outcomes: tuple[Outcome, ...] = ()
    in_flight: dict[str, dict[str, int]] = {}
    decisions: tuple[Decided, ...] = ()
    measured: bytes = b""


class Published(_Value, frozen=True):
    """One version of what was learned, beside the table: an encoded `learning.view.View`.

    epoch and version are as for `Table`, with a count of their own.
    """

    epoch: str
    version: int
    view: bytes


LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
"""Bounds of a caller's priority."""

SHORTEST_KEEP_ALIVE = 1.0
"""Seconds between two comments to a waiting caller, at least."""


class CallerKey(_Value, frozen=True):
    """A caller's key as it is stored: `hash` is the SHA-256 of the key itself, in hexadecimal.

    priority, recovery, keep_alive, explore, route and rights are as in `calls.Caller`. Decoding refuses a priority or a
    keep_alive out of bounds with msgspec.ValidationError.
    """

    id: str
    name: str
    hash: str
    admin: bool = False
    priority: Annotated[int, msgspec.Meta(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)] = 0
    recovery: Literal["error", "continue"] = "error"
    keep_alive: float = 0.0
    explore: bool = True
    route: RouteOptions = RouteOptions()
    rights: tuple[Right, ...] = ("forward",)

    def __post_init__(self) -> None:
        if self.keep_alive != 0.0 and not self.keep_alive >= SHORTEST_KEEP_ALIVE:
            raise ValueError(f"`keep_alive` must be 0, or {SHORTEST_KEEP_ALIVE:g} at least")

    def __repr__(self) -> str:
        return f"CallerKey(id={self.id!r}, name={self.name!r}, admin={self.admin})"


class Welcome(_Value, frozen=True):
    """The router's answer to whoever greets it: its epoch, and what the whole cluster shares.

    secret goes with each request from a gateway to a provider; keys are the callers'. Neither is in `repr`.
    """

    epoch: str
    secret: str
    keys: tuple[CallerKey, ...] = ()

    def __repr__(self) -> str:
        return f"Welcome(epoch={self.epoch!r}, {len(self.keys)} keys)"


class Performance(_Value, frozen=True):
    """What is expected of one model by what was measured: decaying averages. None: never measured, or long ago.

    in_flight counts attempts under way; error_rate is between 0 and 1, and goes back to 0 while nothing is asked;
    first_output is the mean time to the first content in seconds, slow_first_output its 95th percentile. first_output
    and tokens_per_second near an unmeasured model's while nothing is measured (`statistics.Average.faded`).

    breaker is the circuit breaker's state; open_until, in seconds since 1970, is when an open one may be probed.
    prober is the reporter that may probe a half-open one (empty: anyone may).
    """

    in_flight: int = 0
    attempts: int = 0
    error_rate: float = 0.0
    first_output: float | None = None
    tokens_per_second: float | None = None
    output_tokens: float | None = None
    breaker: BreakerState = "closed"
    open_until: float = 0.0
    prober: str = ""
    slow_first_output: float | None = None


class ReplicaEntry(_Value, frozen=True):
    """Where to reach one replica, and how busy it last said it was."""

    replica: str
    address: str
    in_flight: int = 0
    queued: int = 0
    limit: int = 0


class Target(NamedTuple):
    """One model at one provider, with its card if there is one; name: `provider/model`."""

    entry: "ProviderEntry"
    model: str
    card: ModelCard | None
    name: str


class ProviderEntry(_Value, frozen=True, dict=True):
    """One provider: its replicas that can be asked, its models and how they do (keyed by model name).

    others: the ids of replicas that are there but not to be asked, since they drain or do not reach the provider; what
    is under way at them goes on.
    """

    name: str
    state: ProviderState
    why: str = ""
    dialects: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    any_model: bool = False
    simulated: bool = False
    replicas: tuple[ReplicaEntry, ...] = ()
    performance: dict[str, Performance] = {}
    others: tuple[str, ...] = ()

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The listed models, made once a table and not with every decision."""
        return tuple(Target(self, card.name, card, f"{self.name}/{card.name}") for card in self.models)

    @property
    def in_flight(self) -> int:
        """Calls that its replicas serve."""
        return sum(replica.in_flight for replica in self.replicas)

    @property
    def queued(self) -> int:
        """Calls that wait at its replicas."""
        return sum(replica.queued for replica in self.replicas)

    @property
    def limit(self) -> int:
        """Calls that its replicas serve at the most."""
        return sum(replica.limit for replica in self.replicas)

    def card(self, model: str) -> ModelCard | None:
        """What is known of that model; None where it is not listed."""
        return next((card for card in self.models if card.name == model), None)


class Table(_Value, frozen=True, dict=True):
    """One version of all that a gateway replica needs to decide.

    epoch changes with every incarnation of the router actor; version counts up within it. settled is false
    for the first seconds of an incarnation, while it has not yet heard every provider: a gateway that holds an
    older table keeps it until then.
    """

    epoch: str = ""
    version: int = 0
    settled: bool = True
    providers: tuple[ProviderEntry, ...] = ()

    @cached_property
    def market(self) -> "Market":
        """All that `auto` may choose from, made once a table and not with every decision."""
        # It is made of what is defined here.
        from pipelines.routing.market import Market

        return Market(self)

    def provider(self, name: str) -> ProviderEntry | None:
        """The provider of that name."""
        return next((entry for entry in self.providers if entry.name == name), None)
