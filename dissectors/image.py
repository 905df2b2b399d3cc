"""Images: descriptor, palette, and the data of every image type. Source: spice-common spice.proto.

Compressed data begins with a header of its codec, which `dissectors.image_headers` reads.
"""

from enum import IntEnum, IntFlag
from typing import Final

from dissectors.fields import (
    U8,
    U16,
    U32,
    U64,
    Case,
    Choice,
    Count,
    CountedBytes,
    Flags,
    ImageBytes,
    Items,
    Pointer,
    Record,
    Switch,
)


class ImageType(IntEnum):
    """SPICE_IMAGE_TYPE_*: how an image's data is coded, or where the client has it already."""

    BITMAP = 0
    QUIC = 1
    RESERVED = 2
    LZ_PLT = 100
    LZ_RGB = 101
    GLZ_RGB = 102
    FROM_CACHE = 103
    SURFACE = 104
    JPEG = 105
    FROM_CACHE_LOSSLESS = 106
    ZLIB_GLZ_RGB = 107
    JPEG_ALPHA = 108
    LZ4 = 109


class ImageFlags(IntFlag):
    """SPICE_IMAGE_FLAGS_*: what the client does with the image besides drawing it."""

    CACHE_ME = 1
    HIGH_BITS_SET = 2
    CACHE_REPLACE_ME = 4


class BitmapFlags(IntFlag):
    """SPICE_BITMAP_FLAGS_*: where the palette comes from, and the order of the rows."""

    PAL_CACHE_ME = 1
    PAL_FROM_CACHE = 2
    TOP_DOWN = 4


class JpegAlphaFlags(IntFlag):
    """SPICE_JPEG_ALPHA_FLAGS_*: the order of the rows of the alpha plane."""

    TOP_DOWN = 1


# By calling IntEnum: names of the protocol that begin with a digit are members by index, BitmapFmt["1BIT_LE"].
BitmapFmt = IntEnum(
    "BitmapFmt",
    {
        "INVALID": 0,
        "1BIT_LE": 1,
        "1BIT_BE": 2,
        "4BIT_LE": 3,
        "4BIT_BE": 4,
        "8BIT": 5,
        "16BIT": 6,
        "24BIT": 7,
        "32BIT": 8,
        "RGBA": 9,
        "8BIT_A": 10,
    },
)
BitmapFmt.__doc__ = "SPICE_BITMAP_FMT_*: bits of a pixel, and the order of those that share a byte."

# Source: spice.proto, ImageDescriptor
ImageDescriptor: Final = Record(
    "id" / U64 * "key in the client's pixmap cache",
    "type" / Choice(U8, ImageType),
    "flags" / Flags(U8, ImageFlags),
    "width" / U32 * "pixels",
    "height" / U32 * "pixels",
)

# Source: spice.proto, Palette
Palette: Final = Record(
    "unique" / U64 * "key in the client's palette cache; 0 = none",
    "num_ents" / Count(U16, "ents"),
    "ents" / Items("num_ents", U32, limit=2**16 - 1) * "colours, 0x00RRGGBB or in the surface's 16 bits",
)

# Source: spice.proto, the switch `pal` of BitmapData
_BitmapPalette: Final = Switch(
    "flags",
    Case("palette_id", U64, bit=BitmapFlags.PAL_FROM_CACHE),
    Case("palette", Pointer(Palette)),
)

# Source: spice.proto, the switch `pal` of LZPLTData
_LzPalette: Final = Switch(
    "flags",
    Case("palette_id", U64, bit=BitmapFlags.PAL_FROM_CACHE),
    Case("palette", Pointer(Palette, null=False)),
)

# Source: spice.proto, BitmapData
BitmapData: Final = Record(
    "format" / Choice(U8, BitmapFmt),
    "flags" / Flags(U8, BitmapFlags),
    "x" / U32 * "pixels in a row",
    "y" / U32 * "rows",
    "stride" / U32 * "bytes in a row",
    "pal" / _BitmapPalette * "None inside where the format needs no palette",
    "data" / ImageBytes(8, width="stride", rows="y"),
)

# Source: spice.proto, BinaryData
BinaryData: Final = Record(
    "data_size" / Count(U32, "data") * "bytes",
    "data" / CountedBytes("data_size", bulk=True),
)

# Source: spice.proto, LZPLTData
LzPltData: Final = Record(
    "flags" / Flags(U8, BitmapFlags),
    "data_size" / Count(U32, "data") * "bytes",
    "pal" / _LzPalette,
    "data" / CountedBytes("data_size", bulk=True) * "LZ",
)

# Source: spice.proto, ZlibGlzRGBData
ZlibGlzRgbData: Final = Record(
    "glz_data_size" / U32 * "bytes of GLZ that zlib unpacks to",
    "data_size" / Count(U32, "data") * "bytes",
    "data" / CountedBytes("data_size", bulk=True) * "GLZ inside a zlib stream",
)

# Source: spice.proto, JPEGAlphaData
JpegAlphaData: Final = Record(
    "flags" / Flags(U8, JpegAlphaFlags),
    "jpeg_size" / U32 * "bytes of JPEG at the start of the data",
    "data_size" / Count(U32, "data") * "bytes",
    "data" / CountedBytes("data_size", bulk=True) * "JPEG, then LZ with the alpha plane",
)

# Source: spice.proto, Surface
SurfaceData: Final = Record("surface_id" / U32 * "the surface whose pixels the image is")

# Source: spice.proto, Image. FROM_CACHE and FROM_CACHE_LOSSLESS have the descriptor alone: its id says which one.
Image: Final = Record(
    "descriptor" / ImageDescriptor,
    "u"
    / Switch(
        "descriptor.type",
        Case("bitmap", BitmapData, equal=ImageType.BITMAP),
        Case("quic", BinaryData, equal=ImageType.QUIC),
        Case("lz_rgb", BinaryData, equal=(ImageType.LZ_RGB, ImageType.GLZ_RGB)),
        Case("jpeg", BinaryData, equal=ImageType.JPEG),
        Case("lz4", BinaryData, equal=ImageType.LZ4),
        Case("lz_plt", LzPltData, equal=ImageType.LZ_PLT),
        Case("zlib_glz", ZlibGlzRgbData, equal=ImageType.ZLIB_GLZ_RGB),
        Case("jpeg_alpha", JpegAlphaData, equal=ImageType.JPEG_ALPHA),
        Case("surface", SurfaceData, equal=ImageType.SURFACE),
    )
    * "the data; None for an image from the cache",
)

ImagePointer: Final = Pointer(Image)
