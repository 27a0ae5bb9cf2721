"""A listening socket that stops taking part, so that no connection is lost when it closes.

Closing one of several SO_REUSEPORT sockets resets what waits in its accept queue, and what is about to get there:
Linux gives a connection to one socket of the group at its first SYN and does not give it to another
(`net.ipv4.tcp_migrate_req` apart, which only root can set). A filter on the socket that drops every SYN ends that:
handshakes under way complete and are accepted, and a dropped SYN is sent again after a second (RFC 6298, section 2),
when the socket is gone and another one of the group takes it. A backlog of 0 is no such filter: it drops the ends of
handshakes too, and accepting makes room again.

Above it: `listener`. Below it: Linux. Outside it: who accepts.
"""

import ctypes
import ipaddress
import socket
import struct
from typing import Any

_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER of Linux's asm-generic/socket.h."""

_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it
)
"""Classic BPF (Linux, Documentation/networking/filter.rst). The filter of a TCP socket sees the header of TCP first."""

_QUEUE_OFFSET = 24
"""Of `tcpi_unacked` in Linux's `struct tcp_info`: for a listening socket, the length of its accept queue."""

_HANDSHAKE_SECONDS = 0.25
"""A round trip to a far caller: the longest that a handshake may still need. On loopback it needs no time."""


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_handshakes(sock: socket.socket) -> float:
    """Drop every further SYN. Returns how many seconds the handshakes that are under way may take.

    Where the system has no such filter, connections that come until the socket closes may be reset; 0 is returned.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    program: Any = _Program(len(_DROP_SYN), code)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bytes(program))
    except OSError:
        return 0.0
    return 0.0 if ipaddress.ip_address(sock.getsockname()[0]).is_loopback else _HANDSHAKE_SECONDS


def waiting(sock: socket.socket) -> int:
    """How many connections wait to be accepted; 0 where the system does not say."""
    try:
        return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), _QUEUE_OFFSET)[0])
    except (OSError, AttributeError, struct.error):
        return 0
