"""Streams inside messages: what may stay of them, over borders of messages, in MIGRATE_DATA and packed."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.compression import compress, decompress
from dissectors.message_ids import Msg
from dissectors.registry import build, build_named, dissect
from dissectors.side import Side
from spiceproxy.protocol.payload import Payloads
from spiceproxy.redaction import desk, streams
from spiceproxy.redaction.bodies import Bodies, Pieces
from spiceproxy.redaction.desk import Bytes, Desk
from spiceproxy.redaction.kinds import Account, Kind
from spiceproxy.redaction.streams import AgentWatcher, watcher
from tests.redaction.test_bodies import laid_out
from tests.redaction.world import AGENT_CAPS, CLIPBOARD, USB, agent, usb

SECRET = CLIPBOARD.encode()
ANNOUNCE = agent(6, {"request": 0, "caps": [AGENT_CAPS]})
TEXT = agent(4, {"selection": 1, "reserved": b"abc", "type": 1, "data": SECRET})


class Channel:
    """Sends bodies through a watcher, and through the decoder what is left of them."""

    def __init__(self, channel_type: int, **options: Any) -> None:
        self.account = Account()
        self.desk = Desk(Bodies(self.account, **options))
        self.watcher = watcher(self.desk, channel_type)
        self.plain, self.redacted = Payloads(channel_type), Payloads(channel_type)
        self._sent: list[tuple[Side, int, bytes, Pieces]] = []

    def send(self, side: Side, id_: int, body: bytes, keep: int = 0) -> None:
        pieces: Pieces = [(0, body[:keep])]
        self.desk.region = Bytes(pieces)
        self.watcher.message(side, id_, body)
        self._sent.append((side, id_, body, pieces))

    def finish(self) -> list[bytes]:
        """The bodies as they are left; the decoder says the same of them."""
        self.desk.finish()
        left = []
        for side, id_, body, pieces in self._sent:
            left.append(laid_out(pieces, len(body)))
            before = [
                (inner.name, inner.size, inner.error is None) for inner in self.plain.message(side, id_, body)
            ]
            after = [
                (inner.name, inner.size, inner.error is None)
                for inner in self.redacted.message(side, id_, left[-1])
            ]
            assert after == before
        return left


def main_channel(**options: Any) -> Channel:
    channel = Channel(ChannelType.MAIN, **options)
    channel.send(Side.SERVER, 103, b"")
    channel.send(Side.CLIENT, 106, b"")
    channel.send(Side.SERVER, 109, ANNOUNCE)
    channel.send(Side.CLIENT, 107, ANNOUNCE)
    return channel


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_an_agent_message_keeps_its_header_and_control_over_all_borders(cuts: list[int]) -> None:
    channel, at, count = main_channel(), 0, 0
    while at < len(TEXT):
        size = cuts[count % len(cuts)]
        channel.send(Side.CLIENT, 107, TEXT[at : at + size])
        at, count = at + size, count + 1
    left = b"".join(channel.finish()[4:])
    assert left == TEXT.replace(SECRET, bytes(len(SECRET))).replace(b"abc", bytes(3))
    assert channel.account.kinds[Kind.CLIPBOARD].bytes == len(SECRET)


def test_a_message_that_never_ends_keeps_its_header_only() -> None:
    channel = main_channel()
    channel.send(Side.CLIENT, 107, TEXT[:40])
    assert channel.finish()[-1] == TEXT[:20] + bytes(20)
    assert channel.account.kinds[Kind.AGENT].bytes == 20


def test_a_stream_that_is_joined_in_the_middle_keeps_nothing() -> None:
    channel = Channel(ChannelType.MAIN)
    channel.send(Side.CLIENT, 107, b"\0" + SECRET)
    assert channel.finish() == [bytes(1 + len(SECRET))]
    assert channel.account.kinds[Kind.AGENT].bytes == 1 + len(SECRET)


def test_clipboard_contents_whose_layout_is_not_known_go_as_a_whole() -> None:
    channel = Channel(ChannelType.MAIN)
    channel.send(Side.SERVER, 103, b"")
    channel.send(Side.CLIENT, 107, TEXT)
    assert channel.finish()[-1] == TEXT[:20] + bytes(len(TEXT) - 20)
    assert Kind.CLIPBOARD in channel.account.kinds


def test_a_message_that_nobody_keeps_in_memory_is_counted_by_its_header() -> None:
    channel = main_channel()
    data = agent(12, {"id": 1, "data": bytes(range(1, 256)) * 5000})
    for at in range(0, len(data), 2**16):
        channel.send(Side.CLIENT, 107, data[at : at + 2**16])
    left = b"".join(channel.finish()[4:])
    assert left == data[:20] + bytes(len(data) - 20)
    assert channel.account.kinds[Kind.FILES].bytes == len(data) - 20


def test_a_message_cut_into_too_many_pieces_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_PIECES", 10)
    channel = main_channel()
    for byte in TEXT:
        channel.send(Side.CLIENT, 107, bytes([byte]))
    left = b"".join(bytes(body) for body in _left(channel)[4:])
    assert SECRET not in left
    assert left[:20] == TEXT[:20]


def _left(channel: Channel) -> list[bytes]:
    channel.desk.finish()
    return [laid_out(pieces, len(body)) for _, _, body, pieces in channel._sent]


# What the guest had not read ------------------------------------------------------------------------------


def main_state(write_data: bytes) -> bytes:
    device = {
        "version": 1, "connected": 1, "num_client_tokens": 1, "num_send_tokens": 2, "write_num_client_tokens": 1,
        "write_data_ptr": write_data,
    }  # fmt: skip
    fields = {
        "magic": b"MNMD", "version": 1, "char_device": device, "client_agent_started": 1, "chunk_header_size": 0,
        "chunk_header": {"port": 0, "size": 0}, "msg_header_done": 0, "msg_header_ptr": b"half a header",
        "a2c_msg_remaining": 0, "a2c_msg_filter_result": 0, "c2a_msg_remaining": 0, "c2a_msg_filter_result": 0,
    }  # fmt: skip
    return build(ChannelType.MAIN, Side.SERVER, Msg.MIGRATE_DATA, fields)


def migrated(body: bytes, channel: Channel) -> bytes:
    agent = channel.watcher
    assert isinstance(agent, AgentWatcher)
    found = channel.desk.bodies.message(
        ChannelType.MAIN, Side.SERVER, Msg.MIGRATE_DATA, body, guest_port=agent.guest_port
    )
    return laid_out(found.pieces, len(body))


@pytest.mark.parametrize("head", [b"", b"the rest of a chunk before"])
def test_agent_messages_inside_migrate_data_keep_their_headers(head: bytes) -> None:
    channel = main_channel()
    chunks = struct.pack("<II", 1, 30) + TEXT[:30] + struct.pack("<II", 1, len(TEXT) - 30) + TEXT[30:]
    body = main_state(head + chunks)
    after = migrated(body, channel)
    assert SECRET not in after
    assert SECRET[:8] not in after
    assert b"half a header" not in after
    assert b"the rest" not in after
    before = [(inner.name, inner.size, inner.error) for inner in channel.plain.message(Side.SERVER, 2, body)]
    assert [
        (inner.name, inner.size, inner.error) for inner in channel.redacted.message(Side.SERVER, 2, after)
    ] == before
    fields = dissect(ChannelType.MAIN, Side.SERVER, 2, after).fields
    assert fields["char_device"]["write_size"] == len(head + chunks)


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_what_the_guest_had_not_read_stays_told_apart(one: bytes, other: bytes) -> None:
    channel = main_channel()
    states = main_state(one), main_state(other)
    after = [migrated(state, channel) for state in states]
    assert (after[0] == after[1]) == (one == other)


# Packed ---------------------------------------------------------------------------------------------------


def packed(stream: bytes) -> bytes:
    return build_named(
        "SPICE_MSGC_SPICEVMC_COMPRESSED_DATA",
        type=1,
        u={"uncompressed_size": len(stream)},
        compressed_data=compress(stream),
    )


HELLO = usb(0, {"version": b"test".ljust(64, b"\0"), "capabilities": [0]})
BULK = usb(101, {"endpoint": 1, "status": 0, "length": 1, "stream_id": 0, "data": USB * 30})


def usb_channel(**options: Any) -> Channel:
    channel = Channel(ChannelType.USBREDIR, **options)
    for side in Side:
        channel.send(side, 101, HELLO)
    return channel


@given(st.lists(st.integers(1, 900), max_size=5))
def test_packed_packets_of_a_device_stay_readable_and_their_data_go(cuts: list[int]) -> None:
    channel, stream, at = usb_channel(), BULK * 4, 0
    for size in [*cuts, len(stream)]:
        part = stream[at : at + size]
        at += len(part)
        if part and len(compress(part)) < len(part):
            channel.send(Side.CLIENT, 102, packed(part), keep=5)
        else:
            channel.send(Side.CLIENT, 101, part)
    bodies = channel.finish()[2:]
    assert not any(USB in body for body in bodies)
    for (_, id_, before, _), after in zip(channel._sent[2:], bodies, strict=True):
        if id_ == 102:
            assert USB not in decompress(1, struct.unpack_from("<I", before, 1)[0], after[5:])
    assert channel.account.kinds[Kind.USB].bytes == 4 * 30 * len(USB)


def test_packets_that_are_not_packed_although_they_might_be_stay_readable() -> None:
    channel = usb_channel()
    for part in (BULK[:30], BULK[30:] + BULK):
        channel.send(Side.CLIENT, 102, b"\0" + part, keep=1)
    first, second = channel.finish()[2:]
    assert first[1:] + second[1:] == BULK.replace(USB, bytes(len(USB))) * 2


def test_what_is_kept_of_packed_packets_is_packed_as_it_was() -> None:
    channel = usb_channel(keep=frozenset({Kind.USB}))
    channel.send(Side.CLIENT, 102, packed(BULK * 2), keep=5)
    assert channel.finish()[-1] == packed(BULK * 2)


def test_a_stream_that_was_lost_keeps_nothing_packed_or_not() -> None:
    channel = Channel(ChannelType.USBREDIR)
    channel.send(Side.CLIENT, 101, BULK)  # no hello
    channel.send(Side.CLIENT, 102, packed(BULK), keep=5)
    left = channel.finish()
    assert left[0] == bytes(len(BULK))
    assert decompress(1, len(BULK), left[1][5:]) == bytes(len(BULK))


def test_packed_messages_that_wait_for_too_long_are_written_without_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk, "MAX_WAITING_BYTES", 1000)
    channel = usb_channel()
    long = usb(101, {"endpoint": 1, "status": 0, "length": 1, "stream_id": 0, "data": USB * 500})
    for at in range(0, len(long), 600):
        channel.send(Side.CLIENT, 102, packed(long[at : at + 600]), keep=5)
    for (_, _, before, _), after in zip(channel._sent[2:], _left(channel)[2:], strict=True):
        assert USB not in decompress(1, struct.unpack_from("<I", before, 1)[0], after[5:])


def test_what_does_not_unpack_keeps_nothing() -> None:
    for kind in (ChannelType.USBREDIR, ChannelType.PORT):
        channel = Channel(kind)
        for side in Side:
            channel.send(side, 101, HELLO)
        body = b"\1" + struct.pack("<I", 50) + b"\xff" + USB
        channel.send(Side.CLIENT, 102, body, keep=5)
        assert channel.finish()[-1] == body[:5] + bytes(len(body) - 5)


@pytest.mark.parametrize("type_", [3, 5, 7, 99])
def test_messages_of_smart_cards_keep_their_type_and_size(type_: int) -> None:
    channel = Channel(ChannelType.SMARTCARD)
    body = struct.pack("<III", type_, 1, len(USB)) + USB
    channel.send(Side.CLIENT, 101, body, keep=12)
    channel.send(Side.CLIENT, 101, body[:-3], keep=12)  # not whole
    assert USB not in b"".join(channel.finish())
    assert channel.account.kinds[Kind.SMARTCARD].bytes == len(USB)
