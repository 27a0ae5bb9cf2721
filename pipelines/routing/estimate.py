"""What is expected of every model for one request: `Estimate`, which reads the request only when it is asked.

A model that was named needs no expectation, and reading a long prompt costs more than all else in a decision.

Above it: `choose`, `record`, the gateway. Below it: `prompt`, `tasks`, `learning`. Outside it: how it is learned.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import msgspec

from pipelines.conversation import Request
from pipelines.routing.learning.evidence import pack, unpack
from pipelines.routing.learning.features import features
from pipelines.routing.learning.view import View, qualities
from pipelines.routing.prompt import prompt_of
from pipelines.routing.tasks import Profile, profile


class Known(msgspec.Struct, frozen=True):
    """What was read of a request: its task and difficulty with the signals that fired, its packed features."""

    profile: Profile
    features: bytes


def read(request: Request) -> Known:
    """Read a request."""
    prompt = prompt_of(request)
    about = profile(request, prompt)
    return Known(about, pack(features(prompt, about)))


class Estimate:
    """The expected qualities of one request, by `provider/model`; a model that is missing is known by its card alone.

    reading: reads the request, once at most. explores: whether `drawn` is filled, to try what may be the best.
    """

    def __init__(self, view: View, reading: Callable[[], Known], *, explores: bool = False) -> None:
        self.view = view
        self.explores = explores
        self._reading = reading
        self._known: Known | None = None

    @property
    def known(self) -> Known:
        """What was read of the request; it is read now if it was not before."""
        if self._known is None:
            self._known = self._reading()
        return self._known

    @property
    def was_read(self) -> bool:
        """Whether anybody needed to know."""
        return self._known is not None

    @cached_property
    def mean(self) -> Mapping[str, float]:
        """The expectation."""
        known = self.known
        return qualities(self.view, unpack(known.features), known.profile.task)

    @cached_property
    def drawn(self) -> Mapping[str, float]:
        """One sample of what it may be; empty for a request that does not explore."""
        if not self.explores:
            return {}
        known = self.known
        return qualities(self.view, unpack(known.features), known.profile.task, drawn=True)
