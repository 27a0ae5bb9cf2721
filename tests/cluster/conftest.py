"""One Penstock for all tests here: started as a newcomer would, looked at again after it has been stopped."""

import threading
from collections.abc import Iterator

import httpx
import pytest

from deployments.starting import processes
from deployments.starting.instance import INTERNAL_PORTS
from tests.cluster.doors import NAMES, authorized, door
from tests.cluster.running import (
    KEY,
    PROMPT,
    SECRET,
    Running,
    configuration,
    environment,
    free,
    free_ports,
    holding,
    until,
)
from tests.upstream import UpstreamProcess


@pytest.fixture(scope="session")
def upstream_process() -> Iterator[UpstreamProcess]:
    """The provider behind `openai` and `anthropic`, which does wrong what it is told to."""
    with UpstreamProcess() as process:
        yield process


@pytest.fixture
def upstream(upstream_process: UpstreamProcess) -> UpstreamProcess:
    """The same, without plans and memories."""
    upstream_process.reset()
    return upstream_process


class Stream:
    """An answer of 6 s through the ingress that has begun; as a context manager it is read to its end, which ever."""

    def __init__(self, running: Running) -> None:
        self.heard = b""
        self._at = door(running, "ingress-routed", "simulator")
        self._began = threading.Event()
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        body = self._at.body("fast?tokens=300&gap=20")
        try:
            with httpx.stream(
                "POST", self._at.url + self._at.chat, json=body, headers=authorized(), timeout=60.0
            ) as told:
                for data in told.iter_bytes():
                    self.heard += data
                    self._began.set()
        except httpx.HTTPError as error:
            self.heard += repr(error).encode()

    def __enter__(self) -> "Stream":
        self._reader.start()
        assert self._began.wait(60.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.join()


@pytest.fixture(scope="session")
def cluster(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running Penstock. When all tests are through it is stopped, and nothing of it may be left."""
    directory = tmp_path_factory.mktemp("cluster")
    first = free_ports(20)
    providers = {
        "OPENAI_BASE_URL": f"{upstream_process.url}/v1",
        "OPENAI_API_KEY": SECRET,
        "ANTHROPIC_BASE_URL": upstream_process.url,
        "ANTHROPIC_API_KEY": SECRET,
    }
    # Serve's own ports are chosen long before they are bound: another start beside this one would choose the same.
    internal = {name: str(first + 12 + number) for number, name in enumerate(INTERNAL_PORTS)}
    given = environment(directory / "state", first, first + 1, PENSTOCK_API_KEY=KEY, **providers, **internal)
    running = Running(directory, given, configuration())
    try:
        running.wait()
        yield running
        ports = running.ports
        workshops = running.workshops()
        with Stream(running) as stream:
            code, seconds = running.stop()
        assert stream.heard.endswith(b"data: [DONE]\n\n"), stream.heard[-500:]
        print(f"\nstopped in {seconds:.1f} s")  # noqa: T201 - a measured figure
        assert code == 0, running.output.read_text()
        left = until(lambda: [] if running.processes() else [True], 60.0, f"no process left: {running.processes()}")
        assert left
        assert [pid for pid in workshops if processes.read(pid) is not None] == []
        assert [port for port in ports if not free(port)] == []
        assert holding((SECRET, PROMPT), running.logs()) == []
    finally:
        running.end()


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest) -> str:
    """Each kind of port with each lane."""
    name: str = request.param
    return name
