"""Whole link phases, step by step, and what must become of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dissectors.link import (
    LinkMessage,
    LinkReplyMessage,
    build_link_error,
    build_link_mess,
    build_link_reply,
)
from dissectors.side import Side
from spiceproxy.protocol.link import LinkPhase, Phase, Unit

SECRET = b"secret!"
PUB_KEY = bytes(range(162))
SELECTS, SPICE_AUTH, SASL_AUTH, MINI = 1, 2, 4, 8  # bits of the common capability word


def mess(caps: int = SELECTS | SPICE_AUTH | MINI, *, connection_id: int = 0) -> bytes:
    """A client's link block for the main channel."""
    return build_link_mess(LinkMessage(connection_id, 1, 0, (caps,), (15,)))


def reply(caps: int = SELECTS | SPICE_AUTH | MINI) -> bytes:
    """A server's link block."""
    return build_link_reply(LinkReplyMessage(0, PUB_KEY, (caps,), (15,)))


def u32(number: int) -> bytes:
    """Little-endian, as everything but a SASL security layer."""
    return number.to_bytes(4, "little")


def counted(data: bytes) -> bytes:
    """With its length in front."""
    return u32(len(data)) + data


TICKET = (SECRET * 20)[:128]
_CLIENT_PHASES = {
    Phase.LINK_MESS, Phase.AUTH_MECHANISM, Phase.TICKET, Phase.SASL_MECHNAME, Phase.SASL_CLIENT_DATA
}  # fmt: skip


@dataclass(frozen=True)
class Playbook:
    """Units in order, and how it ends."""

    steps: tuple[tuple[Phase, bytes], ...]
    ends: Phase
    result: int | None = None
    mechanism: int | None = None
    mini_header: bool = True
    sasl_done: bool = False
    behind: dict[Side, bytes] = field(default_factory=dict)  # bytes that follow and are no unit

    @property
    def units(self) -> list[tuple[Side, Phase, bytes]]:
        """What must come out."""
        return [(side_of(phase), phase, data) for phase, data in self.steps]


def side_of(phase: Phase) -> Side:
    """Who says it."""
    return Side.CLIENT if phase in _CLIENT_PHASES else Side.SERVER


def plain(units: Iterable[Unit]) -> list[tuple[Side, Phase, bytes]]:
    """Without what is redacted."""
    return [(unit.side, unit.phase, unit.data) for unit in units]


def began(*steps: tuple[Phase, bytes]) -> LinkPhase:
    """A link phase after these steps."""
    link = LinkPhase()
    for phase, data in steps:
        assert plain(link.receive(side_of(phase), data)) == [(side_of(phase), phase, data)]
    return link


MESS, REPLY = (Phase.LINK_MESS, mess()), (Phase.LINK_REPLY, reply())
TO_TICKET = (MESS, REPLY, (Phase.AUTH_MECHANISM, u32(1)))
TO_SASL = (
    (Phase.LINK_MESS, mess(SELECTS | SASL_AUTH | MINI)),
    (Phase.LINK_REPLY, reply(SELECTS | SASL_AUTH | MINI)),
    (Phase.AUTH_MECHANISM, u32(2)),
)
TO_SASL_DATA = (
    *TO_SASL,
    (Phase.SASL_MECHLIST, counted(b",SCRAM-SHA-1,PLAIN,")),
    (Phase.SASL_MECHNAME, counted(b"SCRAM-SHA-1")),
)
TO_SASL_RESULT = (
    *TO_SASL_DATA,
    (Phase.SASL_CLIENT_DATA, counted(b"n,,n=user,r=" + SECRET + b"\0")),
    (Phase.SASL_SERVER_DATA, counted(b"r=" + SECRET + b"\0") + b"\0"),
    (Phase.SASL_CLIENT_DATA, counted(b"")),  # no data
    (Phase.SASL_SERVER_DATA, counted(b"") + b"\1"),
)
ACCEPTED = (Phase.SASL_RESULT, u32(0))
OK = (Phase.LINK_RESULT, u32(0))
SECURITY_LAYER = b"\0\0\0\x14" + bytes(range(20))  # RFC 4422: big-endian length, wrapped bytes
ERROR = build_link_error(3)  # INVALID_DATA

PLAYBOOKS = {
    "a ticket with auth selection": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), OK), Phase.DATA, result=0, mechanism=1
    ),
    "full headers because of the client": Playbook(
        ((Phase.LINK_MESS, mess(SELECTS)), REPLY, (Phase.AUTH_MECHANISM, u32(1)), (Phase.TICKET, TICKET), OK),
        Phase.DATA, result=0, mechanism=1, mini_header=False,
    ),
    "full headers because of the server": Playbook(
        (MESS, (Phase.LINK_REPLY, reply(SELECTS)), (Phase.AUTH_MECHANISM, u32(1)), (Phase.TICKET, TICKET), OK),
        Phase.DATA, result=0, mechanism=1, mini_header=False,
    ),
    "a client that selects nothing": Playbook(
        ((Phase.LINK_MESS, mess(MINI)), REPLY, (Phase.TICKET, TICKET), OK), Phase.DATA, result=0
    ),
    "a server where nothing can be selected": Playbook(
        (MESS, (Phase.LINK_REPLY, reply(MINI)), (Phase.TICKET, TICKET), OK), Phase.DATA, result=0
    ),
    "a link error reply": Playbook(
        (MESS, (Phase.LINK_REPLY, build_link_error(5))), Phase.REFUSED, result=5, mini_header=False,
        behind={Side.SERVER: b"more"},
    ),
    "a wrong ticket": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), (Phase.LINK_RESULT, u32(7))), Phase.REFUSED, result=7, mechanism=1
    ),
    "a connection id that is not known": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), (Phase.LINK_RESULT, u32(8))), Phase.REFUSED, result=8, mechanism=1
    ),
    "a result that only begins like an error reply": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), (Phase.LINK_RESULT, b"REDX")), Phase.REFUSED,
        result=int.from_bytes(b"REDX", "little"), mechanism=1,
    ),
    "messages right behind the result": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), OK), Phase.DATA, result=0, mechanism=1,
        behind={Side.SERVER: b"\x67\0\4\0\0\0init", Side.CLIENT: b"\x68\0\0\0\0\0"},
    ),
    "an auth mechanism that nobody knows": Playbook(
        (MESS, REPLY, (Phase.AUTH_MECHANISM, u32(77)), (Phase.ERROR_REPLY, ERROR)), Phase.REFUSED,
        result=3, mechanism=77,
    ),
    "an error reply in the place of the result": Playbook(
        (*TO_TICKET, (Phase.TICKET, TICKET), (Phase.ERROR_REPLY, ERROR)), Phase.REFUSED, result=3, mechanism=1
    ),
    "an error reply in the ticket's turn": Playbook(
        (*TO_TICKET, (Phase.ERROR_REPLY, ERROR)), Phase.REFUSED, result=3, mechanism=1
    ),
    "an error reply that names no error": Playbook(
        (*TO_TICKET, (Phase.ERROR_REPLY, reply())), Phase.REFUSED, mechanism=1, behind={Side.SERVER: b"REDQ"}
    ),
    "SASL that the server has not": Playbook(
        (*TO_SASL, (Phase.ERROR_REPLY, ERROR)), Phase.REFUSED, result=3, mechanism=2
    ),
    "a SASL mechanism that was not offered": Playbook(
        (*TO_SASL_DATA, (Phase.SASL_CLIENT_DATA, counted(b"x")), (Phase.ERROR_REPLY, ERROR)), Phase.REFUSED,
        result=3, mechanism=2,
    ),
    "SASL, then messages": Playbook(
        (*TO_SASL_RESULT, ACCEPTED, OK), Phase.DATA, result=0, mechanism=2, sasl_done=True,
        behind={Side.SERVER: b"\x67\0\4\0\0\0init"},
    ),
    "SASL in one step": Playbook(
        (*TO_SASL_DATA, (Phase.SASL_CLIENT_DATA, counted(b"\0u\0p")), (Phase.SASL_SERVER_DATA, u32(0) + b"\1"),
         ACCEPTED, OK),
        Phase.DATA, result=0, mechanism=2, sasl_done=True,
    ),
    "SASL, then a security layer": Playbook(
        (*TO_SASL_RESULT, ACCEPTED, (Phase.LINK_RESULT, SECURITY_LAYER[:4])), Phase.OPAQUE, mechanism=2,
        sasl_done=True, behind={Side.SERVER: SECURITY_LAYER[4:]},
    ),
    "SASL, then a link error": Playbook(
        (*TO_SASL_RESULT, ACCEPTED, (Phase.LINK_RESULT, u32(9))), Phase.REFUSED, result=9, mechanism=2,
        sasl_done=True,
    ),
    "SASL rejected": Playbook(
        (*TO_SASL_RESULT, (Phase.SASL_RESULT, u32(1) + counted(b"Authentication failed\0"))), Phase.REFUSED,
        result=1, mechanism=2,
    ),
}  # fmt: skip
