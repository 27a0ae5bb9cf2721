"""Which of the provider's keys one call is asked with, try by try: the waiting round `pipelines.upstream_keys`.

Above it: `attempt`. Below it: `pipelines`, asyncio. Outside it: other failures than those of a key, and their retries.
"""

import asyncio
import logging
import random

from pipelines.calls import Call
from pipelines.errors import RateLimited, UpstreamError
from pipelines.prompt_tokens import likely_input
from pipelines.resilience import RetryPolicy
from pipelines.upstream_keys import ASIDE_SECONDS, Lease, UpstreamKeys

_logger = logging.getLogger("penstock")


class Turns:
    """The keys as one call at the provider called `name` uses them."""

    def __init__(
        self, keys: UpstreamKeys, call: Call, name: str, policy: RetryPolicy, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._keys = keys
        self._model = call.request.model
        self._name = name
        self._policy = policy
        self._changes = len(keys) - 1
        self._refusal: RateLimited | None = None
        self._tokens = likely_input(call.request) if keys.counted else 0
        self._loop = loop

    async def take(self, left: float) -> Lease:
        """A key that may be asked now, after a wait if need be; the call has `left` seconds.

        Raises RateLimited, the provider's own if it said so, where the wait would be longer than that or patience.
        """
        waited = 0.0
        while True:
            lease = self._keys.take(self._model, self._tokens, self._loop.time())
            if isinstance(lease, Lease):
                return lease
            if waited + lease.seconds > min(self._policy.patience, left):
                raise self._refusal or RateLimited(
                    f"every key of the provider {self._name} has reached its limit",
                    provider=self._name,
                    retry_after=lease.seconds,
                )
            # Those who wait together do not come back together.
            wait = lease.seconds + random.random() * self._policy.base
            waited += wait
            await asyncio.sleep(wait)

    def failed(self, error: UpstreamError, lease: Lease) -> bool:
        """Let a refused key rest, set aside one that is not accepted. Whether to go on with another one at once.

        That happens no oftener than there are other keys. A refusal by the last of them is told with the wait until
        the first is free again.
        """
        now = self._loop.time()
        if error.reason == "rate_limited":
            self._keys.refused(lease, error.retry_after, now, random.random())
            self._refusal = error if isinstance(error, RateLimited) else None
            if len(self._keys) == 1:
                return False
            error.retry_after = self._keys.free_in(self._model, self._tokens, now)
            another = error.retry_after <= 0.0
        elif error.reason == "authentication":
            another = self._keys.denied(lease, now)
            if another:
                label, seconds = lease.key.label, ASIDE_SECONDS
                _logger.warning("%s does not accept the key %s: set aside for %d s", self._name, label, seconds)
        else:
            return False
        if not another or not self._changes:
            return False
        self._changes -= 1
        return True
