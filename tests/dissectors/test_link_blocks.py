"""The first bytes of a connection, from both sides."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors import link
from dissectors.errors import DissectionError
from dissectors.fields import read, write
from dissectors.link import (
    LinkError,
    LinkFormatError,
    LinkMessage,
    LinkReplyMessage,
    build_link_error,
    build_link_mess,
    build_link_reply,
    link_block_size,
    parse_link_mess,
    parse_link_reply,
)
from dissectors.side import Side
from tests.dissectors.bodies import unhurried

# spice-gtk 0.42 to spice-server 0.15.1: the main channel of a new session, and its webdav channel without own words.
MAIN_MESS = bytes.fromhex(
    "52454451 02000000 02000000 1a000000 00000000 01 00 01000000 01000000 12000000 0d000000 0f000000"
)
WEBDAV_MESS = bytes.fromhex(
    "52454451 02000000 02000000 16000000 d1177d5a 0b 00 01000000 00000000 12000000 0d000000"
)
PUB_KEY = bytes.fromhex(
    "30819f300d06092a864886f70d010101050003818d0030818902818100a98c67fe33d677e7d4095c4c0e713c2c6c84c5369082e9c304b22333"
    "420a37807ab160883298ec5968391bccaf1dd1465d1e2409dfccc1ebd30ac556bd5d3094e03ed4028c306341aadbb98d722a28112bcdd48c67"
    "0212e400c421fe4e32315127882b13c3cce393b3dc266a8ccca2b02d40863fda522be0f8bfe1d969fe04170203010001"
)
CURSOR_REPLY = (
    bytes.fromhex("52454451 02000000 02000000 b6000000 00000000")
    + PUB_KEY
    + bytes.fromhex("01000000 00000000 b2000000 0b000000")
)

WORDS = st.lists(st.integers(0, 2**32 - 1), max_size=9).map(tuple)
U32 = st.integers(0, 2**32 - 1)
U8 = st.integers(0, 255)


def mess(common: int, channel: int, offset: int, words: bytes) -> bytes:
    body = struct.pack("<IBBIII", 7, 2, 0, common, channel, offset) + words
    return struct.pack("<4sIII", b"REDQ", 2, 2, len(body)) + body


def reply(common: int, channel: int, offset: int, words: bytes) -> bytes:
    body = struct.pack("<I162sIII", 0, b"", common, channel, offset) + words
    return struct.pack("<4sIII", b"REDQ", 2, 2, len(body)) + body


def header(size: int, *, magic: bytes = b"REDQ", major: int = 2, minor: int = 2) -> bytes:
    return struct.pack("<4sIII", magic, major, minor, size)


def test_a_recorded_client_block_says_what_the_client_wants() -> None:
    assert parse_link_mess(MAIN_MESS) == LinkMessage(0, 1, 0, (0x0D,), (0x0F,), 2)
    assert parse_link_mess(WEBDAV_MESS) == LinkMessage(0x5A7D17D1, 11, 0, (0x0D,), (), 2)
    for block in (MAIN_MESS, WEBDAV_MESS):
        assert build_link_mess(parse_link_mess(block)) == block
        assert link_block_size(block[:16], Side.CLIENT) == len(block)


def test_a_recorded_server_block_says_what_the_server_answers() -> None:
    assert parse_link_reply(CURSOR_REPLY) == LinkReplyMessage(LinkError.OK, PUB_KEY, (0x0B,), ())
    assert build_link_reply(parse_link_reply(CURSOR_REPLY)) == CURSOR_REPLY
    assert link_block_size(CURSOR_REPLY[:16], Side.SERVER) == len(CURSOR_REPLY)


@unhurried
@given(U32, U8, U8, WORDS, WORDS, U32)
def test_a_client_block_reads_as_it_was_built(
    connection_id: int,
    channel_type: int,
    channel_id: int,
    common: tuple[int, ...],
    own: tuple[int, ...],
    minor: int,
) -> None:
    message = LinkMessage(connection_id, channel_type, channel_id, common, own, minor)
    block = build_link_mess(message)
    assert parse_link_mess(block) == message
    assert link_block_size(block[:16], Side.CLIENT) == len(block)


@unhurried
@given(U32, st.binary(min_size=162, max_size=162), WORDS, WORDS)
def test_a_server_block_reads_as_it_was_built(
    error: int, pub_key: bytes, common: tuple[int, ...], own: tuple[int, ...]
) -> None:
    message = LinkReplyMessage(error, pub_key, common, own)
    block = build_link_reply(message)
    assert parse_link_reply(block) == message
    assert link_block_size(block[:16], Side.SERVER) == len(block)


@pytest.mark.parametrize("code", [*LinkError, 77])
def test_a_link_error_is_194_bytes_of_nothing_but_the_code(code: int) -> None:
    block = build_link_error(code)
    assert block == header(178) + struct.pack("<I", code) + bytes(174)
    assert len(block) == 194
    found = parse_link_reply(block)
    assert found == LinkReplyMessage(code, bytes(162), (), ())
    assert isinstance(found.error, LinkError) == (code != 77)


def test_the_numbers_of_link_errors_and_mechanisms_are_the_protocols() -> None:
    names = (
        "OK ERROR INVALID_MAGIC INVALID_DATA VERSION_MISMATCH NEED_SECURED NEED_UNSECURED PERMISSION_DENIED "
        "BAD_CONNECTION_ID CHANNEL_NOT_AVAILABLE"
    )
    assert [(each.name, each.value) for each in LinkError] == [
        (name, i) for i, name in enumerate(names.split())
    ]
    assert [(each.name, each.value) for each in link.AuthMech] == [("SPICE", 1), ("SASL", 2)]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x16\x03\x01\x02", "a TLS handshake"),
        (b"GET / HTTP/1.1\r\n", "an HTTP or WebSocket request"),
        (b"HTTP/1.1 400 Bad", "an HTTP answer"),
        (b"RFB 003.008\n", "VNC"),
        (b"SSH-2.0-OpenSSH_", "SSH"),
        (b"QDER" + bytes(12), "51 44 45 52"),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_what_is_not_spice_is_called_by_its_name(start: bytes, what: str, side: Side) -> None:
    with pytest.raises(LinkFormatError, match=f"not SPICE: starts with {what}") as caught:
        link_block_size(start, side)
    assert caught.value.code is LinkError.INVALID_MAGIC


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("major", [0, 1, 3, 2**32 - 1])
def test_another_protocol_version_is_an_error(side: Side, major: int) -> None:
    with pytest.raises(LinkFormatError, match=f"protocol version {major}.9, not 2") as caught:
        link_block_size(header(200, major=major, minor=9), side)
    assert caught.value.code is LinkError.VERSION_MISMATCH


@pytest.mark.parametrize("minor", [0, 99, 2**32 - 1])
def test_any_minor_version_is_taken(minor: int) -> None:
    assert link_block_size(header(178, minor=minor), Side.SERVER) == 194


@pytest.mark.parametrize(("side", "least", "most"), [(Side.CLIENT, 18, 4096), (Side.SERVER, 178, 16384)])
def test_a_block_has_a_size_that_both_ends_can_live_with(side: Side, least: int, most: int) -> None:
    for size in (least, most):
        assert link_block_size(header(size), side) == 16 + size
    for size in (0, least - 1, most + 1, 2**32 - 1):
        with pytest.raises(
            LinkFormatError, match=f"link block of {size} bytes, not {least}..{most}"
        ) as caught:
            link_block_size(header(size), side)
        assert caught.value.code is LinkError.INVALID_DATA


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("size", range(16))
def test_part_of_a_header_is_an_error(side: Side, size: int) -> None:
    with pytest.raises(DissectionError, match="stream read less"):
        link_block_size(header(200)[:size], side)


@pytest.mark.parametrize("size", range(16, len(MAIN_MESS)))
def test_a_client_block_cut_short_is_an_error(size: int) -> None:
    with pytest.raises(LinkFormatError, match="its header says 42") as caught:
        parse_link_mess(MAIN_MESS[:size])
    assert caught.value.code is LinkError.INVALID_DATA


@pytest.mark.parametrize("size", range(16, len(CURSOR_REPLY)))
def test_a_server_block_cut_short_is_an_error(size: int) -> None:
    with pytest.raises(LinkFormatError, match="its header says 198"):
        parse_link_reply(CURSOR_REPLY[:size])


def test_bytes_after_a_block_are_an_error() -> None:
    with pytest.raises(LinkFormatError, match="of 43 bytes, but its header says 42"):
        parse_link_mess(MAIN_MESS + b"\0")


@pytest.mark.parametrize(
    ("build", "parse", "fixed"), [(mess, parse_link_mess, 18), (reply, parse_link_reply, 178)]
)
def test_capability_words_lie_inside_the_block(build: object, parse: object, fixed: int) -> None:
    assert callable(build)
    assert callable(parse)
    two = struct.pack("<II", 5, 6)
    found = parse(build(1, 1, fixed, two))
    assert (found.common_caps, found.channel_caps) == ((5,), (6,))
    found = parse(build(1, 1, fixed + 3, b"gap" + two + b"more"))
    assert (found.common_caps, found.channel_caps) == ((5,), (6,))
    for common, channel, offset in [
        (1, 1, fixed + 1),
        (1, 1, fixed - 1),
        (1, 1, 0),
        (3, 0, fixed),
        (0, 3, fixed),
        (1, 0, 2**32 - 1),
    ]:
        with pytest.raises(LinkFormatError, match=f"caps_offset {offset} puts {common + channel}") as caught:
            parse(build(common, channel, offset, two))
        assert caught.value.code is LinkError.INVALID_DATA


@pytest.mark.parametrize(("common", "channel"), [(1025, 0), (0, 1025), (2**32 - 1, 2**32 - 1)])
def test_more_words_than_a_server_takes_are_an_error(common: int, channel: int) -> None:
    with pytest.raises(LinkFormatError, match=f"{common} and {channel} capability words") as caught:
        parse_link_mess(mess(common, channel, 18, bytes(4000)))
    assert caught.value.code is LinkError.INVALID_DATA


def test_without_words_the_offset_means_nothing() -> None:
    assert parse_link_mess(mess(0, 0, 2**32 - 1, b"")).common_caps == ()


@unhurried
@given(st.binary(max_size=60))
def test_any_bytes_after_the_header_are_a_link_message_or_an_error_of_ours(body: bytes) -> None:
    try:
        found = parse_link_mess(header(len(body)) + body)
    except DissectionError:
        return
    assert found.common_caps + found.channel_caps == parse_link_mess(build_link_mess(found)).common_caps + (
        found.channel_caps
    )


@pytest.mark.parametrize(
    "message",
    [
        LinkMessage(2**32, 1, 0),
        LinkMessage(0, 256, 0),
        LinkMessage(0, 1, -1),
        LinkMessage(0, 1, 0, (2**32,)),
        LinkMessage(0, 1, 0, (), (), -1),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_an_error(message: LinkMessage) -> None:
    with pytest.raises(DissectionError):
        build_link_mess(message)


def test_a_key_of_another_length_is_an_error() -> None:
    with pytest.raises(DissectionError, match="pub_key"):
        build_link_reply(LinkReplyMessage(0, bytes(161)))


def test_mechanism_ticket_and_result_are_what_the_wire_has() -> None:
    assert read(link.AuthMechanism, bytes.fromhex("02000000"))[0] == {"auth_mechanism": link.AuthMech.SASL}
    assert read(link.LinkResult, bytes.fromhex("07000000"))[0]["error"] == LinkError.PERMISSION_DENIED
    ticket, size = read(link.Ticket, bytes(range(128)) + b"next")
    assert (ticket["encrypted_data"], size) == (bytes(range(128)), 128)
    assert write(link.Ticket, {"encrypted_data": ticket["encrypted_data"]}) == bytes(range(128))
    for schema, size in [(link.AuthMechanism, 4), (link.LinkResult, 4), (link.Ticket, 128)]:
        for cut in range(size):
            with pytest.raises(DissectionError):
                read(schema, bytes(cut))
