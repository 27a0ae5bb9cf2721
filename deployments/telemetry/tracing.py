"""Traces by OpenTelemetry, where an OTLP endpoint is set in the environment; else nothing of it is imported.

    request                POST /v1/chat/completions, kind SERVER; its parent is the caller's, by W3C Trace Context
      route                the decision
      attempt              one for each candidate that is asked, in the gateway
        chat <model>       kind CLIENT, at the provider's replica; the provider hears of it by the same headers
      execute_tool <name>  one for each run of a tool

Names and attributes: OpenTelemetry's conventions for generative AI (https://github.com/open-telemetry/
semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md) and HTTP; what they have no name for begins with `penstock.`.
Spans are sent by a thread of the SDK's own, from a bounded queue; the SDK reads all other standard variables
(`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_MAX_QUEUE_SIZE`, …).

Above it: `front`, `replica`. Below it: the OpenTelemetry SDK, `pipelines.story`.
Outside it: what there is to be told of an attempt (`spans`).
"""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.visit import Visit
from pipelines.calls import Call
from pipelines.story import Attributes

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OpenSpan

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def tracing(application: str, instance: str) -> "Tracing | None":
    """What the environment asks for; None where it asks for no traces. instance: the replica's own name."""
    wanted = any(os.environ.get(name) for name in ENDPOINTS)
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if not wanted or off:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.instance.id": instance, "penstock.application": application}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "penstock"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, captures=os.environ.get(CONTENT, "").lower() in ("true", "span_only", "span_and_event"))


class Tracing:
    """Begins spans of `provider`. captures: text of prompts and answers is told."""

    def __init__(self, provider: "TracerProvider", *, captures: bool) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self.tracer = provider.get_tracer("penstock")
        self.propagator = TraceContextTextMapPropagator()
        self.captures = captures

    def begin(self, visit: Visit, call: Call) -> None:
        """A request came in: from now on its story has a trace. On a hop that is the gateway's own span."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, get_current_span

        context = self.propagator.extract(visit.headers, context=Context())
        if visit.hop:
            if get_current_span(context).get_span_context().is_valid:
                call.story.trace = _Span(self, get_current_span(context), context)
            return
        began = time.time_ns() - int((time.monotonic() - visit.began) * 1e9)
        span = self.tracer.start_span(
            f"POST {call.path}",
            context=context,
            kind=SpanKind.SERVER,
            start_time=began,
            attributes={
                "http.request.method": "POST",
                "http.route": call.path,
                "gen_ai.request.model": call.request.model[:200],
                "penstock.request_id": call.id,
                "penstock.lane": call.lane,
                "penstock.caller": call.caller.id,
            },
        )
        call.story.trace = _Span(self, span)

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


class _Span:
    """See `story.Trace`."""

    __slots__ = ("_context", "_over", "_span", "_tracing")

    def __init__(self, tracing: Tracing, span: "OpenSpan", context: "Context | None" = None) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        self._tracing = tracing
        self._span = span
        self._context = set_span_in_context(span, Context()) if context is None else context
        self._over = False

    def child(self, name: str, attributes: Attributes, *, asks: bool = False) -> "_Span":
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if asks else SpanKind.INTERNAL
        return _Span(
            self._tracing,
            self._tracing.tracer.start_span(name, context=self._context, kind=kind, attributes=_plain(attributes)),
        )

    def tell(self, attributes: Attributes) -> None:
        self._span.set_attributes(_plain(attributes))

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._tracing.propagator.inject(carrier, context=self._context)
        return carrier

    def end(self, error: str = "") -> None:
        from opentelemetry.trace import StatusCode

        if self._over:
            return
        self._over = True
        if error:
            self._span.set_attribute("error.type", error)
            if error != "cancelled":
                self._span.set_status(StatusCode.ERROR)
        self._span.end()

    @property
    def captures(self) -> bool:
        return self._tracing.captures


def _plain(attributes: Attributes) -> Mapping[str, str | int | float | bool | list[str]]:
    """In the form that the SDK takes without a warning."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}
