"""What stands between Serve's ingress and our faces: headers that act before our code are taken out.

Serve lets a *client* switch off its disconnect handling and set its own time limit by header
(`x-request-disconnect-disabled`, `x-request-timeout-seconds`). Named by
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`, so it runs in every process that serves the ingress.

Above it: Serve. Below it: starlette (Serve's own). Outside it: everything of ours.
"""

from starlette.middleware import Middleware

from deployments.http.reading import Receive, Scope, Send

STRIPPED = frozenset({b"x-request-disconnect-disabled", b"x-request-timeout-seconds"})


class StripHeaders:
    """ASGI middleware that forgets the headers in `STRIPPED`."""

    def __init__(self, app: object) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on without them."""
        if scope["type"] == "http":
            scope["headers"] = [header for header in scope["headers"] if header[0].lower() not in STRIPPED]
        await self._app(scope, receive, send)  # type: ignore[operator]


def middlewares() -> list[Middleware]:
    """What Serve asks for."""
    return [Middleware(StripHeaders)]
