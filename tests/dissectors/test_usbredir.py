"""USB packets, packed by hand after usbredirproto.h; the hello is QEMU 7.2's own."""

from typing import Any

import pytest

from dissectors.errors import DissectionError
from dissectors.usbredir import (
    HEADER_32,
    HEADER_64,
    HEADER_SIZE_32,
    HEADER_SIZE_64,
    USBREDIR_PACKETS,
    build_usbredir,
    common_caps,
    dissect_usbredir,
)
from dissectors.usbredir_names import NO_CAPS, EndpointType, Speed, Status, UsbredirCap, UsbredirType

ALL = UsbredirCap(255)
QEMU_HELLO = b"qemu usb-redir guest 7.2.22".ljust(64, b"\0") + b"\xff\0\0\0"
ENDPOINTS = {"type": [0] * 31 + [255], "interval": [1] * 32, "interface": [2] * 32}
EP_BYTES = "00" * 31 + "ff" + "01" * 32 + "02" * 32
SIZES, STREAMS = {"max_packet_size": [512] * 32}, {"max_streams": [3] * 32}

ROWS: list[tuple[UsbredirCap, int, str, dict[str, Any]]] = [
    (ALL, 0, QEMU_HELLO.hex(), {"version": QEMU_HELLO[:64], "capabilities": [255]}),
    (
        ALL,
        1,
        "02 08 06 50 ac05 0120 0312",
        {
            "speed": Speed.HIGH,
            "device_class": 8,
            "device_subclass": 6,
            "device_protocol": 0x50,
            "vendor_id": 0x05AC,
            "product_id": 0x2001,
            "device_version_bcd": 0x1203,
        },
    ),
    (
        NO_CAPS,
        1,
        "ff 08 06 50 ac05 0120",
        {
            "speed": Speed.UNKNOWN,
            "device_class": 8,
            "device_subclass": 6,
            "device_protocol": 0x50,
            "vendor_id": 0x05AC,
            "product_id": 0x2001,
        },
    ),
    *[(ALL, type_, "", {}) for type_ in (2, 3, 7, 21, 22, 24)],
    (
        ALL,
        4,
        "01000000" + "01" * 32 + "02" * 32 + "03" * 32 + "04" * 32,
        {
            "interface_count": 1,
            "interface": [1] * 32,
            "interface_class": [2] * 32,
            "interface_subclass": [3] * 32,
            "interface_protocol": [4] * 32,
        },
    ),
    (NO_CAPS, 5, EP_BYTES, ENDPOINTS),
    (UsbredirCap.EP_INFO_MAX_PACKET_SIZE, 5, EP_BYTES + "0002" * 32, ENDPOINTS | SIZES),
    (ALL, 5, EP_BYTES + "0002" * 32 + "03000000" * 32, ENDPOINTS | SIZES | STREAMS),
    (ALL, 6, "02", {"configuration": 2}),
    (ALL, 8, "00 02", {"status": Status.SUCCESS, "configuration": 2}),
    (ALL, 9, "01 03", {"interface": 1, "alt": 3}),
    (ALL, 10, "01", {"interface": 1}),
    (ALL, 11, "04 01 03", {"status": Status.STALL, "interface": 1, "alt": 3}),
    (ALL, 12, "81 08 04", {"endpoint": 0x81, "pkts_per_urb": 8, "no_urbs": 4}),
    (ALL, 13, "81", {"endpoint": 0x81}),
    (ALL, 14, "63 81", {"status": 99, "endpoint": 0x81}),
    (ALL, 15, "82", {"endpoint": 0x82}),
    (ALL, 16, "82", {"endpoint": 0x82}),
    (ALL, 17, "06 82", {"status": Status.BABBLE, "endpoint": 0x82}),
    (ALL, 18, "02000200 10000000", {"endpoints": 0x20002, "no_streams": 16}),
    (ALL, 19, "02000200", {"endpoints": 0x20002}),
    (ALL, 20, "02000200 10000000 03", {"endpoints": 0x20002, "no_streams": 16, "status": Status.IOERROR}),
    (ALL, 23, b"-1,-1,-1,-1,1\0".hex(), {"rules": b"-1,-1,-1,-1,1\0"}),
    (
        ALL,
        25,
        "00000000 00020000 83 02",
        {"stream_id": 0, "bytes_per_transfer": 512, "endpoint": 0x83, "no_transfers": 2},
    ),
    (ALL, 26, "00000000 83", {"stream_id": 0, "endpoint": 0x83}),
    (ALL, 27, "00000000 83 01", {"stream_id": 0, "endpoint": 0x83, "status": Status.CANCELLED}),
    (
        ALL,
        100,
        "80 06 80 00 0001 0000 1200 1201",
        {
            "endpoint": 0x80,
            "request": 6,
            "requesttype": 0x80,
            "status": 0,
            "value": 256,
            "index": 0,
            "length": 18,
            "data": b"\x12\x01",
        },
    ),
    (
        ALL,
        101,
        "02 00 0000 07000000 0100 aa",
        {"endpoint": 2, "status": 0, "length": 0, "stream_id": 7, "length_high": 1, "data": b"\xaa"},
    ),
    (
        NO_CAPS,
        101,
        "02 00 0100 07000000 aa",
        {"endpoint": 2, "status": 0, "length": 1, "stream_id": 7, "data": b"\xaa"},
    ),
    (ALL, 102, "81 00 0200 abcd", {"endpoint": 0x81, "status": 0, "length": 2, "data": b"\xab\xcd"}),
    (ALL, 103, "81 00 0000", {"endpoint": 0x81, "status": 0, "length": 0, "data": b""}),
    (
        ALL,
        104,
        "00000000 02000000 83 00 abcd",
        {"stream_id": 0, "length": 2, "endpoint": 0x83, "status": 0, "data": b"\xab\xcd"},
    ),
]


@pytest.mark.parametrize(("caps", "type_", "body", "fields"), ROWS)
def test_a_packet_reads_as_what_it_says_and_builds_back(
    caps: UsbredirCap, type_: int, body: str, fields: dict[str, Any]
) -> None:
    raw = bytes.fromhex(body)
    found = dissect_usbredir(type_, raw, caps=caps)
    assert found.name == f"usb_redir_{UsbredirType(type_).name.lower()}"
    assert (found.fields, found.trailing) == (fields, b"")
    assert build_usbredir(type_, found.fields, caps=caps) == raw


def test_every_packet_type_is_there() -> None:
    assert set(USBREDIR_PACKETS) == set(UsbredirType) == {row[1] for row in ROWS}


def test_a_place_without_an_endpoint_is_invalid() -> None:
    types = dissect_usbredir(5, bytes.fromhex(EP_BYTES), caps=NO_CAPS).fields["type"]
    assert types[31] is EndpointType.INVALID


@pytest.mark.parametrize(
    ("server", "client", "both"),
    [
        ([255], [255], ALL),
        ([255], [], NO_CAPS),
        ([0b100000], [0b110000], UsbredirCap.IDS_64BITS),
        ([0xFFFFFF00], [0xFFFFFF00], NO_CAPS),
        ([255, 1], [255, 1], ALL),
        # Streams need the size of a packet on both sides, else usbredirparser leaves them out.
        ([0b00001], [0b10001], NO_CAPS),
        ([0b10001], [0b10001], UsbredirCap.BULK_STREAMS | UsbredirCap.EP_INFO_MAX_PACKET_SIZE),
    ],
)
def test_what_counts_is_what_both_hellos_say(server: list[int], client: list[int], both: UsbredirCap) -> None:
    assert common_caps(server, client) == both
    assert common_caps(client, server) == both


def test_an_id_has_64_bits_in_the_wide_header_alone() -> None:
    wide = bytes.fromhex("65000000 0a000000 0100000002000000")
    assert HEADER_64.dissect(wide).fields == {
        "type": UsbredirType.BULK_PACKET,
        "length": 10,
        "id": 0x200000001,
    }
    assert HEADER_32.dissect(wide).fields == {"type": 101, "length": 10, "id": 1}
    assert (HEADER_32.schema.sizeof(), HEADER_64.schema.sizeof()) == (HEADER_SIZE_32, HEADER_SIZE_64)


def test_an_unknown_type_keeps_its_bytes() -> None:
    found = dissect_usbredir(77, b"abc", caps=ALL)
    assert (found.name, found.fields) == ("unknown_77", {"raw": b"abc"})
    assert build_usbredir(77, found.fields, caps=ALL) == b"abc"
    with pytest.raises(DissectionError, match="unknown_77"):
        build_usbredir(77, {}, caps=ALL)


def test_a_layout_that_was_not_announced_does_not_fit() -> None:
    narrow = bytes.fromhex("02 08 06 50 ac05 0120")
    with pytest.raises(DissectionError, match="usb_redir_device_connect: device_version_bcd"):
        dissect_usbredir(1, narrow, caps=ALL)
    assert dissect_usbredir(1, narrow + b"\1\2", caps=NO_CAPS).trailing == b"\1\2"
