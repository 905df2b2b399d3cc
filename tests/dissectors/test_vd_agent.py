"""Agent messages, packed by hand after vd_agent.h; the announcement is spice-gtk 0.42's own."""

from typing import Any

import pytest

from dissectors.errors import DissectionError
from dissectors.vd_agent import (
    AGENT_MESSAGES,
    CHUNK_HEADER,
    HEADER,
    MAX_TYPES,
    build_agent,
    capability_bits,
    dissect_agent,
)
from dissectors.vd_agent_names import (
    AgentCap,
    AgentMessage,
    ChunkPort,
    ClipboardSelection,
    ClipboardType,
    FileXferStatus,
)

SELECTION = {"selection": ClipboardSelection.PRIMARY, "reserved": b"\0\0\0"}
BOTH = (True, True)
MONITORS = [{"height": 600, "width": 800, "depth": 32, "x": -1, "y": 0}]

ROWS: list[tuple[int, str, str, dict[str, Any]]] = [
    (
        1,
        "VD_AGENT_MOUSE_STATE",
        "01000000 02000000 0a000000 03",
        {"x": 1, "y": 2, "buttons": 10, "display_id": 3},
    ),
    (
        2,
        "VD_AGENT_MONITORS_CONFIG",
        "01000000 01000000 58020000 20030000 20000000 ffffffff 00000000",
        {"num_of_monitors": 1, "flags": 1, "monitors": MONITORS, "physical_sizes": None},
    ),
    (
        2,
        "VD_AGENT_MONITORS_CONFIG",
        "01000000 03000000 58020000 20030000 20000000 ffffffff 00000000 c800 2c01",
        {
            "num_of_monitors": 1,
            "flags": 3,
            "monitors": MONITORS,
            "physical_sizes": {"sizes": [{"height": 200, "width": 300}]},
        },
    ),
    (3, "VD_AGENT_REPLY", "02000000 01000000", {"type": AgentMessage.MONITORS_CONFIG, "error": 1}),
    (
        4,
        "VD_AGENT_CLIPBOARD",
        "01000000 01000000 6869",
        {**SELECTION, "type": ClipboardType.UTF8_TEXT, "data": b"hi"},
    ),
    (5, "VD_AGENT_DISPLAY_CONFIG", "09000000 10000000", {"flags": 9, "depth": 16}),
    (6, "VD_AGENT_ANNOUNCE_CAPABILITIES", "01000000 77500300", {"request": 1, "caps": [0x35077]}),
    (
        7,
        "VD_AGENT_CLIPBOARD_GRAB",
        "01000000 05000000 01000000 63000000",
        {**SELECTION, "serial": 5, "types": [ClipboardType.UTF8_TEXT, 99]},
    ),
    (8, "VD_AGENT_CLIPBOARD_REQUEST", "01000000 02000000", {**SELECTION, "type": 2}),
    (9, "VD_AGENT_CLIPBOARD_RELEASE", "01000000", SELECTION),
    (10, "VD_AGENT_FILE_XFER_START", "07000000 5b5d0a00", {"id": 7, "data": b"[]\n\0"}),
    (11, "VD_AGENT_FILE_XFER_STATUS", "07000000 04000000", {"id": 7, "result": 4}),
    (
        11,
        "VD_AGENT_FILE_XFER_STATUS",
        "07000000 04000000 0010000000000000",
        {"id": 7, "result": FileXferStatus.NOT_ENOUGH_SPACE, "data": {"disk_free_space": 4096}},
    ),
    (
        11,
        "VD_AGENT_FILE_XFER_STATUS",
        "07000000 02000000 00 0e000000",
        {"id": 7, "result": 2, "data": {"error": {"error_type": 0, "error_code": 14}}},
    ),
    (
        12,
        "VD_AGENT_FILE_XFER_DATA",
        "07000000 0200000000000000 abcd",
        {"id": 7, "size": 2, "data": b"\xab\xcd"},
    ),
    (13, "VD_AGENT_CLIENT_DISCONNECTED", "", {}),
    (14, "VD_AGENT_MAX_CLIPBOARD", "ffffffff", {"max": -1}),
    (
        15,
        "VD_AGENT_AUDIO_VOLUME_SYNC",
        "01 00 02 0080 ffff",
        {"is_playback": 1, "mute": 0, "nchannels": 2, "volume": [0x8000, 0xFFFF]},
    ),
    (
        16,
        "VD_AGENT_GRAPHICS_DEVICE_INFO",
        "01000000 02000000 00000000 01000000 04000000 70636900",
        {
            "count": 1,
            "display_info": [
                {
                    "channel_id": 2,
                    "monitor_id": 0,
                    "device_display_id": 1,
                    "device_address_len": 4,
                    "device_address": "pci",
                }
            ],
        },
    ),
]


@pytest.mark.parametrize(("type_", "name", "body", "fields"), ROWS)
def test_data_reads_as_what_it_says_and_builds_back(
    type_: int, name: str, body: str, fields: dict[str, Any]
) -> None:
    raw = bytes.fromhex(body)
    found = dissect_agent(type_, raw, selection=True, grab_serial=True)
    assert (found.name, found.fields, found.trailing) == (name, fields, b"")
    assert build_agent(type_, found.fields, selection=True, grab_serial=True) == raw


def test_every_type_of_vd_agent_h_is_there_under_its_name() -> None:
    assert {id_: spec.name for id_, spec in AGENT_MESSAGES.items()} == {
        int(member): f"VD_AGENT_{member.name}" for member in AgentMessage
    }
    assert set(AGENT_MESSAGES) == set(range(1, 17)) == {row[0] for row in ROWS}


@pytest.mark.parametrize(
    ("type_", "selection", "serial", "body", "fields"),
    [
        (4, False, True, "01000000 6869", {"type": 1, "data": b"hi"}),
        (7, False, False, "01000000 02000000", {"types": [1, 2]}),
        (7, False, True, "01000000 02000000", {"serial": 1, "types": [2]}),
        (7, True, False, "01000000 02000000", {**SELECTION, "types": [2]}),
        (8, False, False, "02000000", {"type": 2}),
        (9, False, False, "", {}),
        (9, True, False, "01000000", SELECTION),
    ],
)
def test_a_clipboard_message_has_the_layout_that_both_announced(
    type_: int, selection: bool, serial: bool, body: str, fields: dict[str, Any]
) -> None:
    raw = bytes.fromhex(body)
    found = dissect_agent(type_, raw, selection=selection, grab_serial=serial)
    assert found.fields == fields
    assert build_agent(type_, fields, selection=selection, grab_serial=serial) == raw


def test_a_header_and_a_chunk_header_read_as_what_they_say() -> None:
    announced = bytes.fromhex("01000000 06000000 0000000000000000 08000000")
    assert HEADER.dissect(announced).fields == {
        "protocol": 1,
        "type": AgentMessage.ANNOUNCE_CAPABILITIES,
        "opaque": 0,
        "size": 8,
    }
    chunk = bytes.fromhex("01000000 1c000000")
    assert CHUNK_HEADER.dissect(chunk).fields == {"port": ChunkPort.CLIENT, "size": 28}


def test_capability_words_are_one_row_of_bits() -> None:
    gtk = capability_bits([0x35077])
    assert {cap for cap in AgentCap if gtk >> cap & 1} == {
        AgentCap(number) for number in (0, 1, 2, 4, 5, 6, 12, 14, 16, 17)
    }
    assert capability_bits([0, 1]) == 1 << 32


def test_an_unknown_type_keeps_its_data() -> None:
    found = dissect_agent(99, b"abc", selection=False, grab_serial=False)
    assert (found.name, found.fields) == ("unknown_99", {"raw": b"abc"})
    assert build_agent(99, found.fields, selection=False, grab_serial=False) == b"abc"
    with pytest.raises(DissectionError, match="unknown_99"):
        build_agent(99, {}, selection=False, grab_serial=False)


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        (2, "ffffffff 00000000"),
        (2, "01000000 02000000" + "00" * 20),  # says that sizes follow
        (7, "00000000 00000000" + "01000000" * (MAX_TYPES + 1)),
        (7, "00000000 00000000 010000"),
        (11, "07000000 04000000 00"),
        (11, "07000000 0400"),
        (12, "07000000 ffffffffffffffff abcd"),
        (15, "01 00 ff 0080"),
        (16, "ffffffff 00000000"),
    ],
)
def test_a_count_that_the_data_cannot_hold_is_an_error(type_: int, body: str) -> None:
    with pytest.raises(DissectionError, match=AGENT_MESSAGES[type_].name):
        dissect_agent(type_, bytes.fromhex(body), selection=True, grab_serial=True)


def test_sizes_in_millimetres_are_built_only_for_as_many_monitors() -> None:
    fields = {"flags": 2, "monitors": MONITORS, "physical_sizes": {"sizes": []}}
    with pytest.raises(DissectionError, match="0 sizes for 1 monitors"):
        build_agent(2, fields, selection=True, grab_serial=True)
