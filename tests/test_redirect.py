"""Redirecting a client: host and usable ports change, every other byte stays."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.message_ids import Main
from dissectors.registry import build_named, dissect
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.destinations import Way
from spiceproxy.errors import UsageError
from spiceproxy.protocol.announcement import NotRedirectedError, read_announcement
from spiceproxy.protocol.framer import MAX_KEPT_BYTES, Message
from spiceproxy.redirect import Redirected, redirect, ways_to
from tests.protocol.streams import unhurried

BEGIN, SEAMLESS, SWITCH = (
    Main.MIGRATE_BEGIN,
    Main.MIGRATE_BEGIN_SEAMLESS,
    Main.MIGRATE_SWITCH_HOST,
)
NAMES: dict[int, str] = {
    BEGIN: "SPICE_MSG_MAIN_MIGRATE_BEGIN",
    SEAMLESS: "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
    SWITCH: "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
}
# As QEMU 7.2 sent it: 127.0.0.1:5998, no TLS port, version 1.
RECORDED = bytes.fromhex("6e17 ffff 0a000000 18000000 00000000 00000000 01000000") + b"127.0.0.1\0"
SERIAL = 0x1122334455667788

EVERY = pytest.mark.parametrize("id_", NAMES, ids=["begin", "seamless", "switch"])
HEADERS = pytest.mark.parametrize("mini_header", [True, False], ids=["mini", "full"])


def message(
    id_: int, body: bytes, *, mini_header: bool = True, sub_list: int = 0, size: int | None = None
) -> Message:
    """As the framer gives it."""
    size = len(body) if size is None else size
    header = struct.pack("<HI", id_, size)
    if not mini_header:
        header = struct.pack("<QHII", SERIAL, id_, size, sub_list)
    return Message(Side.SERVER, id_, size, SERIAL, sub_list, header, body)


def body_of(id_: int, **fields: Any) -> bytes:
    """A body in the layout that spice-server writes."""
    values: dict[str, Any] = {
        "port": 5900,
        "sport": 0xFFFF,
        "host_data": "kvm2.example",
    } | fields
    if id_ != SWITCH:
        values = {"dst_info": values}
    if id_ == SEAMLESS:
        values["src_mig_version"] = 1
    return build_named(NAMES[id_], **values)


@dataclass
class Opener:
    """Opens ports from 6000 on, and remembers for whom."""

    asked: list[Way] = field(default_factory=list)

    def __call__(self, way: Way) -> int:
        self.asked.append(way)
        return 5999 + len(self.asked)


def redirected(
    received: Message,
    *,
    host: str = "192.0.2.99",
    listen: Callable[[Way], int] | None = None,
    subject: str | None = None,
) -> Redirected:
    announcement = read_announcement(received)
    ways = ways_to(announcement, {False: False}, unread=True)
    return redirect(received, announcement, host=host, ways=ways, listen=listen or Opener(), subject=subject)


def reread(result: Redirected, id_: int, *, mini_header: bool = True) -> dict[str, Any]:
    """The fields as the client reads them, after a look at the header."""
    header_bytes = 6 if mini_header else 18
    header, body = result.data[:header_bytes], result.data[header_bytes:]
    assert header == message(id_, body, mini_header=mini_header).header
    return destination(id_, body)


def destination(id_: int, body: bytes) -> dict[str, Any]:
    """All fields, those of DstInfo without the struct."""
    fields = dissect(ChannelType.MAIN, Side.SERVER, id_, body).fields
    return {**fields.pop("dst_info", {}), **fields}


@EVERY
@HEADERS
@pytest.mark.parametrize(
    "host", ["10.0.0.1", "a-name-that-is-much-longer-than-the-one-before.example", "kvm3.example"]
)
@pytest.mark.parametrize("cert_subject", [None, "O=Example,CN=kvm2"])
def test_the_client_is_sent_to_the_proxy_and_nothing_else_changes(
    id_: int, mini_header: bool, host: str, cert_subject: str | None
) -> None:
    received = message(id_, body_of(id_, cert_subject_data=cert_subject), mini_header=mini_header)
    before, opener = destination(id_, received.body), Opener()
    result = redirected(received, host=host, listen=opener)
    after = reread(result, id_, mini_header=mini_header)
    assert opener.asked == [Way(Address("kvm2.example", 5900))]
    assert (after["host_data"], after["port"], after["sport"]) == (host, 6000, 0xFFFF)
    assert result.after == {"host": host, "port": 6000, "sport": 0xFFFF}
    moved = {"host_data", "port", "host_size"}
    assert {key: after[key] for key in after.keys() - moved} == {
        key: before[key] for key in before.keys() - moved
    }
    assert after["cert_subject_data"] == cert_subject


def test_a_recorded_message_is_rewritten_to_the_byte() -> None:
    result = redirected(message(SEAMLESS, RECORDED), host="192.0.2.1")
    header = bytes.fromhex("7400 22000000")
    fixed = bytes.fromhex("7017 ffff 0a000000 18000000 00000000 00000000 01000000")
    assert result.data == header + fixed + b"192.0.2.1\0"


@EVERY
@pytest.mark.parametrize(
    ("port", "sport", "asked", "after"),
    [
        (5900, 0, [(5900, False)], (6000, 0)),
        (5900, 0xFFFF, [(5900, False)], (6000, 0xFFFF)),
        (5900, 5901, [(5900, False), (5901, True)], (6000, 6001)),
        (0, 5901, [(5901, True)], (0, 6000)),
        (0xFFFF, 5901, [(5901, True)], (0xFFFF, 6000)),
    ],
)
def test_only_ports_that_are_there_are_opened_and_changed(
    id_: int, port: int, sport: int, asked: list[tuple[int, bool]], after: tuple[int, int]
) -> None:
    opener = Opener()
    result = redirected(message(id_, body_of(id_, port=port, sport=sport)), listen=opener)
    assert opener.asked == [Way(Address("kvm2.example", number), unread=tls) for number, tls in asked]
    fields = reread(result, id_)
    assert (fields["port"], fields["sport"]) == after == (result.after["port"], result.after["sport"])


@EVERY
def test_an_announcement_is_told_as_it_came(id_: int) -> None:
    announcement = read_announcement(message(id_, body_of(id_, sport=5901)))
    assert (announcement.name, announcement.host, announcement.port, announcement.sport) == (
        NAMES[id_], "kvm2.example", 5900, 5901
    )  # fmt: skip
    assert announcement.destination(5901) == Address("kvm2.example", 5901)
    assert announcement.fields.get("dst_info", announcement.fields)["host_data"] == "kvm2.example"
    assert announcement.told == {"host": "kvm2.example", "port": 5900, "sport": 5901}


@EVERY
def test_offsets_of_sub_messages_still_point_at_them(id_: int) -> None:
    """Those count from the start of the body, so that nothing in it may move."""
    body, sub_message = body_of(id_), b"\x01\x00" + b"\x1e\0\0\0" + b"sub-message"
    received = message(id_, body + sub_message, mini_header=False, sub_list=len(body))
    result = redirected(received, host="a-name-that-is-longer-than-the-one-before")
    header, after = result.data[:18], result.data[18:]
    serial, type_, size, sub_list = struct.unpack("<QHII", header)
    assert (serial, type_, size, sub_list) == (SERIAL, id_, len(after), len(body))
    assert after[sub_list:].startswith(sub_message)
    fields = destination(id_, after)
    assert (fields["host_data"], fields["port"]) == ("a-name-that-is-longer-than-the-one-before", 6000)


@EVERY
@unhurried
@given(data=st.data())
def test_strings_anywhere_in_the_body_are_found_and_the_subject_kept(id_: int, data: st.DataObject) -> None:
    fixed_bytes = 24 if id_ == SEAMLESS else 20
    room = data.draw(st.binary(min_size=60, max_size=60).map(lambda raw: raw.replace(b"\0", b"x") + b"\0"))
    host_at, subject_at = (data.draw(st.integers(0, len(room) - 2)) for _ in range(2))
    sizes = (len(room) - host_at, len(room) - subject_at)
    numbers = (5900, 0, sizes[0], fixed_bytes + host_at, sizes[1], fixed_bytes + subject_at)
    body = struct.pack("<HHIIII", *numbers) + bytes(fixed_bytes - 20) + room
    before = destination(id_, body)
    after = reread(redirected(message(id_, body), host="proxy.example"), id_)
    assert (after["host_data"], after["port"], after["sport"]) == ("proxy.example", 6000, 0)
    assert after["cert_subject_data"] == before["cert_subject_data"]


# By which ways the client comes -------------------------------------------------------------------

PLAIN, SECURE = Address("kvm2.example", 5900), Address("kvm2.example", 5901)
CLEAR = Way(PLAIN)
TLS = Way(SECURE, tls=True, server_tls=True, subject="CN=kvm2")
# How clients can come to the proxy, and where that leads first; the server's ports; what its message has then.
WAYS: dict[str, tuple[dict[bool, bool], int, int, dict[bool, Way]]] = {
    "both, both": ({False: False, True: True}, 5900, 5901, {False: CLEAR, True: TLS}),
    "both, but no plain port": ({False: False, True: True}, 0, 5901, {True: TLS}),
    "both, but no TLS port": ({False: False, True: True}, 5900, 0xFFFF, {False: CLEAR}),
    "TLS only": ({True: True}, 5900, 5901, {True: TLS}),
    "TLS only, but no TLS port": ({True: True}, 5900, 0, {True: Way(PLAIN, tls=True)}),
    "in clear only": ({False: False}, 5900, 5901, {False: CLEAR}),
    "in clear only, but no plain port": ({False: False}, 0, 5901, {False: replace(TLS, tls=False)}),
    "in clear to TLS": ({False: True}, 5900, 5901, {False: replace(TLS, tls=False)}),
    "TLS to clear": ({True: False}, 5900, 5901, {True: Way(PLAIN, tls=True)}),
}


@EVERY
@pytest.mark.parametrize(("offered", "port", "sport", "ways"), WAYS.values(), ids=WAYS)
def test_a_client_finds_with_the_next_server_what_it_found_with_the_first(
    id_: int, offered: dict[bool, bool], port: int, sport: int, ways: dict[bool, Way]
) -> None:
    received = message(id_, body_of(id_, port=port, sport=sport, cert_subject_data="CN=kvm2"))
    announcement = read_announcement(received)
    assert announcement.subject == "CN=kvm2"
    assert ways_to(announcement, offered, unread=False) == ways
    result = redirect(received, announcement, host="proxy", ways=ways, listen=lambda way: 7000 + way.tls)
    fields = reread(result, id_)
    told = {False: port, True: sport}
    for tls, name in ((False, "port"), (True, "sport")):
        none = told[tls] if told[tls] in {0, 0xFFFF} else 0
        assert fields[name] == result.after[name] == (7000 + tls if tls in ways else none)
    assert fields["cert_subject_data"] == "CN=kvm2"


@EVERY
@HEADERS
@pytest.mark.parametrize("before", [None, "O=Example,CN=kvm2"])
def test_a_certificate_of_our_own_has_its_subject_told(
    id_: int, mini_header: bool, before: str | None
) -> None:
    received = message(id_, body_of(id_, cert_subject_data=before), mini_header=mini_header)
    fields = reread(redirected(received, subject="CN=proxy"), id_, mini_header=mini_header)
    assert (fields["cert_subject_data"], fields["host_data"]) == ("CN=proxy", "192.0.2.99")


# What goes out as it came -------------------------------------------------------------------------


def refused(received: Message) -> str:
    with pytest.raises(NotRedirectedError) as caught:
        read_announcement(received)
    return str(caught.value)


@EVERY
@pytest.mark.parametrize(("port", "sport"), [(0, 0), (0xFFFF, 0xFFFF), (0, 0xFFFF), (0xFFFF, 0)])
def test_a_message_without_a_port_is_left_alone(id_: int, port: int, sport: int) -> None:
    assert refused(message(id_, body_of(id_, port=port, sport=sport))) == "it names no port"


@EVERY
def test_a_message_without_a_host_is_left_alone(id_: int) -> None:
    assert refused(message(id_, body_of(id_, host_data=""))) == "it names no host"


def test_a_null_pointer_is_left_alone() -> None:
    """spice-gtk crashes on it; that is between the server and the client."""
    body = struct.pack("<HHIIII", 5900, 0, 0, 0, 0, 0)
    assert refused(message(SWITCH, body)) == "it names no host"
    assert "null pointer" in refused(message(BEGIN, body))


@EVERY
def test_a_message_that_cannot_be_read_is_left_alone_wherever_it_is_cut(id_: int) -> None:
    body = body_of(id_)
    for size in range(len(body)):
        assert refused(message(id_, body[:size]))
    wild = body[:8] + (2**32 - 1).to_bytes(4, "little") + body[12:]
    assert "host_data: points to 4294967295" in refused(message(id_, wild))


def test_a_message_that_was_too_long_to_be_kept_is_left_alone() -> None:
    received = message(BEGIN, body_of(BEGIN).ljust(MAX_KEPT_BYTES, b"\0"), size=MAX_KEPT_BYTES + 1)
    assert str(MAX_KEPT_BYTES + 1) in refused(received)


@EVERY
@pytest.mark.parametrize("fails_at", [0, 1], ids=["plain", "TLS"])
def test_without_a_free_port_the_message_is_left_alone_and_the_reason_told(id_: int, fails_at: int) -> None:
    asked: list[bool] = []

    def listen(way: Way) -> int:
        asked.append(way.unread)
        if len(asked) > fails_at:
            raise UsageError("none of the ports 5910-5919 is free")
        return 5910

    with pytest.raises(NotRedirectedError, match="none of the ports 5910-5919 is free"):
        redirected(message(id_, body_of(id_, sport=5901)), listen=listen)
    assert asked == [False, True][: fails_at + 1]


@pytest.mark.parametrize("host", ["", "nul\0inside", "\udcff"])
def test_a_host_that_cannot_be_written_leaves_the_message_alone(host: str) -> None:
    with pytest.raises(NotRedirectedError):
        redirected(message(BEGIN, body_of(BEGIN)), host=host)


@unhurried
@given(st.sampled_from(list(NAMES)), st.binary(max_size=80), st.booleans())
def test_any_body_is_redirected_or_left_alone(id_: int, body: bytes, shift: bool) -> None:
    received = message(id_, body, mini_header=False, sub_list=0 if shift else 1)
    try:
        result = redirected(received)
    except NotRedirectedError:
        return
    assert destination(id_, result.data[18:])["host_data"] == "192.0.2.99"


@EVERY
def test_a_host_that_is_no_clean_text_is_told_as_a_client_reads_it(id_: int) -> None:
    host = b"caf\xe9\0kvm2\0"
    body = struct.pack("<HHIIII", 5900, 0, len(host), 24 if id_ == SEAMLESS else 20, 0, 0)
    body += (b"\1\0\0\0" if id_ == SEAMLESS else b"") + host
    announcement = read_announcement(message(id_, body))
    assert announcement.host == announcement.told["host"] == "caf\\xe9"
