"""What is common to all that an operator writes in a configuration.

Above it: `config`, `tool_settings`. Below it: pydantic.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen; an unknown field is an error."""

    # What was written may hold what belongs into a variable.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
