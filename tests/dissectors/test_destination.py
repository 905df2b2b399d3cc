"""MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS, MIGRATE_SWITCH_HOST, and putting another host into them."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.destination import host_name, is_usual_layout, rewrite_destination
from dissectors.errors import DissectionError
from dissectors.registry import build, build_named, dissect
from dissectors.side import Side
from tests.dissectors.bodies import TEXT, unhurried

BEGIN, SWITCH_HOST, SEAMLESS = 101, 111, 116
FIXED = {BEGIN: 20, SWITCH_HOST: 20, SEAMLESS: 24}
NAMES = {
    BEGIN: "SPICE_MSG_MAIN_MIGRATE_BEGIN",
    SWITCH_HOST: "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
    SEAMLESS: "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
}
every_kind = pytest.mark.parametrize("kind", sorted(FIXED), ids=lambda kind: NAMES[kind])

# From QEMU 7.2 with spice-server 0.15.1: tls-port not given, so sport is -1.
RECORDED = {
    BEGIN: bytes.fromhex("0b88 ffff 0a000000 14000000 00000000 00000000") + b"127.0.0.1\0",
    SWITCH_HOST: bytes.fromhex("0100 ffff 0a000000 14000000 00000000 00000000") + b"127.0.0.1\0",
    SEAMLESS: bytes.fromhex("7217 ffff 0a000000 18000000 00000000 00000000 01000000") + b"127.0.0.1\0",
}
RECORDED_PORTS = {BEGIN: 34827, SWITCH_HOST: 1, SEAMLESS: 0x1772}


def message(
    kind: int, numbers: tuple[int, int, int, int], tail: bytes, ports: tuple[int, int] = (5900, 5901)
) -> bytes:
    """host_size, host_data, cert_subject_size, cert_subject_data; offsets count from the end of the fixed part."""
    host_size, host_data, subject_size, subject_data = numbers
    fixed = FIXED[kind]
    body = struct.pack("<HHIIII", *ports, host_size, host_data + fixed, subject_size, subject_data + fixed)
    return body + (b"\x01\0\0\0" if kind == SEAMLESS else b"") + tail


def resolved(body: bytes) -> dict[str, Any]:
    """What the generated parsers of spice-gtk make of a body, told by struct alone."""
    port, sport, host_size, host_data, subject_size, subject_data = struct.unpack_from("<HHIIII", body)
    found: dict[str, Any] = {"port": port, "sport": sport}
    for name, size, data in (("host", host_size, host_data), ("cert_subject", subject_size, subject_data)):
        assert data == 0 or (data < len(body) and data + size <= len(body))
        found[name] = body[data : data + size] if data else None
    return found


def flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields without the struct that two of the three messages have around most of them."""
    return {
        **fields.get("dst_info", {}),
        **{key: value for key, value in fields.items() if key != "dst_info"},
    }


def fields_of(kind: int, body: bytes) -> dict[str, Any]:
    return flat(dissect(ChannelType.MAIN, Side.SERVER, kind, body).fields)


def built(kind: int, *, trailing: bytes = b"", **dst_info: Any) -> bytes:
    if kind == SWITCH_HOST:
        return build_named(NAMES[kind], trailing=trailing, **dst_info)
    version = {"src_mig_version": 1} if kind == SEAMLESS else {}
    return build_named(NAMES[kind], trailing=trailing, dst_info=dst_info, **version)


def rebuilt(kind: int, body: bytes) -> bytes:
    found = dissect(ChannelType.MAIN, Side.SERVER, kind, body)
    return build(ChannelType.MAIN, Side.SERVER, kind, found.fields, trailing=found.trailing)


@every_kind
def test_a_recorded_message_shows_where_the_session_goes(kind: int) -> None:
    found = dissect(ChannelType.MAIN, Side.SERVER, kind, RECORDED[kind])
    dst_info = {
        "port": RECORDED_PORTS[kind],
        "sport": 0xFFFF,
        "host_size": 10,
        "host_data": "127.0.0.1",
        "cert_subject_size": 0,
        "cert_subject_data": None,
    }
    assert found.name == NAMES[kind]
    assert (
        found.fields
        == {
            BEGIN: {"dst_info": dst_info},
            SWITCH_HOST: dst_info,
            SEAMLESS: {"dst_info": dst_info, "src_mig_version": 1},
        }[kind]
    )
    assert found.trailing == b""
    assert rebuilt(kind, RECORDED[kind]) == RECORDED[kind]


@every_kind
def test_sizes_and_offsets_are_computed_when_they_are_left_out(kind: int) -> None:
    assert built(kind, host_data="127.0.0.1", port=RECORDED_PORTS[kind], sport=0xFFFF) == RECORDED[kind]
    both = built(kind, host_data="a.example", cert_subject_data="O=Lab,CN=a", port=5900, sport=5901)
    assert both == message(kind, (10, 0, 11, 10), b"a.example\0O=Lab,CN=a\0")


@every_kind
@pytest.mark.parametrize(
    ("numbers", "tail", "host", "subject", "told"),
    [
        pytest.param((4, 6, 6, 0), b"CN=x\0\0abc\0", "abc", b"CN=x\0\0", "abc", id="subject first"),
        pytest.param((4, 3, 5, 10), b"...abc\0...CN=x\0", "abc", "CN=x", "abc", id="gaps"),
        pytest.param((8, 0, 4, 4), b"abc.def\0", "abc.def", "def", "abc.def", id="overlapping"),
        pytest.param((8, 0, 8, 0), b"abc.def\0", "abc.def", "abc.def", "abc.def", id="the same"),
        pytest.param((7, 0, 0, -1000), b"abc.def", b"abc.def", None, "abc.def", id="no NUL"),
        pytest.param((8, 0, 0, -1000), b"abc\0def\0", b"abc\0def\0", None, "abc", id="NUL inside"),
        pytest.param((0, 1, 0, 2), b"abc\0", b"", b"", "", id="empty"),
        pytest.param((6, 0, 0, -1000), b"caf\xe9!\0", b"caf\xe9!\0", None, "caf\\xe9!", id="not UTF-8"),
        pytest.param((4, 0, 9, -1000), b"abc\0", "abc", None, "abc", id="a size without a subject"),
        pytest.param((4, 0, 4, -20), b"abc\0", "abc", b"\4\0\0\0", "abc", id="subject in the fixed part"),
    ],
)
def test_an_odd_but_legal_layout_is_resolved_and_built_back(
    kind: int,
    numbers: tuple[int, int, int, int],
    tail: bytes,
    host: str | bytes,
    subject: str | bytes | None,
    told: str,
) -> None:
    host_size, host_data, subject_size, subject_data = numbers
    body = bytearray(message(kind, (host_size, host_data, subject_size, 0), tail))
    struct.pack_into("<I", body, 16, 4 if subject_data == -20 else max(0, subject_data + FIXED[kind]))
    fields = fields_of(kind, bytes(body))
    assert fields["host_data"] == host
    assert host_name(fields["host_data"]) == told
    assert fields["cert_subject_data"] == subject
    assert not is_usual_layout(fields)
    assert rebuilt(kind, bytes(body)) == body


@every_kind
@pytest.mark.parametrize("subject", [{}, {"cert_subject_data": "O=Lab,CN=s2"}])
def test_what_spice_server_writes_is_the_usual_layout(kind: int, subject: dict[str, Any]) -> None:
    body = built(kind, port=1, sport=2, host_data="s2", **subject)
    assert is_usual_layout(fields_of(kind, body))
    assert is_usual_layout(fields_of(kind, RECORDED[kind]))


@every_kind
def test_trailing_bytes_are_kept_apart(kind: int) -> None:
    found = dissect(ChannelType.MAIN, Side.SERVER, kind, RECORDED[kind] + b"more")
    assert found.trailing == b"more"
    assert rebuilt(kind, RECORDED[kind] + b"more") == RECORDED[kind] + b"more"


@every_kind
@pytest.mark.parametrize(
    "numbers",
    [(5, 0, 0, 0), (0, 4, 0, 0), (4, 0, 1, 4), (4, 0, 5, 0), (0xFFFFFFFF, 0, 0, 0), (4, 0, 0xFFFFFFFF, 1)],
)
def test_a_string_outside_the_body_is_an_error(kind: int, numbers: tuple[int, int, int, int]) -> None:
    body = message(kind, numbers, b"abc\0")
    outside = r"data: points to \d+ in a body of \d+ bytes|size is \d+, but only \d+ bytes are left"
    with pytest.raises(DissectionError, match=outside):
        fields_of(kind, body)
    with pytest.raises(DissectionError, match=outside):
        rewrite_destination(kind, body, host="proxy", port=1, sport=None)


@every_kind
@pytest.mark.parametrize(("at", "name"), [(8, "host_data"), (16, "cert_subject_data")])
def test_a_pointer_at_its_extreme_is_an_error(kind: int, at: int, name: str) -> None:
    body = bytearray(RECORDED[kind])
    struct.pack_into("<I", body, at, 0xFFFFFFFF)
    with pytest.raises(DissectionError, match=f"{name}: points to 4294967295 in a body"):
        fields_of(kind, bytes(body))
    with pytest.raises(DissectionError, match=f"{name}: points to 4294967295 in a body"):
        rewrite_destination(kind, bytes(body), host="proxy", port=1, sport=None)


def test_a_null_host_is_taken_in_switch_host_only() -> None:
    body = {kind: bytes(FIXED[kind]) for kind in FIXED}
    assert fields_of(SWITCH_HOST, body[SWITCH_HOST])["host_data"] is None
    assert host_name(None) is None
    assert rebuilt(SWITCH_HOST, body[SWITCH_HOST]) == body[SWITCH_HOST]
    for kind in (BEGIN, SEAMLESS):
        with pytest.raises(DissectionError, match="dst_info -> host_data: is a null pointer"):
            fields_of(kind, body[kind])
    for kind, each in body.items():
        with pytest.raises(DissectionError, match=r"host_data:? is a null pointer"):
            rewrite_destination(kind, each, host="proxy", port=1, sport=None)


def test_a_host_is_wanted_where_a_null_pointer_is_not_taken() -> None:
    assert built(SWITCH_HOST, port=0, sport=0) == bytes(20)
    with pytest.raises(DissectionError, match="dst_info: wants a value for host_data"):
        built(BEGIN, port=0, sport=0)


def test_an_error_in_the_fixed_part_is_told_as_it_is() -> None:
    with pytest.raises(
        DissectionError, match=r"^SPICE_MSG_MAIN_MIGRATE_BEGIN: dst_info: wants a value for sport$"
    ):
        built(BEGIN, port=1, host_data="a")
    with pytest.raises(
        DissectionError, match=r"^SPICE_MSG_MAIN_MIGRATE_BEGIN: has no field 'src_mig_version'$"
    ):
        build_named(NAMES[BEGIN], dst_info={"port": 1, "sport": 0, "host_data": "a"}, src_mig_version=1)


def test_a_size_that_no_longer_fits_its_string_is_an_error() -> None:
    fields = fields_of(BEGIN, RECORDED[BEGIN]) | {"host_data": "a-longer-name.example"}
    with pytest.raises(DissectionError, match="host_size: is 10, but host_data has 22"):
        built(BEGIN, **fields)
    del fields["host_size"]
    assert fields_of(BEGIN, built(BEGIN, **fields))["host_data"] == "a-longer-name.example"


@every_kind
def test_a_body_cut_anywhere_is_an_error(kind: int) -> None:
    body = built(kind, host_data="s2", cert_subject_data="O=Lab", port=1, sport=2)
    for size in range(len(body)):
        with pytest.raises(DissectionError):
            fields_of(kind, body[:size])
        with pytest.raises(DissectionError):
            rewrite_destination(kind, body[:size], host="proxy", port=1, sport=None)


@pytest.mark.parametrize("host", ["with\0nul", "\ud800"])
def test_a_host_that_cannot_be_written_is_an_error(host: str) -> None:
    with pytest.raises(DissectionError):
        built(BEGIN, port=1, sport=0, host_data=host)
    with pytest.raises(DissectionError):
        rewrite_destination(BEGIN, RECORDED[BEGIN], host=host, port=None, sport=None)


@every_kind
@pytest.mark.parametrize("host", ["h", "10.0.0.27", "a-longer-name.example", "fe80::1%eth0"])
@pytest.mark.parametrize("subject", [b"", b"O=Lab,CN=s2\0"])
@pytest.mark.parametrize("trailing", [b"", b"more"])
def test_in_the_usual_layout_the_new_host_takes_the_place_of_the_old_one(
    kind: int, host: str, subject: bytes, trailing: bytes
) -> None:
    old, new = b"127.0.0.1\0", host.encode() + b"\0"

    def layout(name: bytes, ports: tuple[int, int]) -> bytes:
        at = len(name) if subject else -FIXED[kind]
        return message(kind, (len(name), 0, len(subject), at), name + subject + trailing, ports)

    body = layout(old, (5900, 5901))
    assert rewrite_destination(kind, body, host=host, port=7, sport=0) == layout(new, (7, 0))
    assert rewrite_destination(kind, body, host=host, port=None, sport=None) == layout(new, (5900, 5901))
    assert rewrite_destination(kind, body, host=host, port=None, sport=8) == layout(new, (5900, 8))


@every_kind
def test_without_a_shift_the_new_host_is_appended(kind: int) -> None:
    tail = b"s2\0CN=s2\0more"
    body = message(kind, (3, 0, 6, 3), tail)
    expected = message(kind, (6, len(tail), 6, 3), tail + b"proxy\0", (7, 5901))
    assert rewrite_destination(kind, body, host="proxy", port=7, sport=None, allow_shift=False) == expected


@every_kind
@pytest.mark.parametrize(
    ("numbers", "tail"),
    [
        pytest.param((8, 0, 4, 4), b"abc.def\0", id="overlapping"),
        pytest.param((4, 6, 6, 0), b"CN=x\0\0abc\0", id="subject first"),
        pytest.param((4, 0, 6, 5), b"abc\0.CN=x\0\0", id="gap between"),
        pytest.param((4, 1, 6, 5), b".abc\0CN=x\0\0", id="gap before"),
    ],
)
def test_in_any_other_layout_the_new_host_is_appended(
    kind: int, numbers: tuple[int, int, int, int], tail: bytes
) -> None:
    expected = message(kind, (6, len(tail), *numbers[2:]), tail + b"proxy\0", (5900, 9))
    assert (
        rewrite_destination(kind, message(kind, numbers, tail), host="proxy", port=None, sport=9) == expected
    )


@every_kind
@pytest.mark.parametrize("subject", [(1, 4), (16, 8), (4, 0)])
def test_a_subject_that_lies_on_the_numbers_is_kept_as_it_was(kind: int, subject: tuple[int, int]) -> None:
    body = bytearray(message(kind, (4, 0, 0, 0), b"abc\0"))
    struct.pack_into("<II", body, 12, subject[1], subject[0])
    before = resolved(bytes(body))
    after = resolved(rewrite_destination(kind, bytes(body), host="proxy", port=1, sport=2))
    assert after == {"port": 1, "sport": 2, "host": b"proxy\0", "cert_subject": before["cert_subject"]}


@pytest.mark.parametrize("message_id", [0, 102, 112, 118])
def test_a_message_without_a_destination_is_not_rewritten(message_id: int) -> None:
    with pytest.raises(DissectionError, match=f"message {message_id} names no destination"):
        rewrite_destination(message_id, RECORDED[BEGIN], host="proxy", port=1, sport=None)


@pytest.mark.parametrize(("port", "sport"), [(65536, None), (-1, None), (None, 65536)])
def test_a_port_out_of_range_is_an_error(port: int | None, sport: int | None) -> None:
    with pytest.raises(DissectionError):
        rewrite_destination(BEGIN, RECORDED[BEGIN], host="proxy", port=port, sport=sport)


def test_an_empty_host_is_an_error() -> None:
    with pytest.raises(DissectionError, match="cannot be a host"):
        rewrite_destination(BEGIN, RECORDED[BEGIN], host="", port=1, sport=None)


PORT = st.none() | st.integers(0, 65535)


@every_kind
@unhurried
@given(
    st.binary(min_size=1, max_size=40),
    st.tuples(*[st.integers(0, 64)] * 4),
    TEXT.filter(bool),
    PORT,
    PORT,
    st.booleans(),
)
def test_everything_but_host_and_ports_resolves_unchanged(
    kind: int,
    tail: bytes,
    numbers: tuple[int, int, int, int],
    host: str,
    port: int | None,
    sport: int | None,
    allow_shift: bool,
) -> None:
    host_size, host_data, subject_size, subject_data = numbers
    body = bytearray(message(kind, (0, 0, 0, 0), tail))
    host_data = 1 + host_data % (len(body) - 1)
    subject_data %= len(body)
    host_size %= len(body) - host_data + 1
    subject_size = subject_size % (len(body) - subject_data + 1) if subject_data else subject_size
    struct.pack_into("<IIII", body, 4, host_size, host_data, subject_size, subject_data)
    before = resolved(bytes(body))
    assert rebuilt(kind, bytes(body)) == body

    after = rewrite_destination(kind, bytes(body), host=host, port=port, sport=sport, allow_shift=allow_shift)
    assert resolved(after) == {
        "port": before["port"] if port is None else port,
        "sport": before["sport"] if sport is None else sport,
        "host": host.encode() + b"\0",
        "cert_subject": before["cert_subject"],
    }
    if kind == SEAMLESS:
        assert after[20:24] == body[20:24]
    assert rebuilt(kind, after) == after
    assert fields_of(kind, after)["host_data"] == host


@every_kind
@unhurried
@given(TEXT.filter(bool), st.none() | TEXT, st.binary(max_size=9), TEXT.filter(bool))
def test_a_rewrite_and_its_reverse_give_back_the_bytes(
    kind: int, host: str, subject: str | None, trailing: bytes, new: str
) -> None:
    body = built(kind, host_data=host, cert_subject_data=subject, port=5, sport=6, trailing=trailing)
    there = rewrite_destination(kind, body, host=new, port=7, sport=8)
    assert rewrite_destination(kind, there, host=host, port=5, sport=6) == body
