"""What is recognised in the guest-port bytes of the main channel's migration data."""

import struct
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.vd_agent_names import ChunkPort
from spiceproxy.protocol.payload import guest_port_messages
from spiceproxy.protocol.payload.guest_port import MAX_SEARCHED
from tests.dissectors.bodies import unhurried
from tests.protocol.payload.wire import ALL_CAPS, agent_message, announcement, chunks, errors, names

CHUNK = "VDIChunkHeader"
# The 35 bytes of a real migration: the first byte of the chunk's header is gone, its port was 1.
SEEN = bytes.fromhex("000000 1c000000 01000000 06000000 0000000000000000 08000000 01000000 77500300")


def chunk(data: bytes, port: int = 1) -> bytes:
    return struct.pack("<II", port, len(data)) + data


def test_the_bytes_of_a_real_migration_are_an_announcement() -> None:
    head, inner = guest_port_messages(SEEN)
    assert (head.protocol, head.name, head.fields, head.size) == ("vdi_port", CHUNK, {"size": 28}, 28)
    assert head.error == "the guest has read a part of it"
    assert (inner.name, inner.fields["caps"], inner.error) == (
        "VD_AGENT_ANNOUNCE_CAPABILITIES",
        [0x35077],
        None,
    )


@pytest.mark.parametrize("gone", range(5))
def test_a_chunk_whose_header_is_cut_before_its_size_is_found(gone: int) -> None:
    data = chunk(announcement(1)) + chunk(announcement(2), port=2)
    first, one, second, two = guest_port_messages(data[gone:])
    assert (first.error is None) == (gone == 0)
    assert second.fields == {"port": ChunkPort.SERVER, "size": 28}
    assert (one.fields["caps"], two.fields["caps"]) == ([1], [2])


@pytest.mark.parametrize("gone", range(5, 36))
def test_what_is_left_of_a_chunk_at_the_beginning_is_passed_over(gone: int) -> None:
    data = chunk(announcement(1)) + chunk(announcement(2)) + chunk(agent_message(14, bytes(4)))
    inners = guest_port_messages(data[gone:])
    assert names(inners) == ["lost", CHUNK, "VD_AGENT_ANNOUNCE_CAPABILITIES", CHUNK, "VD_AGENT_MAX_CLIPBOARD"]
    assert inners[0].error == f"{36 - gone} bytes are the end of a chunk that the guest has begun to read"


def test_a_message_is_put_together_from_its_chunks_for_each_port() -> None:
    file = agent_message(12, struct.pack("<IQ", 1, 3000) + bytes(3000))
    state = agent_message(1, bytes(13))
    first, second = chunks(file, [2048])
    inners = guest_port_messages(chunk(first) + chunk(state, port=2) + chunk(second))
    assert names(inners) == [CHUNK, CHUNK, "VD_AGENT_MOUSE_STATE", CHUNK, "VD_AGENT_FILE_XFER_DATA"]
    assert errors(inners) == [None] * 5


def test_a_message_that_goes_on_behind_the_data_says_so() -> None:
    file = agent_message(12, struct.pack("<IQ", 1, 3000) + bytes(3000))
    (_, cut) = guest_port_messages(chunk(file[:2048]))
    assert (cut.name, cut.error) == (
        "VD_AGENT_FILE_XFER_DATA",
        "cut off by the end of the data after 2028 of 3012 bytes",
    )


def test_a_message_that_began_before_the_data_says_so_once() -> None:
    file = agent_message(12, struct.pack("<IQ", 1, 6000) + bytes(6000))
    inners = guest_port_messages(b"".join(chunk(piece) for piece in chunks(file, [2048, 2048])[1:]))
    assert names(inners) == [CHUNK, "lost", CHUNK]


def test_clipboard_messages_have_the_layout_that_the_caller_knows() -> None:
    grab = chunk(agent_message(7, bytes.fromhex("01000000 05000000 01000000")))
    assert guest_port_messages(grab)[1].error == "its layout depends on capabilities that were not seen"
    assert guest_port_messages(grab, both_capabilities=ALL_CAPS)[1].fields["serial"] == 5


@pytest.mark.parametrize("data", [b"\1", bytes(40), b"\xff" * 40, chunk(b"abc")[:-1], SEEN[:-1]])
def test_bytes_without_a_chunk_are_not_guessed_at(data: bytes) -> None:
    assert errors(guest_port_messages(data)) == [f"no chunk begins in these {len(data)} bytes"]


def test_no_bytes_are_nothing() -> None:
    assert guest_port_messages(b"") == []


def test_more_bytes_than_a_server_can_hold_back_are_not_searched() -> None:
    (inner,) = guest_port_messages(bytes(MAX_SEARCHED + 1))
    assert inner.error is not None
    assert "not searched" in inner.error


def test_chains_that_lead_nowhere_are_followed_once() -> None:
    trap = (chunk(b"\1") * (MAX_SEARCHED // 9 + 1))[: MAX_SEARCHED - 2]
    begun = perf_counter()
    assert errors(guest_port_messages(trap)) == [f"no chunk begins in these {len(trap)} bytes"]
    assert perf_counter() - begun < 5  # seconds; each of 2048 beginnings followed to the end takes far longer


@unhurried
@given(st.binary(max_size=100) | st.binary(max_size=60).map(chunk))
def test_any_bytes_give_inner_messages_and_no_exception(data: bytes) -> None:
    for inner in guest_port_messages(data):
        assert inner.error is None or "\n" not in inner.error
        inner.plain()
