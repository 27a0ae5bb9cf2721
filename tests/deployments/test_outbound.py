"""The way out: through a real proxy, to a real TLS server whose authority only the configuration names."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from deployments.config import ProviderSettings
from deployments.http.outbound import outbound
from deployments.http.transport import HttpTransport
from deployments.providers import KINDS, Provider
from pipelines.errors import ConfigurationError, StreamBroken
from pipelines.resilience import RetryPolicy
from tests.deployments.proxy import Proxy
from tests.upstream import Fault, Upstream, text_of
from tests.upstream.connection import Connection

HELLO = [{"role": "user", "content": "Hello"}]


@contextlib.asynccontextmanager
async def asked(**settings: object) -> AsyncIterator[Provider]:
    read = ProviderSettings.model_validate({"kind": "local", **settings})
    provider = KINDS[read.kind](**{**read.arguments(), "retry": RetryPolicy(attempts=1)})
    yield provider
    await provider.aclose()


async def idle(provider: Provider) -> None:
    """Until the end of the last answer, which comes on its own behind what was wanted, is there too."""
    assert isinstance(provider.transport, HttpTransport)
    pool = provider.transport._pool
    assert pool is not None
    async with asyncio.timeout(10.0):
        while not pool._idle:
            await asyncio.sleep(0)


async def text(provider: Provider) -> str:
    return "".join([piece async for piece in provider.generate_stream(HELLO, model="m")])


@pytest.fixture
async def secure(upstream: Upstream, tmp_path: Path) -> AsyncIterator[str]:
    """The upstream's address with TLS; its authority is in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(upstream), "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for connection in list(upstream._live.values()):
            connection.abort()


async def test_an_authority_of_our_own_is_trusted_where_it_is_named(secure: str, tmp_path: Path) -> None:
    async with asked(base_url=secure, ca_file=tmp_path / "ca.pem") as provider:
        assert await text(provider) == text_of(Fault())


async def test_an_unknown_authority_is_refused(secure: str, upstream: Upstream) -> None:
    async with asked(base_url=secure) as provider:
        with pytest.raises(StreamBroken, match="no trusted connection"):
            await text(provider)
    assert upstream.requests == []


async def test_another_name_than_the_certificates_is_refused(secure: str, tmp_path: Path) -> None:
    async with asked(base_url=secure.replace("127.0.0.1", "127.0.0.2"), ca_file=tmp_path / "ca.pem") as provider:
        with pytest.raises(StreamBroken):
            await text(provider)


async def test_the_named_authority_is_beside_the_usual_ones(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    usual, more = outbound().context(), outbound(ca_file=tmp_path / "ca.pem").context()
    assert isinstance(usual, ssl.SSLContext)
    assert isinstance(more, ssl.SSLContext)
    assert len(more.get_ca_certs()) == len(usual.get_ca_certs()) + 1 > 100
    assert more.verify_mode == ssl.CERT_REQUIRED
    assert more.check_hostname


async def test_tls_goes_through_a_tunnel(secure: str, tmp_path: Path, upstream: Upstream) -> None:
    async with Proxy() as proxy, asked(base_url=secure, ca_file=tmp_path / "ca.pem", proxy=proxy.url) as provider:
        assert await text(provider) == text_of(Fault())
        assert proxy.seen == [f"CONNECT {secure.removeprefix('https://').removesuffix('/v1')} HTTP/1.1"]
    assert upstream.requests[-1].path == "/v1/chat/completions"


async def test_what_is_not_tls_is_forwarded(upstream: Upstream) -> None:
    async with Proxy() as proxy, asked(base_url=f"{upstream.url}/v1", proxy=proxy.url) as provider:
        assert await text(provider) == text_of(Fault())
        assert proxy.seen == [f"POST {upstream.url}/v1/chat/completions HTTP/1.1"]


@pytest.mark.parametrize("tls", [True, False])
async def test_the_proxys_password_is_in_a_variable_and_reaches_only_the_proxy(
    secure: str, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    settings = {"base_url": secure if tls else f"{upstream.url}/v1", "ca_file": tmp_path / "ca.pem"}
    async with Proxy("user:pass word") as proxy:
        monkeypatch.setenv("THE_PROXY", proxy.url.replace("://", "://user:pass%20word@"))
        async with asked(**settings, proxy_variable="THE_PROXY") as provider:
            # The second one goes over the connection that the first one has left.
            for _ in range(2):
                assert await text(provider) == text_of(Fault())
                await idle(provider)
        assert len(proxy.seen) == 1
        assert tls == (upstream.requests[-1].header("proxy-authorization") is None)
        monkeypatch.setenv("THE_PROXY", proxy.url.replace("://", "://user:wrong@"))
        async with asked(**settings, proxy_variable="THE_PROXY") as provider:
            with pytest.raises(Exception, match="407") as raised:
                await text(provider)
            assert "wrong" not in str(raised.value)
            assert "wrong" not in repr(provider.transport)


async def test_a_proxy_that_is_not_there() -> None:
    async with Proxy() as proxy:
        gone = proxy.url
    async with asked(base_url="http://127.0.0.1:1/v1", proxy=gone) as provider:
        with pytest.raises(StreamBroken, match="the proxy cannot be reached"):
            await text(provider)


@pytest.mark.parametrize("proxy", ["nonsense", "socks5://host:1", "http://", "http://host:port"])
def test_an_address_that_is_no_proxys(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="must be an address") as raised:
        outbound(proxy)
    assert proxy == "http://" or proxy not in str(raised.value)


def test_files_that_are_no_authorities(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    for name, said in (("text", "no bundle"), ("missing", "cannot be read")):
        with pytest.raises(ConfigurationError, match=said):
            outbound(ca_file=tmp_path / name)


def test_the_configuration_holds_no_password_and_never_goes_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="for a variable") as raised:
        ProviderSettings(kind="local", proxy="http://me@host:1")
    assert "me@host" not in str(raised.value)
    with pytest.raises(ValidationError, match="takes the place"):
        ProviderSettings(kind="local", proxy="http://host:1", proxy_variable="THE_PROXY")
    monkeypatch.delenv("THE_PROXY", raising=False)
    with pytest.raises(ConfigurationError, match="THE_PROXY is empty"):
        ProviderSettings(kind="local", proxy_variable="THE_PROXY").arguments()
