"""Tools as every provider takes them: safe names, valid schemas, strictness where it can be held.

`portable` converts a whole request for a provider's format, `NameMap` and `Restorer` bring the caller's own names
back, `offered_as_is` says whether a request needs none of it.

Above it: `exchange`. Below it: `conversation`, `events`, the dialects' names. Outside it: running a tool.
"""

from pipelines.tools.formats import FORMATS, Rules
from pipelines.tools.names import NameMap, safe_names
from pipelines.tools.portable import Portable, offered_as_is, portable
from pipelines.tools.restoring import Restorer
from pipelines.tools.schemas import Converted, convert
from pipelines.tools.strictness import holds_strictly

__all__ = [
    "FORMATS",
    "Converted",
    "NameMap",
    "Portable",
    "Restorer",
    "Rules",
    "convert",
    "holds_strictly",
    "offered_as_is",
    "portable",
    "safe_names",
]
