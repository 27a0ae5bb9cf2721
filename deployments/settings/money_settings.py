"""What is configured about money, and about what is kept of requests.

Above it: `config`. Below it: `setting`. Outside it: what the fields do.
"""

from pydantic import Field

from deployments.settings.setting import Settings


class RetentionSettings(Settings):
    """How long the ledger keeps rows; sums by the hour stay."""

    requests_days: float | None = Field(None, gt=0, description="Days that a request's row is kept; absent: always.")
    attempts_days: float | None = Field(None, gt=0, description="Days that an attempt's row is kept; absent: always.")


class PriceSettings(Settings):
    """Where newer prices come from."""

    source: str = Field("", description="URL or file of a price list in genai-prices' format; empty: none is fetched.")
    hours: float = Field(24.0, ge=0.1, description="Hours between two looks at it.")
