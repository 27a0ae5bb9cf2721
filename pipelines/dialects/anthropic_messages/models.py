"""What a model takes of thinking and sampling, by its name.

The API has one form for all models and refuses (400) what a model does not take:
- models before 3.7 do not think; up to 4.5 they think by a budget of tokens; later ones decide for themselves
  (`adaptive`) and are guided by `output_config.effort`. 4.6 still takes a budget, but for a while only
- `xhigh` is an effort since 4.7; temperature, `top_p` and `top_k` are none of these models' any more
- Fable, Mythos and, since 5.5, Opus cannot be kept from thinking

Names of other clouds hold the same words (`us.anthropic.claude-opus-4-5-20251101-v1:0`, `claude-haiku-4-5@20251001`,
`anthropic/claude-3.7-sonnet`). A Claude of no known version counts as a new one. A model of another vendor behind this
wire takes what the API had when it was imitated: a budget, and sampling.

Source: Anthropic docs, "Adaptive thinking", "Effort", and the migration guides of Opus 4.7, Opus 5.5 and Haiku 5.5.

Above it: `request_writer`, `thinking`. Below it: nothing.
"""

import re
from typing import Literal, NamedTuple

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_FAMILY = re.compile(r"fable|mythos|opus")

_FIRST_THINKING = (3, 7)
_FIRST_ADAPTIVE = (4, 6)
_FIRST_UNSAMPLED = (4, 7)
_FIRST_OPUS_THAT_ALWAYS_THINKS = (5, 5)
_NEW = (99, 0)


class Model(NamedTuple):
    """thinking: "none", by a "budget", or "adaptive"; always: it cannot be switched off; xhigh: the effort between
    high and max is known; sampled: temperature, `top_p` and `top_k` may be set."""

    thinking: Literal["none", "budget", "adaptive"]
    always: bool = False
    xhigh: bool = True
    sampled: bool = True


def model_of(name: str) -> Model:
    """What the model of this name takes."""
    name = name.lower()
    if "claude" not in name:
        return Model("budget")
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else _NEW
    if version < _FIRST_ADAPTIVE:
        return Model("none" if version < _FIRST_THINKING else "budget")
    is_old = version < _FIRST_UNSAMPLED
    return Model("adaptive", _always_thinks(name, version), xhigh=not is_old, sampled=is_old)


def _always_thinks(name: str, version: tuple[int, int]) -> bool:
    family = _FAMILY.search(name)
    if family is None:
        return False
    return family[0] != "opus" or version >= _FIRST_OPUS_THAT_ALWAYS_THINKS
