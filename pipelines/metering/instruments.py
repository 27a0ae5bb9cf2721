"""Every metric that replicas count themselves, by the name that Prometheus shows.

Names, units and buckets follow OpenTelemetry's semantic conventions for generative AI where they have a metric
(https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md), with dots as
underscores and the unit as suffix, as the OpenTelemetry-to-Prometheus rules say; else Prometheus' own rules
(https://prometheus.io/docs/practices/naming/).

No label has unbounded values: providers are configured, models are listed or "other", all else is a word of ours. A
caller's key is in no label.

Above it: `meter`, `recorder`, `cluster`, `deployments.telemetry.metrics`. Below it: nothing.
"""

from typing import Literal, NamedTuple

Kind = Literal["counter", "histogram", "gauge"]
Together = Literal["sum", "max"]


class Instrument(NamedTuple):
    """One metric. labels: names in order; buckets: upper bounds, inclusive, without infinity.

    unit: what one counted unit is in the metric's own unit; together: how a gauge's values of several replicas
    become one.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    unit: float = 1.0
    together: Together = "sum"


_MODEL = ("provider", "model")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_EACH_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))
_OURS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 1.024)
_DECISION = (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0064, 0.0256)

REQUESTS = Instrument(
    "penstock_requests_total",
    "counter",
    "Requests that have ended, one for each row of the ledger; outcome is ok, cancelled, or why it failed.",
    ("lane", "dialect", *_MODEL, "outcome"),
)
REFUSED = Instrument(
    "penstock_refused_requests_total",
    "counter",
    "Requests refused before they were let in: a wrong key, a malformed body, a budget. The ledger has no row of them.",
    ("reason",),
)
ATTEMPTS = Instrument(
    "penstock_attempts_total",
    "counter",
    "Attempts at providers that have ended; role is first, fallback, hedge or recovery.",
    (*_MODEL, "role", "outcome"),
)
RETRIES = Instrument("penstock_retries_total", "counter", "Times that a provider was asked again.", _MODEL)
TOKENS = Instrument(
    "penstock_tokens_total",
    "counter",
    "Tokens by kind. input includes cached_read and cache_write, output includes reasoning.",
    (*_MODEL, "kind"),
)
COST = Instrument("penstock_cost_dollars_total", "counter", "Known cost in US dollars.", _MODEL, unit=1e-9)
UNKNOWN_COST = Instrument(
    "penstock_unknown_cost_attempts_total", "counter", "Attempts whose cost nobody knows.", _MODEL
)
LOST_REPLICAS = Instrument(
    "penstock_lost_replicas_total", "counter", "Times that a provider's replica was lost under a call.", ("provider",)
)
LOST_ROWS = Instrument(
    "penstock_ledger_lost_rows_total", "counter", "Rows dropped because the ledger was away for too long."
)

REQUEST_DURATION = Instrument(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "Time from a request's head to the end of its answer.",
    (*_GEN_AI, "error_type"),
    _DURATION,
)
FIRST_TOKEN = Instrument(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "Time from a request's head to the first output, of streams that went well.",
    _GEN_AI,
    _FIRST_TOKEN,
)
EACH_TOKEN = Instrument(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Inter-token time of streams that went well: from the first piece to the last, by the number of pieces between.",
    _GEN_AI,
    _EACH_TOKEN,
)
OPERATION_DURATION = Instrument(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "Time of one attempt at a provider, its retries included.",
    (*_GEN_AI, "error_type"),
    _DURATION,
)
TOKEN_USAGE = Instrument(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of one attempt, input or output.",
    (*_GEN_AI, "gen_ai_token_type"),
    _TOKENS,
)
TOOL_DURATION = Instrument(
    "gen_ai_execute_tool_duration_seconds",
    "histogram",
    "Time of one run of a tool; the count is the number of calls.",
    ("gen_ai_tool_name", "error_type"),
    _DURATION,
)
OVERHEAD = Instrument(
    "penstock_overhead_seconds",
    "histogram",
    "Time that is ours, of requests that needed one attempt: up to the first output of a stream, up to the end of"
    " other answers, less the provider's time and waiting for a turn.",
    ("lane",),
    _OURS,
)
QUEUE_WAIT = Instrument(
    "penstock_queue_wait_seconds", "histogram", "Time that a request waited for its turn.", ("lane",), _DURATION
)
LEDGER_WAIT = Instrument(
    "penstock_ledger_wait_seconds",
    "histogram",
    "Time that the end of an answer waited until its rows were durable.",
    (),
    _OURS,
)
DECISION = Instrument("penstock_decision_seconds", "histogram", "Time of one routing decision.", (), _DECISION)

IN_FLIGHT = Instrument("penstock_in_flight_requests", "gauge", "Requests that replicas have now.", ("application",))
QUEUED = Instrument("penstock_queued_requests", "gauge", "Requests that wait for their turn.", ("application",))
WAITING_ROWS = Instrument("penstock_ledger_waiting_rows", "gauge", "Rows that are not durable yet.", ("application",))
LEDGER_LAG = Instrument(
    "penstock_ledger_lag_seconds",
    "gauge",
    "Since when the replica that waits longest has waited for the ledger.",
    ("application",),
    together="max",
)
REPLICAS = Instrument(
    "penstock_replicas", "gauge", "Replicas that have told of themselves within 5 s.", ("application",)
)

INSTRUMENTS = (
    REQUESTS, REFUSED, ATTEMPTS, RETRIES, TOKENS, COST, UNKNOWN_COST, LOST_REPLICAS, LOST_ROWS,
    REQUEST_DURATION, FIRST_TOKEN, EACH_TOKEN, OPERATION_DURATION, TOKEN_USAGE, TOOL_DURATION,
    OVERHEAD, QUEUE_WAIT, LEDGER_WAIT, DECISION,
    IN_FLIGHT, QUEUED, WAITING_ROWS, LEDGER_LAG, REPLICAS,
)  # fmt: skip
"""All of them, in the order of the page."""

BY_NAME = {one.name: one for one in INSTRUMENTS}
