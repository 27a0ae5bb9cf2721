"""The command line as a person and as a script run it: a process of its own, against the house's real sockets."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deployments.providers.simulator import CARDS
from tests.deployments.house import KEY, House, client_of, house, url_of
from tests.deployments.test_usage_pages import many, put

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Terminal:
    """Runs commands. width: columns of the terminal."""

    def __init__(self, running: House) -> None:
        self.environment = {
            **os.environ,
            "PENSTOCK_URL": url_of(running.gateway),
            "PENSTOCK_API_KEY": KEY,
            "PYTHONPATH": str(ROOT),
        }

    async def __call__(self, *words: str, width: int = 80, **environment: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deployments.cli",
            *words,
            env={**self.environment, "COLUMNS": str(width), **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch, aliases={"best": ["simulator/clever", "simulator/fast"]}) as built:
        yield built


@pytest.fixture
def penstock(running: House) -> Terminal:
    return Terminal(running)


async def ask(running: House, identity: str, **more: Any) -> None:
    body = {"model": "simulator/fast", "messages": HELLO, **more}
    async with client_of(running.gateway) as client:
        answer = await client.post(CHAT, json=body, headers={"x-request-id": identity, "x-penstock-tag": "nightly"})
        assert answer.status_code == 200


@pytest.mark.parametrize("width", [80, 160])
async def test_tables_that_fit(running: House, penstock: Terminal, width: int) -> None:
    await ask(running, "plain")
    await ask(running, "fell-back", model="simulator/clever?fault=500", models=["simulator/fast"])
    usage = await penstock("usage", "--by", "key,model,tag", width=width)
    listed = await penstock("requests", "list", width=width)
    shown = await penstock("requests", "show", "fell-back", width=width)
    providers = await penstock("providers", width=width)
    route = await penstock("route", "best", "Prove that 2 is prime", width=width)
    for ran in (usage, listed, shown, providers, route):
        assert (ran.code, ran.err) == (0, "")
        assert max(map(len, ran.out.splitlines())) <= width
        assert all(line == line.rstrip() for line in ran.out.splitlines())
        assert "\x1b" not in ran.out
    assert "REQUESTS" in usage.out
    assert usage.out.splitlines()[-1].split()[:2] == ["total", "2"]
    assert "$0.0000" in usage.out
    assert ("plain" in listed.out) == (width == 160)
    assert listed.out.count("simulator/fast") == 2
    assert "fallback" in shown.out
    assert "server_error" in shown.out
    assert providers.out.splitlines()[1].split()[:2] == ["simulator", "ready"]
    assert "mathematics" in route.out
    assert [line.split()[:2] for line in route.out.splitlines()[-2:]] == [
        ["1", "simulator/clever"],
        ["2", "simulator/fast"],
    ]


@pytest.mark.parametrize("width", [80, 160])
async def test_every_request_of_a_list_is_one_line_and_can_be_shown(
    running: House, penstock: Terminal, width: int
) -> None:
    await ask(running, "7f4a9c1e-52b3-4f0e-9a66-d1c2b3a4f5e6")
    await ask(
        running, "nightly-" + "x" * (30 if width == 160 else 100), model="simulator/balanced?tokens=1&gap=1&first=1"
    )
    head, *lines = (await penstock("requests", "list", width=width)).out.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"(20\d\d-)?\d\d-\d\d \d\d:\d\d(:\d\d)?  ", line)
        assert "ok" in line.split()
        named = line[head.index("REQUEST") :].split()[0]
        shown = await penstock("requests", "show", named, width=width)
        assert (shown.code, shown.err) == (0, "")


async def test_a_plain_key_sees_what_it_may(running: House, penstock: Terminal) -> None:
    await ask(running, "administrator")
    secret = (await penstock("keys", "create", "plain")).out.strip()
    commands = (["providers"], ["route", "best"], ["usage"], ["requests", "list"], ["keys", "list"])
    ran = [await penstock(*words, PENSTOCK_API_KEY=secret) for words in commands]
    assert [(one.code, one.err) for one in ran[:2]] == [(0, ""), (0, "")]
    assert ran[0].out.splitlines()[1].split() == ["simulator", "ready", str(len(CARDS))]
    for one in ran:
        assert "Traceback" not in one.out + one.err


async def test_json_is_the_api_s_own(running: House, penstock: Terminal) -> None:
    await ask(running, "plain")
    async with client_of(running.gateway) as client:
        for words, path in (
            (("usage", "--by", "model"), "/v1/usage?by=model"),
            (("requests", "list"), "/v1/requests?limit=20"),
            (("requests", "show", "plain"), "/v1/requests/plain"),
        ):
            ran = await penstock(*words, "--json")
            assert json.loads(ran.out) == (await client.get(path)).json()
        assert json.loads((await penstock("providers", "--json")).out)["data"][0]["name"] == "simulator"
        assert json.loads((await penstock("route", "best", "--json")).out)["object"] == "route"


async def test_a_key_s_life(penstock: Terminal) -> None:
    limits = ["--budget-day", "1.5", "--requests-per-minute", "60", "--model", "simulator/*", "--expires", "90d"]
    made = await penstock("keys", "create", "search team", *limits)
    assert made.code == 0, made.err
    secret = made.out.strip()
    assert secret.startswith("psk-")
    assert "not shown again" in made.err
    (key,) = json.loads((await penstock("keys", "list", "--json")).out)["data"]
    assert (key["name"], key["budget"]["day"], key["requests_per_minute"]) == ("search team", "1.5", 60)
    identity = key["id"]
    listed = await penstock("keys", "list")
    assert "search team" in listed.out
    assert "$1.50 a day" in listed.out
    changed = await penstock(
        "keys", "update", identity, "--budget-day", "none", "--metadata", "team=blue", "--cache", "60"
    )
    assert "team=blue" in changed.out
    assert "$1.50" not in changed.out
    turned = await penstock("keys", "rotate", identity, "--overlap", "1d")
    assert turned.out.strip().startswith("psk-")
    assert turned.out.strip() != secret
    assert (await penstock("keys", "revoke", identity)).code == 0
    shown = await penstock("keys", "show", identity)
    assert "revoked" in shown.out
    assert "search team" not in (await penstock("keys", "list")).out
    assert "search team" in (await penstock("keys", "list", "--revoked")).out
    for ran in (listed, changed, shown):
        assert secret not in ran.out


async def test_an_export_replaces_nothing_but_plain_files(running: House, penstock: Terminal, tmp_path: Path) -> None:
    kept, target, link, pipe = (tmp_path / name for name in ("rows.csv.part", "target.csv", "rows.csv", "pipe"))
    kept.write_text("mine")
    target.write_text("old")
    link.symlink_to("target.csv")
    ran = await penstock("export", str(link))
    assert (ran.code, link.is_symlink(), kept.read_text()) == (0, True, "mine")
    assert target.read_text().startswith("id,")
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    ran = await penstock("export", str(pipe))
    assert (ran.code, pipe.is_fifo()) == (0, True)
    assert os.read(reading, 65536) == target.read_bytes()
    os.close(reading)
    to_output = await penstock("export", "/proc/self/fd/1")
    assert (to_output.code, to_output.out) == (0, target.read_bytes().decode())
    into_folder = await penstock("export", str(tmp_path))
    assert (into_folder.code, into_folder.err.count("\n")) == (1, 1)
    assert not list(tmp_path.glob("*.????????.part"))


async def test_an_export_into_a_file_or_to_standard_output(running: House, penstock: Terminal, tmp_path: Path) -> None:
    await put(running, *many(700))
    file = tmp_path / "rows.csv"
    ran = await penstock("export", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert "700 rows" in ran.err
    assert len(file.read_text().splitlines()) == 701
    lines = (await penstock("export", "-", "--format", "json", "--kind", "attempts", "--key", "team")).out
    assert {json.loads(line)["key"] for line in lines.splitlines()} == {"team"}
    assert lines.count("\n") == 700
    nowhere = await penstock("export", str(tmp_path / "no" / "such"))
    assert (nowhere.code, nowhere.err.count("\n")) == (1, 1)
    assert list(tmp_path.glob("*.part")) == []


async def test_what_is_wrong_is_one_line(running: House, penstock: Terminal, tmp_path: Path) -> None:
    empty, odd = str(tmp_path / "empty"), tmp_path / "odd"
    odd.mkdir()
    (odd / "administrator.key").write_bytes(b"\xff\xfe")
    told = [
        (await penstock("usage", "--by", "colour"), 1, "`by`"),
        (await penstock("requests", "show", "a/../b"), 1, "404"),
        (await penstock("usage", PENSTOCK_API_KEY="psk-wrong"), 1, "401"),
        (await penstock("usage", PENSTOCK_API_KEY="", PENSTOCK_STATE_DIR=empty), 1, "PENSTOCK_API_KEY"),
        (await penstock("usage", PENSTOCK_URL="http://127.0.0.1:1"), 1, "nobody answers"),
        (await penstock("usage", PENSTOCK_URL="nonsense"), 1, "http://"),
        (await penstock("usage", PENSTOCK_URL="http://127.0.0.1:port"), 1, "InvalidURL"),
        (await penstock("usage", PENSTOCK_API_KEY="", PENSTOCK_STATE_DIR=str(odd)), 1, "no text in UTF-8"),
        (await penstock("import-litellm", str(odd / "administrator.key")), 1, "no text in UTF-8"),
        (await penstock("keys", "update", "x", "--streams", "many"), 1, "--streams"),
        (await penstock("keys", "update", "x"), 1, "nothing to change"),
        (await penstock("keys", "show", "key-none"), 1, "404"),
        (await penstock("nonsense"), 2, "nonsense"),
        (await penstock("keys", "show"), 2, "ID"),
        (await penstock("requests", "list", "--limit", "0"), 2, "--limit"),
    ]
    for ran, code, words in told:
        assert (ran.code, ran.out) == (code, ""), ran
        assert words in ran.err
        assert ran.err.count("\n") == 1
        assert "psk-" not in ran.err
    red = await penstock("usage", "--by", "colour", FORCE_COLOR="1")
    assert "\x1b[1;31m" in red.err


@pytest.mark.parametrize(
    ("body", "command"),
    [
        (b"{}", "export -"),
        (b"[]", "providers"),
        (b"<html>", "usage"),
        (b'{"data": [{}], "by": ["day"]}', "usage"),
        (b'{"data": [{}]}', "keys list"),
    ],
)
async def test_an_answer_of_something_else_is_one_line(
    running: House, penstock: Terminal, body: bytes, command: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        ran = await penstock(*command.split(), PENSTOCK_URL=f"http://{host}:{port}")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"http://{host}:{port} does not answer like Penstock\n"


async def test_the_key_comes_from_the_state_directory(running: House, penstock: Terminal, tmp_path: Path) -> None:
    (tmp_path / "administrator.key").write_text(f"{KEY}\n")
    ran = await penstock("usage", PENSTOCK_API_KEY="", PENSTOCK_STATE_DIR=str(tmp_path))
    assert (ran.code, ran.err) == (0, "nothing\n")
