"""Secrets where a redaction may not look: in every corner of packets, streams and files."""

import io
import struct
from typing import Any

import pytest

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage, build_link_mess
from dissectors.side import Side
from spiceproxy.capture.events import Summary
from spiceproxy.capture.packets import packets_of
from tests.capture.build import Talk, pcapng, stamped
from tests.redaction import world
from tests.redaction.smuggling import FORMS, PLANT, WAYS, Making, survives, talk
from tests.redaction.test_redact import read
from tests.redaction.world import CLIPBOARD, SESSION, Speech, found_in, link, raw, redacted, views

CLIENT, SERVER = Side.CLIENT, Side.SERVER
ENDS: dict[str, dict[str, Any]] = {
    "IPv4": {"client": ("192.0.2.1", 40000), "server": ("192.0.2.2", 5900)},
    "IPv6": {"client": ("2001:db8::9", 40000), "server": ("2001:db8::1", 5900)},
}
SHORT = 3
PLACES = (0.1, 0.3, 0.6, 0.95)
LAYERS: tuple[tuple[int, tuple[int, ...]], ...] = ((1, ()), (101, ()), (1, (0x88A8, 0x8100)), (101, ()))
V4_ONLY = {"fragments", "a fragment in the place of a TCP header"}


def made(way: str, place: float, ends: str) -> Making:
    making = talk([world.main(), world.inputs()], **ENDS[ends])
    making.act(way, int(place * (len(making.frames) - 1)))
    return making


def packets(file: bytes) -> list[tuple[int, int, int, bytes]]:
    """Time, size, bytes that are missing and bytes of each packet."""
    return [
        (time_ns, end - at, missing, buffer[at:end])
        for time_ns, _, buffer, at, end, missing, *_ in packets_of(io.BytesIO(file), None, Summary())
    ]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("way", WAYS | FORMS)
def test_nothing_is_smuggled_through(way: str, ends: str) -> None:
    for place, (layer, tags) in zip(PLACES, LAYERS, strict=True):
        file = made(way, place, ends).file(link=layer, tags=tags)
        copy, outcome = redacted(file)
        assert not survives(copy)
        assert found_in(views(copy)) == set()
        assert outcome.summary.spice_connections >= 1
        assert packets(redacted(copy)[0]) == packets(copy)
        for addresses in (False, True):
            whole, _ = redacted(file, keep_others=True, addresses=addresses)
            assert [each[:3] for each in packets(whole)] == [each[:3] for each in packets(file)]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_smuggled_is_in_the_capture_to_begin_with(way: str, ends: str) -> None:
    plain = talk([world.main(), world.inputs()], **ENDS[ends]).file()
    found = [made(way, place, ends).file().count(PLANT[:SHORT]) for place in PLACES]
    told = [made(way, place, ends).file().count(b"PlAnT") for place in PLACES]
    if way not in V4_ONLY or ends == "IPv4":
        assert max(found) > plain.count(PLANT[:SHORT]) or max(told) > plain.count(b"PlAnT")


# Streams --------------------------------------------------------------------------------------------------


def capture(speech: Speech, **ends: Any) -> bytes:
    made = Talk(**ends).greet()
    at = {CLIENT: 0, SERVER: 0}
    for side, data in speech:
        made.say(side, at[side], data, ack=at[SERVER if side is CLIENT else CLIENT])
        at[side] += len(data)
    return pcapng(stamped([*talk_of_keys(), *made.packets]))


def talk_of_keys() -> list[Any]:
    """Something that is SPICE, so that there is a copy."""
    other = Talk(client=("192.0.2.77", 41000)).greet()
    at = {CLIENT: 0, SERVER: 0}
    for side, data in world.inputs():
        other.say(side, at[side], data, ack=at[SERVER if side is CLIENT else CLIENT])
        at[side] += len(data)
    return other.packets


def in_a_websocket(data: bytes, *, masked: bool) -> bytes:
    head = bytes([0x82, (0x80 if masked else 0) | 126]) + struct.pack(">H", len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data


def full(message_id: int, body: bytes, serial: int = 1) -> bytes:
    return struct.pack("<QHII", serial, message_id, len(body), 0) + body


WITHOUT_MINI: Speech = [
    (CLIENT, build_link_mess(LinkMessage(SESSION, ChannelType.INPUTS, 0, (1,), ()))),
    *link(ChannelType.INPUTS)[1:],
]
STREAMS: dict[str, Speech] = {
    "a channel that nobody knows": [*link(99), (SERVER, struct.pack("<HI", 101, 48) + PLANT * 3)],
    "a message that nobody knows": [*link(1), (SERVER, struct.pack("<HI", 999, 48) + PLANT * 3)],
    "bytes behind a message": [*link(3), (CLIENT, struct.pack("<HI", 101, 20) + b"\x1e\0\0\0" + PLANT)],
    "no header where one is due": [*link(1), (SERVER, PLANT * 3)],
    "no full header where one is due": [*WITHOUT_MINI, (CLIENT, PLANT * 3)],
    "text where a header is due": [*link(1), (CLIENT, CLIPBOARD.encode())],
    "text where a full header is due": [*WITHOUT_MINI, (CLIENT, full(101, bytes(4)) + CLIPBOARD.encode())],
    "a WebSocket": [
        (CLIENT, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nCookie: " + PLANT + b"\r\n\r\n"),
        (SERVER, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        *[(side, in_a_websocket(data, masked=side is CLIENT)) for side, data in world.inputs()],
        (CLIENT, in_a_websocket(PLANT * 3, masked=True)),
    ],
    "a tunnel through a proxy": [
        (CLIENT, b"CONNECT kvm1:5900 HTTP/1.1\r\nProxy-Authorization: Basic " + PLANT + b"\r\n\r\n"),
        (SERVER, b"HTTP/1.1 200 OK\r\n\r\n"), *world.inputs(),
    ],
    "TLS": [(CLIENT, b"\x16\3\1\0\x30" + PLANT * 3), (SERVER, b"\x16\3\3\0\x30" + PLANT * 3)],
    "a server that speaks first": [(SERVER, PLANT * 3), *world.inputs()],
    "a ping with data": [*link(1), (SERVER, raw("SPICE_MSG_PING", id=1, timestamp=2, data=PLANT * 3))],
}  # fmt: skip


@pytest.mark.parametrize("ports", [(), (5900,)])
@pytest.mark.parametrize("stream", STREAMS)
def test_streams_that_are_not_what_they_seem_keep_nothing(stream: str, ports: tuple[int, ...]) -> None:
    file = capture(STREAMS[stream])
    copy, outcome = redacted(file, ports=ports)
    assert not survives(copy)
    assert found_in(views(copy)) == set()
    assert "Sword" not in copy.decode("latin-1")
    assert "the " not in b"".join(packet for packet in payloads(copy)).decode("latin-1")
    assert outcome.summary.spice_connections >= 1
    if not ports:
        assert list(read(copy)) == list(read(file))


def payloads(file: bytes) -> list[bytes]:
    """What stands behind IP and TCP headers of 40 bytes."""
    return [
        buffer[at + 40 : end] for _, _, buffer, at, end, *_ in packets_of(io.BytesIO(file), None, Summary())
    ]
