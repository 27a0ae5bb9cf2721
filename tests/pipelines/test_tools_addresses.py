"""What a URL's form and its host's addresses decide, before anything is asked."""

from ipaddress import ip_address

import pytest

from pipelines.errors import ToolFailed
from pipelines.tools.addresses import PUBLIC, REFUSED, Reach, is_reachable, pinned, target_of

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a00:1
64:ff9b:1::127.0.0.1 100::1 2001::1 2001:0:7f00:1::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1
fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1
"""

GLOBAL = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("text", PRIVATE.split())
def test_what_is_not_of_the_internet_is_out_of_reach(text: str) -> None:
    assert not is_reachable(ip_address(text))
    with pytest.raises(ToolFailed) as caught:
        pinned([text])
    assert caught.value.code == REFUSED
    assert text not in str(caught.value)


@pytest.mark.parametrize("text", GLOBAL)
def test_what_is_of_the_internet_is_within_reach(text: str) -> None:
    assert is_reachable(ip_address(text))
    assert pinned([text]) == (text,)


@pytest.mark.parametrize("addresses", [[], ["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "::1"], ["fe80::1%eth0"], ["nonsense"]])
def test_of_a_name_with_one_bad_address_none_is_taken(addresses: list[str]) -> None:
    with pytest.raises(ToolFailed):
        pinned(addresses)


def test_a_network_that_is_named_is_within_reach_and_its_neighbour_is_not() -> None:
    reach = Reach(networks=("10.1.0.0/16",))
    assert is_reachable(ip_address("10.1.2.3"), reach)
    assert is_reachable(ip_address("::ffff:10.1.2.3"), reach)
    assert not is_reachable(ip_address("10.2.0.1"), reach)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://example.com/", "example.com", 80),
        ("HTTPS://EXAMPLE.com./a?b#c", "example.com", 443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("http://8.8.8.8/", "8.8.8.8", 80),
        ("http://[2606:4700::1111]/", "2606:4700::1111", 80),
        ("http://example.com/#@127.0.0.1", "example.com", 80),
        ("http://example.com/?q=a@b", "example.com", 80),
        ("http://127.0.0.1.nip.io/", "127.0.0.1.nip.io", 80),  # for its resolved address to refuse
    ],
)
def test_a_url_of_good_form_says_whom_it_asks(url: str, host: str, port: int) -> None:
    target = target_of(url)
    assert (target.host, target.port) == (host, port)
    assert (target.address is not None) == (host[0] == "8" or ":" in host)


def test_hosts_and_ports_narrow_the_reach() -> None:
    reach = Reach(hosts=("example.com", "*.example.org", "wiki.internal"), ports=(443, 8443))
    for good in ("https://example.com/", "https://a.b.example.org:8443/", "https://wiki.internal/"):
        assert target_of(good, reach)
    for bad in (
        "https://www.example.com/",
        "https://example.org/",
        "https://notexample.org/",
        "https://example.com.evil.example/",
        "https://example.com:444/",
        "http://example.com/",
    ):
        with pytest.raises(ToolFailed):
            target_of(bad, reach)
    assert target_of("http://example.com:65535/", PUBLIC._replace(ports=()))
