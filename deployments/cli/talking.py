"""Asking a running Penstock: where it is, with which key, and in one line what is wrong.

    PENSTOCK_URL       where it is; http://127.0.0.1:8000 unless set
    PENSTOCK_API_KEY   the key; else the administrator's, from the state directory (PENSTOCK_STATE_DIR)

Above it: `commands`. Below it: httpx, `actors.administrator`. Outside it: what the answers mean.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from actors.administrator import KEY_FILE

USUAL_URL = "http://127.0.0.1:8000"
PATIENCE = httpx.Timeout(60.0, connect=5.0)


class Failure(Exception):
    """It did not work, in one line."""


class _Answer(dict[str, Any]):
    """An object of an answer. Raises Failure where a member is asked for that is not there."""

    def __missing__(self, name: str) -> Any:
        raise _stranger()


def url() -> str:
    """Where Penstock is. Raises Failure for what is no URL."""
    given = os.environ.get("PENSTOCK_URL", "").strip() or USUAL_URL
    if not given.startswith(("http://", "https://")):
        raise Failure("PENSTOCK_URL must begin with http:// or https://")
    return given.rstrip("/")


def key() -> str:
    """The key to ask with. Raises Failure where there is none."""
    if given := os.environ.get("PENSTOCK_API_KEY", "").strip():
        return given
    file = Path(os.environ.get("PENSTOCK_STATE_DIR") or "~/.penstock").expanduser() / KEY_FILE
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Failure(f"no key: set PENSTOCK_API_KEY ({file}: {error.strerror})") from None
    except UnicodeDecodeError:
        raise Failure(f"no key: set PENSTOCK_API_KEY ({file}: no text in UTF-8)") from None


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def ask(method: str, path: str, body: Any = None, **parameters: Any) -> Any:
    """The answer, decoded. parameters: of the query; None is left out.

    Raises Failure, and so does whoever reads a member of the answer that is not there.
    """
    with _client() as client:
        answer = client.request(method, path, params=_given(parameters), json=body)
        if answer.status_code >= 400:
            raise Failure(_words(answer))
        try:
            said = answer.json(object_hook=_Answer)
        except ValueError:
            raise _stranger() from None
        if not isinstance(said, _Answer):
            raise _stranger()
        return said


@contextmanager
def download(path: str, **parameters: Any) -> Iterator[Iterator[bytes]]:
    """The answer's bytes as they come. Raises Failure, also where they break off."""
    with _client() as client, client.stream("GET", path, params=_given(parameters)) as answer:
        if answer.status_code >= 400:
            answer.read()
            raise Failure(_words(answer))
        yield answer.iter_bytes()


def _stranger() -> Failure:
    return Failure(f"{url()} does not answer like Penstock")


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


@contextmanager
def _client() -> Iterator[httpx.Client]:
    where = url()
    headers = {"authorization": f"Bearer {key()}"}
    try:
        # A proxy of the environment does not lead to this machine.
        trusts = httpx.URL(where).host not in ("127.0.0.1", "localhost", "::1")
        with httpx.Client(base_url=where, headers=headers, timeout=PATIENCE, trust_env=trusts) as client:
            yield client
    except httpx.ConnectError:
        raise Failure(f"nobody answers at {where}: is Penstock running? (PENSTOCK_URL)") from None
    except (httpx.TimeoutException, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise Failure(f"{where}: {type(error).__name__}") from None
    except httpx.HTTPError:
        raise Failure(f"{where}: the answer broke off") from None


def _words(answer: httpx.Response) -> str:
    """What an error says, in one line."""
    try:
        said = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.reason_phrase
    return f"{' '.join(said.split())} ({answer.status_code})"
