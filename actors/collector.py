"""The cyclic garbage collector of a process that serves: what lives as long as the process is none of its business.

By default a collection comes with every 700 new objects, and in time one of everything: of some hundred thousand
objects that the imports have made and nobody drops. What a request makes goes by its reference counts; few cycles are
left over (an exception and its traceback), and those are young.

Source: https://docs.python.org/3/library/gc.html (`freeze`, `set_threshold`).

Above it: `directory`, `deployments.replica`. Below it: the interpreter.
"""

import gc

THRESHOLDS = (20_000, 20, 20)
"""New objects before the youngest are looked at; how often that is done before the older ones are."""


def settle() -> None:
    """Take what is there now for good. To be called once, when a process has all that it needs to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
