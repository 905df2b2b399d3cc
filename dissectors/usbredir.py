"""The usbredir protocol, version 0.7: what rides in the stream of a usbredir channel.

Its host, which has the device, is the SPICE client; its guest is the emulated controller behind the server. A packet is
a header and `length` bytes. The id has 32 bits, or 64 once both ends have announced that in their hellos; three more
packets grow by fields that both announced. Both ends send nothing but the hello until they have the other's.
Little-endian, packed. Source: usbredir usbredirproto.h, docs/usb-redirection-protocol.md and usbredirparser.c.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.fields import (
    U8,
    U16,
    U32,
    U64,
    Choice,
    Data,
    FixedBytes,
    FixedItems,
    ItemsToEnd,
    OptionalBulkRest,
    Record,
    Rest,
)
from dissectors.message import Dissection, MessageSpec, table
from dissectors.usbredir_names import NO_CAPS, EndpointType, Speed, Status, UsbredirCap, UsbredirType

HEADER_SIZE_32: Final = 12  # the id has 32 bits
HEADER_SIZE_64: Final = 16
HELLO_SIZE: Final = 64  # without its capabilities
MAX_CAP_WORDS: Final = 32  # one is ever sent
# usbredirparser.c refuses a longer packet: MAX_BULK_TRANSFER_SIZE of 128 MiB, and 1 KiB for its headers.
MAX_PACKET: Final = 128 * 2**20 + 1024

# Not packets of their own, yet kept as specs: they have a name, a meaning and a layout that people look up.
HEADER_32: Final = MessageSpec(
    0,
    "usb_redir_header_32bit_id",
    "Stands before each hello, and before each packet unless both ends announced 64-bit ids.",
    Record(
        "type" / Choice(U32, UsbredirType),
        "length" / U32 * "bytes that follow",
        "id" / U32 * "chosen by the guest; an answer has its request's. 0 in what nobody asked for",
    ),
)
HEADER_64: Final = MessageSpec(
    0,
    "usb_redir_header",
    "Stands before each packet but the hello, once both ends announced 64-bit ids.",
    Record(
        "type" / Choice(U32, UsbredirType),
        "length" / U32 * "bytes that follow",
        "id" / U64 * "chosen by the guest; an answer has its request's. 0 in what nobody asked for",
    ),
)

_ENDPOINT: Final = "endpoint" / U8 * "bits 0 to 3 its number, bit 7 set: from the device"
_STATUS: Final = "status" / Choice(U8, Status)
_ANSWERED: Final = "status" / Choice(U8, Status) * "in what the host sends"
_LENGTH: Final = "length" / U16 * "bytes of data, or wanted"
_DATA: Final = "data" / OptionalBulkRest * "not in a request to read, nor in the answer to a write"
_STREAM_ID: Final = "stream_id" / U32 * "0 = the endpoint has no streams"
_ENDPOINTS: Final = "endpoints" / U32 * "bits as in ep_info: 0 to 15 out, 16 to 31 in"
_EMPTY: Final = Record()

# The arrays have a place for each of 16 endpoints out of the host, then for each of 16 into it.
_EP_INFO: Final = (
    "type" / FixedItems(32, Choice(U8, EndpointType)),
    "interval" / FixedItems(32, U8) * "bInterval of the descriptor",
    "interface" / FixedItems(32, U8) * "that the endpoint belongs to",
)
_MAX_PACKET_SIZE: Final = "max_packet_size" / FixedItems(32, U16) * "bytes"
_MAX_STREAMS: Final = "max_streams" / FixedItems(32, U32)
_DEVICE: Final = (
    "speed" / Choice(U8, Speed),
    "device_class" / U8 * "bDeviceClass",
    "device_subclass" / U8 * "bDeviceSubClass",
    "device_protocol" / U8 * "bDeviceProtocol",
    "vendor_id" / U16,
    "product_id" / U16,
)
_BULK: Final = (
    _ENDPOINT,
    _ANSWERED,
    "length" / U16 * "bytes of data, or wanted: the low 16 bits",
    _STREAM_ID,
)


def _packet(type_: int, name: str, meaning: str, schema: Record) -> MessageSpec:
    return MessageSpec(type_, f"usb_redir_{name}", meaning, schema)


_FIXED: Final = (
    _packet(
        0,
        "hello",
        "Both ways, first of all: who I am and what I can do.",
        Record(
            "version" / FixedBytes(HELLO_SIZE) * "text for the log, NULs behind it",
            "capabilities" / ItemsToEnd(U32, limit=MAX_CAP_WORDS) * "words of UsbredirCap bits",
        ),
    ),
    _packet(2, "device_disconnect", "Host to guest: the device is gone.", _EMPTY),
    _packet(3, "reset", "Guest to host: reset the device.", _EMPTY),
    _packet(
        4,
        "interface_info",
        "Host to guest: the interfaces of the device; comes after ep_info.",
        Record(
            "interface_count" / U32 * "at most 32; places of the arrays that are in use",
            "interface" / FixedItems(32, U8) * "bInterfaceNumber",
            "interface_class" / FixedItems(32, U8),
            "interface_subclass" / FixedItems(32, U8),
            "interface_protocol" / FixedItems(32, U8),
        ),
    ),
    _packet(
        6, "set_configuration", "Guest to host: choose this configuration.", Record("configuration" / U8)
    ),
    _packet(7, "get_configuration", "Guest to host: asks which configuration is chosen.", _EMPTY),
    _packet(
        8,
        "configuration_status",
        "Host to guest: answers set_configuration and get_configuration.",
        Record(_STATUS, "configuration" / U8),
    ),
    _packet(
        9,
        "set_alt_setting",
        "Guest to host: choose this setting of the interface.",
        Record("interface" / U8, "alt" / U8),
    ),
    _packet(
        10,
        "get_alt_setting",
        "Guest to host: asks which setting of the interface is chosen.",
        Record("interface" / U8),
    ),
    _packet(
        11,
        "alt_setting_status",
        "Host to guest: answers set_alt_setting and get_alt_setting.",
        Record(_STATUS, "interface" / U8, "alt" / U8),
    ),
    _packet(
        12,
        "start_iso_stream",
        "Guest to host: keep transfers going on this isochronous endpoint.",
        Record(_ENDPOINT, "pkts_per_urb" / U8, "no_urbs" / U8 * "transfers under way at once"),
    ),
    _packet(13, "stop_iso_stream", "Guest to host: end it.", Record(_ENDPOINT)),
    _packet(
        14,
        "iso_stream_status",
        "Host to guest: answers start_iso_stream and stop_iso_stream, or the stream broke down (stall).",
        Record(_STATUS, _ENDPOINT),
    ),
    _packet(
        15,
        "start_interrupt_receiving",
        "Guest to host: poll this interrupt endpoint and send what comes.",
        Record(_ENDPOINT),
    ),
    _packet(16, "stop_interrupt_receiving", "Guest to host: end it.", Record(_ENDPOINT)),
    _packet(
        17,
        "interrupt_receiving_status",
        "Host to guest: answers start_ and stop_interrupt_receiving, or the polling broke down (stall).",
        Record(_STATUS, _ENDPOINT),
    ),
    _packet(
        18,
        "alloc_bulk_streams",
        "Guest to host: make streams on these endpoints.",
        Record(_ENDPOINTS, "no_streams" / U32 * "for each endpoint"),
    ),
    _packet(
        19, "free_bulk_streams", "Guest to host: drop the streams of these endpoints.", Record(_ENDPOINTS)
    ),
    _packet(
        20,
        "bulk_streams_status",
        "Host to guest: answers alloc_bulk_streams and free_bulk_streams.",
        Record(_ENDPOINTS, "no_streams" / U32 * "for each endpoint", _STATUS),
    ),
    _packet(21, "cancel_data_packet", "Guest to host: cancel the data packet that has this id.", _EMPTY),
    _packet(22, "filter_reject", "Guest to host: a filter of the guest refuses the device.", _EMPTY),
    _packet(
        23,
        "filter_filter",
        "Both ways: devices that the sender's filter lets pass.",
        Record("rules" / Rest * "text class,vendor,product,version,allow|...; NUL at its end"),
    ),
    _packet(24, "device_disconnect_ack", "Guest to host: has seen device_disconnect.", _EMPTY),
    _packet(
        25,
        "start_bulk_receiving",
        "Guest to host: keep reading from this bulk endpoint and send what comes.",
        Record(
            _STREAM_ID,
            "bytes_per_transfer" / U32 * "a multiple of max_packet_size",
            _ENDPOINT,
            "no_transfers" / U8 * "under way at once",
        ),
    ),
    _packet(26, "stop_bulk_receiving", "Guest to host: end it.", Record(_STREAM_ID, _ENDPOINT)),
    _packet(
        27,
        "bulk_receiving_status",
        "Host to guest: answers start_ and stop_bulk_receiving, or the reading broke down (stall).",
        Record(_STREAM_ID, _ENDPOINT, _STATUS),
    ),
    _packet(
        100,
        "control_packet",
        "A control transfer: the guest asks, the host answers with the same id.",
        Record(
            _ENDPOINT,
            "request" / U8 * "bRequest",
            "requesttype" / U8 * "bmRequestType",
            _ANSWERED,
            "value" / U16 * "wValue",
            "index" / U16 * "wIndex",
            _LENGTH,
            _DATA,
        ),
    ),
    _packet(
        102,
        "iso_packet",
        "One isochronous packet, to the device or from it.",
        Record(_ENDPOINT, _ANSWERED, _LENGTH, _DATA),
    ),
    _packet(
        103,
        "interrupt_packet",
        "One interrupt transfer, to the device (answered without data) or from it.",
        Record(_ENDPOINT, _ANSWERED, _LENGTH, _DATA),
    ),
    _packet(
        104,
        "buffered_bulk_packet",
        "Host to guest: what start_bulk_receiving brought in.",
        Record(_STREAM_ID, "length" / U32 * "bytes of data", _ENDPOINT, _STATUS, _DATA),
    ),
)


_CONNECT_MEANING: Final = "Host to guest: here is the device; comes after ep_info and interface_info."
_EP_INFO_MEANING: Final = "Host to guest: the endpoints of the device."
_BULK_MEANING: Final = "A bulk transfer: the guest asks, the host answers with the same id."

# Packets that grew: the layouts of each, with what both ends must have announced for it; the first that fits holds.
USBREDIR_VARIANTS: Final[Mapping[int, Sequence[tuple[UsbredirCap, MessageSpec]]]] = {
    UsbredirType.DEVICE_CONNECT: (
        (
            UsbredirCap.CONNECT_DEVICE_VERSION,
            _packet(
                1,
                "device_connect",
                _CONNECT_MEANING,
                Record(*_DEVICE, "device_version_bcd" / U16 * "bcdDevice"),
            ),
        ),
        (NO_CAPS, _packet(1, "device_connect", _CONNECT_MEANING, Record(*_DEVICE))),
    ),
    UsbredirType.EP_INFO: (
        (
            UsbredirCap.BULK_STREAMS | UsbredirCap.EP_INFO_MAX_PACKET_SIZE,
            _packet(5, "ep_info", _EP_INFO_MEANING, Record(*_EP_INFO, _MAX_PACKET_SIZE, _MAX_STREAMS)),
        ),
        (
            UsbredirCap.EP_INFO_MAX_PACKET_SIZE,
            _packet(5, "ep_info", _EP_INFO_MEANING, Record(*_EP_INFO, _MAX_PACKET_SIZE)),
        ),
        (NO_CAPS, _packet(5, "ep_info", _EP_INFO_MEANING, Record(*_EP_INFO))),
    ),
    UsbredirType.BULK_PACKET: (
        (
            UsbredirCap.BULK_LENGTH_32BITS,
            _packet(
                101,
                "bulk_packet",
                _BULK_MEANING,
                Record(*_BULK, "length_high" / U16 * "bits 16 to 31 of length", _DATA),
            ),
        ),
        (NO_CAPS, _packet(101, "bulk_packet", _BULK_MEANING, Record(*_BULK, _DATA))),
    ),
}
# As ends of today send them: everything announced.
USBREDIR_PACKETS: Final = table(
    *sorted(
        (*_FIXED, *(layouts[0][1] for layouts in USBREDIR_VARIANTS.values())), key=lambda packet: packet.id
    )
)


def usbredir_layout(type_: int, *, caps: int) -> MessageSpec | None:
    """Return the layout of a packet behind its header; None for a type that is not known.

    Args:
        type_: `type` of its header.
        caps: UsbredirCap bits that both ends announced.
    """
    for needed, packet in USBREDIR_VARIANTS.get(type_, ()):
        if not needed & ~caps:
            return packet
    return USBREDIR_PACKETS.get(type_)


def common_caps(ours: Sequence[int], theirs: Sequence[int]) -> UsbredirCap:
    """Return what two hellos have in common; bits without a name are left out.

    Source: usbredirparser.c, usbredirparser_verify_caps(): BULK_STREAMS counts only with EP_INFO_MAX_PACKET_SIZE.

    Args:
        ours: Capability words of one hello.
        theirs: Of the other.
    """
    return _verified(ours) & _verified(theirs)


def _verified(words: Sequence[int]) -> UsbredirCap:
    caps = UsbredirCap((words[0] if words else 0) & _NAMED)
    return caps if caps & UsbredirCap.EP_INFO_MAX_PACKET_SIZE else caps & ~UsbredirCap.BULK_STREAMS


_NAMED: Final = sum(UsbredirCap)


def dissect_usbredir(type_: int, body: Data, *, caps: int) -> Dissection:
    """Name a usbredir packet and take it apart.

    Args:
        type_: `type` of its header.
        body: All bytes behind the header.
        caps: UsbredirCap bits that both ends announced.

    Returns:
        "unknown_99" with {"raw": body} for a type that is not known.

    Raises:
        DissectionError: The body does not fit the type.
    """
    spec = usbredir_layout(type_, caps=caps)
    return Dissection(f"unknown_{type_}", {"raw": bytes(body)}) if spec is None else spec.dissect(body)


def build_usbredir(type_: int, fields: Mapping[str, Any], *, caps: int, trailing: bytes = b"") -> bytes:
    """Put the body of a usbredir packet together: the reverse of `dissect_usbredir`, without the header.

    Raises:
        DissectionError: The fields do not fit the type.
    """
    spec = usbredir_layout(type_, caps=caps)
    if spec is not None:
        return spec.build(fields, trailing)
    if set(fields) != {"raw"} or not isinstance(fields["raw"], bytes | bytearray | memoryview):
        raise DissectionError(f"unknown_{type_}: wants the field 'raw' with its body, and nothing else")
    return bytes(fields["raw"]) + trailing
