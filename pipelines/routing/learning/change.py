"""Has a model changed? A two-sided cumulative sum of how much better or worse it does than expected.

E. S. Page, "Continuous Inspection Schemes", Biometrika 1954: up = max(0, up + surprise - SLACK), and the same
downwards; an alarm is raised where either exceeds LIMIT. A surprise is what was seen less what was expected,
in standard deviations. A provider that swaps the model behind a name, or degrades it, is noticed by it within some
tens of observations, while fading alone would take weeks.

Above it: `state`. Below it: msgspec. Outside it: clocks.
"""

import msgspec

SLACK = 0.35
"""Standard deviations of a surprise that count as none: half of the shift that is to be found."""

LIMIT = 20.0
"""Standard deviations of accumulated surprise that mean a change. By Siegmund's approximation, exp(2 SLACK (LIMIT +
1.17)) / (2 SLACK^2), an alarm without cause would come once in ten million observations if expectations were exact;
the distance is for those that are not. A model that falls from 0.8 to 0.5 is found after some 50 observations."""


class Change(msgspec.Struct, frozen=True):
    """How much better and how much worse than expected, accumulated."""

    up: float = 0.0
    down: float = 0.0

    def after(self, surprise: float) -> "Change":
        """With one more surprise; `alarm` says whether it is one too many."""
        return Change(max(0.0, self.up + surprise - SLACK), max(0.0, self.down - surprise - SLACK))

    @property
    def alarm(self) -> bool:
        """Whether the model is no longer what it was."""
        return max(self.up, self.down) > LIMIT
