"""The way out to a server: whom to trust, and through which proxy.

Above it: `pool`, the providers. Below it: ssl. Outside it: requests.
"""

import base64
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import certifi
from yarl import URL

from pipelines.errors import ConfigurationError


class Outbound(NamedTuple):
    """proxy: its address, without credentials; proxy_headers: they are here. ca_file: authorities beside the usual."""

    ca_file: Path | None = None
    proxy: URL | None = None
    proxy_headers: Mapping[str, str] = {}

    def context(self) -> ssl.SSLContext:
        """Whom to trust. Raises ConfigurationError for a file that cannot be read or is no PEM bundle."""
        return _trust(self.ca_file)

    def __repr__(self) -> str:
        return f"Outbound(proxy={str(self.proxy) if self.proxy else None!r})"


DIRECT = Outbound()
"""No proxy, the usual authorities."""


def outbound(proxy: str = "", ca_file: Path | None = None) -> Outbound:
    """A way through `proxy` (`http://user:password@host:port`; "": none) that trusts the authorities of `ca_file` too.

    Raises ConfigurationError for a proxy that is no such address (its text is not repeated: it may hold a password)
    and for a file that cannot be read or is no PEM bundle.
    """
    found = Outbound(ca_file)
    found.context()
    if not proxy:
        return found
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError("the proxy must be an address such as http://host:3128")
    headers: dict[str, str] = {}
    if url.user is not None:
        # RFC 7617; the characters are UTF-8, as its section 2.1 has it.
        credentials = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        headers["proxy-authorization"] = f"Basic {credentials}"
    return Outbound(ca_file, url.with_user(None), headers)


@lru_cache
def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities (or those of `SSL_CERT_FILE`), Mozilla's for systems that have none, and the file's."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file.expanduser())
        except ssl.SSLError:
            raise ConfigurationError("the ca_file is no bundle of certificates in PEM form") from None
        except OSError as error:
            raise ConfigurationError(f"the ca_file cannot be read: {error.strerror}") from None
    return context
