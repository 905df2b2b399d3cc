"""Which server a message sends the client to: MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS, MIGRATE_SWITCH_HOST.

Source: spice.proto, DstInfo and migrate_switch_host; QEMU passes a port that it does not have as -1, seen as 0xFFFF
(ui/spice-core.c, migrate_connect_spice()), and 0 means none as well.
"""

from dataclasses import dataclass
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.destination import host_name
from dissectors.errors import DissectionError
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.protocol.framer import Message

NO_PORT: Final = (0, 0xFFFF)


@dataclass(frozen=True, slots=True)
class Announcement:
    """The server that a message names."""

    name: str
    host: str
    port: int | None  # None if there is no plain port
    sport: int | None  # None if there is no TLS port
    subject: str | None  # that its certificate has to have; None: it has to be of the host
    fields: dict[str, Any]  # all of the message
    told: dict[str, Any]  # host, port, sport as the client would have read them

    def destination(self, port: int) -> Address:
        """The address of one of its ports."""
        return Address(self.host, port)


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
    subject = host_name(fields["cert_subject_data"]) or None
    return Announcement(dissection.name, host, port, sport, subject, dissection.fields, told)
