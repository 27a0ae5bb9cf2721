"""What is common to all that an operator writes in a configuration.

Above it: `config`, `tool_settings`, `live_settings`, `preflight`. Below it: pydantic.
"""

import re

from pydantic import BaseModel, ConfigDict, ValidationError

_FORM = re.compile(r"[\w-]+\[.*\]")
"""How pydantic names one of several forms within a place (`tuple[str, ...]`), which nobody has written."""


class Settings(BaseModel):
    """Frozen; an unknown field is an error."""

    # What was written may hold what belongs into a variable.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def fault(error: ValidationError) -> str:
    """What is wrong and where, in one line and without the value: the deepest place that is named, for it says most.

    Where one of several forms is wanted, each has its errors; those of the form that was meant lie deeper.
    """
    wrong = max(
        error.errors(include_url=False, include_context=False, include_input=False), key=lambda one: len(one["loc"])
    )
    place = ".".join(part for part in map(str, wrong["loc"]) if not _FORM.fullmatch(part))
    return f"{place}: {wrong['msg']}" if place else wrong["msg"]
