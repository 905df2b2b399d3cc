"""Fillers, stand-ins, the store, image headers and LZ4 blocks, each by itself."""

import struct
import zlib
from ipaddress import ip_address

import lz4.block
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dissectors.image import ImageType
from dissectors.image_headers import image_header
from spiceproxy.redaction import fillers
from spiceproxy.redaction.addresses import StandIns
from spiceproxy.redaction.fillers import Numbers
from spiceproxy.redaction.images import public_pieces
from spiceproxy.redaction.lz4block import block_of_size
from spiceproxy.redaction.store import BLOCK_BYTES, JOINED_BYTES, Store
from tests.redaction.world import PICTURE, glz_header

# Numbers --------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=2), max_size=600))
def test_numbers_tell_contents_apart_and_nothing_else(contents: list[bytes]) -> None:
    numbers = Numbers()
    for content in contents:
        assert len(numbers.filler(content)) == len(content)
    assert len({numbers.filler(content) for content in contents}) == len(set(contents))


def test_every_content_of_one_byte_has_a_number_of_its_own() -> None:
    numbers = Numbers()
    assert len({numbers.filler(bytes([byte])) for byte in range(255, -1, -1)}) == 256


def test_zeros_stay_zeros_and_the_first_other_content_is_number_one() -> None:
    numbers = Numbers()
    assert numbers.filler(bytes(8)) == bytes(8)
    assert numbers.filler(b"\xff" * 8) == b"\1" + bytes(7)


def test_too_many_contents_look_alike_and_that_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fillers, "MAX_CONTENTS", 3)
    numbers = Numbers()
    found = [numbers.filler(struct.pack("<Q", content)) for content in range(1, 7)]
    assert found[:3] == [struct.pack("<Q", number) for number in (1, 2, 3)]
    assert set(found[3:]) == {b"\xff" * 8}
    assert numbers.exhausted
    assert numbers.filler(struct.pack("<Q", 2)) == found[1]


# Stand-ins ------------------------------------------------------------------------------------------------


@given(st.ip_addresses())
def test_a_stand_in_of_an_address_is_as_long_as_it_where_packets_show_such_addresses(address: object) -> None:
    # Of IPv4 in IPv6 the length of the text hangs on values; programs write it with dots, as the test below does.
    assume(getattr(address, "ipv4_mapped", None) is None)
    stand_ins = StandIns()
    text = str(address).encode() + b"\0"
    made = stand_ins.text(text)
    assert len(made) == len(text)
    packed = ip_address(stand_ins.packed(ip_address(str(address)).packed))
    if len(text) > 8:
        assert made.rstrip(b"\0").decode() == str(packed)  # messages and packets name the same


@given(st.lists(st.ip_addresses(v=4), max_size=40, unique=True))
def test_different_addresses_have_different_stand_ins(addresses: list[object]) -> None:
    stand_ins = StandIns()
    assert len({stand_ins.packed(ip_address(str(each)).packed) for each in addresses}) == len(addresses)


def test_loopback_and_localhost_stay() -> None:
    stand_ins = StandIns()
    assert stand_ins.text(b"127.0.0.1\0") == b"127.0.0.1\0"
    assert stand_ins.text(b"localhost\0") == b"localhost\0"
    assert stand_ins.text(b"") == b""
    assert stand_ins.packed(ip_address("::1").packed) == ip_address("::1").packed


def test_a_mapped_address_is_the_same_as_the_one_that_is_mapped() -> None:
    stand_ins = StandIns()
    plain, mapped = ip_address("10.20.30.40").packed, ip_address("::ffff:10.20.30.40").packed
    assert stand_ins.packed(mapped)[-4:] == stand_ins.packed(plain) != plain


@given(
    st.text(
        st.characters(codec="ascii", categories=["L", "N"], include_characters=".-"), min_size=1, max_size=40
    )
)
def test_a_name_has_a_stand_in_of_its_length(name: str) -> None:
    stand_ins = StandIns()
    made = stand_ins.text(name.encode() + b"\0")
    assert len(made) == len(name) + 1
    assert made.endswith(b"\0")


def test_names_are_told_apart_and_subjects_keep_their_keys() -> None:
    stand_ins = StandIns()
    assert stand_ins.text(b"kvm2\0") != stand_ins.text(b"kvm3\0")
    assert stand_ins.text(b"kvm2\0") == stand_ins.text(b"kvm2\0")
    one, other = (stand_ins.text(b"O=Acme,CN=%s.acme.com\0" % name) for name in (b"kvm2", b"kvm3"))
    assert one != other
    assert one.startswith(b"O=xxxx,CN=")
    assert b"acme" not in one.lower()


# The store ------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3 * BLOCK_BYTES), st.binary(min_size=1, max_size=300)),
        max_size=20,
    )
)
def test_what_was_put_is_there_and_all_else_is_zero(puts: list[tuple[int, int, bytes]]) -> None:
    size = 4 * BLOCK_BYTES
    expected = [bytearray(size) for _ in range(3)]
    with Store() as store:
        for stream, at, data in puts:
            expected[stream][at : at + len(data)] = data
            store.put(stream, at, data)
        store.flush_all()
        for stream in range(3):
            assert store.get(stream, 0, size) == expected[stream]
            assert store.get(stream, 100, 50) == expected[stream][100:150]


def test_neighbouring_pieces_are_written_together_up_to_a_bound() -> None:
    with Store() as store:
        for at in range(0, 3 * JOINED_BYTES, 1024):
            store.put(7, at, b"x" * 1024)
        store.flush(7)
        store.flush(7)
        assert store.get(7, 0, 3 * JOINED_BYTES) == b"x" * 3 * JOINED_BYTES
        assert store.get(8, 0, 10) == bytes(10)


# Images ---------------------------------------------------------------------------------------------------

LZ = b"  ZL" + struct.pack(">IIIIII", 0x10001, 8, 16, 16, 64, 1)
JPEG = (
    b"\xff\xd8\xff\xff\xe0\0\x10JFIF-made by Bob\xff\xdb\0\x06\1\2\3\4\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0"
    b"\xff\xda" + PICTURE
)
JPEG = JPEG.replace(b"\0\x10JFIF-made by Bob", b"\0\x12JFIF-made by Bob", 1)


def blank(type_: int, data: bytes, jpeg_size: int | None = None) -> bytes:
    after = bytearray(len(data))
    for at, piece in public_pieces(type_, data, jpeg_size):
        after[at : at + len(piece)] = piece
    assert len(after) == len(data)
    return bytes(after)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (ImageType.QUIC, b"QUIC" + struct.pack("<IIII", 0, 4, 16, 16) + PICTURE),
        (ImageType.LZ_RGB, LZ + PICTURE),
        (ImageType.LZ_PLT, LZ + PICTURE),
        (ImageType.GLZ_RGB, glz_header() + PICTURE),
        (ImageType.ZLIB_GLZ_RGB, zlib.compress(glz_header() + PICTURE)),
        (ImageType.ZLIB_GLZ_RGB, zlib.compress(glz_header() + PICTURE * 100, 0)),
        (ImageType.ZLIB_GLZ_RGB, zlib.compress(glz_header(), 9)),
        (ImageType.JPEG, JPEG),
        (ImageType.JPEG_ALPHA, JPEG),
        (ImageType.LZ4, b"\1\x08" + b"".join(struct.pack(">I", 100) + PICTURE[:100] for _ in range(3))),
    ],
)
def test_the_header_of_an_image_reads_the_same_and_the_image_is_gone(type_: int, data: bytes) -> None:
    after = blank(type_, data)
    assert image_header(type_, after) == image_header(type_, data)
    assert not any(PICTURE[at : at + 8] in after for at in range(0, 64, 8))
    assert b"Bob" not in after
    assert len(after.strip(b"\0")) <= 330


def test_an_alpha_plane_keeps_its_header() -> None:
    data = JPEG + LZ + PICTURE
    after = blank(ImageType.JPEG_ALPHA, data, len(JPEG))
    assert image_header(ImageType.JPEG_ALPHA, after, jpeg_size=len(JPEG)) == image_header(
        ImageType.JPEG_ALPHA, data, jpeg_size=len(JPEG)
    )
    assert PICTURE[:8] not in after


@pytest.mark.parametrize("type_", list(ImageType))
@given(data=st.binary(max_size=80), jpeg_size=st.none() | st.integers(0, 100))
def test_data_whose_header_cannot_be_read_keep_nothing(
    type_: int, data: bytes, jpeg_size: int | None
) -> None:
    assert blank(type_, b"secret" + data, jpeg_size).strip(b"\0") in {b"", data[:0]} or type_ == ImageType.LZ4
    assert b"secret" not in blank(type_, b"secret" + data, jpeg_size)


# LZ4 ------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=30) | st.integers(1, 700).map(bytes), max_size=8), st.floats(0, 1))
def test_a_block_of_any_size_that_there_is_room_for_unpacks_to_the_stream(
    parts: list[bytes], where: float
) -> None:
    stream = b"".join(parts) or b"\0"
    least = len(lz4.block.compress(stream, mode="high_compression", compression=12, store_size=False))
    most = max(least, len(stream) - 1)  # nobody sends a block that is no shorter
    size = least + int((most - least) * where)
    block = block_of_size(stream, size)
    assert block is not None
    assert len(block) == size
    assert lz4.block.decompress(block, uncompressed_size=len(stream)) == stream


def test_what_does_not_fit_gives_no_block() -> None:
    stream = bytes(range(256))
    assert block_of_size(stream, 100) is None
    assert block_of_size(stream, 5000) is None
