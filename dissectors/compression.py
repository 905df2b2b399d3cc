"""What COMPRESSED_DATA stands for: an LZ4 block, made whole again on request.

Source: spice-server spicevmc.cpp and spice-gtk channel-usbredir.c: LZ4_compress_default(), LZ4_decompress_safe().
"""

from typing import Final

import lz4.block

from dissectors.errors import DissectionError
from dissectors.fields import Data
from dissectors.spicevmc import DataCompression

# spice-server compresses at most 65,568 bytes at a time. A client compresses whatever usbredir wrote at once, at most
# a bulk transfer; usbfs of Linux lets a process have 16 MiB of them under way (usbfs_memory_mb).
MAX_UNCOMPRESSED: Final = 16 * 2**20
# A byte of a block makes at most 255 (the LZ4 block format: a length goes on in bytes of up to 255).
_MOST_FROM_ONE_BYTE: Final = 255


def decompress(
    compression: int, uncompressed_size: int | None, data: Data, *, limit: int = MAX_UNCOMPRESSED
) -> bytes:
    """Give back the bytes of the stream that a COMPRESSED_DATA message stands for.

    Args:
        compression: Its `type`.
        uncompressed_size: As announced, in bytes; not there where `type` is NONE.
        data: Its `compressed_data`.
        limit: Nothing larger is unpacked, in bytes.

    Raises:
        DissectionError: Another compression, a size over the limit or one that the block cannot have, or a block that
            does not make exactly that size.
    """
    if compression == DataCompression.NONE:
        return bytes(data)
    if compression != DataCompression.LZ4 or uncompressed_size is None:
        raise DissectionError(f"compression {int(compression)} is not known")
    if uncompressed_size > limit:
        raise DissectionError(f"uncompressed_size is {uncompressed_size}; more than {limit} are not unpacked")
    if uncompressed_size > len(data) * _MOST_FROM_ONE_BYTE:
        raise DissectionError(f"uncompressed_size is {uncompressed_size}, too much for {len(data)} bytes")
    try:
        stream: bytes = lz4.block.decompress(data, uncompressed_size=uncompressed_size)
    except lz4.block.LZ4BlockError as error:
        raise DissectionError(f"no LZ4 block of {uncompressed_size} bytes once unpacked") from error
    if len(stream) != uncompressed_size:
        raise DissectionError(f"uncompressed_size is {uncompressed_size}, but the block has {len(stream)}")
    return stream


def compress(stream: Data) -> bytes:
    """Make the LZ4 block of a COMPRESSED_DATA message."""
    block: bytes = lz4.block.compress(stream, store_size=False)
    return block
