"""The link phase: the first bytes of every connection, before any data message.

Source: spice-protocol protocol.h, SpiceLinkHeader, SpiceLinkMess, SpiceLinkReply, SpiceLinkAuthMechanism,
SpiceLinkEncryptedTicket; bounds from spice-server reds.cpp (reds_handle_read_header_done, reds_handle_read_link_done)
and spice-gtk spice-channel.c (spice_channel_recv_link_hdr). SASL, which can stand in the ticket's
place, is in `dissectors.sasl`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from construct import Const

from dissectors.capabilities import MAX_WORDS
from dissectors.errors import DissectionError
from dissectors.fields import U8, U32, Data, FixedBytes, FixedItems, Record, read, write
from dissectors.side import Side

MAGIC: Final = b"REDQ"
MAJOR_VERSION: Final = 2
MINOR_VERSION: Final = 2  # ignored by both ends
PUB_KEY_BYTES: Final = 162  # DER SubjectPublicKeyInfo of an RSA key of 1024 bits
TICKET_BYTES: Final = 128  # RSA-OAEP with that key

LinkHeader: Final[Record] = Record(
    "magic" / Const(MAGIC),
    "major_version" / U32,
    "minor_version" / U32,
    "size" / U32 * "bytes that follow this header",
)
LinkMess: Final[Record] = Record(
    "connection_id" / U32 * "0 on the main link of a new session, then MAIN_INIT's session_id",
    "channel_type" / U8,
    "channel_id" / U8,
    "num_common_caps" / U32 * "words",
    "num_channel_caps" / U32 * "words",
    "caps_offset" / U32 * "from the first byte of this struct; 18 in practice",
)
LinkReply: Final[Record] = Record(
    "error" / U32 * "LinkError",
    "pub_key" / FixedBytes(PUB_KEY_BYTES),
    "num_common_caps" / U32 * "words",
    "num_channel_caps" / U32 * "words",
    "caps_offset" / U32 * "from the first byte of this struct; 178 in practice",
)
AuthMechanism: Final[Record] = Record("auth_mechanism" / U32 * "AuthMech")
Ticket: Final[Record] = Record(
    "encrypted_data" / FixedBytes(TICKET_BYTES) * "password and a NUL; never to be logged"
)
LinkResult: Final[Record] = Record("error" / U32 * "LinkError")

HEADER_BYTES: Final[int] = LinkHeader.sizeof()
_FIXED_BYTES: Final[dict[Side, int]] = {Side.CLIENT: LinkMess.sizeof(), Side.SERVER: LinkReply.sizeof()}
# spice-server takes up to 4096. The client has no bound; 178 bytes and two full lists of capability words
# are 8370, and this is the power of two above.
_MAX_SIZE: Final[dict[Side, int]] = {Side.CLIENT: 4096, Side.SERVER: 16384}


class LinkError(IntEnum):
    """SPICE_LINK_ERR_*: `error` of the link reply and of the link result."""

    OK = 0
    ERROR = 1
    INVALID_MAGIC = 2
    INVALID_DATA = 3
    VERSION_MISMATCH = 4
    NEED_SECURED = 5
    NEED_UNSECURED = 6
    PERMISSION_DENIED = 7
    BAD_CONNECTION_ID = 8
    CHANNEL_NOT_AVAILABLE = 9


class AuthMech(IntEnum):
    """`auth_mechanism`: the number of the common capability that announces it."""

    SPICE = 1
    SASL = 2


class LinkFormatError(DissectionError):
    """A link block that no peer would accept.

    Attributes:
        code: What spice-server answers to a client that sends this. (To a major version of 0 it says nothing.)
    """

    def __init__(self, reason: str, code: LinkError) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """What a client says first."""

    connection_id: int
    channel_type: int
    channel_id: int
    common_caps: tuple[int, ...] = ()
    channel_caps: tuple[int, ...] = ()
    minor_version: int = MINOR_VERSION


@dataclass(frozen=True, slots=True)
class LinkReplyMessage:
    """What the server answers. `error` is a LinkError where it has a name, else the number."""

    error: int
    pub_key: bytes
    common_caps: tuple[int, ...] = ()
    channel_caps: tuple[int, ...] = ()


def _looks_like(data: bytes) -> str:
    """Guess what speaks here instead of SPICE: the usual mistakes deserve their name."""
    if data[:1] == b"\x16" and data[1:2] == b"\x03":
        return "a TLS handshake"
    if data[:4] in {b"GET ", b"POST", b"HEAD", b"CONN"}:
        return "an HTTP or WebSocket request"
    if data[:4] == b"HTTP":
        return "an HTTP answer"
    if data[:4] == b"RFB ":
        return "VNC"
    if data[:4] == b"SSH-":
        return "SSH"
    return data[:4].hex(" ")


def link_block_size(header: Data, side: Side) -> int:
    """Tell from its header how long a link block is.

    Args:
        header: The first 16 bytes that `side` sent.
        side: Who sent them: a client's block has a LinkMess, a server's a LinkReply.

    Returns:
        Bytes of the whole block, these 16 included.

    Raises:
        LinkFormatError: Not SPICE, not protocol 2, or a size that neither end would accept.
        DissectionError: Fewer than 16 bytes.
    """
    head = bytes(header[:HEADER_BYTES])
    if not head.startswith(MAGIC) and len(head) >= len(MAGIC):
        raise LinkFormatError(
            f"not SPICE: starts with {_looks_like(head)}, not REDQ", LinkError.INVALID_MAGIC
        )
    fields, _ = read(LinkHeader, head)
    if fields["major_version"] != MAJOR_VERSION:
        version = f"{fields['major_version']}.{fields['minor_version']}"
        raise LinkFormatError(f"protocol version {version}, not {MAJOR_VERSION}", LinkError.VERSION_MISMATCH)
    least, most = _FIXED_BYTES[side], _MAX_SIZE[side]
    if not least <= fields["size"] <= most:
        raise LinkFormatError(
            f"link block of {fields['size']} bytes, not {least}..{most}", LinkError.INVALID_DATA
        )
    return HEADER_BYTES + int(fields["size"])


def _block(data: Data, side: Side) -> bytes:
    """Return a block without its header, once it is as long as the header says."""
    size = link_block_size(data, side)
    if len(data) != size:
        raise LinkFormatError(
            f"link block of {len(data)} bytes, but its header says {size}", LinkError.INVALID_DATA
        )
    return bytes(data[HEADER_BYTES:])


def _caps(block: bytes, *, common: int, channel: int, offset: int, least: int) -> tuple[tuple[int, ...], ...]:
    if not common and not channel:  # then the offset may be anything, as in spice-server
        return (), ()
    if max(common, channel) > MAX_WORDS:
        raise LinkFormatError(
            f"{common} and {channel} capability words, not 0..{MAX_WORDS}", LinkError.INVALID_DATA
        )
    if offset < least or offset + 4 * (common + channel) > len(block):
        raise LinkFormatError(
            f"caps_offset {offset} puts {common + channel} capability words outside {least}..{len(block)}",
            LinkError.INVALID_DATA,
        )
    words = struct.unpack_from(f"<{common + channel}I", block, offset)
    return words[:common], words[common:]


def parse_link_mess(data: Data) -> LinkMessage:
    """Read a client's link block, its 16-byte header included.

    Raises:
        LinkFormatError: As `link_block_size`, or not as long as it says, or capability words outside of it.
        DissectionError: Fewer than 16 bytes.
    """
    block = _block(data, Side.CLIENT)
    mess, end = read(LinkMess, block)
    common, channel = _caps(
        block,
        common=mess["num_common_caps"],
        channel=mess["num_channel_caps"],
        offset=mess["caps_offset"],
        least=end,
    )
    minor = read(LinkHeader, data)[0]["minor_version"]
    return LinkMessage(
        mess["connection_id"], mess["channel_type"], mess["channel_id"], common, channel, minor
    )


def parse_link_reply(data: Data) -> LinkReplyMessage:
    """Read a server's link block, its 16-byte header included.

    Raises:
        LinkFormatError: As `link_block_size`, or not as long as it says, or capability words outside of it.
        DissectionError: Fewer than 16 bytes.
    """
    block = _block(data, Side.SERVER)
    reply, end = read(LinkReply, block)
    common, channel = _caps(
        block,
        common=reply["num_common_caps"],
        channel=reply["num_channel_caps"],
        offset=reply["caps_offset"],
        least=end,
    )
    error = LinkError(reply["error"]) if reply["error"] in set(LinkError) else reply["error"]
    return LinkReplyMessage(error, reply["pub_key"], common, channel)


def _with_header(body: bytes, minor_version: int) -> bytes:
    header = {"major_version": MAJOR_VERSION, "minor_version": minor_version, "size": len(body)}
    return write(LinkHeader, header) + body


def _words(common: Sequence[int], channel: Sequence[int]) -> bytes:
    words = [*common, *channel]
    return write(FixedItems(len(words), U32), words)


def build_link_mess(message: LinkMessage) -> bytes:
    """Write a client's link block, header included, with the capability words right after the fixed part.

    Raises:
        DissectionError: A value does not fit its field.
    """
    fixed = {
        "connection_id": message.connection_id,
        "channel_type": message.channel_type,
        "channel_id": message.channel_id,
        "num_common_caps": len(message.common_caps),
        "num_channel_caps": len(message.channel_caps),
        "caps_offset": _FIXED_BYTES[Side.CLIENT],
    }
    words = _words(message.common_caps, message.channel_caps)
    return _with_header(write(LinkMess, fixed) + words, message.minor_version)


def build_link_reply(message: LinkReplyMessage) -> bytes:
    """Write a server's link block, header included, with the capability words right after the fixed part.

    Raises:
        DissectionError: A value does not fit its field.
    """
    fixed = {
        "error": message.error,
        "pub_key": message.pub_key,
        "num_common_caps": len(message.common_caps),
        "num_channel_caps": len(message.channel_caps),
        "caps_offset": _FIXED_BYTES[Side.SERVER],
    }
    words = _words(message.common_caps, message.channel_caps)
    return _with_header(write(LinkReply, fixed) + words, MINOR_VERSION)


def build_link_error(code: int) -> bytes:
    """Write the 194 bytes with which a server turns a link down: all zero but the code, offset included.

    Raises:
        DissectionError: The code does not fit 32 bits.
    """
    fixed = {
        "error": code,
        "pub_key": bytes(PUB_KEY_BYTES),
        "num_common_caps": 0,
        "num_channel_caps": 0,
        "caps_offset": 0,
    }
    return _with_header(write(LinkReply, fixed), MINOR_VERSION)
