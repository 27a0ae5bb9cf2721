"""Whether a tool may be called: the first steps of the order in which every call is judged and run.

    catalogue of the key → deny → allow → (schema → guard → approval → budget → run → truncate → redact → audit)

Names are matched by globs (`git.*`, `calculator`), with case. What a key may use is decided twice, when a request
names its tools and before each call: the catalogue may have changed in between.

Above it: `offers`, `turns`. Below it: `catalogue`, `keys`.
"""

from typing import NamedTuple

from pipelines.keys import may_use
from pipelines.tools.catalogue import Tool


class Rights(NamedTuple):
    """What one request may use, as globs. key: what its key may; allow, deny: gateway and request. None: all."""

    key: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None

    def forbids(self, name: str) -> str:
        """Which step forbids the tool of that name, in the order of the policy; "" where none does."""
        if not may_use(self.key, name):
            return "key"
        if may_use(self.deny, name):
            return "deny"
        return "" if may_use(self.allow, name) else "allow"


def unusable(tool: Tool) -> str:
    """Why the tool cannot be called now, whoever asks; "" where it can."""
    if tool.held:
        return f"it is held: {tool.held}"
    if tool.health != "ready":
        return tool.why or f"it is {tool.health}"
    return ""
