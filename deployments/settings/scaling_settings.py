"""What an operator writes on the number of replicas.

Above it: `config`. Below it: `setting`, pydantic. Outside it: the policy (`scaling`).
"""

from typing import Self

from pydantic import Field, model_validator

from deployments.settings.setting import Settings


class AutoscalingSettings(Settings):
    """Replicas by the streams that they have in flight, over every port."""

    min_replicas: int = Field(1, ge=1, description="Replicas at least.")
    max_replicas: int = Field(ge=1, description="Replicas at most.")
    target_in_flight: float = Field(
        200.0, gt=0, description="Calls in flight on each replica; beyond it one more is started."
    )
    upscale_delay: float = Field(5.0, ge=0, description="Seconds that more must be wanted before more are started.")
    downscale_delay: float = Field(300.0, ge=0, description="Seconds that fewer must be enough before one leaves.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self
