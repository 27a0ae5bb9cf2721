"""Names for what happens once: a request, a row of the ledger.

Above it: `visit`, `handles`, `replaying`, `books`. Below it: the clock, and chance.
"""

import os
import time


def new_id() -> str:
    """32 hexadecimal digits, of which the first 12 are the time in milliseconds, the rest chance.

    What is of about the same time stands together in an index then (as with UUID version 7, RFC 9562, section 5.7).
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
