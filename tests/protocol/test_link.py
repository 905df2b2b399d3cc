"""The link phase: what both peers say comes out unit by unit, however it is cut, and bad bytes are named."""

import itertools
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.link import LinkError, LinkFormatError
from dissectors.side import Side
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.link import MAX_EARLY_BYTES, LinkPhase, Phase, Unit
from tests.protocol.links import (
    ERROR,
    MESS,
    OK,
    PLAYBOOKS,
    REPLY,
    SECRET,
    TICKET,
    TO_SASL,
    TO_SASL_DATA,
    TO_SASL_RESULT,
    TO_TICKET,
    Playbook,
    began,
    counted,
    mess,
    plain,
    reply,
    side_of,
    u32,
)
from tests.protocol.streams import pieces, unhurried

C, S = Side.CLIENT, Side.SERVER
PLAYED = pytest.mark.parametrize("playbook", PLAYBOOKS.values(), ids=PLAYBOOKS.keys())


def holds(playbook: Playbook, link: LinkPhase) -> None:
    """Check how a playbook ended."""
    assert link.finished
    assert (link.phase, link.result, link.mechanism) == (playbook.ends, playbook.result, playbook.mechanism)
    assert (link.mini_header, link.sasl_done) == (playbook.mini_header, playbook.sasl_done)
    for side in Side:
        taken = sum(len(data) for phase, data in playbook.steps if side_of(phase) is side)
        assert link.offset(side) == taken
        assert link.has_partial(side) == (side in playbook.behind)
        assert link.leftover(side) == playbook.behind.get(side, b"")
        assert not link.has_partial(side)
        assert link.leftover(side) == b""


@PLAYED
def test_every_step_is_one_unit(playbook: Playbook) -> None:
    link = began(*playbook.steps)
    for side, data in playbook.behind.items():
        assert link.receive(side, data) == []
    holds(playbook, link)


@PLAYED
@settings(unhurried, max_examples=30)  # of each playbook
@given(st.lists(st.integers(0, 300), max_size=40) | st.just(list(range(300))))
def test_the_units_are_the_same_however_they_are_cut(playbook: Playbook, cuts: list[int]) -> None:
    link, units = LinkPhase(), []
    for phase, data in playbook.steps:
        side = side_of(phase)
        for piece in pieces(data, cuts):
            units += link.receive(side, piece)
    for side, data in playbook.behind.items():
        units += link.receive(side, data)
    assert plain(units) == playbook.units
    holds(playbook, link)


@PLAYED
def test_the_units_are_the_same_if_the_client_does_not_wait(playbook: Playbook) -> None:
    link = LinkPhase()
    streams = {
        side: b"".join(data for phase, data in playbook.steps if side_of(phase) is side)
        + playbook.behind.get(side, b"")
        for side in Side
    }
    units = link.receive(C, streams[C])
    assert plain(units) == playbook.units[:1]
    units += link.receive(S, streams[S])
    assert plain(units) == playbook.units
    holds(playbook, link)


@PLAYED
def test_whose_turn_it_is_follows_from_what_was_said(playbook: Playbook) -> None:
    link = LinkPhase()
    for (side, phase, data), (_, following, _) in itertools.pairwise(playbook.units):
        assert (link.phase, link.turn) == (phase, side)
        link.receive(side, data)
        if following is Phase.ERROR_REPLY:  # nobody expects it
            return
    assert (link.phase, link.turn) == (playbook.units[-1][1], playbook.units[-1][0])


@PLAYED
def test_no_secret_is_in_what_is_safe_to_record(playbook: Playbook) -> None:
    link = LinkPhase()
    units = [unit for phase, data in playbook.steps for unit in link.receive(side_of(phase), data)]
    assert all(len(unit.safe) == len(unit.data) for unit in units)
    safe = {phase: [unit.safe for unit in units if unit.phase is phase] for phase in Phase}
    assert SECRET not in b"".join(itertools.chain.from_iterable(safe.values()))
    assert not any(b"".join(safe[Phase.TICKET]))
    for unit in units:
        if unit.phase in {Phase.SASL_CLIENT_DATA, Phase.SASL_SERVER_DATA}:
            assert unit.safe[:4] == unit.data[:4]
            length = int.from_bytes(unit.data[:4], "little")
            assert unit.safe[4:] == bytes(length) + unit.data[4 + length :]
        elif unit.phase is not Phase.TICKET:
            assert unit.safe == unit.data


def test_a_recording_without_secrets_plays_as_the_original_did() -> None:
    playbook = PLAYBOOKS["SASL, then messages"]
    safe = [(unit.phase, unit.safe) for unit in _all_units(playbook)]
    assert plain(_all_units(Playbook(tuple(safe), playbook.ends))) == [
        (side_of(phase), phase, data) for phase, data in safe
    ]


def _all_units(playbook: Playbook) -> list[Unit]:
    link = LinkPhase()
    return [unit for phase, data in playbook.steps for unit in link.receive(side_of(phase), data)]


def test_what_the_peers_said_of_themselves_is_kept() -> None:
    link = LinkPhase()
    assert not link.mini_header
    link.receive(C, mess(13, connection_id=0xABCDEF))
    assert link.mess is not None
    assert (link.mess.connection_id, link.mess.channel_type, link.mess.common_caps) == (0xABCDEF, 1, (13,))
    assert not link.mini_header
    link.receive(S, reply(11))
    assert link.reply is not None
    assert (link.reply.common_caps, link.reply.channel_caps) == ((11,), (15,))
    assert link.mini_header


# What is no link phase ----------------------------------------------------------------------------


def _block(size: int, *, major: int = 2, magic: bytes = b"REDQ") -> bytes:
    return struct.pack("<4sIII", magic, major, 2, size)


def _all(link: LinkPhase, side: Side, received: Iterable[bytes]) -> list[Unit]:
    return [unit for piece in received for unit in link.receive(side, piece)]


def _mess_with_caps_at(offset: int, words: int = 2) -> bytes:
    body = struct.pack("<IBBIII", 0, 1, 0, 1, words - 1, offset) + bytes(4 * 2)
    return _block(len(body)) + body


BAD_CLIENTS = {
    "one wrong byte": (b"G", LinkError.INVALID_MAGIC, "not SPICE"),
    "a wrong second byte": (b"RX", LinkError.INVALID_MAGIC, "not SPICE"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", LinkError.INVALID_MAGIC, "HTTP"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", LinkError.INVALID_MAGIC, "TLS"),
    "another major version": (_block(26, major=1), LinkError.VERSION_MISMATCH, "version 1.2"),
    "one byte too short": (_block(17), LinkError.INVALID_DATA, "17 bytes"),
    "one byte too long": (_block(4097), LinkError.INVALID_DATA, "4097 bytes"),
    "4 GiB": (_block(2**32 - 1), LinkError.INVALID_DATA, "4294967295 bytes"),
    "capabilities over the fixed part": (_mess_with_caps_at(17), LinkError.INVALID_DATA, "caps_offset 17"),
    "capabilities behind the end": (_mess_with_caps_at(19), LinkError.INVALID_DATA, "caps_offset 19"),
    "4 billion words": (_mess_with_caps_at(18, words=2**32), LinkError.INVALID_DATA, "4294967295"),
}


@pytest.mark.parametrize(("data", "code", "reason"), BAD_CLIENTS.values(), ids=BAD_CLIENTS.keys())
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_what_is_no_link_message_is_refused_with_the_code_that_fits(
    data: bytes, code: LinkError, reason: str, bytewise: bool
) -> None:
    link = LinkPhase()
    with pytest.raises(ProtocolError) as caught:
        _all(link, C, pieces(data, range(len(data)) if bytewise else []))
    assert (caught.value.side, caught.value.offset) == (C, 0)
    assert isinstance(caught.value.__cause__, LinkFormatError)
    assert caught.value.__cause__.code is code
    if not bytewise:
        assert reason in caught.value.reason


BAD_SERVERS = {
    "VNC": (b"RFB 003.008\n", "VNC"),
    "SSH": (b"SSH-2.0-", "SSH"),
    "another major version": (_block(178, major=3), "version 3.2"),
    "one byte too short": (_block(177), "177 bytes"),
    "one byte too long": (_block(16385), "16385 bytes"),
    "capabilities behind the end": (
        _block(182) + struct.pack("<I162sIIII", 0, b"", 2, 0, 178, 0), "caps_offset 178",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), BAD_SERVERS.values(), ids=BAD_SERVERS.keys())
def test_what_is_no_link_reply_is_the_servers_fault(data: bytes, reason: str) -> None:
    link = began(MESS)
    with pytest.raises(ProtocolError, match=reason) as caught:
        link.receive(S, data)
    assert (caught.value.side, caught.value.offset) == (S, 0)


@pytest.mark.parametrize("data", [_block(177), b"REDQ" + bytes(12)], ids=["a size", "a version"])
def test_an_error_reply_is_judged_like_any_other(data: bytes) -> None:
    link = began(*TO_TICKET)
    with pytest.raises(ProtocolError) as caught:
        link.receive(S, data)
    assert (caught.value.side, caught.value.offset) == (S, len(REPLY[1]))


TOO_LONG = {
    "mechanism list": (TO_SASL, S, u32(301), u32(300)),
    "mechanism name": (TO_SASL_DATA[:-1], C, u32(101), u32(100)),
    "client data": (TO_SASL_DATA, C, u32(2**20 + 1), u32(2**20)),
    "server data": (TO_SASL_RESULT[:-3], S, u32(2**20 + 1), u32(2**20)),
    "reason": (TO_SASL_RESULT, S, u32(1) + u32(1025), u32(1) + u32(1024)),
}


@pytest.mark.parametrize(("steps", "side", "bad", "good"), TOO_LONG.values(), ids=TOO_LONG.keys())
def test_sasl_lengths_are_judged_before_the_bytes_are_waited_for(
    steps: tuple[tuple[Phase, bytes], ...], side: Side, bad: bytes, good: bytes
) -> None:
    assert began(*steps).receive(side, good) == []
    link = began(*steps)
    with pytest.raises(ProtocolError, match="allowed") as caught:
        link.receive(side, bad)
    assert caught.value.side is side
    assert caught.value.offset == sum(len(data) for phase, data in steps if side_of(phase) is side)


# Out of turn --------------------------------------------------------------------------------------


def test_a_client_that_does_not_wait_is_kept_back_up_to_a_bound() -> None:
    link = began(MESS)
    early = u32(1) + TICKET
    assert link.receive(C, early + bytes(MAX_EARLY_BYTES - len(early))) == []
    with pytest.raises(ProtocolError, match="65537 bytes sent while the link reply was awaited") as caught:
        link.receive(C, b"x")
    assert (caught.value.side, caught.value.offset) == (C, len(MESS[1]))


@pytest.mark.parametrize("first", [0, 1, 3, 4, 100], ids="{} bytes first".format)
def test_an_error_reply_that_crosses_the_ticket_is_told_from_a_result(first: int) -> None:
    link = began(*TO_TICKET)
    units = link.receive(C, TICKET[:50])
    units += link.receive(S, ERROR[:first])
    units += link.receive(C, TICKET[50:])
    units += link.receive(S, ERROR[first:])
    refused_before = first >= 4  # then the ticket is no answer to anything any more
    assert plain(units) == ([] if refused_before else [(C, Phase.TICKET, TICKET)]) + [
        (S, Phase.ERROR_REPLY, ERROR)
    ]
    assert (link.phase, link.result) == (Phase.REFUSED, 3)
    assert link.leftover(C) == (TICKET if refused_before else b"")


@pytest.mark.parametrize(
    "steps", [(), (MESS, REPLY), TO_TICKET, TO_SASL_DATA], ids=lambda steps: str(len(steps))
)
@pytest.mark.parametrize("said", [b"RFB 003.008\n", b"RX", b"\0"], ids=["VNC", "RX", "NUL"])
def test_a_server_that_speaks_out_of_turn_is_passed_on_unread(
    steps: tuple[tuple[Phase, bytes], ...], said: bytes
) -> None:
    link = began(*steps)
    assert link.receive(C, b"R") == []  # has begun
    assert link.receive(S, said) == []
    assert (link.phase, link.result) == (Phase.REFUSED, None)
    assert (link.leftover(S), link.leftover(C)) == (said, b"R")


def test_what_comes_after_the_end_is_left_for_whoever_follows() -> None:
    link = began(*TO_TICKET, (Phase.TICKET, TICKET), OK)
    assert link.receive(C, b"one") == link.receive(C, b"two") == []
    assert link.leftover(C) == b"onetwo"


@unhurried
@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=200) | st.sampled_from(
    [data for playbook in PLAYBOOKS.values() for _, data in playbook.steps]
)), max_size=20))  # fmt: skip
def test_any_bytes_in_any_order_give_units_or_a_protocol_error(said: list[tuple[Side, bytes]]) -> None:
    link, gone, given_ = LinkPhase(), dict.fromkeys(Side, b""), dict.fromkeys(Side, b"")
    broken = None
    for side, data in said:
        given_[side] += data
        try:
            units = link.receive(side, data)
        except ProtocolError as error:
            broken = error
            break
        for unit in units:
            gone[unit.side] += unit.data
            assert len(unit.safe) == len(unit.data)
    if broken is not None:
        assert link.offset(broken.side) == broken.offset <= len(given_[broken.side])
        return
    for side in Side:
        assert len(gone[side]) == link.offset(side)
        assert gone[side] + link.leftover(side) == given_[side]


def test_the_longest_sasl_step_comes_out_whole() -> None:
    link = began(*TO_SASL_DATA)
    data = counted(bytes(range(256)) * 4096)
    units = _all(link, C, pieces(data, range(0, len(data), 4099)))
    assert plain(units) == [(C, Phase.SASL_CLIENT_DATA, data)]
