"""What a contained tool can do to others: nothing. Real processes, real users, the kernel's own answers.

All of it runs a second time without the right to make namespaces, as root in an ordinary container.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from actors.tools import confinement
from pipelines.tools.catalogue import Exit, Progress, ToolRun
from pipelines.tools.cutting import MARGIN
from tests.actors.toolshop import PATIENCE, USERS, Toolshop, text_of, toolshop

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "PENSTOCK_TEST_WITHOUT_NAMESPACES"
SECRET = "sk-of-the-gateway-9f3a"
NAMESPACES = AGAIN not in os.environ

READABLE = 0o644 if NAMESPACES else 0o600
"""Mode of what must not be read: a mount of its own hides even what anybody may read."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="other users are root's to have")

_DROP_CAPABILITY = 24
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Somebody's home, which others may enter as they may enter most."""
    with tempfile.TemporaryDirectory(prefix="home-", dir="/tmp") as folder:
        made = Path(folder)
        for path in (made, made / ".ray", made / ".penstock"):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        monkeypatch.setenv("HOME", folder)
        yield made


@pytest.fixture
async def shop(home: Path) -> AsyncIterator[Toolshop]:
    async with toolshop(home / ".penstock") as opened:
        yield opened


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of ours with a key in its environment, as a replica of the gateway is."""
    process = subprocess.Popen(["sleep", "600"], env={"OPENAI_API_KEY": SECRET})
    yield process.pid
    process.kill()
    process.wait()


def strangers() -> list[int]:
    """Processes that run as one of the users of contained calls."""
    found = []
    for process in os.listdir("/proc"):
        try:
            user = os.stat(f"/proc/{process}").st_uid if process.isdigit() else 0
            status = Path(f"/proc/{process}/status").read_text() if user else ""
        except OSError:
            continue
        if USERS[0] <= user <= USERS[1] and "State:\tZ" not in status:
            found.append(int(process))
    return found


async def nobody_left() -> None:
    async with asyncio.timeout(PATIENCE):
        while strangers():
            await asyncio.sleep(0.01)


NAUGHTY: dict[str, set[Exit]] = {
    "fork_bomb": {"timeout", "crash"},
    "endless": {"timeout"},
    "flood": {"error"},
    "scribble": {"crash", "error"},
    "gluttonous": {"error"},
    "hoarding": {"error", "crash"},
    "stubborn": {"timeout"},
    "exits": {"crash"},
    "crashes": {"crash"},
    "raises": {"error"},
}


async def test_each_naughty_call_fails_alone_and_healthy_ones_run_beside_them(shop: Toolshop) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    naughty = {name: asyncio.create_task(shop.ran(name)) for name in (*NAUGHTY, "shout", "verbose", "kills")}
    healthy = [asyncio.create_task(shop.said("add", a=number, b=1)) for number in range(50)]
    assert await asyncio.gather(*healthy) == [str(number + 1) for number in range(50)]
    ran = {name: await task for name, task in naughty.items()}
    for name, exits in NAUGHTY.items():
        assert ran[name].exit in exits, (name, ran[name])
        assert ran[name].error
        assert ran[name].parts == ()
    assert text_of(ran["shout"]) == "done"
    assert text_of(ran["kills"]) == "lived"
    assert ran["verbose"].cut
    assert ran["verbose"].size == 100 << 20
    assert len(text_of(ran["verbose"]).encode()) == 65_536 + MARGIN
    await nobody_left()
    assert await shop.said("add", a=1, b=1) == "2"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 * 1024, f"{grown} KiB for what the calls wrote"


async def test_the_limits_leave_nothing_in_the_scratch_directories(shop: Toolshop) -> None:
    await shop.ran("hoarding")
    await nobody_left()
    async with asyncio.timeout(PATIENCE):
        while any(path.is_file() for path in Path("/tmp").glob("penstock-tools-*/**/*")):
            await asyncio.sleep(0.01)


async def test_a_process_that_is_left_behind_ends_with_its_call(shop: Toolshop) -> None:
    assert await shop.said("leaves_a_daemon") == "left"
    await nobody_left()


async def test_what_a_cancelled_call_gives_later_is_thrown_away(shop: Toolshop) -> None:
    async with aclosing(shop.run("waits")) as steps:
        assert await anext(steps) == Progress("begun")
        assert strangers()
    await nobody_left()
    assert await shop.said("add", a=2, b=2) == "4"


async def test_a_call_runs_once_however_often_it_is_asked_for(shop: Toolshop) -> None:
    run = ToolRun(id="the-same", tool="add", arguments={"a": 1, "b": 1})
    first = [step async for step in shop.toolbox.run(run)]
    again = [step async for step in shop.toolbox.run(run)]
    there = [step async for step in shop.executors["python"].execute(run)]
    assert [step.exit for step in (*first, *again, *there) if not isinstance(step, Progress)] == [
        "ok",
        "refused",
        "refused",
    ]


async def test_nobody_elses_environment_can_be_read(shop: Toolshop, bystander: int) -> None:
    async with asyncio.timeout(PATIENCE):
        # A process that has just begun to run its program has none yet.
        while SECRET not in Path(f"/proc/{bystander}/environ").read_text():
            await asyncio.sleep(0.01)
    seen = json.loads(await shop.said("environments"))
    assert not [one for one in seen if SECRET in one or "PENSTOCK" in one]


async def test_secrets_and_sockets_are_out_of_reach(shop: Toolshop, home: Path) -> None:
    """The state directory, Ray's token and sockets, HAProxy's admin socket, with the modes that they have."""
    secret, token = shop.directory / "cluster.secret", home / ".ray" / "auth_token"
    secret.write_text(SECRET)
    token.write_text(SECRET)
    secret.chmod(READABLE)
    token.chmod(READABLE)
    run = Path(tempfile.mkdtemp(prefix="penstock-", dir="/tmp"))
    admin = run / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(admin))
        listener.listen()
        try:
            paths = [str(path) for path in (secret, token, admin, run, "/etc/shadow", "/root/.bashrc")]
            got = json.loads(await shop.said("reads", paths=paths))
        finally:
            admin.unlink()
            run.rmdir()
    assert len(got) == 6
    assert set(got.values()) <= {"PermissionError", "FileNotFoundError"}, got
    own = json.loads(await shop.said("reads", paths=[str(home), "/etc/passwd"]))
    assert own[str(home)], "the home itself is not hidden: what is in it is"
    assert "root" in own["/etc/passwd"]


@pytest.mark.skipif(not NAMESPACES, reason="without namespaces there is one network for all")
async def test_only_those_that_may_reach_the_network(shop: Toolshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (await shop.ran("connects", port=port)).exit == "error"
        assert await shop.said("connects_freely", port=port) == "connected"


async def test_a_call_is_another_user_with_nothing_of_ours(shop: Toolshop) -> None:
    told = json.loads(await shop.said("tells"))
    assert USERS[0] <= told["user"] <= USERS[1]
    assert told["groups"] == []
    assert told["files"] == ["own"]
    assert told["variables"] == ["HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "TMPDIR"]
    assert told["capabilities"] == "0" * 16
    assert told["no_new_privileges"] == "1"
    assert await shop.said("becomes_root") == ""


async def test_two_calls_at_once_are_two_users(shop: Toolshop) -> None:
    told = [json.loads(text) for text in await asyncio.gather(*(shop.said("tells") for _ in range(8)))]
    async with aclosing(shop.run("waits")) as one, aclosing(shop.run("waits")) as other:
        await asyncio.gather(anext(one), anext(other))
        users = [os.stat(f"/proc/{process}").st_uid for process in strangers()]
    assert len(users) == len(set(users)) == 2
    assert all(one["files"] == ["own"] for one in told)


async def test_a_workshop_that_is_killed_takes_its_calls_along_and_is_replaced(shop: Toolshop) -> None:
    async with aclosing(shop.run("waits")) as steps:
        await anext(steps)
        for process in _workshops():
            os.kill(process, 9)
        ran = await anext(steps)
    assert ran.exit == "crash"
    await nobody_left()
    assert await shop.said("add", a=3, b=4) == "7"


async def test_what_generators_yield_comes_as_it_is_made(shop: Toolshop) -> None:
    steps = [step async for step in shop.run("count", to=3)]
    assert steps[:-1] == [Progress("1"), Progress("2"), Progress("3")]
    assert text_of(steps[-1]) == "3"


async def test_what_need_not_be_contained_runs_in_the_executor(shop: Toolshop) -> None:
    steps = [step async for step in shop.run("trusted", word="hello")]
    assert steps[0] == Progress("hello")
    assert text_of(steps[-1]) == f"hello {os.getpid()}"


@pytest.mark.skipif(not NAMESPACES, reason="this is the second time")
def test_all_of_it_holds_without_namespaces() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, AGAIN: "1"}
    again = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, preexec_fn=_without_namespaces
    )
    assert again.returncode == 0, again.stdout[-5000:]
    assert "passed" in again.stdout


@pytest.mark.skipif(not NAMESPACES, reason="this is the second time")
def test_without_other_users_contained_tools_are_refused_unless_they_are_named() -> None:
    again = subprocess.run(
        [sys.executable, "-m", "tests.actors.same_user"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_without_users,
    )
    assert again.returncode == 0, again.stderr[-5000:]
    told = json.loads(again.stdout)
    assert told["endless"] == ["failed", "refused"]
    assert "no other user can be had" in told["why"]
    assert told["add"] == ["ready", "3"]
    assert told["trusted"] == ["ready", "word"]
    assert told["stubborn"] == ["ready", "timeout"]
    assert told["left"] == 0


def test_a_process_that_is_not_root_knows_that_it_can_have_no_other_user() -> None:
    child = os.fork()
    if child == 0:
        confinement.become(USERS[1])
        os._exit(int(confinement.probe().users))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _without_namespaces() -> None:
    _drop(_CAP_SYS_ADMIN)


def _without_users() -> None:
    _drop(_CAP_SYS_ADMIN, _CAP_SETUID, _CAP_SETGID)


def _drop(*capabilities: int) -> None:
    """From here on no program that is executed has these (capabilities(7): the bounding set)."""
    for capability in capabilities:
        confinement._checked(confinement._LIBC.prctl(_DROP_CAPABILITY, capability, 0, 0, 0))


def _workshops() -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"actors.tools.workshop" in words and parent == os.getpid():
            found.append(int(process.name))
    return found
