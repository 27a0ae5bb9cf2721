"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# Time is no property of what is generated: a busy machine must not fail a test. The same examples every time, so
# that a change is judged by itself; PENSTOCK_FUZZ_EXAMPLES asks for others, and for more.
settings.register_profile(
    "penstock",
    deadline=None,
    derandomize="PENSTOCK_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("penstock")
