"""The ways to ask: caller's dialect, provider, lane, port, stream; and a request for each of them.

Above it: the parts. Below it: `scene`. Outside it: what comes back (`hearing`).
"""

from typing import Any, Literal, NamedTuple

from tests.cluster.running import Running
from tests.faults.scene import PRIMARY, PROVIDERS, SECOND, Provider

Dialect = Literal["chat", "messages"]
Lane = Literal["direct", "routed", "fallback"]
"""The provider's own application; the gateway with one candidate; the gateway with a second one."""
Port = Literal["listener", "ingress"]

LANES: tuple[Lane, ...] = ("direct", "routed", "fallback")
PATHS: dict[Dialect, str] = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
OWN: dict[Dialect, Provider] = {"chat": PRIMARY, "messages": SECOND}
"""The provider that speaks the caller's dialect."""


class Way(NamedTuple):
    """One way."""

    dialect: Dialect
    provider: Provider
    lane: Lane
    port: Port
    stream: bool

    @property
    def translated(self) -> bool:
        """Whether caller and provider speak different dialects."""
        return OWN[self.dialect] is not self.provider

    @property
    def spare(self) -> Provider:
        """The other provider."""
        return next(provider for provider in PROVIDERS if provider is not self.provider)

    @property
    def form(self) -> str:
        """For the table."""
        return "stream" if self.stream else "unary"

    def url(self, running: Running) -> str:
        """The port's base URL."""
        if self.port == "ingress":
            return running.url
        return running.listener(self.provider.name if self.lane == "direct" else "gateway")

    def path(self) -> str:
        """The request's path."""
        prefix = f"/{self.provider.name}" if (self.lane, self.port) == ("direct", "ingress") else ""
        return prefix + PATHS[self.dialect]

    def body(self, model: str, spare: str = "", prompt: str = "Say words", **more: Any) -> dict[str, Any]:
        """A request; `spare` is the other provider's model, for the lane that has one."""
        named = model if self.lane == "direct" else f"{self.provider.name}/{model}"
        body: dict[str, Any] = {
            "model": named,
            "messages": [{"role": "user", "content": prompt}],
            "stream": self.stream,
            "max_tokens": 1000,
            **more,
        }
        if self.lane == "fallback":
            body["models"] = [f"{self.spare.name}/{spare}"]
        return body


def every_way(*lanes: Lane) -> list[Way]:
    """All ways. Own dialects go to the own listeners, translated ones through the ingress, so that both are seen."""
    return [
        Way(dialect, provider, lane, "listener" if OWN[dialect] is provider else "ingress", stream)
        for lane in lanes or LANES
        for stream in (True, False)
        for dialect in PATHS
        for provider in PROVIDERS
    ]


TOOLS = (("get_weather", "city"), ("get_time", "zone"))


def tools(dialect: Dialect) -> list[dict[str, Any]]:
    """The two tools that the upstream calls, as a caller offers them."""
    found: list[dict[str, Any]] = []
    for name, field in TOOLS:
        schema = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}
        if dialect == "chat":
            found.append({"type": "function", "function": {"name": name, "parameters": schema}})
        else:
            found.append({"name": name, "input_schema": schema})
    return found
