"""A provider that does what providers do wrong, on a real socket, by plan.

`Upstream` runs in the test's own loop, `UpstreamProcess` in a process of its own with the same plans by HTTP.
`Fault` says what to do; see `server` for how to plan it.

Above it: tests, `make faults`. Below it: `fault`, `script`, `connection`, `server`, `process`.
Outside it: what the gateway does about it.
"""

from tests.upstream.connection import Link
from tests.upstream.fault import Fault
from tests.upstream.process import UpstreamProcess
from tests.upstream.script import text_of
from tests.upstream.server import Log, Seen, Upstream

__all__ = ["Fault", "Link", "Log", "Seen", "Upstream", "UpstreamProcess", "text_of"]
