"""MIGRATE_DATA payloads: what is written is read back, and anything else is turned down."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.migrate_data import DeviceData, DisplayData, InputsData, MainData, PayloadError

U8, U32, U64 = st.integers(0, 2**8 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
UNREAD = st.binary(max_size=60)


@given(tokens=st.integers(0, 10), unread_tokens=st.integers(0, 10), unread=UNREAD, started=st.booleans())
def test_main_data_reads_back(tokens: int, unread_tokens: int, unread: bytes, started: bool) -> None:
    data = MainData(DeviceData(True, tokens, unread, unread_tokens), started)
    body = payloads.build_main(data)
    assert len(body) == 65 + len(unread)
    if tokens + unread_tokens <= 10:
        assert payloads.parse_main(body) == data
    else:
        with pytest.raises(PayloadError) as caught:
            payloads.parse_main(body)
        assert caught.value.rule == "R47"


def test_main_data_without_an_agent_is_all_zero() -> None:
    body = payloads.build_main(MainData())
    assert body == b"MNMD" + struct.pack("<II", 1, 1) + bytes(53)
    assert payloads.parse_main(body) == MainData()


@given(
    st.builds(
        DisplayData,
        message_serial=U64,
        surfaces=st.lists(st.integers(0, 1023), unique=True, max_size=20).map(tuple),
        low_bandwidth=st.booleans(),
        pixmap_cache_id=U8,
        pixmap_cache_pixels=st.integers(-(2**63), 2**63 - 1),
        freezer=st.booleans(),
        cache_clients=st.tuples(U64, U64, U64, U64),
        glz_id=U8,
        glz_pixels=U32,
        glz_encoders=U32,
        last_image_id=U64,
    )
)
def test_display_data_reads_back(data: DisplayData) -> None:
    body = payloads.build_display(data)
    assert len(body) == 84 + 4 * len(data.surfaces)
    assert payloads.parse_display(body) == data


def test_lossy_surfaces_are_read_as_well() -> None:
    body = payloads.build_display(DisplayData(7, ()))[:80] + struct.pack("<I", 2)
    body += struct.pack("<Iiiii", 0, 1, 2, 3, 4) + struct.pack("<Iiiii", 5, 1, 2, 3, 4)
    assert payloads.parse_display(body).surfaces == (0, 5)


@given(st.integers(0, 2**16 - 1))
def test_inputs_data_reads_back(motion_count: int) -> None:
    body = payloads.build_inputs(InputsData(motion_count))
    assert len(body) == 10
    assert payloads.parse_inputs(body) == InputsData(motion_count)


@given(UNREAD)
def test_device_data_reads_back(unread: bytes) -> None:
    body = payloads.build_device(DeviceData(unread=unread))
    assert len(body) == 33 + len(unread)
    assert payloads.parse_device(body) == DeviceData(unread=unread)


# As seen between QEMU 7.2 (spice-server 0.15.1) and spice-gtk 0.42.
RECORDED = [
    (payloads.parse_inputs, payloads.build_inputs, "49434d44010000000000"),
    (payloads.parse_device, payloads.build_device, "53564d44010000000100000001ffffffffffffffff000000000000000000000000"),
    (payloads.parse_main, payloads.build_main, "4d4e4d440100000001000000" + "00" * 53),
    (
        payloads.parse_display,
        payloads.build_display,
        "44434d4401000000" "7a00000000000000" "00" "01" "0000400100000000" "01" + "00" * 32
        + "01" "00fc5f00" "04000000" "6e00000000000000" "50000000" "01000000" "00000000",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "build", "recorded"), RECORDED)
def test_real_payloads_read_back(parse, build, recorded: str) -> None:  # type: ignore[no-untyped-def]
    body = bytes.fromhex(recorded)
    assert build(parse(body)) == body


@pytest.mark.parametrize(("parse", "build", "recorded"), RECORDED)
def test_a_payload_cut_anywhere_is_turned_down(parse, build, recorded: str) -> None:  # type: ignore[no-untyped-def]
    body = bytes.fromhex(recorded)
    for end in range(len(body)):
        with pytest.raises(PayloadError):
            parse(body[:end])


@pytest.mark.parametrize(("parse", "build", "recorded"), RECORDED)
@given(garbage=st.binary(max_size=120), keep=st.integers(0, 90))
def test_garbage_gives_nothing_but_payload_errors(parse, build, recorded, garbage, keep) -> None:  # type: ignore[no-untyped-def]
    body, rule = bytes.fromhex(recorded)[:keep] + garbage, "R34"
    try:
        parse(body)
    except PayloadError as error:
        rule = error.rule
    assert rule in {"R33", "R34", "R47"}


def change(body: bytes, offset: int, layout: str, value: int) -> bytes:
    return body[:offset] + struct.pack(layout, value) + body[offset + struct.calcsize(layout) :]


AGENT = payloads.build_main(MainData(DeviceData(True, 3, b"unread", 1), agent_started=True))
DEVICE = payloads.build_device(DeviceData(unread=b"unread"))
SCREEN = payloads.build_display(DisplayData(5, (0, 1)))


@pytest.mark.parametrize(
    ("parse", "body", "rule"),
    [
        (payloads.parse_main, change(AGENT, 0, "<I", 0), "R33"),
        (payloads.parse_main, change(AGENT, 4, "<I", 2), "R33"),
        (payloads.parse_main, change(AGENT, 8, "<I", 2), "R33"),
        (payloads.parse_main, change(AGENT, 12, "<B", 2), "R34"),
        (payloads.parse_main, change(AGENT, 12, "<B", 0), "R34"),  # not connected, with state
        (payloads.parse_main, change(AGENT, 29, "<I", 66), "R34"),
        (payloads.parse_main, change(AGENT, 29, "<I", 2**31), "R34"),
        (payloads.parse_main, change(AGENT, 34, "<I", 9), "R34"),  # of a chunk header of 8 bytes
        (payloads.parse_main, change(AGENT, 47, "<I", 20), "R34"),  # of an agent header of 20 bytes
        (payloads.parse_main, change(AGENT, 47, "<I", 3), "R34"),  # before its chunk header
        (payloads.parse_main, change(AGENT, 59, "<B", 4), "R34"),
        (payloads.parse_main, change(AGENT, 64, "<B", 4), "R34"),
        (payloads.parse_main, AGENT + b"x", "R34"),
        (payloads.parse_device, change(DEVICE, 12, "<B", 0), "R34"),
        (payloads.parse_device, change(DEVICE, 13, "<I", 5), "R34"),
        (payloads.parse_device, change(DEVICE, 21, "<I", 2**32 - 1), "R34"),
        (payloads.parse_display, change(SCREEN, 76, "<I", 79), "R34"),
        (payloads.parse_display, change(SCREEN, 76, "<I", 2**32 - 1), "R34"),
        (payloads.parse_display, change(SCREEN, 80, "<I", 2**32 - 1), "R34"),
        (payloads.parse_display, change(SCREEN, 84, "<I", 1), "R34"),  # twice
        (payloads.parse_display, change(SCREEN, 84, "<I", 1024), "R34"),
    ],
)
def test_a_payload_with_one_wrong_value_is_turned_down(parse, body: bytes, rule: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PayloadError) as caught:
        parse(body)
    assert caught.value.rule == rule
