"""Schemas of every channel and of what rides inside; image headers; LZ4."""

from typing import Any, Final

from dissectors import registry, usbredir, vd_agent, vscard, webdav_mux
from dissectors.compiler import UNFIT, Style
from dissectors.compression import compress, decompress
from dissectors.errors import DissectionError
from dissectors.fields import read
from dissectors.image_headers import image_header
from dissectors.message import _JSON, _JSON_BULK, _VALUES, Dissection, MessageSpec
from dissectors.plain import plain
from dissectors.side import Side
from dissectors.spicevmc import DataCompression
from spiceproxy.protocol.payload.inner import take_apart
from tests.fuzz.pieces import is_one_line

# Unpacked, in bytes: a fuzzer's input is short, and what is asked for is whether the limit holds.
UNPACKED: Final = 2**20
READERS: Final = {Style.VALUES: _VALUES, Style.JSON: _JSON, Style.JSON_BULK: _JSON_BULK}


def message(data: bytes) -> None:
    """A message of any channel: channel type, side, u16 id, body."""
    if len(data) < 4:
        return
    channel_type, side = data[0], list(Side)[data[1] & 1]
    id_, body = int.from_bytes(data[2:4], "little"), data[4:]
    spec = registry.lookup(channel_type, side, id_)
    if spec is None:
        assert registry.dissect(channel_type, side, id_, body).fields == {"raw": body}
        return
    check(spec, body)


def inside(data: bytes) -> None:
    """A message of what rides inside others: protocol, u16 type, layout, body."""
    if len(data) < 4:
        return
    protocol, type_, variant, body = (
        data[0] % 5,
        int.from_bytes(data[1:3], "little"),
        data[3],
        data[4:],
    )
    spec: MessageSpec | None
    if protocol == 0:
        spec = vd_agent.agent_layout(
            type_, len(body), selection=bool(variant & 1), grab_serial=bool(variant & 2)
        )
    elif protocol == 1:
        spec = usbredir.usbredir_layout(type_, caps=variant)
    elif protocol == 2:
        spec = vscard.VSC_MESSAGES.get(type_)
    elif protocol == 3:
        spec = (webdav_mux.HEADER, webdav_mux.FRAME)[variant & 1]
    else:
        spec = (vd_agent.HEADER, vd_agent.CHUNK_HEADER, usbredir.HEADER_32, usbredir.HEADER_64)[variant & 3]
    if spec is not None:
        check(spec, body)
    take_apart("any", {}, type_, spec, body).plain()


def check(spec: MessageSpec, body: bytes) -> None:
    """Hold everything that reads a body against everything else that does, and build it back."""
    try:
        expected: tuple[Any, int] | None = read(spec.schema, body)
    except DissectionError as error:
        is_one_line(error)
        expected = None
    for style, reader in READERS.items():
        try:
            found: Any = reader[spec](body)
        except UNFIT:
            continue
        assert expected is not None, "the compiled reader takes what construct does not"
        shown = plain(spec.schema, expected[0], bulk=style is Style.JSON_BULK)
        assert found == (expected if style is Style.VALUES else (shown, expected[1]))
    try:
        dissection: Dissection | None = spec.dissect(body)
    except DissectionError:
        dissection = None
    assert (dissection is None) == (expected is None)
    for bulk in (False, True):
        try:
            fields, trailing = spec.dissect_plain(body, bulk=bulk)
        except DissectionError:
            assert dissection is None
        else:
            assert dissection is not None
            assert trailing == dissection.trailing
            assert fields == plain(spec.schema, dissection.fields, bulk=bulk)
    if dissection is not None:
        assert spec.build(dissection.fields, dissection.trailing) == body


def image_headers(data: bytes) -> None:
    """The header inside image data: image type, u16 size of a JPEG that an alpha plane follows, data."""
    if len(data) < 3:
        return
    jpeg_size = int.from_bytes(data[1:3], "little")
    for size in (None, jpeg_size):
        try:
            header = image_header(data[0], data[3:], jpeg_size=size)
        except DissectionError as error:
            is_one_line(error)
        else:
            assert header is None or header


def lz4_unpack(data: bytes) -> None:
    """COMPRESSED_DATA: compression, u32 size, block. What unpacks has exactly the size that was announced."""
    if len(data) < 5:
        return
    announced, block = int.from_bytes(data[1:5], "little"), data[5:]
    try:
        stream = decompress(data[0], announced, block, limit=UNPACKED)
    except DissectionError as error:
        is_one_line(error)
    else:
        assert len(stream) == (len(block) if data[0] == DataCompression.NONE else announced)
    assert decompress(DataCompression.LZ4, len(block), compress(block)) == block
