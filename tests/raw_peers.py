"""Peers that say exactly what a test tells them to, over real loopback sockets."""

import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage, LinkReplyMessage, build_link_mess, build_link_reply
from spiceproxy.address import Address
from spiceproxy.eventlog import Event, EventLog
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy

MINI_CAPS = (0b1001,)  # auth selection, mini header
FULL_CAPS = (0b0001,)
TICKET = bytes(range(128))
AUTH_SPICE = struct.pack("<I", 1)


class Events(list[Event]):
    """A sink that keeps events and can be waited for."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def named(self, name: str) -> list[Event]:
        return [event for event in self if event["event"] == name]

    async def wait_for(
        self, event_name: str, *, count: int = 1, timeout_s: float = 10, **fields: Any
    ) -> Event:
        """The `count`th event of this name whose fields have these values."""
        with trio.move_on_after(timeout_s):
            while True:
                found = [
                    e
                    for e in self.named(event_name)
                    if all(e.get(key) == value for key, value in fields.items())
                ]
                if len(found) >= count:
                    return found[count - 1]
                await trio.sleep(0.005)
        last = "".join(f"\n  {event}" for event in self[-40:])
        raise AssertionError(f"no {count} of {event_name} {fields} in {timeout_s:g} s, but{last}")


@dataclass
class RawProxy:
    """A proxy, the server behind it that the test plays, and the streams the test has opened."""

    proxy: Proxy
    listener: trio.SocketListener
    events: Events
    streams: AsyncExitStack

    async def connect(self, address: Address | None = None) -> trio.SocketStream:
        """A client's stream to the proxy."""
        stream = await trio.open_tcp_stream(*(address or self.proxy.address))
        return await self.streams.enter_async_context(stream)

    async def accept(self) -> trio.SocketStream:
        """The next connection that comes out of the proxy."""
        with trio.fail_after(10):
            return await self.streams.enter_async_context(await self.listener.accept())

    async def linked(
        self, channel: int = ChannelType.DISPLAY, *, mini: bool = True, connection_id: int = 0
    ) -> tuple[trio.SocketStream, trio.SocketStream]:
        """A client's stream and a server's, behind the link phase."""
        caps = MINI_CAPS if mini else FULL_CAPS
        with trio.fail_after(10):
            client = await self.connect()
            mess = link_mess(channel, caps=caps, connection_id=connection_id)
            await client.send_all(mess)
            server = await self.accept()
            assert await read_link_block(server) == mess
            await server.send_all(link_reply(caps=caps))
            assert await read_link_block(client) == link_reply(caps=caps)
            await client.send_all(AUTH_SPICE + TICKET)
            assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
            await server.send_all(bytes(4))
            assert await read_exactly(client, 4) == bytes(4)
        return client, server


@asynccontextmanager
async def raw_proxy(**options: Any) -> AsyncIterator[RawProxy]:
    """A proxy in front of a listener that the test accepts on."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    events = Events()
    server = Address("127.0.0.1", listener.socket.getsockname()[1])
    config = ProxyConfig(server=server, events=EventLog([events]), **options)
    async with listener, AsyncExitStack() as streams, open_proxy(config) as proxy:
        yield RawProxy(proxy, listener, events, streams)


async def read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += more
    return data


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


async def read_link_block(stream: trio.abc.ReceiveStream) -> bytes:
    header = await read_exactly(stream, 16)
    return header + await read_exactly(stream, int.from_bytes(header[12:], "little"))


def link_mess(
    channel: int = ChannelType.DISPLAY, *, caps: tuple[int, ...] = MINI_CAPS, connection_id: int = 0
) -> bytes:
    return build_link_mess(LinkMessage(connection_id, channel, 0, caps, ()))


def link_reply(*, caps: tuple[int, ...] = MINI_CAPS, error: int = 0, pub_key: bytes = bytes(162)) -> bytes:
    return build_link_reply(LinkReplyMessage(error, pub_key, caps, ()))


def message(id_: int, body: bytes, *, mini: bool = True, serial: int = 1) -> bytes:
    header = struct.pack("<HI", id_, len(body)) if mini else struct.pack("<QHII", serial, id_, len(body), 0)
    return header + body
