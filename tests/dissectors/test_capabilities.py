"""Channel types and capability words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.capabilities import (
    CommonCap,
    DisplayCap,
    InputsCap,
    MainCap,
    PlaybackCap,
    RecordCap,
    SpicevmcCap,
    capability_names,
    has_capability,
    words_of,
)
from dissectors.channels import ChannelType, channel_name
from dissectors.errors import DissectionError
from tests.dissectors.bodies import unhurried

# enums.h and protocol.h
EXPECTED = {
    None: ["COMMON", "PROTOCOL_AUTH_SELECTION", "AUTH_SPICE", "AUTH_SASL", "MINI_HEADER"],
    ChannelType.MAIN: [
        "MAIN",
        "SEMI_SEAMLESS_MIGRATE",
        "NAME_AND_UUID",
        "AGENT_CONNECTED_TOKENS",
        "SEAMLESS_MIGRATE",
    ],
    ChannelType.DISPLAY: [
        "DISPLAY",
        "SIZED_STREAM",
        "MONITORS_CONFIG",
        "COMPOSITE",
        "A8_SURFACE",
        "STREAM_REPORT",
        "LZ4_COMPRESSION",
        "PREF_COMPRESSION",
        "GL_SCANOUT",
        "MULTI_CODEC",
        "CODEC_MJPEG",
        "CODEC_VP8",
        "CODEC_H264",
        "PREF_VIDEO_CODEC_TYPE",
        "CODEC_VP9",
        "CODEC_H265",
    ],
    ChannelType.INPUTS: ["INPUTS", "KEY_SCANCODE"],
    ChannelType.CURSOR: ["CURSOR"],
    ChannelType.PLAYBACK: ["PLAYBACK", "CELT_0_5_1", "VOLUME", "LATENCY", "OPUS"],
    ChannelType.RECORD: ["RECORD", "CELT_0_5_1", "VOLUME", "OPUS"],
    ChannelType.TUNNEL: ["TUNNEL"],
    ChannelType.SMARTCARD: ["SMARTCARD"],
    ChannelType.USBREDIR: ["SPICEVMC", "DATA_COMPRESS_LZ4"],
    ChannelType.PORT: ["SPICEVMC", "DATA_COMPRESS_LZ4"],
    ChannelType.WEBDAV: ["SPICEVMC", "DATA_COMPRESS_LZ4"],
    42: ["CHANNEL_42"],
}


@pytest.mark.parametrize("channel_type", EXPECTED)
def test_every_bit_of_a_channel_has_its_c_name_and_the_rest_have_numbers(channel_type: int | None) -> None:
    prefix, *names = EXPECTED[channel_type]
    expected = [f"SPICE_{prefix}_CAP_{name}" for name in names]
    expected += [f"bit_{bit}" for bit in range(len(names), 64)]
    assert capability_names(channel_type, [0xFFFFFFFF, 0xFFFFFFFF]) == expected


def test_members_have_the_numbers_of_the_c_names() -> None:
    enums = {
        None: CommonCap,
        ChannelType.MAIN: MainCap,
        ChannelType.DISPLAY: DisplayCap,
        ChannelType.INPUTS: InputsCap,
        ChannelType.PLAYBACK: PlaybackCap,
        ChannelType.RECORD: RecordCap,
        ChannelType.USBREDIR: SpicevmcCap,
    }
    for channel_type, enum in enums.items():
        assert [(each.name, each.value) for each in enum] == [
            (name, bit) for bit, name in enumerate(EXPECTED[channel_type][1:])
        ]


def test_what_spice_gtk_announces_is_named() -> None:
    assert capability_names(None, [0x0D]) == [
        "SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION",
        "SPICE_COMMON_CAP_AUTH_SASL",
        "SPICE_COMMON_CAP_MINI_HEADER",
    ]
    assert capability_names(ChannelType.CURSOR, []) == []


def test_a_word_that_was_not_sent_has_all_bits_clear() -> None:
    assert has_capability([0x08], CommonCap.MINI_HEADER)
    assert not has_capability([0x07], CommonCap.MINI_HEADER)
    assert not has_capability([], CommonCap.MINI_HEADER)
    assert not has_capability([0xFFFFFFFF], 32)
    assert has_capability([0, 1], 32)


@unhurried
@given(st.sets(st.integers(0, 32 * 1024 - 1), max_size=50))
def test_words_hold_exactly_the_bits_they_were_made_of(bits: set[int]) -> None:
    words = words_of(bits)
    assert len(words) == (max(bits) // 32 + 1 if bits else 0)
    assert all(0 <= word < 2**32 for word in words)
    assert {bit for bit in range(32 * len(words)) if has_capability(words, bit)} == bits
    assert len(capability_names(ChannelType.DISPLAY, words)) == len(bits)


@pytest.mark.parametrize("bit", [-1, 32 * 1024])
def test_a_bit_that_no_link_message_can_carry_is_an_error(bit: int) -> None:
    with pytest.raises(DissectionError, match=f"capability bit {bit} is outside"):
        words_of([0, bit])


def test_channels_are_called_what_people_call_them() -> None:
    names = [
        "main",
        "display",
        "inputs",
        "cursor",
        "playback",
        "record",
        "tunnel",
        "smartcard",
        "usbredir",
        "port",
        "webdav",
    ]
    assert [channel_name(number) for number in range(1, 12)] == names
    assert [each.name.lower() for each in ChannelType] == names
    assert [int(each) for each in ChannelType] == list(range(1, 12))
    assert channel_name(42) == "channel_42"
    assert channel_name(0) == "channel_0"
