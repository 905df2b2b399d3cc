"""The link phase: tickets and SASL go, what a reader needs stays."""

import struct

import pytest

from dissectors.link import (
    AuthMech,
    LinkMessage,
    LinkReplyMessage,
    build_link_error,
    build_link_mess,
    build_link_reply,
)
from dissectors.side import Side
from tests.capture.build import Talk, pcapng, stamped
from tests.redaction.test_redact import read
from tests.redaction.world import TICKET, Speech, redacted

CLIENT, SERVER = Side.CLIENT, Side.SERVER
SELECTS = 1
KEY = bytes(range(161, -1, -1))


def counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def opening(mechanism: int) -> Speech:
    return [
        (CLIENT, build_link_mess(LinkMessage(0, 1, 0, (SELECTS,), ()))),
        (SERVER, build_link_reply(LinkReplyMessage(0, KEY, (SELECTS,), ()))),
        (CLIENT, struct.pack("<I", mechanism)),
    ]


SASL: Speech = [
    *opening(AuthMech.SASL),
    (SERVER, counted(b",SCRAM-SHA-1,PLAIN,")),
    (CLIENT, counted(b"PLAIN") + counted(b"\0bob\0hunter2\0")),
    (SERVER, counted(b"challenge of bob") + b"\0"),
    (CLIENT, counted(b"hunter2 again")),
    (SERVER, counted(b"well done, bob") + b"\1"),
]
TALKS: dict[str, Speech] = {
    "ticket": [*opening(AuthMech.SPICE), (CLIENT, TICKET), (SERVER, struct.pack("<I", 0))],
    "wrong ticket": [*opening(AuthMech.SPICE), (CLIENT, TICKET), (SERVER, struct.pack("<I", 7)), (SERVER, b"bob?")],
    "sasl": [*SASL, (SERVER, struct.pack("<II", 0, 0))],
    "sasl refused": [*SASL, (SERVER, struct.pack("<I", 1) + counted(b"no such user: bob\0"))],
    "sasl with a security layer": [*SASL, (SERVER, struct.pack("<I", 0) + b"\0\0\0\x20" + b"bob" * 10)],
    "error reply": [*opening(AuthMech.SASL), (SERVER, build_link_error(3))],
    "no such version": [(CLIENT, b"REDQ" + struct.pack("<III", 9, 9, 99) + b"bob" * 33)],
    "cut in the ticket": [*opening(AuthMech.SPICE), (CLIENT, TICKET[:50])],
    "a strange mechanism": [*opening(AuthMech.SASL), (SERVER, counted(b",PLAIN,")), (CLIENT, counted(b"bob@example"))],
}  # fmt: skip


def capture(speech: Speech, size: int) -> bytes:
    talk = Talk().greet()
    at = {CLIENT: 0, SERVER: 0}
    for side, data in speech:
        for start in range(0, len(data), size):
            talk.say(side, at[side], data[start : start + size], ack=at[side.other])
            at[side] += len(data[start : start + size])
    return pcapng(stamped(talk.packets))


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("name", TALKS)
def test_nothing_of_a_user_or_a_password_is_left_and_the_link_reads_the_same(name: str, size: int) -> None:
    file = capture(TALKS[name], size)
    copy, _ = redacted(file)
    bodies = capture(TALKS[name], 5000)
    assert (b"bob" in bodies) or (TICKET[:20] in bodies) or name == "error reply"
    for secret in (b"bob", b"hunter2", TICKET[:20], TICKET[-20:]):
        assert secret not in redacted(bodies)[0]
        assert secret not in copy
    assert list(read(copy)) == list(read(file))


def test_what_nobody_reads_in_a_link_message_goes_and_the_link_reads_the_same() -> None:
    mess = bytearray(build_link_mess(LinkMessage(0, 1, 0, (SELECTS,), ())) + b"hunter2")
    mess[12:16] = struct.pack("<I", len(mess) - 16)
    file = capture([(CLIENT, bytes(mess)), *TALKS["ticket"][1:]], 5000)
    assert b"hunter2" in file
    copy, _ = redacted(file)
    assert b"hunter2" not in copy
    assert list(read(copy)) == list(read(file))


def test_a_mechanism_stays_only_if_the_server_has_offered_it() -> None:
    speech = [*SASL[:4], (CLIENT, counted(b"HUNTER2") + counted(b""))]
    copy, _ = redacted(capture(speech, 5000))
    assert b"HUNTER2" not in copy
    assert b"PLAIN" in copy


def test_what_was_removed_of_them_is_counted() -> None:
    _, outcome = redacted(capture(TALKS["sasl"], 5000))
    removed = outcome.account.kinds
    assert {str(kind): each.bytes for kind, each in removed.items()} == {"credentials": 13 + 16 + 13 + 14}


def test_a_ticket_that_a_recording_has_not_is_not_counted() -> None:
    speech = [(side, bytes(128) if data == TICKET else data) for side, data in TALKS["ticket"]]
    assert redacted(capture(speech, 5000))[1].account.kinds == {}


def test_with_addresses_the_key_that_tells_a_server_goes_as_well() -> None:
    file = capture(TALKS["ticket"], 5000)
    assert KEY in redacted(file)[0]
    assert KEY[10:30] not in redacted(file, addresses=True)[0]
