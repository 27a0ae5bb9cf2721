"""The tables of `docs/errors.md`: every error that a caller may hear of, made of the tree in `pipelines.errors`.

Classes say their status, code and label themselves; what stands here is what to do. A test holds the rows against the
tree, and against every code that is given by hand where an error is raised.

Above it: `reference`. Below it: `pipelines.errors`, `pipelines.resilience`, `pipelines.dialects`. Outside it: the
page's other words.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.openai_chat.meaning import meaning
from pipelines.errors import (
    BadRequest,
    ConfigurationError,
    Denied,
    OverBudget,
    OverLimit,
    Overloaded,
    PenstockError,
    ProtocolError,
    RateLimited,
    Reason,
    StreamBroken,
    TimedOut,
    ToolFailed,
    UnknownModel,
    UpstreamError,
)
from pipelines.resilience import RULES

_LATER = "after `Retry-After`"
_ONCE_MENDED = "when it is mended"


class Own(NamedTuple):
    """An error of ours. code, statuses: where they are not those of the class; again: whether to send it again."""

    kind: type[PenstockError]
    again: str
    advice: str
    code: str = ""
    statuses: tuple[int, ...] = ()

    @property
    def error(self) -> PenstockError:
        """One of them."""
        return self.kind("", code=self.code or None)

    @property
    def told(self) -> tuple[int, ...]:
        """The statuses that callers get; none where the model is told instead."""
        return () if issubclass(self.kind, ToolFailed) else self.statuses or (self.kind.status,)


OWN: tuple[Own, ...] = (
    Own(BadRequest, "no", "Mend the request; `param` names the field."),
    Own(BadRequest, "no", "The body is no JSON object, or nested too deep.", "invalid_json"),
    Own(BadRequest, "no", "Shorten the request, or ask a model with a larger context.", "context_length_exceeded"),
    Own(BadRequest, "no", "A guardrail refused the question or the answer.", "content_policy"),
    Own(BadRequest, "no", "There is no such tool: `GET /v1/tools` lists them.", "unknown_tool"),
    Own(
        BadRequest,
        _ONCE_MENDED,
        "The tool is held, or its source is away: `GET /v1/tools` says why.",
        "tool_unavailable",
    ),
    Own(Denied, "no", "The key is missing, not known, revoked or expired."),
    Own(
        Denied,
        "no",
        "The key may not do this: its lanes, models, tools or rights. Its maker can change them.",
        "permission",
        (403,),
    ),
    Own(UnknownModel, "no", "No provider has the model: `GET /v1/models` lists them."),
    Own(BadRequest, "no", "There is nothing at this path, or nothing of this id for this key.", "not_found", (404,)),
    Own(BadRequest, "no", "There is no such tool to allow.", "tool_not_found", (404,)),
    Own(
        BadRequest,
        "no",
        "Nothing waits under this id: it was decided, has expired, or never was.",
        "approval_not_found",
        (404,),
    ),
    Own(BadRequest, "no", "Take the method that the message names.", "method_not_allowed", (405,)),
    Own(BadRequest, "yes", "Head or body came too slowly.", "request_timeout", (408,)),
    Own(BadRequest, "yes", "Somebody else changed the key at the same time.", "conflict", (409,)),
    Own(BadRequest, "no", "The key is revoked, and stays so: make a new one.", "revoked", (409,)),
    Own(BadRequest, "no", "The key whose conversation waited is not valid any more.", "key_gone", (409,)),
    Own(
        BadRequest,
        "no",
        "The tool is not what it was when it was looked at or approved: look again.",
        "tool_changed",
        (409,),
    ),
    Own(
        BadRequest,
        _LATER,
        "The first request with this `Idempotency-Key` is still being answered.",
        "idempotency_key_in_use",
        (409,),
    ),
    Own(BadRequest, "no", "Another version of the code kept what waited: ask anew.", "approval_gone", (410,)),
    Own(BadRequest, "no", "Send a smaller body.", "request_too_large", (413,)),
    Own(
        BadRequest,
        "no",
        "The `Idempotency-Key` was used with another body: take a new one.",
        "idempotency_key_reused",
        (422,),
    ),
    Own(OverBudget, "no", "The key's budget is used up: raise it, or wait for the next day or month."),
    Own(OverLimit, _LATER, "The key's requests, tokens or streams are used up for now."),
    Own(
        Overloaded,
        _LATER,
        "429: every place is taken. 503: nobody can serve, or a part (the ledger, the router) is away.",
        statuses=(429, 503),
    ),
    Own(BadRequest, "no", "Send fewer or smaller headers.", "headers_too_large", (431,)),
    Own(PenstockError, "yes", "A mistake of ours: the `.log` files have it under the request's id."),
    Own(
        ConfigurationError,
        _ONCE_MENDED,
        "The operator left something out: the message names it, a provider's key for instance.",
    ),
    Own(
        PenstockError,
        _LATER,
        "A guardrail does not answer, and its `on_failure` is `refuse`.",
        "guardrail_unavailable",
        (503,),
    ),
    Own(ToolFailed, "–", "A tool could not be run, or failed. The model is told, and the request goes on."),
    Own(ToolFailed, "–", "The tool's URL leads where tools may not go. Likewise.", "address_refused"),
    Own(ToolFailed, "–", "The tool's path is outside of its guard's directories. Likewise.", "path_refused"),
)
"""Every error of ours, by status."""


class Refusal(NamedTuple):
    """A provider's refusal or failure. else_status: for the caller where the provider gave none."""

    else_status: int
    again: str
    advice: str
    codes: tuple[str, ...] = ()


REFUSALS: dict[Reason, Refusal] = {
    "rate_limited": Refusal(
        429, _LATER, "The provider's limit or quota: more keys (`keys`), another model as fallback."
    ),
    "overloaded": Refusal(503, "later", "The provider is full: another model as fallback."),
    "server_error": Refusal(502, "later", "The provider broke down: its status page; another model as fallback."),
    "timeout": Refusal(
        504,
        "later",
        "The provider was silent, for longer than `timeouts` allow. It may charge for it.",
        ("upstream_error",),
    ),
    "broken": Refusal(
        502, "yes", "The connection was refused or lost, to the provider or to its replica.", ("unreachable",)
    ),
    "protocol": Refusal(
        502, "later", "The provider's answer is none in its own wire format: `kind` or `base_url` may be wrong."
    ),
    "context_too_long": Refusal(400, "no", "Shorten the request, or ask a model with a larger context."),
    "content_policy": Refusal(400, "no", "The provider's own policy refused it."),
    "invalid_request": Refusal(400, "no", "Mend the request; the message is the provider's."),
    "not_found": Refusal(404, "no", "The provider does not have the model, or the path."),
    "authentication": Refusal(
        502, _ONCE_MENDED, "The provider does not take its key: the operator gives it another one."
    ),
    "permission": Refusal(403, _ONCE_MENDED, "The provider's key may not do this: the operator looks there."),
}
"""What each reason asks of whom; the caller's status is the provider's own where it gave one."""

_KINDS: dict[Reason, type[UpstreamError]] = {
    "rate_limited": RateLimited,
    "broken": StreamBroken,
    "protocol": ProtocolError,
}

_FEW = 4


def own_errors() -> str:
    """The table of our own errors, as Markdown."""
    head = ["| status | `code` | outcome | send it again | what it is, and what to do |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(_own, OWN), ""])


def refusals() -> str:
    """The table of what providers do wrong, as Markdown."""
    head = [
        "| outcome | the provider says | status, where it says none | `code`, where it gives none | asked again"
        " | next candidate | send it again | what it is, and what to do |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_refusal, REFUSALS), ""])


def types() -> str:
    """The table of the errors' types by status, as Markdown."""
    statuses = sorted({status for row in OWN for status in row.told} | {row.else_status for row in REFUSALS.values()})
    lines = ["| status | OpenAI's `error.type` | Anthropic's `error.type` |", "|---|---|---|"]
    for status in statuses:
        error = PenstockError("", status=status)
        words = [_inner(name, error)["type"] for name in ("openai_chat", "anthropic_messages")]
        lines.append(f"| {status} | `{words[0]}` | `{words[1]}` |")
    return "\n".join([*lines, ""])


def failure(reason: Reason) -> UpstreamError:
    """A provider's failure for that reason."""
    if reason == "timeout":
        return TimedOut("", phase="idle")
    kind = _KINDS.get(reason)
    return kind("") if kind is not None else UpstreamError("", reason=reason)


def _own(row: Own) -> str:
    error = row.error
    cells = (", ".join(map(str, row.told)) or "–", f"`{error.code}`", f"`{error.label}`", row.again, row.advice)
    return f"| {' | '.join(cells)} |"


def _refusal(reason: Reason) -> str:
    row, rule = REFUSALS[reason], RULES[reason]
    codes = [str(_inner("openai_chat", failure(reason))["code"]), *row.codes]
    cells = (
        f"`{reason}`",
        ", ".join(_said(reason)) or "–",
        str(row.else_status),
        ", ".join(f"`{code}`" for code in codes),
        _yes(rule.retry),
        _yes(rule.fall_back),
        row.again,
        row.advice,
    )
    return f"| {' | '.join(cells)} |"


def _yes(allowed: bool) -> str:
    return "yes" if allowed else "no"


def _said(reason: Reason) -> Iterator[str]:
    """The statuses that mean it, whatever the words."""
    for hundred in (400, 500):
        found = [status for status in range(hundred, hundred + 100) if meaning(status, "")[0] == reason]
        yield from _listed(found, hundred)


def _listed(statuses: list[int], hundred: int) -> Iterable[str]:
    return [f"other {hundred // 100}xx"] if len(statuses) > _FEW else map(str, statuses)


def _inner(dialect: str, error: PenstockError) -> dict[str, Json]:
    inner = DIALECTS[dialect].write_error(error)["error"]
    assert isinstance(inner, dict)
    return inner
