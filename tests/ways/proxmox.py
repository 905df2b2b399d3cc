"""The HTTP proxy of a Proxmox VE cluster, as far as SPICE clients see it, and its names and files.

Sources: PVE::Ticket, assemble_spice_ticket() and verify_spice_connect_url(); PVE::APIServer::AnyEvent,
handle_spice_proxy_request(); PVE::AccessControl, remote_viewer_config(). That a migration names the destination in
the same way: PVE::QemuMigrate, phase2().
"""

import hashlib
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from spiceproxy.address import Address
from tests.raw_peers import read_exactly

_NAME = re.compile(r"pvespiceproxy:([a-z0-9]{8}):(\d+):(\S+)::([a-z0-9]{40}):(\d+)")
_SECRET = b"of the cluster"
LIFETIME_S = 40


def name_of(node: str, *, vmid: int = 100, age_s: int = 0) -> str:
    """The name of a guest on a node, in the place of a host."""
    plain = f"pvespiceproxy:{int(time.time()) - age_s:08x}:{vmid}:{node}"
    return f"{plain}::{_signature(plain)}"


def _signature(plain: str) -> str:
    return hashlib.sha1(plain.encode() + _SECRET).hexdigest()


def vv_of(
    host: str, port: int, *, proxy: Address, ca: str, subject: str, password: str = "31a189dd71ce859867"
) -> str:
    """What remote-viewer is given, with the blanks and the escapes that it has."""
    ca = ca.replace("\n", "\\n")
    return f"""\
[virt-viewer]
secure-attention = Ctrl+Alt+Ins
title = VM 100 - guest
password = {password}
host = {host}
type = spice
toggle-fullscreen = Shift+F11
delete-this-file = 1
host-subject = {subject.replace(chr(92), chr(92) * 2)}
release-cursor = Ctrl+Alt+R
proxy = http://{proxy}
tls-port = {port}
ca = {ca}
"""


@dataclass
class ClusterProxy:
    """What it was asked for."""

    address: Address
    asked: list[str] = field(default_factory=list)  # nodes
    refused: list[str] = field(default_factory=list)  # `Host` headers


@asynccontextmanager
async def cluster_proxy(tls: ssl.SSLContext | None = None) -> AsyncIterator[ClusterProxy]:
    """Leads to ports of 127.0.0.1, whatever the node, for a fresh and signed name, and nowhere else.

    Args:
        tls: Clients have to speak TLS, and whatever they ask for is granted: an HTTPS proxy of somebody else.
    """
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = ClusterProxy(Address("127.0.0.1", listeners[0].socket.getsockname()[1]))

    async def serve(plain: trio.SocketStream) -> None:
        stream: trio.abc.Stream = plain
        if tls is not None:
            stream = trio.SSLStream(plain, tls, server_side=True, https_compatible=True)
        try:
            async with stream:
                await _serve(stream, proxy, names_only=tls is None)
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def _serve(client: trio.abc.Stream, proxy: ClusterProxy, *, names_only: bool) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await read_exactly(client, 1)
    headers = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)\r$", head.decode()))
    version = head.split(b"\r\n")[0].rsplit(b" ")[-1]
    asked = headers.get("Host", "")
    found = _NAME.fullmatch(asked)
    if names_only and (found is None or not _good(found)):
        proxy.refused.append(asked)
        await client.send_all(version + b" 401 invalid ticket\r\nConnection: close\r\n\r\n")
        return
    proxy.asked.append(found[3] if found else asked)
    async with await trio.open_tcp_stream("127.0.0.1", int(asked.rpartition(":")[2])) as server:
        await client.send_all(version + b" 200 OK\r\n\r\n")
        async with trio.open_nursery() as nursery:

            async def one_way(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                try:
                    while data := await source.receive_some(65536):
                        await sink.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(one_way, client, server)
            nursery.start_soon(one_way, server, client)


def _good(found: re.Match[str]) -> bool:
    age_s = time.time() - int(found[1], 16)
    plain = f"pvespiceproxy:{found[1]}:{found[2]}:{found[3]}"
    return -20 < age_s < LIFETIME_S and found[4] == _signature(plain)
