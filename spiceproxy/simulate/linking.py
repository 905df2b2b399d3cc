"""The link phase of both sides: capabilities, ticket, result. Source: spice-server reds.cpp, spice-gtk spice-channel.c."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dissectors import link
from dissectors.capabilities import CommonCap, has_capability, words_of
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import read, write
from dissectors.link import AuthMech, LinkError, LinkMessage, LinkReplyMessage
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate.errors import ConnectionLost, LinkRefused
from spiceproxy.simulate.secure import Stream, Trust, secure_client
from spiceproxy.simulate.tickets import TicketKey, make_ticket
from spiceproxy.simulate.wire import ChannelKey, Observer, Wire

_HEADER_BYTES: Final = 16
_MECHANISM: Final = write(link.AuthMechanism, {"auth_mechanism": AuthMech.SPICE})

# Channel capability words as sent by spice-server 0.15.1 and spice-gtk 0.42.
SERVER_CAPS: Final[dict[int, tuple[int, ...]]] = {
    ChannelType.MAIN: (0x0F,),
    ChannelType.DISPLAY: (0x1052,),
    ChannelType.INPUTS: (0x01,),
    ChannelType.PLAYBACK: (0x0A,),
    ChannelType.RECORD: (0x06,),
    ChannelType.USBREDIR: (0x01,),
    ChannelType.PORT: (0x01,),
    ChannelType.WEBDAV: (0x01,),
}
CLIENT_CAPS: Final[dict[int, tuple[int, ...]]] = {
    ChannelType.MAIN: (0x0F,),
    # Not what we cannot do: of spice-gtk's 0x3bf we leave out everything about streams, composite and GL.
    ChannelType.DISPLAY: (0x02,),
    ChannelType.PLAYBACK: (0x0E,),
    ChannelType.RECORD: (0x06,),
}


@dataclass(frozen=True, slots=True)
class Linked:
    """A connection that has passed the link phase.

    Attributes:
        wire: Ready for messages.
        connection_id: From the client's link message.
        channel_caps: The other side's capability words of this channel.
    """

    wire: Wire
    connection_id: int
    channel_caps: tuple[int, ...]


class _Reader:
    """Exact reads from a stream; what was read too much stays for the wire."""

    def __init__(self, stream: Stream, channel: str) -> None:
        self.rest, self.channel, self._stream = bytearray(), channel, stream

    async def exactly(self, count: int) -> bytes:
        while len(self.rest) < count:
            try:
                data = await self._stream.receive_some(4096)
            except trio.BrokenResourceError as error:
                raise ConnectionLost(f"{self.channel}: the connection broke during the link phase") from error
            if not data:
                raise ConnectionLost(f"{self.channel}: the other side closed during the link phase")
            self.rest += data
        head = bytes(self.rest[:count])
        del self.rest[:count]
        return head

    async def block(self, side: Side) -> bytes:
        header = await self.exactly(_HEADER_BYTES)
        return header + await self.exactly(link.link_block_size(header, side) - _HEADER_BYTES)


def common_caps(*, side: Side, mini_header: bool) -> tuple[int, ...]:
    """The common capability words a simulated peer announces: ticket only, no SASL."""
    bits = [CommonCap.PROTOCOL_AUTH_SELECTION]
    if side is Side.SERVER:  # spice-gtk never sets it
        bits.append(CommonCap.AUTH_SPICE)
    if mini_header:
        bits.append(CommonCap.MINI_HEADER)
    return tuple(words_of(bits))


Dial = Callable[[Address], Awaitable[trio.SocketStream]]
"""Connects to a server in another way than by TCP to its address."""


async def _dial_tcp(address: Address) -> trio.SocketStream:
    return await trio.open_tcp_stream(address.host, address.port)


async def open_link(
    address: Address,
    key: ChannelKey,
    *,
    connection_id: int,
    password: str | None,
    mini_header: bool,
    channel_caps: Sequence[int],
    connect_timeout_s: float,
    link_timeout_s: float,
    peer_name: str,
    observer: Observer | None,
    dial: Dial | None = None,
    trust: Trust | None = None,
) -> Linked:
    """Connect and link as a client; with TLS if there is something to `trust`.

    The time for the TCP connection is 10 s in spice-gtk; for the link phase it has no limit, we have.

    Raises:
        ConnectionLost: Nobody there, or gone, or silent for too long.
        LinkRefused: The server said no.
    """
    name = key.name
    try:
        with trio.fail_after(connect_timeout_s):
            transport = await (dial or _dial_tcp)(address)
    except trio.TooSlowError:
        raise ConnectionLost(f"{name}: no connection to {address} within {connect_timeout_s:g} s") from None
    except OSError as error:
        raise ConnectionLost(f"{name}: cannot connect to {address}: {error.strerror or error}") from error
    linked = False
    try:
        with trio.fail_after(link_timeout_s):
            stream: Stream = transport
            if trust is not None:
                stream = await secure_client(transport, address.host, trust)
            reader = _Reader(stream, name)
            common = common_caps(side=Side.CLIENT, mini_header=mini_header)
            mess = LinkMessage(connection_id, key.type, key.id, common, tuple(channel_caps))
            await stream.send_all(link.build_link_mess(mess))
            reply = link.parse_link_reply(await reader.block(Side.SERVER))
            if reply.error != LinkError.OK:
                raise LinkRefused(
                    name, reply.error, f"the server refuses the link: {_error_name(reply.error)}"
                )
            ticket = make_ticket(reply.pub_key, password or "")
            selects = has_capability(reply.common_caps, CommonCap.PROTOCOL_AUTH_SELECTION)
            await stream.send_all((_MECHANISM if selects else b"") + ticket)
            result = read(link.LinkResult, await reader.exactly(link.LinkResult.sizeof()))[0]["error"]
            if result != LinkError.OK:
                raise LinkRefused(
                    name, result, f"the server refuses the ticket or the channel: {_error_name(result)}"
                )
        linked = True
    except trio.TooSlowError:
        raise ConnectionLost(
            f"{name}: {address} did not finish the link within {link_timeout_s:g} s"
        ) from None
    except (trio.BrokenResourceError, OSError) as error:
        raise ConnectionLost(f"{name}: {address} closed during the link phase") from error
    except (DissectionError, ValueError) as error:
        raise LinkRefused(name, None, f"{address} does not speak SPICE: {error}") from error
    finally:
        if not linked:
            transport.socket.close()
    mini = mini_header and has_capability(reply.common_caps, CommonCap.MINI_HEADER)
    wire = Wire(
        stream,
        key,
        side=Side.CLIENT,
        mini_header=mini,
        peer_name=peer_name,
        observer=observer,
        rest=bytes(reader.rest),
    )
    return Linked(wire, connection_id, reply.channel_caps)


async def answer_link(
    stream: Stream,
    *,
    ticket_key: TicketKey,
    password: str | None,
    mini_header: bool,
    server_caps: Callable[[ChannelKey], Sequence[int] | None],
    admit: Callable[[ChannelKey, int], LinkError],
    peer_name: str,
    observer: Observer | None,
) -> Linked | None:
    """Answer a client's link; the caller sets the deadline and closes the stream if this gives None or raises.

    `server_caps` gives the capability words of a channel, None if there is no such channel. `admit` is asked with channel
    and connection id after the ticket was found good; its answer is the link result.

    Returns:
        The link, or None if the client was turned down (it has been told so).

    Raises:
        ConnectionLost: The client went away.
    """
    reader = _Reader(stream, "link")
    try:
        try:
            mess = link.parse_link_mess(await reader.block(Side.CLIENT))
        except link.LinkFormatError as error:
            await stream.send_all(link.build_link_error(error.code))
            return None
        # Main is main under any id: reds_channel_find() falls back to the one main channel.
        key = ChannelKey(mess.channel_type, 0 if mess.channel_type == ChannelType.MAIN else mess.channel_id)
        reader.channel = key.name
        caps = server_caps(key)
        if caps is None:  # closed without a byte, as reds_send_link_ack() does
            return None
        common = common_caps(side=Side.SERVER, mini_header=mini_header)
        await stream.send_all(
            link.build_link_reply(LinkReplyMessage(LinkError.OK, ticket_key.public_der, common, tuple(caps)))
        )
        if has_capability(mess.common_caps, CommonCap.PROTOCOL_AUTH_SELECTION):
            asked = await reader.exactly(link.AuthMechanism.sizeof())
            if asked != _MECHANISM:
                await stream.send_all(link.build_link_error(LinkError.INVALID_DATA))
                return None
        ticket = await reader.exactly(link.TICKET_BYTES)
        good = ticket_key.opens(ticket, password)
        result = admit(key, mess.connection_id) if good else LinkError.PERMISSION_DENIED
        await stream.send_all(write(link.LinkResult, {"error": result}))
        if result != LinkError.OK:
            return None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionLost(f"{reader.channel}: the client closed during the link phase") from error
    mini = mini_header and has_capability(mess.common_caps, CommonCap.MINI_HEADER)
    wire = Wire(
        stream,
        key,
        side=Side.SERVER,
        mini_header=mini,
        peer_name=peer_name,
        observer=observer,
        rest=bytes(reader.rest),
    )
    return Linked(wire, mess.connection_id, mess.channel_caps)


def _error_name(code: int) -> str:
    try:
        return LinkError(code).name
    except ValueError:
        return f"error {code}"
