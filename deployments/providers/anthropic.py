"""Anthropic's Messages API, in both of its versions.

Source: https://docs.anthropic.com/en/api/versioning: every request names an `anthropic-version`; beta features are
asked for by `anthropic-beta`. The older version takes the key as `x-api-key`, the newer one as a bearer token.

Above it: `providers`. Below it: `base`, the dialect's `for_version`.
"""

from typing import Any, ClassVar

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.dialects.anthropic_messages import BEARER, CLASSIC, VERSIONS, for_version
from pipelines.dialects.base import Written


class AnthropicProvider(Provider):
    """Anthropic. api_version: which version its models want; by default the caller's own, or the older one."""

    KIND: ClassVar[str] = "anthropic"
    DIALECTS: ClassVar[tuple[str, ...]] = ("anthropic_messages",)
    KEY_VARIABLE: ClassVar[str] = "ANTHROPIC_API_KEY"
    URL_VARIABLE: ClassVar[str] = "ANTHROPIC_BASE_URL"
    BASE_URL: ClassVar[str] = "https://api.anthropic.com/v1"
    OPERATIONS: ClassVar[frozenset[str]] = frozenset({"/messages/count_tokens"})

    def __init__(self, *, api_version: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.api_version = api_version

    def headers(self, call: Call, key: str) -> dict[str, str]:
        """Key, version, and the caller's beta flags."""
        passed = {name: value for name, value in call.headers.items() if name == "anthropic-beta"}
        return {**_credentials(self._version(call), key), **passed}

    def list_headers(self, key: str) -> dict[str, str]:
        """Key and version."""
        return _credentials(self.api_version or CLASSIC, key)

    def prepare(self, body: dict[str, Json], call: Call) -> Written:
        """The body as the version takes it; where the caller set no limit, with room for the longest answer."""
        if call.dialect not in self.DIALECTS and call.request.max_tokens is None:
            body = self._at_length(body, call.request.model)
        return for_version(body, self._version(call))

    def _at_length(self, body: dict[str, Json], model: str) -> dict[str, Json]:
        longest = next((card.max_output for card in self.models if card.name == model), 0)
        thinking = body.get("thinking", {}).get("budget_tokens", 0)
        return {**body, "max_tokens": longest} if longest > thinking else body

    def normal_url(self, url: str) -> str:
        """With `/v1`, which the vendor's own clients leave out of `ANTHROPIC_BASE_URL`."""
        url = url.rstrip("/")
        return url if not url or url.endswith("/v1") else f"{url}/v1"

    def _version(self, call: Call) -> str:
        asked = call.headers.get("anthropic-version", "") if call.dialect in self.DIALECTS else ""
        return self.api_version or (asked if asked in VERSIONS else CLASSIC)


def _credentials(version: str, key: str) -> dict[str, str]:
    if version == BEARER:
        return {"authorization": f"Bearer {key}", "anthropic-version": version}
    return {"x-api-key": key, "anthropic-version": version}
