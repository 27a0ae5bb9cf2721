"""Thinking: from effort or budget to `thinking`, and what it does not go together with.

Which form a model takes is known by its name (`models`):
- by a budget: efforts become budgets of `BUDGETS` tokens. A budget is at least 1,024 and less than `max_tokens`: where
  the request has a limit that the budget does not fit under, half of the limit is for thinking; where that is too
  little, there is no thinking and `reasoning` is named
- adaptive: a budget becomes the nearest effort, an effort that the model does not know the next lower one. These models
  show no thoughts unless asked, so a wish for a summary is `display`
- none: `reasoning` is named

With thinking on, Anthropic refuses (400): a temperature other than 1, `top_k`, a `top_p` below 0.95, a forced tool
choice, and with a budget a tool loop whose assistant turn does not begin with thinking of its own. The first three are
left out and named; the last two switch thinking off and name `reasoning`.

Source: Anthropic docs, "Extended thinking": "How to use", "Feature compatibility", "Preserving thinking blocks";
"Adaptive thinking"; "Effort".

Above it: `request_writer`. Below it: `models`, `conversation`.
"""

from pipelines.conversation import Json, ReasoningRequest, Request
from pipelines.dialects.anthropic_messages.content_writer import Block, Dropped
from pipelines.dialects.anthropic_messages.models import Model, model_of

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
"""Tokens of thinking for an effort; "medium" for a word that is not here, or for none."""

_LEAST = 1024
_THINKING = ("thinking", "redacted_thinking")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_USUAL_EFFORT = "high"


def write_thinking(request: Request, body: Block, extra: Block, dropped: Dropped) -> None:
    """Set `thinking` and make room for it in `max_tokens`. What `extra` says of thinking or effort stands instead."""
    asked, model = request.reasoning, model_of(request.model)
    if asked is None:
        return
    if asked.summary and model.thinking != "adaptive":
        dropped["reasoning.summary"] = None
    if "thinking" in extra:
        return
    if not asked.enabled or asked.effort == "none":
        _write_off(model, body, dropped)
        return
    config = extra.get("output_config")
    if asked.budget is None and isinstance(config, dict) and config.get("effort"):
        return
    if model.thinking == "adaptive":
        _write_adaptive(request, asked, model, body, dropped)
    elif model.thinking == "budget":
        _write_budget(request, asked, body, dropped)
    else:
        dropped["reasoning"] = None


def _write_off(model: Model, body: Block, dropped: Dropped) -> None:
    """No thinking; as little as can be where it cannot be switched off."""
    if model.always:
        _write_effort("low", body)
        dropped["reasoning.enabled"] = None
    elif model.thinking != "none":
        body["thinking"] = {"type": "disabled"}


def _write_adaptive(request: Request, asked: ReasoningRequest, model: Model, body: Block, dropped: Dropped) -> None:
    body["thinking"] = {"type": "adaptive"}
    if asked.summary:
        body["thinking"]["display"] = "summarized"
    if asked.budget is not None:
        dropped["reasoning.budget"] = None
    effort = "low" if asked.nearest_effort == "minimal" else asked.nearest_effort
    if effort == "xhigh" and not model.xhigh:
        effort = "high"
    if effort in _EFFORTS:
        _write_effort(effort, body)
    if effort != asked.nearest_effort or effort not in ("", *_EFFORTS):
        dropped["reasoning.effort"] = None
    if request.max_tokens is None:
        body["max_tokens"] += BUDGETS.get(effort, BUDGETS[_USUAL_EFFORT])


def _write_effort(effort: str, body: Block) -> None:
    body["output_config"] = {**body.get("output_config", {}), "effort": effort}


def _write_budget(request: Request, asked: ReasoningRequest, body: Block, dropped: Dropped) -> None:
    budget = _budget(asked)
    if request.max_tokens is None:
        body["max_tokens"] += budget
    elif budget >= request.max_tokens:
        budget = request.max_tokens // 2
        if asked.budget is not None:
            dropped["reasoning.budget"] = None
    if budget < _LEAST:
        dropped["reasoning"] = None
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def reconcile(body: Block, dropped: Dropped) -> None:
    """Take out of `body` what thinking does not go together with, or thinking itself; see above."""
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "adaptive"):
        return
    choice = body.get("tool_choice")
    forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
    bound = thinking["type"] == "enabled" and _loop_without_thinking(body["messages"])
    if forced or bound:
        del body["thinking"]
        dropped["reasoning"] = None
        return
    warm, wide = body.get("temperature", 1.0) == 1.0, body.get("top_p", 1.0) >= 0.95
    for name, fits in (("temperature", warm), ("top_k", False), ("top_p", wide)):
        if name in body and not fits:
            del body[name]
            dropped[name] = None


def _budget(asked: ReasoningRequest) -> int:
    if asked.budget is not None:
        return max(_LEAST, asked.budget)
    return BUDGETS.get(asked.effort, BUDGETS["medium"])


def _loop_without_thinking(messages: list[Block]) -> bool:
    """Whether the last user turn answers calls of an assistant turn that did not begin with thinking."""
    if len(messages) < 2 or not _has(messages[-1]["content"], "tool_result"):
        return False
    asking: Json = messages[-2]["content"]
    return _has(asking, "tool_use") and asking[0]["type"] not in _THINKING


def _has(content: Json, kind: str) -> bool:
    return isinstance(content, list) and any(block["type"] == kind for block in content)
