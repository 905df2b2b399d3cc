"""Messages of every channel, as they were on the wire (spice-server 0.15.1, spice-gtk 0.42)."""

from typing import Any

import pytest

from dissectors.channels import ChannelType
from dissectors.common import MigrateFlags, NotifySeverity, NotifyVisibility
from dissectors.errors import DissectionError
from dissectors.link import LinkError
from dissectors.registry import build, build_named, dissect
from dissectors.side import Side

SERVER, CLIENT = Side.SERVER, Side.CLIENT
KEYBOARD = b"keyboard channel is insecure"

RECORDED: list[tuple[Side, int, str, dict[str, Any], bytes]] = [
    (SERVER, 1, "03000000", {"flags": MigrateFlags.NEED_FLUSH | MigrateFlags.NEED_DATA_TRANSFER}, b""),
    (SERVER, 1, "00000000", {"flags": 0}, b""),
    (SERVER, 3, "01000000 14000000", {"generation": 1, "window": 20}, b""),
    (SERVER, 4, "01000000 6bd7468f00000000", {"id": 1, "timestamp": 2403784555, "data": b""}, b""),
    (
        SERVER,
        5,
        "01 02 01 2b00000000000000",
        {"wait_count": 1, "wait_list": [{"channel_type": 2, "channel_id": 1, "message_serial": 43}]},
        b"",
    ),
    (SERVER, 6, "0100000000000000 07000000", {"time_stamp": 1, "reason": LinkError.PERMISSION_DENIED}, b""),
    (
        SERVER,
        7,
        "79c409b92f020000 01000000 02000000 00000000 1c000000" + KEYBOARD.hex() + "00",
        {
            "time_stamp": 2403991143545,
            "severity": NotifySeverity.WARN,
            "visibilty": NotifyVisibility.HIGH,
            "what": 0,
            "message_len": 28,
            "message": "keyboard channel is insecure",
            "uncounted": b"\0",
        },
        b"",
    ),
    (SERVER, 100, "", {}, b""),
    (CLIENT, 1, "01000000", {"generation": 1}, b""),
    (CLIENT, 2, "", {}, b""),
    (CLIENT, 3, "01000000 6bd7468f00000000", {"id": 1, "timestamp": 2403784555}, b""),
    (CLIENT, 4, "", {}, b""),
    (CLIENT, 6, "0100000000000000 ff000000", {"time_stamp": 1, "reason": 255}, b""),
]


@pytest.mark.parametrize(("side", "id_", "body", "fields", "trailing"), RECORDED)
@pytest.mark.parametrize("channel_type", [*ChannelType, 42])
def test_a_common_message_reads_the_same_on_every_channel(
    channel_type: int, side: Side, id_: int, body: str, fields: dict[str, Any], trailing: bytes
) -> None:
    found = dissect(channel_type, side, id_, bytes.fromhex(body))
    assert found.fields == fields
    assert found.trailing == trailing
    assert build(channel_type, side, id_, found.fields, trailing=trailing) == bytes.fromhex(body)


def test_the_nul_that_spice_server_adds_to_a_notification_may_be_there_or_not() -> None:
    fields: dict[str, Any] = {
        "time_stamp": 0,
        "severity": NotifySeverity.INFO,
        "visibilty": NotifyVisibility.LOW,
        "what": 0,
    }
    for nul in (b"", b"\0"):
        body = build_named("SPICE_MSG_NOTIFY", **fields, message="hello", uncounted=nul)
        assert body == bytes(20) + b"\5\0\0\0hello" + nul
        found = dissect(ChannelType.MAIN, SERVER, 7, body)
        assert found.fields["message"] == "hello"
        assert found.fields["uncounted"] == nul
        assert found.trailing == b""


def test_a_notification_that_is_no_text_keeps_its_bytes() -> None:
    for message in (b"caf\xe9", b"nul\0inside"):
        body = bytes(20) + len(message).to_bytes(4, "little") + message
        assert dissect(ChannelType.MAIN, SERVER, 7, body).fields["message"] == message


@pytest.mark.parametrize("channel_type", [ChannelType.CURSOR, ChannelType.PLAYBACK, ChannelType.RECORD, 42])
@pytest.mark.parametrize(("side", "id_"), [(SERVER, 2), (CLIENT, 5)])
def test_state_without_a_known_layout_stays_as_it_is(channel_type: int, side: Side, id_: int) -> None:
    body = b"ICMD\1\0\0\0\1\0"
    assert dissect(channel_type, side, id_, body).fields == {"data": body}
    assert build(channel_type, side, id_, {"data": body}) == body


def test_a_network_test_ping_keeps_its_tail() -> None:
    body = build_named("SPICE_MSG_PING", id=3, timestamp=5, data=bytes(256000))
    assert len(body) == 256012
    assert dissect(ChannelType.MAIN, SERVER, 4, body).fields["data"] == bytes(256000)


def test_unknown_flags_severities_and_reasons_are_kept() -> None:
    assert dissect(ChannelType.INPUTS, SERVER, 1, b"\7\0\0\x80").fields == {"flags": 0x80000007}
    body = bytes(8) + b"\x09\0\0\0" * 2 + bytes(8)
    assert dissect(ChannelType.MAIN, SERVER, 7, body).fields["severity"] == 9


@pytest.mark.parametrize("count", [1, 26, 255])
def test_a_wait_list_is_as_long_as_it_says(count: int) -> None:
    body = bytes([count]) + bytes(10 * count)
    found = dissect(ChannelType.DISPLAY, SERVER, 5, body)
    assert len(found.fields["wait_list"]) == count
    assert build(ChannelType.DISPLAY, SERVER, 5, found.fields) == body
    with pytest.raises(DissectionError, match=f"wait_count is {count}, at 10 bytes each, but only"):
        dissect(ChannelType.DISPLAY, SERVER, 5, body[:-1])
