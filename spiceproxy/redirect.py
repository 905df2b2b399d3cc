"""Keep a session on the proxy: rewrite the messages that tell a client where the next server is.

Only the host, the usable ports and, where TLS ends here, the subject change.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dissectors.destination import rewrite_destination
from dissectors.errors import DissectionError
from spiceproxy.destinations import Way
from spiceproxy.errors import UsageError
from spiceproxy.protocol.announcement import Announcement, NotRedirectedError
from spiceproxy.protocol.framer import MAX_HEADER_BYTES, Message


@dataclass(frozen=True, slots=True)
class Redirected:
    """What goes out in the place of the message."""

    data: bytes  # header and body
    after: dict[str, Any]  # host, port, sport as the client reads them


def ways_to(announcement: Announcement, offered: Mapping[bool, bool], *, unread: bool) -> dict[bool, Way]:
    """Say by which ways clients reach the server that a message names, those with TLS and those without.

    A client finds what it found at the first server: in clear and with TLS, as far as both are offered there and the next
    server has both. If that leaves no way, the kinds of the two sides differ.

    Args:
        announcement: The server.
        offered: How clients can come to the proxy, with TLS or not, and whether that leads to TLS of the first server.
        unread: TLS leads through as it is.
    """
    ports = {False: announcement.port, True: announcement.sport}

    def way(tls: bool, server_tls: bool) -> dict[bool, Way]:
        port = ports[server_tls]
        if port is None:
            return {}
        subject = announcement.subject if server_tls else None
        return {tls: Way(announcement.destination(port), tls, server_tls, subject)}

    ways: dict[bool, Way] = {}
    for tls, server_tls in offered.items():
        ways |= way(tls, server_tls)
    if unread and announcement.sport is not None:
        ways[True] = Way(announcement.destination(announcement.sport), unread=True)
    if not ways:
        for tls, server_tls in offered.items():
            ways |= way(tls, not server_tls)
    return ways


def redirect(
    message: Message,
    announcement: Announcement,
    *,
    host: str,
    ways: Mapping[bool, Way],
    listen: Callable[[Way], int],
    subject: str | None = None,
) -> Redirected:
    """Rewrite the message so that the client comes to `host`, to ports that `listen` opens.

    Args:
        message: The message as received.
        announcement: What it names.
        host: The address the client is sent to.
        ways: To the server, in clear and with TLS.
        listen: Given a way, returns the port that leads there.
        subject: What the client finds as the subject of our certificate, if that is not the server's.

    Raises:
        NotRedirectedError: No port could be opened, or the body leaves no room for the change.
    """
    try:
        port, sport = (
            listen(ways[tls]) if tls in ways else None if named is None else 0
            for tls, named in ((False, announcement.port), (True, announcement.sport))
        )
        body = rewrite_destination(
            message.id,
            message.body,
            host=host,
            port=port,
            sport=sport,
            cert_subject=subject,
            allow_shift=not message.sub_list,  # offsets of sub-messages count from the body's start
        )
    except (UsageError, DissectionError) as error:
        raise NotRedirectedError(str(error)) from error
    told = announcement.told
    after = {
        "host": host,
        "port": told["port"] if port is None else port,
        "sport": told["sport"] if sport is None else sport,
    }
    return Redirected(resized_header(message, len(body)) + body, after)


def resized_header(message: Message, size: int) -> bytes:
    """The header of `message` for a body of another size; serial and sub-list stay."""
    offset = 10 if len(message.header) == MAX_HEADER_BYTES else 2
    return message.header[:offset] + struct.pack("<I", size) + message.header[offset + 4 :]
