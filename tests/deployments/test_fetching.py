"""URLs that lead inside, over real listeners: none of those that are private is ever reached.

The machine's loopback network stands for both worlds: 127.0.0.5 is taken for public, by configuration; every other
address of it is private, and a listener on each would notice a connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from actors.tools.argument_guards import addresses_of
from deployments.tools.fetching import Fetcher
from pipelines.errors import ToolFailed
from pipelines.tools.addresses import PUBLIC, Reach
from pipelines.tools.fetching import Fetching

GOOD = "127.0.0.5"
BAD = ("127.0.0.1", "127.0.0.9", "::1")
REACH = Reach(ports=(), networks=(f"{GOOD}/32",))


class World:
    """A listener on GOOD and on each of BAD, all on one port. asked: the requests' heads, by address."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: dict[str, list[str]] = {address: [] for address in (GOOD, *BAD)}
        self.answers: dict[str, bytes] = {}
        self.serving: set[asyncio.Task[None]] = set()

    async def serve(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        self.asked[address].append("")  # a connection alone is too much
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked[address][-1] = head
            plain = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
            writer.write(self.answers.get(head.split()[1], plain))
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    @property
    def reached(self) -> set[str]:
        return {address for address, heads in self.asked.items() if heads}

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        answer = f"HTTP/1.1 {status} Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        self.answers[path] = answer.encode()


@asynccontextmanager
async def opened() -> AsyncIterator[World]:
    world = World()
    async with contextlib.AsyncExitStack() as stack:
        for address in world.asked:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str = address) -> None:
                await world.serve(address, reader, writer)

            server = await asyncio.start_server(serve, address, world.port)
            world.port = server.sockets[0].getsockname()[1]
            await stack.enter_async_context(server)
        yield world
        await asyncio.gather(*world.serving)


class Names:
    """A resolver: what each name answers, the last answer for ever; a name not listed is asked of the system."""

    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            return await addresses_of(host, port)
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


FORMS = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://2130706441:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7F.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.0x0.0.0x1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://127.0.0.01:{port}/",
    "http://00000127.0.0.1:{port}/",
    "http://127.0.0.9:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::FFFF:0:127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::80ff:fffe]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[fe80::1%25eth0]:{port}/",
    "http://[fd00:ec2::254]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://metadata.google.internal/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://lOcAlHoSt.:{port}/",
    "http://localhost..:{port}/",
    "http://a.localhost:{port}/",
    "http://localhost.localdomain:{port}/",
    "http://ip6-localhost:{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://127.0.0.1:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://good.example:{port}@127.0.0.1:{port}/",
    "http://good.example@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://:@localhost:{port}/",
    "http://good.example\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@good.example/",
    "http://good.example\t@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@good.example/",
    "http://127.0.0.1:{port}?@good.example/",
    "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "\x00http://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "file:///etc/passwd",
    "ws://127.0.0.1:{port}/",
    "unix:///run/docker.sock",
    "http+unix://%2frun%2fdocker.sock/",
    "http://127.0.0.1.nip.io:{port}/",
    "http://7f000001.nip.io:{port}/",
    "http://two.example:{port}/",
    "http://six.example:{port}/",
    "http://mapped.example:{port}/",
    "http://translated.example:{port}/",
    "http://zoned.example:{port}/",
    "http://unspecified.example:{port}/",
    "http://none.example:{port}/",
]


def private_names() -> Names:
    return Names(
        {
            "127.0.0.1.nip.io": [["127.0.0.1"]],
            "7f000001.nip.io": [["127.0.0.1"]],
            "two.example": [[GOOD, "127.0.0.9"]],
            "six.example": [["::1"]],
            "mapped.example": [["::ffff:127.0.0.1"]],
            "translated.example": [["64:ff9b::7f00:1"]],
            "zoned.example": [["fe80::1%lo"]],
            "unspecified.example": [["0.0.0.0"]],
            "none.example": [[]],
            "good.example": [[GOOD]],
        }
    )


async def test_no_form_of_a_url_reaches_a_private_listener() -> None:
    assert len(FORMS) >= 40
    fetch = Fetcher(private_names())
    async with opened() as world:
        for form in FORMS:
            url = form.format(port=world.port)
            with pytest.raises(ToolFailed):
                await fetch(Fetching(url, reach=REACH, redirects=5))
            assert world.reached == set(), url
        good = await fetch(Fetching(f"http://good.example:{world.port}/", reach=REACH))
        assert (good.status, good.text) == (200, "hello")
        assert world.reached == {GOOD}


async def test_the_listeners_would_have_noticed() -> None:
    async with opened() as world:
        fetch = Fetcher(private_names())
        anywhere = Reach(ports=(), networks=("127.0.0.0/8", "::1/128"))
        for host in ("two.example", "six.example", "127.0.0.1"):
            await fetch(Fetching(f"http://{host}:{world.port}/", reach=anywhere))
        assert world.reached >= {"::1", "127.0.0.1"}


async def test_a_name_that_changes_its_answer_is_asked_once_and_the_address_holds() -> None:
    names = Names({"rebinding.example": [[GOOD], ["127.0.0.9"]]})
    async with opened() as world:
        fetch = Fetcher(names)
        url = f"http://rebinding.example:{world.port}/"
        assert (await fetch(Fetching(url, reach=REACH))).text == "hello"
        assert names.asked == ["rebinding.example"]
        with pytest.raises(ToolFailed):
            await fetch(Fetching(url, reach=REACH))
        assert world.reached == {GOOD}
        assert f"host: rebinding.example:{world.port}" in world.asked[GOOD][0].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/secret",
        "//127.0.0.9:{port}/secret",
        "http://2130706433:{port}/",
        "http://[::1]:{port}/",
        "http://private.example:{port}/",
        "http://good.example@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "/again",
    ],
)
async def test_each_redirect_is_looked_at_like_the_first_url(location: str, status: int) -> None:
    names = Names({"good.example": [[GOOD], [GOOD], ["127.0.0.9"]], "private.example": [["127.0.0.1"]]})
    async with opened() as world:
        world.redirect("/", "/on", status)
        world.redirect("/on", location.format(port=world.port), status)
        with pytest.raises(ToolFailed):
            await Fetcher(names)(Fetching(f"http://good.example:{world.port}/", reach=REACH, redirects=5))
        assert world.reached == {GOOD}
        assert len(world.asked[GOOD]) == 2


async def test_a_redirect_within_reach_is_followed_without_the_credentials() -> None:
    names = Names({"good.example": [[GOOD]], "other.example": [[GOOD]]})
    async with opened() as world:
        world.redirect("/", "/on")
        world.redirect("/on", f"http://other.example:{world.port}/there")
        answer = await Fetcher(names)(
            Fetching(f"http://good.example:{world.port}/", headers={"x-key": "secret"}, reach=REACH, redirects=2)
        )
        assert (answer.status, answer.url) == (200, f"http://other.example:{world.port}/there")
        first, second, third = world.asked[GOOD]
        assert "x-key: secret" in first
        assert "x-key: secret" in second
        assert "secret" not in third


async def test_redirects_that_never_end_and_those_of_a_post_are_not_followed() -> None:
    names = Names({"good.example": [[GOOD]]})
    async with opened() as world:
        world.redirect("/", "/", 307)
        url = f"http://good.example:{world.port}/"
        with pytest.raises(ToolFailed):
            await Fetcher(names)(Fetching(url, reach=REACH, redirects=3))
        assert len(world.asked[GOOD]) == 4
        with pytest.raises(ToolFailed):
            await Fetcher(names)(Fetching(url, method="POST", body=b"x", reach=REACH, redirects=3))
        answer = await Fetcher(names)(Fetching(url, reach=REACH))
        assert (answer.status, answer.location) == (307, url)


async def test_an_answer_is_read_up_to_its_bound() -> None:
    names = Names({"good.example": [[GOOD]]})
    async with opened() as world:
        world.answers["/"] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=latin-1\r\n\r\n" + b"\xe9" * 300_000
        answer = await Fetcher(names)(Fetching(f"http://good.example:{world.port}/", reach=REACH, most=1000))
        assert (answer.text, answer.cut, answer.media_type) == ("é" * 1000, True, "text/plain")


async def test_a_server_that_says_nothing_or_nonsense_is_an_error_in_words() -> None:
    names = Names({"good.example": [[GOOD]]})
    async with opened() as world:
        world.answers["/"] = b"nonsense\r\n\r\n"
        world.answers["/slow"] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
        url = f"http://good.example:{world.port}"
        for path in ("/", "/slow"):
            with pytest.raises(ToolFailed, match="could not be fetched"):
                await Fetcher(names)(Fetching(url + path, reach=REACH))

        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        async with await asyncio.start_server(silent, GOOD, 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ToolFailed, match="did not answer"):
                await Fetcher(names)(Fetching(f"http://{GOOD}:{port}/", reach=REACH, seconds=0.2))
            await gone.wait()


async def test_the_usual_reach_has_no_loopback() -> None:
    async with opened() as world:
        with pytest.raises(ToolFailed):
            await Fetcher(Names({"good.example": [[GOOD]]}))(
                Fetching(f"http://good.example:{world.port}/", reach=PUBLIC._replace(ports=()))
            )
        assert world.reached == set()
