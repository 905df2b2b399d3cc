"""Video streams of the display channel. Source: spice-common spice.proto, DisplayChannel.

A stream is a part of a surface that changes so often that the server sends it as video. `multi_media_time` is the
clock of MAIN_MULTI_MEDIA_TIME.
"""

from enum import IntEnum, IntFlag
from typing import Final

from dissectors.fields import I32, U8, U32, U64, Choice, Count, CountedBytes, Flags, Record
from dissectors.geometry import Clip, Rect


class StreamFlags(IntFlag):
    """SPICE_STREAM_FLAGS_*: the order of a frame's rows."""

    TOP_DOWN = 1


class VideoCodecType(IntEnum):
    """SPICE_VIDEO_CODEC_TYPE_*: how frames are coded."""

    MJPEG = 1
    VP8 = 2
    H264 = 3
    VP9 = 4
    H265 = 5


# Source: spice.proto, stream_create
StreamCreate: Final = Record(
    "surface_id" / U32 * "the surface that frames are shown on",
    "id" / U32 * "of the stream; spice-server uses 0 to 63",
    "flags" / Flags(U8, StreamFlags),
    "codec_type" / Choice(U8, VideoCodecType),
    "stamp" / U64 * "unused, 0",
    "stream_width" / U32 * "pixels of a coded frame",
    "stream_height" / U32 * "pixels of a coded frame",
    "src_width" / U32 * "pixels of the guest's frame",
    "src_height" / U32 * "pixels of the guest's frame",
    "dest" / Rect * "where frames are shown",
    "clip" / Clip,
)

# Source: spice.proto, StreamDataHeader
StreamDataHeader: Final = Record("id" / U32 * "of the stream", "multi_media_time" / U32 * "milliseconds")

# Source: spice.proto, stream_data
StreamData: Final = Record(
    "base" / StreamDataHeader,
    "data_size" / Count(U32, "data") * "bytes",
    "data" / CountedBytes("data_size", bulk=True) * "one frame",
)

# Source: spice.proto, stream_data_sized
StreamDataSized: Final = Record(
    "base" / StreamDataHeader,
    "width" / U32 * "pixels of this frame",
    "height" / U32 * "pixels of this frame",
    "dest" / Rect * "where this frame is shown",
    "data_size" / Count(U32, "data") * "bytes",
    "data" / CountedBytes("data_size", bulk=True) * "one frame",
)

# Source: spice.proto, stream_clip
StreamClip: Final = Record("id" / U32 * "of the stream", "clip" / Clip)

# Source: spice.proto, stream_destroy
StreamDestroy: Final = Record("id" / U32 * "of the stream")

# Source: spice.proto, stream_activate_report
StreamActivateReport: Final = Record(
    "stream_id" / U32,
    "unique_id" / U32 * "of this use of the stream id; reports repeat it",
    "max_window_size" / U32 * "frames between two reports",
    "timeout_ms" / U32 * "milliseconds between two reports",
)

# Source: spice.proto, stream_report, and its comments
StreamReport: Final = Record(
    "stream_id" / U32,
    "unique_id" / U32 * "of STREAM_ACTIVATE_REPORT",
    "start_frame_mm_time" / U32 * "milliseconds, of the first frame reported on",
    "end_frame_mm_time" / U32 * "milliseconds, of the last frame reported on",
    "num_frames" / U32 * "frames that reached the client",
    "num_drops"
    / U32
    * "of them, dropped for being late; 0xffffffff with num_frames 0: the client cannot decode the stream",
    "last_frame_delay" / I32 * "milliseconds that the last frame was early; negative: late",
    "audio_delay" / U32 * "milliseconds of sound that wait to be played; 0xffffffff = no sound",
)
