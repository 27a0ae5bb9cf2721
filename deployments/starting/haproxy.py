"""What stands in front of the HAProxy binary: three things that Ray Serve 2.60 has no switch for.

Serve's template binds HAProxy's metrics and statistics ports on every address and lists the applications for
everybody, and a HAProxy whose manager is killed stays and goes on answering from a stale table. Serve starts this
(through `RAY_SERVE_HAPROXY_BINARY_PATH`) in place of the binary, with the binary's path as the first argument and
Serve's own after it. It binds both ports to loopback in the configuration file, closes `/-/routes`, asks the kernel
for a soft stop (SIGUSR1: listeners close, open streams end; HAProxy management guide, section 4) when the manager
dies, and becomes HAProxy.

Above it: Ray Serve. Below it: `processes`, the standard library. Outside it: all of the rest, for it starts in a
bare interpreter, at every change of HAProxy's table.
"""

import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

PORT_VARIABLES = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
"""Where Serve reads the two ports from."""


def bound_to_loopback(text: str, ports: Iterable[str]) -> str:
    """HAProxy's configuration `text` with each of `ports` bound to loopback instead of every address."""
    choice = "|".join(map(re.escape, ports))
    return re.sub(rf"(?m)^(\s*bind )\*?:({choice})$", r"\g<1>127.0.0.1:\g<2>", text)


def without_routes(text: str) -> str:
    """HAProxy's configuration `text` without its list of applications (`/-/routes`), which asks for no key."""
    return re.sub(r"(?m)^(\s*http-request )return .* if routes$", r"\g<1>deny deny_status 404 if routes", text)


def script(interpreter: str, binary: str) -> str:
    """A shell script that runs this module in `interpreter` with HAProxy's `binary` behind it."""
    words = [_quoted(word) for word in (interpreter, "-IS", str(Path(__file__).resolve()), binary)]
    return f'#!/bin/sh\nexec {" ".join(words)} "$@"\n'


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def main(arguments: list[str]) -> None:
    """Become HAProxy: `arguments` are the binary's path and its own arguments, `-f file` among them."""
    # An isolated interpreter has no path to our packages; this file's folder is all that is needed.
    sys.path.append(str(Path(__file__).resolve().parent))
    import processes  # type: ignore[import-not-found]

    processes.die_with_parent(signal.SIGUSR1)
    file = Path(arguments[arguments.index("-f") + 1])
    before = file.read_text()
    after = without_routes(bound_to_loopback(before, [os.environ[name] for name in PORT_VARIABLES]))
    if after != before:
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        draft.write_text(after)
        draft.replace(file)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
