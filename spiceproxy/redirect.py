"""Keep a session on the proxy: rewrite the messages that tell a client where the next server is.

Only the host and the usable ports change. Source: spice.proto, DstInfo and migrate_switch_host; QEMU passes a port
that it does not have as -1, seen as 0xFFFF (ui/spice-core.c, migrate_connect_spice()), and 0 means none as well.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.destination import host_name, rewrite_destination
from dissectors.errors import DissectionError
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.protocol.framer import MAX_HEADER_BYTES, Message

NO_PORT: Final = (0, 0xFFFF)


@dataclass(frozen=True, slots=True)
class Announcement:
    """The server that a message names."""

    name: str
    host: str
    port: int | None  # None if there is no plain port
    sport: int | None  # None if there is no TLS port
    fields: dict[str, Any]  # all of the message
    told: dict[str, Any]  # host, port, sport as the client would have read them

    def destination(self, port: int) -> Address:
        """The address of one of its ports."""
        return Address(self.host, port)


@dataclass(frozen=True, slots=True)
class Redirected:
    """What goes out in the place of the message."""

    data: bytes  # header and body
    after: dict[str, Any]  # host, port, sport as the client reads them


class NotRedirectedError(Exception):
    """The message goes out as it is; the text says why."""


def read_announcement(message: Message) -> Announcement:
    """Say which server the message names.

    Raises:
        NotRedirectedError: It names none that could be dialled.
    """
    if not message.whole:
        raise NotRedirectedError(f"its body has {message.size} bytes")
    try:
        dissection = dissect(ChannelType.MAIN, Side.SERVER, message.id, message.body)
    except DissectionError as error:
        raise NotRedirectedError(str(error)) from error
    fields = dissection.fields.get("dst_info", dissection.fields)  # SWITCH_HOST has them without the struct
    host = host_name(fields["host_data"])
    told = {"host": host, "port": fields["port"], "sport": fields["sport"]}
    port, sport = (None if told[key] in NO_PORT else told[key] for key in ("port", "sport"))
    if not host:
        raise NotRedirectedError("it names no host")
    if port is None and sport is None:
        raise NotRedirectedError("it names no port")
    return Announcement(dissection.name, host, port, sport, dissection.fields, told)


def redirect(
    message: Message,
    announcement: Announcement,
    *,
    host: str,
    listen: Callable[[Address, bool], int],
) -> Redirected:
    """Rewrite the message so that the client comes to `host`, to ports that `listen` opens.

    Args:
        message: The message as received.
        announcement: What it names.
        host: The address the client is sent to.
        listen: Given a destination and whether its bytes are TLS, returns the port that leads there.

    Raises:
        NotRedirectedError: No port could be opened, or the body leaves no room for the change.
    """
    try:
        port = (
            None if announcement.port is None else listen(announcement.destination(announcement.port), False)
        )
        sport = (
            None if announcement.sport is None else listen(announcement.destination(announcement.sport), True)
        )
        body = rewrite_destination(
            message.id,
            message.body,
            host=host,
            port=port,
            sport=sport,
            allow_shift=not message.sub_list,  # offsets of sub-messages count from the body's start
        )
    except (UsageError, DissectionError) as error:
        raise NotRedirectedError(str(error)) from error
    told = announcement.told
    after = {"host": host, "port": port or told["port"], "sport": sport or told["sport"]}
    return Redirected(resized_header(message, len(body)) + body, after)


def resized_header(message: Message, size: int) -> bytes:
    """The header of `message` for a body of another size; serial and sub-list stay."""
    offset = 10 if len(message.header) == MAX_HEADER_BYTES else 2
    return message.header[:offset] + struct.pack("<I", size) + message.header[offset + 4 :]
