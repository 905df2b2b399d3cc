"""Agent messages out of AGENT_DATA: cut anyhow, cut off, too large, joined late, moved to another connection."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from dissectors.vd_agent import build_agent
from dissectors.vd_agent_names import AgentMessage, ClipboardType
from spiceproxy.protocol.payload import MAX_INNERS, MAX_KEPT, Payloads
from tests.dissectors.bodies import unhurried
from tests.protocol.payload.wire import (
    AGENT_DATA,
    ALL_CAPS,
    CLIENT,
    CONNECTED,
    CONNECTED_TOKENS,
    DISCONNECTED,
    INIT,
    NO_SERIAL,
    SERVER,
    START,
    agent_message,
    announcement,
    chunks,
    errors,
    feed,
    names,
)

GRAB = bytes.fromhex("01000000 05000000 01000000")
MIXED = [
    announcement(ALL_CAPS),
    agent_message(9, bytes(4)),
    agent_message(3, bytes(8)),
    agent_message(99, b"?"),
]


def started(server_caps: int | None = ALL_CAPS, client_caps: int | None = ALL_CAPS) -> Payloads:
    """A main channel from its first message on, with these announcements made."""
    payloads = Payloads(ChannelType.MAIN)
    payloads.message(SERVER, INIT, bytes(32))
    payloads.message(CLIENT, START, bytes(4))
    for side, caps in ((SERVER, server_caps), (CLIENT, client_caps)):
        if caps is not None:
            (inner,) = payloads.message(side, AGENT_DATA[side], announcement(caps))
            assert (inner.protocol, inner.name) == ("vd_agent", "VD_AGENT_ANNOUNCE_CAPABILITIES")
            assert inner.fields["caps"] == [caps]
    return payloads


def test_a_message_in_one_chunk_comes_out_with_its_header_and_its_fields() -> None:
    (inner,) = started().message(CLIENT, AGENT_DATA[CLIENT], agent_message(7, GRAB))
    assert inner.fields == {
        "header": {"protocol": 1, "type": AgentMessage.CLIPBOARD_GRAB, "opaque": 0, "size": 12},
        "selection": 1,
        "reserved": b"\0\0\0",
        "serial": 5,
        "types": [ClipboardType.UTF8_TEXT],
    }
    assert (inner.protocol, inner.name, inner.error, inner.size) == (
        "vd_agent",
        "VD_AGENT_CLIPBOARD_GRAB",
        None,
        12,
    )
    assert (inner.trailing, inner.bulk) == (b"", frozenset())


def test_contents_are_bulk_and_shown_by_their_length() -> None:
    body = bytes.fromhex("00000000 01000000") + b"hello"
    (inner,) = started().message(CLIENT, AGENT_DATA[CLIENT], agent_message(4, body) + b"")
    assert (inner.fields["data"], inner.bulk) == (b"hello", frozenset({"data"}))
    assert inner.plain() == {
        "header": {"protocol": 1, "type": 4, "opaque": 0, "size": 13},
        "selection": 0,
        "reserved": "000000",
        "type": 1,
        "data": 5,
    }
    assert inner.plain(bulk=True)["data"] == b"hello".hex()


@unhurried
@given(st.lists(st.integers(0, 40), max_size=12), st.sampled_from(list(Side)))
def test_the_same_messages_come_out_however_the_stream_is_cut(sizes: list[int], side: Side) -> None:
    stream = b"".join(MIXED)
    whole = started().message(side, AGENT_DATA[side], stream)
    cut = feed(started(), side, AGENT_DATA[side], chunks(stream, sizes))
    assert cut == whole
    assert names(cut) == [
        "VD_AGENT_ANNOUNCE_CAPABILITIES",
        "VD_AGENT_CLIPBOARD_RELEASE",
        "VD_AGENT_REPLY",
        "unknown_99",
    ]
    assert errors(cut) == [None] * 4


def test_both_directions_are_put_together_apart_from_each_other() -> None:
    payloads = started()
    release = agent_message(9, bytes(4))
    assert payloads.message(SERVER, 109, release[:10]) == []
    assert names(payloads.message(CLIENT, 107, release)) == ["VD_AGENT_CLIPBOARD_RELEASE"]
    assert names(payloads.message(SERVER, 109, release[10:])) == ["VD_AGENT_CLIPBOARD_RELEASE"]


@pytest.mark.parametrize(
    ("server", "client", "fields"),
    [
        (ALL_CAPS, ALL_CAPS, {"selection", "reserved", "serial", "types"}),
        (NO_SERIAL, ALL_CAPS, {"selection", "reserved", "types"}),
        (ALL_CAPS, NO_SERIAL, {"selection", "reserved", "types"}),
        (0, ALL_CAPS, {"types"}),
        (ALL_CAPS, 1 << 17, {"serial", "types"}),
    ],
)
def test_what_both_announced_decides_the_layout_of_a_grab(server: int, client: int, fields: set[str]) -> None:
    (inner,) = started(server, client).message(SERVER, 109, agent_message(7, GRAB))
    assert inner.fields.keys() == {"header"} | fields
    data = {name: value for name, value in inner.fields.items() if name != "header"}
    built = build_agent(7, data, selection="selection" in fields, grab_serial="serial" in fields)
    assert built == GRAB


@pytest.mark.parametrize(("server", "client"), [(None, None), (ALL_CAPS, None), (None, ALL_CAPS)])
def test_a_clipboard_message_is_not_guessed_at_without_both_announcements(
    server: int | None, client: int | None
) -> None:
    payloads = started(server, client)
    (grab, release, reply) = payloads.message(
        SERVER, 109, agent_message(7, GRAB) + agent_message(9, b"") + agent_message(3, bytes(8))
    )
    for inner in (grab, release):
        assert inner.error == "its layout depends on capabilities that were not seen"
        assert inner.fields.keys() == {"header", "raw"}
    assert grab.fields["raw"] == GRAB
    assert (grab.name, grab.bulk) == ("VD_AGENT_CLIPBOARD_GRAB", frozenset({"raw"}))
    assert (reply.name, reply.error) == ("VD_AGENT_REPLY", None)


def test_data_that_does_not_fit_keeps_its_bytes_and_shows_none_in_the_error() -> None:
    (inner,) = started().message(CLIENT, 107, agent_message(12, struct.pack("<IQ", 1, 99) + b"secret"))
    assert inner.fields["raw"][12:] == b"secret"
    assert inner.error == "VD_AGENT_FILE_XFER_DATA: data: size is 99, but only 6 bytes are left"
    assert inner.bulk == {"raw"}


@pytest.mark.parametrize("event", [CONNECTED, CONNECTED_TOKENS, DISCONNECTED, INIT])
def test_an_agent_that_comes_or_goes_starts_anew_and_forgets_the_capabilities(event: int) -> None:
    payloads = started()
    payloads.message(SERVER, 109, agent_message(4, bytes(100))[:50])
    (cut,) = payloads.message(SERVER, event, bytes(4))
    assert cut.name == "VD_AGENT_CLIPBOARD"
    assert cut.error is not None
    assert cut.error.endswith("after 30 of 100 bytes")
    assert cut.size == 100
    (inner,) = payloads.message(SERVER, 109, agent_message(9, bytes(4)))
    assert inner.error == "its layout depends on capabilities that were not seen"


def test_a_client_ends_what_it_had_begun_to_say_before_it_hears_that_the_agent_is_gone() -> None:
    payloads = started()
    reply = agent_message(14, bytes(4))
    payloads.message(CLIENT, 107, reply[:10])
    assert payloads.message(SERVER, DISCONNECTED, bytes(4)) == []
    assert names(payloads.message(CLIENT, 107, reply[10:])) == ["VD_AGENT_MAX_CLIPBOARD"]
    payloads.message(CLIENT, 107, reply[:10])
    (cut,) = payloads.message(CLIENT, START, bytes(4))
    assert (cut.name, cut.error) == ("lost", "cut off by AGENT_START inside a header")
    assert names(payloads.message(CLIENT, 107, reply)) == ["VD_AGENT_MAX_CLIPBOARD"]


def test_a_new_session_cuts_off_both_directions() -> None:
    payloads = started()
    for side in Side:
        payloads.message(side, AGENT_DATA[side], agent_message(14, bytes(4))[:22])
    assert (
        errors(payloads.message(SERVER, INIT, bytes(32))) == ["cut off by MAIN_INIT after 2 of 4 bytes"] * 2
    )
    for side in Side:
        inners = payloads.message(side, AGENT_DATA[side], agent_message(14, bytes(4)))
        assert names(inners) == ["VD_AGENT_MAX_CLIPBOARD"]


def test_bytes_behind_the_last_field_are_kept() -> None:
    (inner,) = started().message(CLIENT, 107, agent_message(14, bytes(4) + b"more"))
    assert (inner.fields["max"], inner.trailing, inner.size) == (0, b"more", 8)


@pytest.mark.parametrize(("side", "id_"), [(SERVER, 2), (CLIENT, 5)])
def test_what_the_guest_had_not_read_is_found_in_the_migration_data(side: Side, id_: int) -> None:
    grab = agent_message(7, GRAB)
    write_data = struct.pack("<II", 1, len(grab)) + grab
    device = struct.pack("<IBIIIII", 1, 1, 9, 2**32 - 1, len(write_data), 1, 65)
    body = b"MNMD" + struct.pack("<I", 1) + device + bytes(32) + write_data
    chunk, inner = started().message(side, id_, body)
    assert (chunk.protocol, chunk.fields) == ("vdi_port", {"port": 1, "size": 32})
    assert (inner.error, inner.fields["serial"]) == (None, 5)
    assert started().message(side, id_, body[:64]) == []
    assert started().message(side, id_, body[:8] + bytes(57)) == []


def test_a_message_begun_at_the_source_ends_at_the_destination() -> None:
    source = started()
    grab = agent_message(7, GRAB)
    assert source.message(CLIENT, 107, grab[:25]) == []
    destination = source.moved()
    (inner,) = destination.message(CLIENT, 107, grab[25:])
    assert (inner.error, inner.fields["types"]) == (None, [1])
    # The source's own state is not the destination's.
    (inner,) = source.message(CLIENT, 107, grab[25:])
    assert inner.fields["types"] == [1]


def test_a_stream_joined_inside_a_message_says_so_once_and_reads_on_from_the_next_beginning() -> None:
    payloads = Payloads(ChannelType.MAIN)
    file = agent_message(12, struct.pack("<IQ", 1, 3000) + bytes(3000))
    (lost,) = feed(payloads, CLIENT, 107, [file[1000:2048], file[2048:]])
    assert (lost.name, lost.fields, lost.error) == ("lost", {}, "the stream is joined inside a message")
    inners = payloads.message(CLIENT, 107, agent_message(14, bytes(4)))
    assert names(inners) == ["VD_AGENT_MAX_CLIPBOARD"]


@pytest.mark.parametrize(
    "chunk",
    [
        agent_message(14, bytes(4), protocol=2),
        agent_message(17, bytes(4)),
        agent_message(14, bytes(4), size=3),
        agent_message(14, bytes(4))[:19],
        agent_message(14, bytes(4))[:8] + b"\1" + agent_message(14, bytes(4))[9:],
    ],
)
def test_what_does_not_look_like_a_header_is_not_taken_for_one(chunk: bytes) -> None:
    payloads = Payloads(ChannelType.MAIN)
    assert names(feed(payloads, SERVER, 109, [chunk, chunk])) == ["lost"]


def test_another_protocol_loses_the_stream_until_the_agent_comes_anew() -> None:
    payloads = started()
    other = agent_message(14, bytes(4), protocol=2)
    (lost,) = feed(payloads, SERVER, 109, [other, other, announcement(1)])
    assert (lost.name, lost.error) == ("lost", "a message of agent protocol 2, not 1")
    assert payloads.message(SERVER, CONNECTED, b"") == []
    assert names(payloads.message(SERVER, 109, announcement(1))) == ["VD_AGENT_ANNOUNCE_CAPABILITIES"]


def test_a_huge_message_keeps_its_header_and_bounded_memory() -> None:
    payloads = started()
    size, piece = 2**32 - 1, bytes(2**20)
    tracemalloc.start()
    try:
        payloads.message(SERVER, 109, agent_message(4, b"", size=size))
        for _ in range(20):
            assert payloads.message(SERVER, 109, piece) == []
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_KEPT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("size", "kept"), [(MAX_KEPT, True), (MAX_KEPT + 1, False)])
def test_a_message_over_the_limit_comes_out_as_its_header(size: int, kept: bool) -> None:
    payloads = started()
    big = agent_message(4, bytes(8) + bytes(size - 8))
    inners = feed(payloads, SERVER, 109, chunks(big + agent_message(9, bytes(4)), [2048] * 1000))
    assert names(inners) == ["VD_AGENT_CLIPBOARD", "VD_AGENT_CLIPBOARD_RELEASE"]
    assert inners[0].size == size
    assert ("data" in inners[0].fields) == kept
    if not kept:
        assert inners[0].fields.keys() == {"header"}
        assert inners[0].error == f"{size} bytes are not kept; the limit is {MAX_KEPT}"


def test_a_flood_of_tiny_messages_is_counted_not_kept() -> None:
    payloads = started()
    release = agent_message(13, b"")
    inners = payloads.message(SERVER, 109, release * (MAX_INNERS + 5) + release[:3])
    assert len(inners) == MAX_INNERS + 1
    assert inners[-1].error == "5 more in this message are not shown"
    assert names(payloads.message(SERVER, 109, release[3:])) == ["VD_AGENT_CLIENT_DISCONNECTED"]


@unhurried
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Side)),
            st.sampled_from([103, 106, 107, 108, 109, 115]),
            st.binary(max_size=60)
            | st.builds(agent_message, st.integers(0, 20), st.binary(max_size=30), size=st.integers(0, 40)),
        ),
        max_size=30,
    )
)
def test_any_messages_give_inner_messages_and_no_exception(messages: list[tuple[Side, int, bytes]]) -> None:
    payloads = Payloads(ChannelType.MAIN)
    for side, id_, body in messages:
        for inner in payloads.message(side, id_, body):
            assert inner.protocol == "vd_agent"
            assert inner.error is None or "\n" not in inner.error
            assert inner.name != "lost" or inner.error
            inner.plain(bulk=True)


@pytest.mark.parametrize("side", Side)
def test_other_messages_of_the_channel_have_nothing_inside(side: Side) -> None:
    payloads = started()
    for id_ in set(range(1, 130)) - {AGENT_DATA[side]}:  # a MIGRATE_DATA that is none among them
        assert payloads.message(side, id_, agent_message(9, bytes(4))) == []
