"""Messages of the main channel, as they were on the wire (spice-server 0.15.1, spice-gtk 0.42)."""

from typing import Any

import pytest

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.link import LinkError
from dissectors.main_channel import MAX_CHANNELS, MouseMode
from dissectors.registry import build, dissect
from dissectors.side import Side

SERVER, CLIENT = Side.SERVER, Side.CLIENT
CHANNELS = [(9, 0), (6, 0), (5, 0), (2, 0), (4, 0), (11, 0), (3, 0)]

RECORDED: list[tuple[Side, int, str, dict[str, Any]]] = [
    (
        SERVER,
        103,
        "d1177d5a 01000000 01000000 01000000 00000000 0a000000 38ac2400 00e0ff02",
        {
            "session_id": 0x5A7D17D1,
            "display_channels_hint": 1,
            "supported_mouse_modes": MouseMode.SERVER,
            "current_mouse_mode": MouseMode.SERVER,
            "agent_connected": 0,
            "agent_tokens": 10,
            "multi_media_time": 2403384,
            "ram_hint": 50323456,
        },
    ),
    (
        SERVER,
        104,
        "07000000 0900 0600 0500 0200 0400 0b00 0300",
        {"num_of_channels": 7, "channels": [{"type": type_, "id": id_} for type_, id_ in CHANNELS]},
    ),
    (SERVER, 105, "0300 0200", {"supported_modes": MouseMode.SERVER | MouseMode.CLIENT, "current_mode": 2}),
    (SERVER, 106, "9cc52300", {"time": 2344348}),
    (SERVER, 108, "00000000", {"error_code": LinkError.OK}),
    (SERVER, 109, "0100000006", {"data": b"\1\0\0\0\6"}),
    (SERVER, 110, "05000000", {"num_tokens": 5}),
    (SERVER, 113, "03000000 713000", {"name_len": 3, "name": "q0"}),
    (SERVER, 114, "000102030405060708090a0b0c0d0e0f", {"uuid": bytes(range(16))}),
    (SERVER, 115, "0a000000", {"num_tokens": 10}),
    (CLIENT, 101, "0000000100000000", {"cache_size": 2**24}),
    (CLIENT, 105, "0200", {"mode": MouseMode.CLIENT}),
    (CLIENT, 106, "ffffffff", {"num_tokens": 0xFFFFFFFF}),
    (CLIENT, 107, "0100000006", {"data": b"\1\0\0\0\6"}),
    (CLIENT, 108, "01000000", {"num_tokens": 1}),
    (CLIENT, 110, "01000000", {"src_version": 1}),
    (CLIENT, 112, "abcd", {"data": b"\xab\xcd"}),
    *[(SERVER, id_, "", {}) for id_ in (102, 107, 112, 117, 118)],
    *[(CLIENT, id_, "", {}) for id_ in (102, 103, 104, 109, 111)],
]


@pytest.mark.parametrize(("side", "id_", "body", "fields"), RECORDED)
def test_a_recorded_body_reads_as_what_it_says(
    side: Side, id_: int, body: str, fields: dict[str, Any]
) -> None:
    found = dissect(ChannelType.MAIN, side, id_, bytes.fromhex(body))
    assert found.fields == fields
    assert found.trailing == b""
    assert build(ChannelType.MAIN, side, id_, fields) == bytes.fromhex(body)


def test_a_channel_type_in_the_list_has_its_name_if_it_has_one() -> None:
    found = dissect(ChannelType.MAIN, SERVER, 104, bytes.fromhex("02000000 0200 2a07")).fields["channels"]
    assert found == [{"type": ChannelType.DISPLAY, "id": 0}, {"type": 42, "id": 7}]
    assert type(found[0]["type"]) is ChannelType
    assert type(found[1]["type"]) is int


def test_a_list_of_more_channels_than_a_session_has_is_not_decoded() -> None:
    full = MAX_CHANNELS.to_bytes(4, "little") + bytes(2 * MAX_CHANNELS)
    assert len(dissect(ChannelType.MAIN, SERVER, 104, full).fields["channels"]) == MAX_CHANNELS
    huge = (2**24).to_bytes(4, "little") + bytes(2**25)
    with pytest.raises(DissectionError, match="more than 1024 are not decoded"):
        dissect(ChannelType.MAIN, SERVER, 104, huge)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_uuid_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(DissectionError, match="uuid"):
        build(ChannelType.MAIN, SERVER, 114, {"uuid": bytes(size)})


@pytest.mark.parametrize("id_", [104, 113])
@pytest.mark.parametrize("count", [1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_count_beyond_the_body_is_an_error(id_: int, count: int) -> None:
    with pytest.raises(DissectionError, match=f"is {count}.* but only 0 bytes are left"):
        dissect(ChannelType.MAIN, SERVER, id_, count.to_bytes(4, "little"))
