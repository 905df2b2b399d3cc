"""Capability bits of the link phase. Source: spice-protocol enums.h and protocol.h, SPICE_*_CAP_*.

Both ends send two lists of 32-bit words, one that means the same on every channel and one that belongs to the
channel. Bit n lives in word n // 32; a word that is not there has all bits clear.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError

# The server refuses more than 1024 words (reds.cpp, reds_handle_read_link_done); a bit beyond them cannot be said.
MAX_WORDS: Final = 1024


class CommonCap(IntEnum):
    """SPICE_COMMON_CAP_*: the same on every channel."""

    PROTOCOL_AUTH_SELECTION = 0
    AUTH_SPICE = 1
    AUTH_SASL = 2
    MINI_HEADER = 3


class MainCap(IntEnum):
    """SPICE_MAIN_CAP_*."""

    SEMI_SEAMLESS_MIGRATE = 0
    NAME_AND_UUID = 1
    AGENT_CONNECTED_TOKENS = 2
    SEAMLESS_MIGRATE = 3


class DisplayCap(IntEnum):
    """SPICE_DISPLAY_CAP_*."""

    SIZED_STREAM = 0
    MONITORS_CONFIG = 1
    COMPOSITE = 2
    A8_SURFACE = 3
    STREAM_REPORT = 4
    LZ4_COMPRESSION = 5
    PREF_COMPRESSION = 6
    GL_SCANOUT = 7
    MULTI_CODEC = 8
    CODEC_MJPEG = 9
    CODEC_VP8 = 10
    CODEC_H264 = 11
    PREF_VIDEO_CODEC_TYPE = 12
    CODEC_VP9 = 13
    CODEC_H265 = 14


class InputsCap(IntEnum):
    """SPICE_INPUTS_CAP_*."""

    KEY_SCANCODE = 0


class PlaybackCap(IntEnum):
    """SPICE_PLAYBACK_CAP_*."""

    CELT_0_5_1 = 0
    VOLUME = 1
    LATENCY = 2
    OPUS = 3


class RecordCap(IntEnum):
    """SPICE_RECORD_CAP_*."""

    CELT_0_5_1 = 0
    VOLUME = 1
    OPUS = 2


class SpicevmcCap(IntEnum):
    """SPICE_SPICEVMC_CAP_*: usbredir, port and webdav share one implementation and these bits."""

    DATA_COMPRESS_LZ4 = 0


def _names(prefix: str, bits: type[IntEnum]) -> dict[int, str]:
    return {int(member): f"{prefix}{member.name}" for member in bits}


_SPICEVMC_NAMES: Final = _names("SPICE_SPICEVMC_CAP_", SpicevmcCap)

# Cursor, smartcard and the obsolete tunnel have no capability: a bit set there is named by its number.
_NAMES: Final[dict[int | None, dict[int, str]]] = {
    None: _names("SPICE_COMMON_CAP_", CommonCap),
    ChannelType.MAIN: _names("SPICE_MAIN_CAP_", MainCap),
    ChannelType.DISPLAY: _names("SPICE_DISPLAY_CAP_", DisplayCap),
    ChannelType.INPUTS: _names("SPICE_INPUTS_CAP_", InputsCap),
    ChannelType.PLAYBACK: _names("SPICE_PLAYBACK_CAP_", PlaybackCap),
    ChannelType.RECORD: _names("SPICE_RECORD_CAP_", RecordCap),
    ChannelType.USBREDIR: _SPICEVMC_NAMES,
    ChannelType.PORT: _SPICEVMC_NAMES,
    ChannelType.WEBDAV: _SPICEVMC_NAMES,
}


def has_capability(words: Sequence[int], bit: int) -> bool:
    """Tell whether `bit` is set; a word that was not sent counts as all clear."""
    word, position = divmod(bit, 32)
    return word < len(words) and bool(words[word] >> position & 1)


def capability_names(channel_type: int | None, words: Sequence[int]) -> list[str]:
    """Name the bits that are set, lowest first.

    Args:
        channel_type: Whose bits these are; None for the common ones.
        words: 32-bit words as they came in the link message.

    Returns:
        C names ("SPICE_MAIN_CAP_SEAMLESS_MIGRATE"); a bit without a name is "bit_31".
    """
    names = _NAMES.get(channel_type, {})
    return [
        names.get(32 * index + position, f"bit_{32 * index + position}")
        for index, word in enumerate(words)
        if word
        for position in range(32)
        if word >> position & 1
    ]


def words_of(bits: Iterable[int]) -> list[int]:
    """Pack capability bits into as few words as hold them; no bits, no words.

    Raises:
        DissectionError: A bit is negative or beyond the words that a link message can carry.
    """
    words: list[int] = []
    for bit in bits:
        if not 0 <= bit < 32 * MAX_WORDS:
            raise DissectionError(f"capability bit {bit} is outside 0..{32 * MAX_WORDS - 1}")
        word, position = divmod(bit, 32)
        words.extend([0] * (word + 1 - len(words)))
        words[word] |= 1 << position
    return words
