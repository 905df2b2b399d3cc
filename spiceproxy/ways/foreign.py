"""Sockets with addresses of others: what TPROXY takes (Linux Documentation/networking/tproxy.rst)."""

import socket
from typing import Final

import trio

from spiceproxy.errors import UsageError

_IP_TRANSPARENT: Final = 19  # linux/in.h; in Python since 3.14
_IPV6_TRANSPARENT: Final = 75  # linux/in6.h
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h

Socket = socket.socket | trio.socket.SocketType


def make_transparent(connection: Socket) -> None:
    """Let a socket have addresses that are not this machine's.

    Raises:
        UsageError: That takes CAP_NET_ADMIN.
    """
    try:
        _set(connection)
    except OSError as error:
        raise UsageError(f"TPROXY needs CAP_NET_ADMIN: {error.strerror}") from None


def mark(connection: Socket, value: int) -> None:
    """Mark a socket's packets for the kernel's rules.

    Raises:
        OSError: That takes CAP_NET_ADMIN.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, value)


def check_mark() -> None:
    """See whether sockets can be marked.

    Raises:
        UsageError: That takes CAP_NET_ADMIN.
    """
    with socket.socket() as probe:
        try:
            mark(probe, 1)
        except OSError as error:
            raise UsageError(
                f"--local needs CAP_NET_ADMIN: {error.strerror}; "
                "or run as a user of its own, without it (`spiceproxy nft --local --proxy-user`)"
            ) from None


def _set(connection: Socket) -> None:
    if connection.family == socket.AF_INET6:
        connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        connection.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)


async def bind_to(connection: trio.socket.SocketType, host: str) -> None:
    """Give a socket that will connect the address of somebody else; the port is the kernel's choice.

    Not the client's own port: to connection tracking both connections would be one.

    Raises:
        OSError: That takes CAP_NET_ADMIN.
    """
    _set(connection)
    connection.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)  # ports count by server, not in all
    await connection.bind((host, 0))
