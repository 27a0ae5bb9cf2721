"""Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/versioning: every request names an `anthropic-version`; beta features are
asked for by `anthropic-beta`.
"""

from typing import ClassVar

from deployments.providers.base import Provider
from pipelines.calls import Call

API_VERSION = "2023-06-01"


class AnthropicProvider(Provider):
    """Anthropic."""

    KIND: ClassVar[str] = "anthropic"
    DIALECTS: ClassVar[tuple[str, ...]] = ("anthropic_messages",)
    KEY_VARIABLE: ClassVar[str] = "ANTHROPIC_API_KEY"
    URL_VARIABLE: ClassVar[str] = "ANTHROPIC_BASE_URL"
    BASE_URL: ClassVar[str] = "https://api.anthropic.com/v1"

    def headers(self, call: Call) -> dict[str, str]:
        """Key, version, and the caller's beta flags."""
        passed = {name: value for name, value in call.headers.items() if name == "anthropic-beta"}
        return {**self.list_headers(), **passed}

    def list_headers(self) -> dict[str, str]:
        """Key and version."""
        return {"x-api-key": self.api_key, "anthropic-version": API_VERSION}

    def normal_url(self, url: str) -> str:
        """With `/v1`, which the vendor's own clients leave out of `ANTHROPIC_BASE_URL`."""
        url = url.rstrip("/")
        return url if not url or url.endswith("/v1") else f"{url}/v1"
