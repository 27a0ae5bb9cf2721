"""Going on with a plain-text answer whose stream broke: another candidate is asked, and its answer is stitched on.

`recoverable` says which calls it may ever be done for, `recovering` is a stream that does it. `rules` has what may be
recovered, `question` what is asked, `seam` and `stops` how new text joins the old, `continuation` the same for
events, `reading` one attempt, `stream` the whole.

Above it: the gateway and the providers. Below it: `calls`, `dialects`, `resilience`. Outside it: who is asked next.
"""

from pipelines.recovery.rules import recoverable
from pipelines.recovery.stream import recovering

__all__ = ["recoverable", "recovering"]
