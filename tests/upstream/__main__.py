"""`python -m tests.upstream --port N` (0: any): the misbehaving upstream as a process; prints its URL.

Above it: whoever starts it. Below it: `server`. Outside it: nothing.
"""

import argparse
import asyncio

from tests.upstream.server import Upstream


async def run(host: str, port: int) -> None:
    """Serve until cancelled; prints the address on the first line."""
    async with Upstream(host, port) as upstream:
        print(upstream.url, flush=True)  # noqa: T201 - the parent reads it
        await asyncio.Event().wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    try:
        asyncio.run(run(arguments.host, arguments.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
