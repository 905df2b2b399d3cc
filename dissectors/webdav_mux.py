"""How several HTTP connections share the stream of a webdav channel.

Each frame says which connection of the guest's file manager it belongs to. Source: spice-gtk channel-webdav.c and
phodav spice-webdavd.c: a 64-bit client, a 16-bit size and the data, little-endian.
"""

from typing import Final

from dissectors.fields import I64, U16, BulkRest, Record
from dissectors.message import MessageSpec

HEADER_SIZE: Final = 10

HEADER: Final = MessageSpec(
    0,
    "webdav_header",
    "Stands before each frame.",
    Record("client" / I64 * "number of the HTTP connection, given by the guest", "size" / U16 * "bytes"),
)
FRAME: Final = MessageSpec(
    0,
    "webdav_frame",
    "A piece of one HTTP connection; without data: that connection is closed.",
    Record("data" / BulkRest * "HTTP/1.1, from where the last frame of this client ended"),
)
