"""What there is to be told of a request, a decision and an attempt in a trace.

Attributes are OpenTelemetry's (`tracing` names the source). Every function here is called only where there is a trace.

Above it: `front`, `routed_lane`, `provider_replica`. Below it: `content`, `pipelines.story`. Outside it: the SDK.
"""

import msgspec
from yarl import URL

from deployments.telemetry import content
from pipelines.calls import Answer, Call
from pipelines.metering.recorder import OPERATIONS
from pipelines.routing.table import Outcome, Role
from pipelines.story import Trace
from pipelines.tools.catalogue import ToolRun

_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "stop": "gen_ai.request.stop_sequences",
}


def attempting(trace: Trace, provider: str, model: str, role: Role) -> Trace:
    """The gateway asks a candidate."""
    about = {"gen_ai.provider.name": provider, "gen_ai.request.model": model[:200], "penstock.role": role}
    return trace.child("attempt", about)


def routing(trace: Trace) -> Trace:
    """The gateway decides."""
    return trace.child("route", {})


def running(trace: Trace, run: ToolRun) -> Trace:
    """A tool is run."""
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": run.tool, "gen_ai.tool.call.id": run.id}
    return trace.child(f"execute_tool {run.tool}", about)


def asking(trace: Trace, call: Call, provider: str, address: str) -> tuple[Call, Trace]:
    """A provider is asked: the call with the headers that tell it of the span, and the span."""
    request, url = call.request, URL(address)
    operation = OPERATIONS.get(call.operation, call.operation)
    asked = {
        name: value for field, name in _ASKED.items() if (value := getattr(request, field)) is not None and value != ()
    }
    span = trace.child(
        f"{operation} {request.model[:200]}",
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": request.model[:200],
            "server.address": url.host or "",
            "server.port": url.port or 0,
            "penstock.role": call.account.role,
            "penstock.request_id": call.id,
            **asked,
        },
        asks=True,
    )
    if span.captures:
        span.tell({"gen_ai.input.messages": content.written(content.question(call))})
    return msgspec.structs.replace(call, headers={**call.headers, **span.headers()}), span


def asked(span: Trace, outcome: Outcome, listener: content.Listener | None = None) -> None:
    """The attempt is over."""
    if listener is not None:
        span.tell({"gen_ai.output.messages": content.written(listener.heard())})
    bill = outcome.bill
    if bill is not None:
        told: dict[str, str | int | float] = {
            "gen_ai.usage.input_tokens": bill.input,
            "gen_ai.usage.output_tokens": bill.output,
        }
        if bill.answered:
            told["gen_ai.response.model"] = bill.answered[:200]
        if bill.cost is not None:
            told["penstock.cost_dollars"] = bill.cost / 1e9
        span.tell(told)
    if outcome.first_output is not None:
        span.tell({"penstock.first_output_seconds": round(outcome.first_output, 6)})
    if outcome.tries > 1:
        span.tell({"penstock.tries": outcome.tries})
    span.end(ended(outcome))


def ended(outcome: Outcome) -> str:
    """Why an attempt failed, in one word; "" where it did not."""
    return "cancelled" if outcome.cancelled else outcome.reason or ""


def answered(trace: Trace, answer: Answer, last: Outcome | None) -> None:
    """A request has been answered, whole or not. last: its last attempt, for an answer without an outcome."""
    told: dict[str, str | int] = {"http.response.status_code": answer.status}
    outcome = answer.outcome or last
    if outcome is not None and outcome.provider:
        told |= {"gen_ai.provider.name": outcome.provider, "gen_ai.response.model": outcome.model[:200]}
    if route := answer.headers.get("x-penstock-route"):
        told["penstock.route"] = route
    trace.tell(told)
    trace.end("" if answer.result == "ok" else answer.result)
