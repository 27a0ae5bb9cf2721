"""What a provider's count may be, whichever dialect it is written in.

Above it: the dialects' token counts. Below it: `conversation`.
"""

from pipelines.conversation import Json

LARGEST = 2**53
"""A count beyond it is none: no database takes it, and JSON's numbers are exact up to here only."""


def count(value: Json) -> int:
    """What a provider wrote as a count; 0 for anything but a number from 0 to `LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        return 0
    return int(value)
