"""How simulated clients dial where TCP to the server will not do."""

import base64
from collections.abc import Callable
from pathlib import Path

import trio

from spiceproxy.address import Address
from spiceproxy.simulate.linking import Dial
from tests.raw_peers import read_exactly

# As GLib's GHttpProxy writes it (gio/ghttpproxy.c, create_request()).
GLIB = "CONNECT {0} HTTP/1.0\r\nHost: {0}\r\nProxy-Connection: keep-alive\r\nUser-Agent: GLib/2.74\r\n{1}\r\n"


def request(target: str, *, headers: str = "") -> bytes:
    """A CONNECT request."""
    return GLIB.format(target, headers).encode()


def connect_dial(
    proxy: tuple[str, int], credentials: str | None = None, name: Callable[[Address], str] = str
) -> Dial:
    """Dials by CONNECT."""
    headers = ""
    if credentials is not None:
        headers = f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}\r\n"

    async def dial(address: Address) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(*proxy)
        await stream.send_all(request(name(address), headers=headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await read_exactly(stream, 1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return stream

    return dial


def unix_dial(path: Path) -> Dial:
    """Dials a unix socket that stands for the first server; where a migration leads is dialled as it is."""
    first: list[Address] = []

    async def dial(address: Address) -> trio.SocketStream:
        first.append(address)
        if address == first[0]:
            return await trio.open_unix_socket(path)
        return await trio.open_tcp_stream(*address)

    return dial
