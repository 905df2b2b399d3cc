"""What MIGRATE_DATA carries, byte for byte; some of it as it was on the wire (spice-server 0.15.1)."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.migrate_data import MAX_SURFACES, VERSION, AgentFilterResult
from dissectors.registry import build, dissect
from dissectors.side import Side
from tests.dissectors.bodies import unhurried

MAIN, DISPLAY, INPUTS, USBREDIR, SMARTCARD = (
    ChannelType.MAIN,
    ChannelType.DISPLAY,
    ChannelType.INPUTS,
    ChannelType.USBREDIR,
    ChannelType.SMARTCARD,
)
SPICEVMC = (USBREDIR, ChannelType.PORT, ChannelType.WEBDAV)
NONE = 2**32 - 1  # no flow control

# With an agent that has not taken 35 bytes yet, the first of which is the second byte of a chunk header.
UNREAD = bytes.fromhex("000000 1c000000 01000000 06000000") + bytes(20)
RECORDED_MAIN = (
    bytes.fromhex(
        "4d4e4d44 01000000 01000000 01 09000000 ffffffff 23000000 01000000 41000000"
        "01 00000000 00000000 00000000 00 00000000 00000000 00000000 00 00000000 00"
    )
    + UNREAD
)
RECORDED_DISPLAY = struct.pack(
    "<4sIQBBqB4QBIIQIII", b"DCMD", 1, 122, 0, 1, 20971520, 1, 0, 0, 0, 0, 1, 6290432, 4, 110, 80, 1, 0
)
RECORDED_INPUTS = bytes.fromhex("49434d44 01000000 0300")
RECORDED_SPICEVMC = bytes.fromhex(
    "53564d44 01000000 01000000 01 ffffffff ffffffff 00000000 00000000 00000000"
)


def device(**fields: Any) -> dict[str, Any]:
    nothing = {
        "version": 1,
        "connected": 0,
        "num_client_tokens": 0,
        "num_send_tokens": 0,
        "write_size": 0,
        "write_num_client_tokens": 0,
        "write_data_ptr": None,
    }
    return nothing | fields


def main(**fields: Any) -> dict[str, Any]:
    nothing = {
        "magic": b"MNMD",
        "version": VERSION,
        "char_device": device(),
        "client_agent_started": 0,
        "chunk_header_size": 0,
        "chunk_header": {"port": 0, "size": 0},
        "msg_header_done": 0,
        "msg_header_partial_len": 0,
        "msg_header_ptr": None,
        "a2c_msg_remaining": 0,
        "a2c_msg_filter_result": AgentFilterResult.OK,
        "c2a_msg_remaining": 0,
        "c2a_msg_filter_result": AgentFilterResult.OK,
    }
    return nothing | fields


def display(serial: int, surfaces: list[dict[str, int]], **fields: Any) -> dict[str, Any]:
    usual = {
        "magic": b"DCMD",
        "version": VERSION,
        "message_serial": serial,
        "low_bandwidth_setting": 0,
        "pixmap_cache_id": 1,
        "pixmap_cache_size": 20971520,
        "pixmap_cache_freezer": 1,
        "pixmap_cache_clients": [0, 0, 0, 0],
        "glz_dict_id": 1,
        "glz_dict": {"size": 6290432, "max_encoders": 4, "last_image_id": 110},
        "surfaces_at_client_ptr": {"num_surfaces": len(surfaces), "surfaces": surfaces},
    }
    return usual | fields


FULL_MAIN = struct.pack(
    "<4sIIBIIIIIBIIIBIIIBIB",
    b"MNMD", 1, 1, 1, 4, NONE, 3, 2, 65, 1, 8, 1, 99, 0, 5, 68, 7, 1, 8, 3,
) + b"abcHEADE"  # fmt: skip
SMARTCARD_BODY = (
    struct.pack("<4sIIBIIIIIBII", b"SCMD", 1, 1, 1, NONE, NONE, 4, 0, 42, 1, 12, 46) + b"unreVSCMsgHeader"
)
LOSSY = (
    struct.pack("<4sIQBBqB4QBIIQII", b"DCMD", 1, 9, 1, 2, -1, 0, 5, 6, 7, 8, 3, 4, 5, 6, 80, 2)
    + struct.pack("<Iiiii", 0, 1, -2, 3, 4)
    + struct.pack("<Iiiii", 7, 0, 0, 0, 0)
)

STATES: list[tuple[ChannelType, bytes, dict[str, Any]]] = [
    (MAIN, b"MNMD\1\0\0\0\1\0\0\0" + bytes(53), main()),
    (
        MAIN,
        RECORDED_MAIN,
        main(
            client_agent_started=1,
            char_device=device(
                connected=1,
                num_client_tokens=9,
                num_send_tokens=NONE,
                write_size=35,
                write_num_client_tokens=1,
                write_data_ptr=UNREAD,
            ),
        ),
    ),
    (
        MAIN,
        FULL_MAIN,
        main(
            char_device=device(
                connected=1,
                num_client_tokens=4,
                num_send_tokens=NONE,
                write_size=3,
                write_num_client_tokens=2,
                write_data_ptr=b"abc",
            ),
            client_agent_started=1,
            chunk_header_size=8,
            chunk_header={"port": 1, "size": 99},
            msg_header_partial_len=5,
            msg_header_ptr=b"HEADE",
            a2c_msg_remaining=7,
            a2c_msg_filter_result=AgentFilterResult.DISCARD,
            c2a_msg_remaining=8,
            c2a_msg_filter_result=AgentFilterResult.MONITORS_CONFIG,
        ),
    ),
    (DISPLAY, RECORDED_DISPLAY, display(122, [{"id": 0}])),
    (DISPLAY, RECORDED_DISPLAY[:80] + bytes(4), display(122, [])),
    (
        DISPLAY,
        RECORDED_DISPLAY[:80] + struct.pack("<6I", 5, 0, 1, 2, 3, 1023),
        display(122, [{"id": id_} for id_ in (0, 1, 2, 3, 1023)]),
    ),
    (
        DISPLAY,
        LOSSY,
        display(
            9,
            [
                {"id": 0, "left": 1, "top": -2, "right": 3, "bottom": 4},
                {"id": 7, "left": 0, "top": 0, "right": 0, "bottom": 0},
            ],
            low_bandwidth_setting=1,
            pixmap_cache_id=2,
            pixmap_cache_size=-1,
            pixmap_cache_freezer=0,
            pixmap_cache_clients=[5, 6, 7, 8],
            glz_dict_id=3,
            glz_dict={"size": 4, "max_encoders": 5, "last_image_id": 6},
        ),
    ),
    (INPUTS, RECORDED_INPUTS, {"magic": b"ICMD", "version": 1, "motion_count": 3}),
    *[
        row
        for channel in SPICEVMC
        for row in (
            (
                channel,
                RECORDED_SPICEVMC,
                {
                    "magic": b"SVMD",
                    "version": 1,
                    "char_device": device(connected=1, num_client_tokens=NONE, num_send_tokens=NONE),
                },
            ),
            (
                channel,
                RECORDED_SPICEVMC[:21] + struct.pack("<III", 6, 2, 33) + b"unread",
                {
                    "magic": b"SVMD",
                    "version": 1,
                    "char_device": device(
                        connected=1,
                        num_client_tokens=NONE,
                        num_send_tokens=NONE,
                        write_size=6,
                        write_num_client_tokens=2,
                        write_data_ptr=b"unread",
                    ),
                },
            ),
        )
    ],
    (
        SMARTCARD,
        SMARTCARD_BODY,
        {
            "magic": b"SCMD",
            "version": 1,
            "char_device": device(
                connected=1,
                num_client_tokens=NONE,
                num_send_tokens=NONE,
                write_size=4,
                write_data_ptr=b"unre",
            ),
            "reader_added": 1,
            "read_size": 12,
            "read_data_ptr": b"VSCMsgHeader",
        },
    ),
]
every_state = pytest.mark.parametrize(("channel", "body", "fields"), STATES)
both_ways = pytest.mark.parametrize(("side", "id_"), [(Side.SERVER, 2), (Side.CLIENT, 5)])


def told(channel: int, body: bytes) -> dict[str, Any]:
    return dissect(channel, Side.SERVER, 2, body).fields


def rebuilt(channel: int, body: bytes) -> bytes:
    found = dissect(channel, Side.SERVER, 2, body)
    return build(channel, Side.SERVER, 2, found.fields, trailing=found.trailing)


@both_ways
@every_state
def test_a_state_reads_as_what_it_says_and_builds_back(
    channel: ChannelType, body: bytes, fields: dict[str, Any], side: Side, id_: int
) -> None:
    found = dissect(channel, side, id_, body)
    assert found.name == ("SPICE_MSG_MIGRATE_DATA" if side is Side.SERVER else "SPICE_MSGC_MIGRATE_DATA")
    assert (found.fields, found.trailing) == (fields, b"")
    assert build(channel, side, id_, found.fields) == body


@every_state
def test_a_state_cut_anywhere_is_an_error(channel: ChannelType, body: bytes, fields: dict[str, Any]) -> None:
    for size in range(len(body)):
        if body == LOSSY and size == 84 + 2 * 4:
            continue  # two lossy surfaces cut to two lossless ones: nothing tells
        with pytest.raises(DissectionError):
            told(channel, body[:size])


@every_state
def test_counts_and_offsets_are_computed_when_they_are_left_out(
    channel: ChannelType, body: bytes, fields: dict[str, Any]
) -> None:
    def without_counts(value: Any) -> Any:
        counts = {"write_size", "msg_header_partial_len", "read_size", "num_surfaces"}
        if isinstance(value, dict):
            return {key: without_counts(each) for key, each in value.items() if key not in counts}
        return value

    assert build(channel, Side.SERVER, 2, without_counts(fields)) == body


@every_state
@pytest.mark.parametrize("changed", [b"XXXX\1\0\0\0", b"\xff\xff\xff\xff\1\0\0\0"])
def test_another_magic_is_kept(
    channel: ChannelType, body: bytes, fields: dict[str, Any], changed: bytes
) -> None:
    assert told(channel, changed + body[8:]) == fields | {"magic": changed[:4]}
    assert rebuilt(channel, changed + body[8:]) == changed + body[8:]


@every_state
def test_a_later_version_is_kept(channel: ChannelType, body: bytes, fields: dict[str, Any]) -> None:
    later = body[:4] + b"\xff\xff\xff\xff" + body[8:]
    assert told(channel, later) == fields | {"version": 2**32 - 1}
    assert rebuilt(channel, later) == later


def test_a_block_elsewhere_is_found_and_built_back() -> None:
    body = RECORDED_SPICEVMC[:21] + struct.pack("<III", 4, 0, 36) + b"gapdata"
    device_fields = told(USBREDIR, body)["char_device"]
    assert (device_fields["write_data_ptr"], device_fields["write_data_ptr_offset"]) == (b"data", 36)
    assert rebuilt(USBREDIR, body) == body


@pytest.mark.parametrize("pointer", [33, 34, 2**31, 2**32 - 1])
@pytest.mark.parametrize("size", [5, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_block_outside_is_an_error(pointer: int, size: int) -> None:
    body = RECORDED_SPICEVMC[:21] + struct.pack("<III", size, 0, pointer) + b"data"
    with pytest.raises(DissectionError, match=r"points to|but only . bytes are left"):
        told(USBREDIR, body)


def test_a_size_without_a_block_is_kept() -> None:
    body = RECORDED_SPICEVMC[:21] + struct.pack("<III", 7, 0, 0)
    assert told(USBREDIR, body)["char_device"]["write_size"] == 7
    assert rebuilt(USBREDIR, body) == body


@pytest.mark.parametrize("left", [0, 3, 5, 12, 15, 16, 39, 41, 60, 80])
def test_surfaces_that_fill_the_body_in_neither_form_are_an_error(left: int) -> None:
    body = RECORDED_DISPLAY[:80] + struct.pack("<I", 2) + bytes(left)
    with pytest.raises(DissectionError, match=rf"num_surfaces is 2, at 4 or 20 bytes each, but {left} bytes"):
        told(DISPLAY, body)


@pytest.mark.parametrize("count", [2**31, 2**32 - 1, MAX_SURFACES + 1])
def test_more_surfaces_than_a_server_has_are_an_error(count: int) -> None:
    with pytest.raises(DissectionError, match="num_surfaces is"):
        told(DISPLAY, RECORDED_DISPLAY[:80] + struct.pack("<I", count) + bytes(4 * (MAX_SURFACES + 1)))


def test_as_many_surfaces_as_a_server_has_are_read() -> None:
    for size in (4, 20):
        body = RECORDED_DISPLAY[:80] + struct.pack("<I", MAX_SURFACES) + bytes(size * MAX_SURFACES)
        assert len(told(DISPLAY, body)["surfaces_at_client_ptr"]["surfaces"]) == MAX_SURFACES
        assert rebuilt(DISPLAY, body) == body


@pytest.mark.parametrize(
    "surfaces",
    [
        [{"id": 1}, {"id": 1, "left": 0, "top": 0, "right": 0, "bottom": 0}],
        [{"id": 1, "left": 0}],
        [{"number": 1}],
        [7],
        [None],
        "text",
        5,
    ],
)
def test_surfaces_of_no_kind_or_of_two_are_an_error(surfaces: Any) -> None:
    fields = told(DISPLAY, RECORDED_DISPLAY)
    fields["surfaces_at_client_ptr"] = {"surfaces": surfaces}
    with pytest.raises(DissectionError):
        build(DISPLAY, Side.SERVER, 2, fields)


SURFACE = st.integers(0, 2**32 - 1).map(lambda id_: {"id": id_})
LOSSY_SURFACE = st.fixed_dictionaries(
    {"id": st.integers(0, 2**32 - 1)}
    | {side: st.integers(-(2**31), 2**31 - 1) for side in ("left", "top", "right", "bottom")}
)


@unhurried
@given(st.lists(SURFACE, max_size=20) | st.lists(LOSSY_SURFACE, max_size=20))
def test_surfaces_that_were_built_read_as_the_same(surfaces: list[dict[str, int]]) -> None:
    fields = told(DISPLAY, RECORDED_DISPLAY)
    fields["surfaces_at_client_ptr"] = {"surfaces": surfaces}
    body = build(DISPLAY, Side.SERVER, 2, fields)
    assert told(DISPLAY, body)["surfaces_at_client_ptr"]["surfaces"] == surfaces
    assert rebuilt(DISPLAY, body) == body


@unhurried
@given(st.sampled_from([channel for channel, _, _ in STATES]), st.binary(max_size=140))
def test_any_bytes_are_an_error_or_build_back(channel: ChannelType, body: bytes) -> None:
    try:
        found = dissect(channel, Side.CLIENT, 5, body)
    except DissectionError:
        return
    assert build(channel, Side.CLIENT, 5, found.fields, trailing=found.trailing) == body
