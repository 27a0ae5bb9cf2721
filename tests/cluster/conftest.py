"""One Penstock for all tests here: started as a newcomer would, looked at again after it has been stopped."""

from collections.abc import Iterator

import pytest

from deployments.starting import processes
from deployments.starting.instance import INTERNAL_PORTS
from tests.cluster.doors import NAMES
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
        code, seconds = running.stop()
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
