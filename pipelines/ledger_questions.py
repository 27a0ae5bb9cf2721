"""What can be asked of the ledger beside sums (`ledger.Question`), and what can be taken out of it.

Rows are read in pages by keyset: the next page begins where the last one ended (a `Position`), not so many rows later,
so that the millionth page costs what the first one does. Source: M. Winand, "We need tool support for keyset
pagination", https://use-the-index-luke.com/no-offset.

Above it: `actors.money.ledger`, `deployments.pages.usage_pages`. Below it: `ledger`. Outside it: who may ask;
databases.
"""

from typing import Any, Literal, NamedTuple

import msgspec

from pipelines.ledger import Question

Kind = Literal["requests", "attempts"]
"""Which rows."""

Sums = Literal["anonymous", "delete"]
"""What becomes of a key's sums when its rows are erased."""

ERASED = "erased"
"""The key to which the sums of erased keys are added where they stay."""

FILTERS = ("tag", "model", "provider", "task", "outcome")
"""Columns by whose value rows can be chosen, beside the key."""


class Position(NamedTuple):
    """Where a page ended: the time (seconds since 1970) and the id of its last row."""

    time: float
    id: str


class _Value(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Frozen, compact on the wire, unknown fields passed over."""


class RowsQuestion(_Value, frozen=True, tag="rows"):
    """A page of rows that began from `since` up to `until`, in seconds since 1970.

    key: of one key only, "" for all of them; only: values by column (`FILTERS`); after: where the page before ended;
    most: rows of the page.
    """

    kind: Kind = "requests"
    since: float = 0.0
    until: float = 1e11
    key: str = ""
    only: dict[str, str] = {}
    after: Position | None = None
    newest_first: bool = True
    most: int = 100


class StoryQuestion(_Value, frozen=True, tag="story"):
    """One request with its attempts. id: of its row, or the caller's `x-request-id`, of which the newest counts."""

    id: str
    key: str = ""


class Expiry(_Value, frozen=True, tag="expiry"):
    """Take out rows that began before these times, in seconds since 1970; sums stay. 0: none."""

    requests: float = 0.0
    attempts: float = 0.0


class Erasure(_Value, frozen=True, tag="erasure"):
    """Take out all rows of one key. Its sums go too, or are added to those of nobody in particular (`ERASED`)."""

    key: str
    sums: Sums = "anonymous"


class Held(_Value, frozen=True, tag="held"):
    """Keep a call that waits for a person until it is decided, or has expired. key: whose conversation it is.

    told: what is shown of it; conversation: all that is needed to go on, encoded (`tools.approvals`). Times in seconds
    since 1970. The answer is empty.
    """

    id: str
    key: str
    expires: float
    told: dict[str, Any] = {}
    conversation: bytes = b""


class Waiting(_Value, frozen=True, tag="waiting"):
    """The calls that wait, as a list of Held: of one key (""; of all of them), or the one of that id.

    take: it is decided, and nobody can take it again. Without an id conversations are left out.
    """

    now: float
    key: str = ""
    id: str = ""
    take: bool = False


Inquiry = Question | RowsQuestion | StoryQuestion | Expiry | Erasure | Held | Waiting


class Rows(msgspec.Struct, frozen=True):
    """A page. Each row has its values in the order of `columns`; cost is in nano-dollars, None where unknown."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


class Story(msgspec.Struct, frozen=True):
    """A request's row and its attempts' and tools' in the order of their beginning, each by column.

    request: None where there is no such row.
    """

    request: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []


class Erased(msgspec.Struct, frozen=True):
    """How many rows are gone with this call; more: there may be others, ask again."""

    requests: int = 0
    attempts: int = 0
    more: bool = False
