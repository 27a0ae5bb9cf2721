"""Asks pages of this machine whether all is well: for the probes of containers, which may have neither curl nor wget.

    python -IS deployments/starting/probe.py URL…

Exit code 0 where each page answers 200 within `PATIENCE` seconds; else 1, and a line that says which does not. A URL
after a question mark (`?http://127.0.0.1:8100/healthz`) counts only where somebody listens there: not every node has
a replica of the gateway.

Above it: `Containerfile`, the manifests in `docs`. Below it: the standard library. Outside it: everything of ours,
for it starts in a bare interpreter, many times a minute.
"""

import http.client
import sys
from urllib.parse import urlsplit

PATIENCE = 3.0
"""Seconds for one page."""


def wrong(url: str) -> str:
    """What is wrong with a page; "" where nothing is."""
    parts = urlsplit(url.removeprefix("?"))
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except ConnectionRefusedError:
        return "" if url.startswith("?") else f"{url}: nobody listens"
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {type(error).__name__}"
    finally:
        connection.close()
    return "" if status == 200 else f"{url}: {status}"


def main(urls: list[str]) -> int:
    """Ask every page; returns the exit code. Pages that are asked without need are none: no URL is an error."""
    found = [problem for problem in map(wrong, urls) if problem] if urls else ["no URL"]
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
