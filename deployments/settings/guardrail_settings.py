"""What is configured of a guardrail.

Above it: `config`. Below it: `setting`. Outside it: what a guardrail is told, and what it may answer.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from deployments.settings.setting import Settings


class GuardrailSettings(Settings):
    """One guardrail: a Python function or an HTTP service."""

    name: str = Field(description="Its name, in errors and in the log.")
    function: str = Field("", description="`module:function`, importable where the replicas run.")
    url: str = Field("", description="Where a service is asked instead (POST).")
    key_variable: str = Field(
        "", description="Environment variable with a key for the service (`Authorization: Bearer`)."
    )
    when: Literal["before", "after", "both"] = Field("before", description="Whether it sees requests, answers or both.")
    streams: Literal["buffer", "off"] = Field(
        "buffer",
        description="`buffer`: a stream is held until it is whole and was looked at; `off`: it is not looked at.",
    )
    timeout: float = Field(2.0, gt=0, le=60, description="Seconds that it may take.")
    on_failure: Literal["refuse", "allow"] = Field(
        "refuse", description="What happens where it fails or takes too long."
    )

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if bool(self.function) == bool(self.url):
            raise ValueError("a guardrail needs either a function or a url")
        if self.function and not all(self.function.partition(":")[::2]):
            raise ValueError("function is written module:function")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url begins with http:// or https://")
        return self
