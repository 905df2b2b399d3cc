"""Bytes of a character device: what the usbredir, port and webdav channels share.

A message holds any part of the device's stream; what is in the stream does not begin or end where messages do.
Source: spice-common spice.proto, SpicevmcChannel; spice-server spicevmc.cpp.
"""

from enum import IntEnum
from typing import Final

from dissectors import migrate_data
from dissectors.fields import U8, U32, BulkRest, Case, Choice, Record, Switch
from dissectors.message import MessageSpec


class DataCompression(IntEnum):
    """SPICE_DATA_COMPRESSION_TYPE_*: LZ4 is one raw block, without the frame of an LZ4 file."""

    NONE = 0
    LZ4 = 1


VmcData: Final = Record("data" / BulkRest * "a part of the stream")
CompressedData: Final = Record(
    "type" / Choice(U8, DataCompression) * "only LZ4 is ever sent",
    "u"
    / Switch(
        "type",
        Case("empty", Record(), equal=DataCompression.NONE),
        Case("uncompressed_size", U32 * "bytes of the stream that these stand for"),
    ),
    "compressed_data" / BulkRest * "one block",
)

FROM_SERVER: Final = (
    migrate_data.from_server(migrate_data.SpicevmcState),
    MessageSpec(101, "SPICE_MSG_SPICEVMC_DATA", "Bytes from the guest's device.", VmcData),
    MessageSpec(
        102,
        "SPICE_MSG_SPICEVMC_COMPRESSED_DATA",
        "Bytes from the guest's device, compressed (needs SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4).",
        CompressedData,
    ),
)

FROM_CLIENT: Final = (
    migrate_data.from_client(migrate_data.SpicevmcState),
    MessageSpec(101, "SPICE_MSGC_SPICEVMC_DATA", "Bytes to the guest's device.", VmcData),
    MessageSpec(
        102,
        "SPICE_MSGC_SPICEVMC_COMPRESSED_DATA",
        "Bytes to the guest's device, compressed (needs SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4).",
        CompressedData,
    ),
)
