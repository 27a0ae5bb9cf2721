"""The misbehaving upstream on a real socket: it carries out scripts, and writes down what it saw.

    async with Upstream() as upstream:
        upstream.plan("model-name", Fault.reset_before_headers(), times=1)
        ...                                # drive a provider with upstream.url + "/v1"
        assert len(upstream.requests) == 2
        await upstream.wait_closed()

A request follows the plan of its model name, else that of its path, else it gets a well-formed answer.
All times are `time.monotonic()`, the same for all processes of a machine.

Control over HTTP, for the process that another starts (`python -m tests.upstream`): `POST /_plan` with
`{"key", "faults", "times"}`, `POST /_reset`, `GET /_log`. Connections that carry only these are not counted.

Above it: tests, `make faults`. Below it: `script`, `connection`. Outside it: what the gateway does.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import msgspec

from bench import answers
from tests.upstream.connection import Connection, Link, Received
from tests.upstream.fault import Fault
from tests.upstream.script import End, Send, Step, read_asked, read_json, script, whole


class Seen(msgspec.Struct):
    """One request as it came. body: its JSON, None where it is none; fault: what was done, whole: to its end."""

    number: int
    connection: int
    at: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: Any
    fault: str
    whole: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header, None without one."""
        return next((value for found, value in self.headers if found == name.lower()), None)


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """Faults in order for a model name or a path (it begins with `/`), as `Upstream.plan` takes them."""

    key: str
    faults: list[Fault]
    times: int | None = 1


class Log(msgspec.Struct):
    """All that was seen. `now` is the clock at the time of writing."""

    now: float
    open_connections: int
    requests: list[Seen]
    connections: list[Link]

    @property
    def busy_connections(self) -> int:
        """How many are open in the middle of an answer."""
        return sum(link.busy and link.closed is None for link in self.connections)


class Upstream:
    """The server: an asynchronous context manager. `models` is what `GET /models` lists."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, models: tuple[str, ...] = ("model-a", "model-b")):
        self.host, self.port, self.models = host, port, models
        self.requests: list[Seen] = []
        self._live: dict[int, Connection] = {}
        self._links: list[Link] = []
        self._opened = 0
        self._plans: dict[str, deque[tuple[Fault, int | None]]] = {}
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        for connection in list(self._live.values()):
            connection.abort()
        await self.until(lambda: not self._live)

    async def listen(self) -> None:
        """Begin (or begin again, on the same port) to accept connections. Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self.host, self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Refuse new connections, as a provider that is down; open ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # The listening socket is closed in the loop's next turn.
            await asyncio.sleep(0)

    def plan(self, key: str, *faults: Fault, times: int | None = 1) -> None:
        """What to do with the next requests for a model, or (where `key` begins with `/`) at a path.

        Each fault holds for `times` requests, one after another; None: the last one for ever. Replaces what was
        planned for `key`.
        """
        queue: deque[tuple[Fault, int | None]] = deque((fault, times or 1) for fault in faults)
        if times is None and faults:
            queue[-1] = (faults[-1], None)
        self._plans[key] = queue

    def reset(self) -> None:
        """Forget all plans and all that was seen; connections that are open stay open and in the log."""
        self._plans.clear()
        self.requests.clear()
        self._links = [connection.link for connection in self._live.values()]

    @property
    def connections(self) -> list[Link]:
        """One for each connection that carried a request or none at all, control connections left out."""
        for connection in self._live.values():
            connection.measure()
        return [link for link in self._links if not link.control]

    @property
    def open_connections(self) -> int:
        """How many the peer has not closed."""
        return sum(link.closed is None for link in self._links if not link.control)

    async def wait_requests(self, count: int, timeout: float = 30.0) -> None:
        """Until so many requests have come in all. Raises TimeoutError."""
        await self.until(lambda: len(self.requests) >= count, timeout)

    async def wait_closed(self, number: int | None = None, timeout: float = 30.0) -> float:
        """Until connection `number` (None: all) is closed; returns when the last was. Raises TimeoutError."""

        def links() -> list[Link]:
            return [link for link in self._links if not link.control and number in (None, link.number)]

        await self.until(lambda: all(link.closed is not None for link in links()), timeout)
        return max((link.closed or 0.0 for link in links()), default=0.0)

    async def until(self, true: Callable[[], bool], timeout: float = 30.0) -> None:
        """Until `true()`, looked at whenever a request, a pause or a close happens. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def log(self) -> Log:
        """All that was seen."""
        return Log(time.monotonic(), self.open_connections, self.requests, self.connections)

    def opened(self, connection: Connection) -> Link:
        """A connection was accepted."""
        self._opened += 1
        link = Link(number=self._opened, opened=time.monotonic())
        self._links.append(link)
        self._live[id(connection)] = connection
        self.changed()
        return link

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._live.pop(id(connection), None)
        self.changed()

    def changed(self) -> None:
        """Wake all who wait for something to become true."""
        self._changed.set()

    def steps(self, received: Received, link: Link) -> Iterable[Step]:
        """What to do with a request: an iterator of steps, which may have no end."""
        path = received.path.partition("?")[0]
        if path.startswith("/_"):
            link.control = link.requests == 0
            return [Send(self._control(path, received.body)), End("keep")]
        link.requests += 1
        body = read_json(received.body)
        asked = read_asked(path, body, time.time())
        fault = self._fault(asked.model, path)
        seen = Seen(
            number=len(self.requests) + 1,
            connection=link.number,
            at=received.at,
            method=received.method,
            path=received.path,
            headers=received.headers,
            body=body,
            fault=fault.name,
        )
        self.requests.append(seen)
        self.changed()
        if received.method == "GET" and fault == Fault():
            return [Send(whole(200, answers.model_list(asked.wire, self.models))), End("keep")]
        return _followed(script(fault, asked), seen)

    def _fault(self, model: str, path: str) -> Fault:
        queue = self._plans.get(model) or self._plans.get(path)
        if not queue:
            return Fault()
        fault, left = queue[0]
        if left == 1:
            queue.popleft()
        elif left is not None:
            queue[0] = (fault, left - 1)
        return fault

    def _control(self, path: str, body: bytes) -> bytes:
        if path == "/_log":
            return whole(200, msgspec.json.encode(self.log()))
        if path == "/_reset":
            self.reset()
            return whole(200, b"{}")
        try:
            plan = msgspec.json.decode(body, type=Plan)
        except msgspec.MsgspecError as error:
            return whole(400, msgspec.json.encode({"error": str(error)}))
        self.plan(plan.key, *plan.faults, times=plan.times)
        return whole(200, b"{}")


def _followed(steps: Iterable[Step], seen: Seen) -> Iterator[Step]:
    """The steps; who gets to the end has sent everything."""
    for step in steps:
        seen.whole = isinstance(step, End)
        yield step
