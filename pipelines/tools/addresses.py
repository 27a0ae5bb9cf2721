"""Which URLs a tool may fetch: the form of the URL, then every address that its host stands for.

    text -> target_of -> Target -> (a resolver) -> pinned -> the addresses to connect to

The form is read once, by yarl, and what was read is what is fetched: two readers that disagree are how such checks are
passed by. A host that "ends in a number" is an IPv4 address (https://url.spec.whatwg.org/#ends-in-a-number-checker),
and is only taken in its plain form, so that decimal, octal, hexadecimal and short forms need not be understood here
to be kept out. Addresses are global where IANA's special-purpose registries say so (RFC 6890); IPv6 only inside
2000::/3, which is all that is given out (RFC 4291), and what hides an IPv4 address counts as that one (RFC 4291
section 2.5.5.2, RFC 6052) or is refused (6to4, Teredo).

Above it: `fetching`, the sources, `actors.tools.argument_guards`, `deployments.tools.fetching`. Below it: yarl,
`errors`. Outside it: resolving a name, and connecting to the address that was looked at.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from yarl import URL

from pipelines.errors import ToolFailed

MOST_CHARACTERS = 8192
"""Of a URL."""

REFUSED = "address_refused"
"""The errors' code."""

Address = IPv4Address | IPv6Address


class Reach(NamedTuple):
    """How far a fetch may go.

    hosts: the only ones, as names or `*.name` for all below a name; empty: any. ports: the only ones; empty: any.
    networks: such as "10.1.0.0/16", whose addresses are taken although they are private.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    networks: tuple[str, ...] = ()


PUBLIC = Reach()
"""Any public host, on the usual ports."""


class Target(NamedTuple):
    """A URL of good form. host: lower case, without a final dot; address: what the host is, where it is no name."""

    url: URL
    host: str
    port: int
    address: Address | None


_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_AUTHORITY = re.compile(r"[a-z]+://([^/?#]*)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_INSIDE = ("localhost", "local", "internal", "localdomain")
"""Names, and all below them, that are of this machine or this network (RFC 6761, RFC 6762, ICANN's `internal`)."""

_GIVEN_OUT = IPv6Network("2000::/3")
_NOT_GIVEN_OUT = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_TRANSLATED = IPv6Network("64:ff9b::/96")
_NOT_THE_INTERNET = tuple(IPv4Network(text) for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24"))
"""Global by number, and yet not outside: Azure's services for its machines, protocols' own addresses (RFC 6890; older
Pythons take some of them for global), the relay of 6to4 (RFC 7526)."""


def target_of(text: str, reach: Reach = PUBLIC) -> Target:
    """The URL, if its form and, as far as it says, its host are within reach.

    Raises ToolFailed otherwise; a name's addresses are still to be looked at (`pinned`).
    """
    if len(text) > MOST_CHARACTERS or _UNSAFE.search(text):
        raise _refused("the URL is too long, or has blanks, control characters or backslashes in it")
    try:
        url = URL(text)
        host, port = (url.raw_host or "").lower(), url.port
    except ValueError:
        raise _refused("this is no URL") from None
    authority = _AUTHORITY.match(text)
    if url.scheme not in ("http", "https") or not authority or not host or not port:
        raise _refused("only http and https URLs with a host can be fetched")
    if "@" in authority[1]:
        raise _refused("a URL with a user name or password in it is not fetched")
    host = host.removesuffix(".")
    target = Target(url, host, port, _literal(host, "[" in authority[1]))
    _check(target, reach)
    return target


def _literal(host: str, bracketed: bool) -> Address | None:
    """The address that the host is, None for a name."""
    if not bracketed and not _NUMBER.fullmatch(host.rpartition(".")[2]):
        if not _LABELS.fullmatch(host) or len(host) > 253:
            raise _refused("the URL's host is no name")
        return None
    try:
        address: Address = IPv6Address(host) if bracketed else IPv4Address(host)
    except ValueError:
        raise _refused("the URL's address is not written in the plain form") from None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise _refused("an address with a zone is one of this network")
    return address


def _check(target: Target, reach: Reach) -> None:
    named = any(_matches(target.host, host) for host in reach.hosts)
    if reach.hosts and not named:
        raise _refused("this host is not among those that may be asked")
    if reach.ports and target.port not in reach.ports:
        raise _refused("this port is not among those that may be asked")
    if target.address is not None and not is_reachable(target.address, reach):
        raise _refused("the address is not one of the public Internet")
    if not named and target.host.rpartition(".")[2] in _INSIDE:
        raise _refused("the host is one of this machine or this network")


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.lower().removesuffix(".")
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def is_reachable(address: Address, reach: Reach = PUBLIC) -> bool:
    """Whether the address is global, or in one of the networks that are taken all the same."""
    plain = _plain(address)
    if any(plain in ip_network(network) for network in reach.networks):
        return True
    if isinstance(plain, IPv4Address):
        return plain.is_global and not plain.is_multicast and not any(plain in one for one in _NOT_THE_INTERNET)
    return plain.is_global and plain in _GIVEN_OUT and not any(plain in one for one in _NOT_GIVEN_OUT)


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it is mapped (RFC 4291) or translated (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _TRANSLATED else address


def pinned(addresses: Iterable[str], reach: Reach = PUBLIC) -> tuple[str, ...]:
    """The addresses of a target's host, as a resolver gave them, if every single one is within reach.

    Raises ToolFailed otherwise: of a name that has a public and a private address, neither is taken. The addresses
    are not in the message, so that names inside cannot be looked up this way.
    """
    found = tuple(addresses)
    if not found:
        raise _refused("the host has no address")
    for text in found:
        try:
            good = "%" not in text and is_reachable(ip_address(text), reach)
        except ValueError:
            good = False
        if not good:
            raise _refused("the host has an address that is not one of the public Internet")
    return found


def _refused(why: str) -> ToolFailed:
    return ToolFailed(why, status=403, code=REFUSED)
