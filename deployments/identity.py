"""Names for what happens once: a request, a row of the ledger.

Above it: `visit`, `handles`, `replaying`, `books`. Below it: the clock, and chance.
"""

import os
import random
import time

_chance = random.Random(os.urandom(32))
# A process that forks would give its children the same ids.
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))


def new_id() -> str:
    """32 hexadecimal digits, of which the first 12 are the time in milliseconds, the rest chance. No secret.

    What is of about the same time stands together in an index then (as with UUID version 7, RFC 9562, section 5.7).
    """
    return f"{time.time_ns() // 1_000_000:012x}{_chance.getrandbits(80):020x}"
