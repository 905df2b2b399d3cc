"""The link phase of one connection: link -> authentication -> link result, seen from the middle.

Half duplex: the table below says whose turn it is, how long what comes next is, and what follows. A unit goes
out when it is whole; all of them are small. Source: spice-server reds.cpp, reds_handle_new_link() and what it
calls; spice-gtk spice-channel.c, spice_channel_recv_link_msg() and spice_channel_perform_auth_sasl().
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, TypeVar

from dissectors.capabilities import CommonCap, has_capability
from dissectors.errors import DissectionError
from dissectors.link import (
    MAGIC,
    AuthMech,
    LinkMessage,
    LinkReplyMessage,
    link_block_size,
    parse_link_mess,
    parse_link_reply,
)
from dissectors.side import Side
from spiceproxy.errors import ProtocolError

LINK_HEADER_BYTES: Final = 16
TICKET_BYTES: Final = 128  # RSA 1024
MAX_SASL_BYTES: Final = 2**20  # SASL_DATA_MAX_LEN of both peers
MAX_SASL_MECHANISM_BYTES: Final = 100  # spice-server common/reds-sasl: SASL_MAX_MECHNAME_LEN
MAX_SASL_LIST_BYTES: Final = 300  # spice-gtk: SASL_MAX_MECHLIST_LEN
MAX_SASL_REASON_BYTES: Final = 1024
# What a peer may have sent before it was its turn. An honest one sends nothing.
MAX_EARLY_BYTES: Final = 64 * 2**10


class Phase(Enum):
    """What comes next on a connection."""

    LINK_MESS = "link message"
    LINK_REPLY = "link reply"
    AUTH_MECHANISM = "auth mechanism"
    TICKET = "ticket"
    SASL_MECHLIST = "SASL mechanism list"
    SASL_MECHNAME = "SASL mechanism"
    SASL_CLIENT_DATA = "SASL client data"
    SASL_SERVER_DATA = "SASL server data"
    SASL_RESULT = "SASL result"
    LINK_RESULT = "link result"
    ERROR_REPLY = "rest of an error reply"  # the server turns the link down where something else was due
    DATA = "data"  # messages follow
    OPAQUE = "opaque"  # bytes follow that nobody here can read: a SASL security layer
    REFUSED = "refused"  # the server said no; whatever follows is passed on until somebody closes


FINAL: Final = frozenset({Phase.DATA, Phase.OPAQUE, Phase.REFUSED})


class Unit(NamedTuple):
    """One whole piece of the link phase, to be sent to the other peer."""

    side: Side
    phase: Phase  # what it was
    data: bytes  # as received
    safe: bytes  # the same length without secrets: for recordings


T = TypeVar("T")


def _read(parse: Callable[[bytes], T], unit: bytes) -> T | None:
    try:
        return parse(unit)
    except DissectionError:
        return None


def without_secrets(phase: Phase, unit: bytes) -> bytes:
    """A unit of this phase, for recordings; of the same length."""
    return _TABLE[phase].redact(unit)


class LinkPhase:
    """State of one connection up to its first message."""

    def __init__(self) -> None:
        self.phase = Phase.LINK_MESS
        self.mess: LinkMessage | None = None
        self.reply: LinkReplyMessage | None = None
        # What somebody in the middle has made of either; None: no link message at all.
        self._mess_told: list[LinkMessage | None] = []
        self._reply_told: list[LinkReplyMessage | None] = []
        self.mechanism: int | None = None  # auth mechanism the client chose, None for the implied ticket
        self.result: int | None = None  # the link result
        self._buffers = {side: bytearray() for side in Side}
        self._offsets = dict.fromkeys(Side, 0)
        self.sasl_done = False  # accepted; a security layer may follow
        self.sasl_mechanisms: list[str] = []  # that the server offers
        self.sasl_mechanism: str | None = None  # that the client chose

    @property
    def finished(self) -> bool:
        """Whether the link phase is over, one way or the other."""
        return self.phase in FINAL

    @property
    def turn(self) -> Side:
        """Who has to speak."""
        return _TABLE[self.phase].side

    @property
    def mess_told(self) -> LinkMessage | None:
        """The link message as the server has read it."""
        return self._mess_told[-1] if self._mess_told else self.mess

    @property
    def reply_told(self) -> LinkReplyMessage | None:
        """The link reply as the client has read it."""
        return self._reply_told[-1] if self._reply_told else self.reply

    @property
    def mini_header(self) -> bool:
        """Whether messages have the 6-byte header: both peers must have announced it (wire format, section 3.1)."""
        return self.sends_mini_header(Side.SERVER)

    def sends_mini_header(self, side: Side) -> bool:
        """Whether this side's messages have it: peers of which one was told something else may not agree."""
        mess, reply = (self.mess_told, self.reply) if side is Side.SERVER else (self.mess, self.reply_told)
        return all(
            caps is not None and has_capability(caps.common_caps, CommonCap.MINI_HEADER)
            for caps in (mess, reply)
        )

    def told(self, phase: Phase, unit: bytes) -> None:
        """The link message or link reply went out like this. To be said before the other peer's answer is given."""
        if phase is Phase.LINK_MESS:
            self._mess_told = [_read(parse_link_mess, unit)]
        elif phase is Phase.LINK_REPLY:
            self._reply_told = [_read(parse_link_reply, unit)]
        if phase is Phase.LINK_REPLY and self.phase in {Phase.AUTH_MECHANISM, Phase.TICKET}:
            self.phase = _auth_step(self)

    def receive(self, side: Side, data: bytes) -> list[Unit]:
        """Take bytes as they came; return the units that are whole now, in order, of either side.

        Raises:
            ProtocolError: The bytes are no link phase, or the peer sent far too much before its turn.
        """
        self._buffers[side] += data
        units: list[Unit] = []
        while (row := self._next_row()) is not None:
            buffer = self._buffers[row.side]
            try:
                size = row.measure(buffer)
                if size is None or len(buffer) < size:
                    if self._interrupted():
                        continue
                    break
                unit, phase = bytes(buffer[:size]), self.phase
                self.phase = row.finish(self, unit)
            except DissectionError as error:
                raise ProtocolError(str(error), side=row.side, offset=self._offsets[row.side]) from error
            self._offsets[row.side] += size
            del buffer[:size]
            units.append(Unit(row.side, phase, unit, row.redact(unit)))
        if not self.finished and len(self._buffers[self.turn.other]) > MAX_EARLY_BYTES:
            early = self.turn.other
            raise ProtocolError(
                f"{len(self._buffers[early])} bytes sent while the {self.phase.value} was awaited",
                side=early,
                offset=self._offsets[early],
            )
        return units

    def leftover(self, side: Side) -> bytes:
        """Bytes that came behind the link phase; they belong to what follows. Can be asked once."""
        data = bytes(self._buffers[side])
        self._buffers[side].clear()
        return data

    def offset(self, side: Side) -> int:
        """How many bytes of this side's stream the link phase took."""
        return self._offsets[side]

    def has_partial(self, side: Side) -> bool:
        """Whether a unit of this side has begun and is not whole."""
        return bool(self._buffers[side])

    def _next_row(self) -> "_Row | None":
        """What is awaited; None if the link phase is over."""
        row = _TABLE.get(self.phase)
        # In the auth steps spice-server answers what it does not like (a mechanism it does not know or allow, a bad
        # SASL mechanism name) with a whole error reply, in the place of SASL data or a result.
        if row and row.side is Side.SERVER and self.reply and self._buffers[Side.SERVER].startswith(MAGIC):
            self.phase = Phase.ERROR_REPLY
        return _TABLE.get(self.phase)

    def _interrupted(self) -> bool:
        """Whether the server speaks though the client has to go on: an error reply, or what can only be passed on."""
        server = self._buffers[Side.SERVER]
        if not server or self.turn is Side.SERVER:
            return False
        if self.reply is not None and MAGIC.startswith(server[: len(MAGIC)]):
            if len(server) < len(MAGIC):
                return False
            self.phase = Phase.ERROR_REPLY
        else:
            self.phase = Phase.REFUSED
        return True


# What each unit changes: one function a row of the table, returning the next phase.


def _on_mess(link: LinkPhase, unit: bytes) -> Phase:
    link.mess = parse_link_mess(unit)
    return Phase.LINK_REPLY


def _on_reply(link: LinkPhase, unit: bytes) -> Phase:
    link.reply = parse_link_reply(unit)
    if link.reply.error:
        link.result = link.reply.error
        return Phase.REFUSED
    return _auth_step(link)


def _auth_step(link: LinkPhase) -> Phase:
    # spice-server looks at the client's bit, spice-gtk at the server's: without both nobody selects. What comes next is
    # what the client makes of what it has sent and read.
    selects = all(
        caps is not None and has_capability(caps.common_caps, CommonCap.PROTOCOL_AUTH_SELECTION)
        for caps in (link.mess, link.reply_told)
    )
    return Phase.AUTH_MECHANISM if selects else Phase.TICKET


def _on_mechanism(link: LinkPhase, unit: bytes) -> Phase:
    link.mechanism = int.from_bytes(unit, "little")
    if link.mechanism == AuthMech.SASL:
        return Phase.SASL_MECHLIST
    # Of an unknown mechanism only the server can say what follows; it answers with an error (INVALID_DATA).
    return Phase.TICKET if link.mechanism == AuthMech.SPICE else Phase.LINK_RESULT


def _on_ticket(_link: LinkPhase, _unit: bytes) -> Phase:
    return Phase.LINK_RESULT


def _on_result(link: LinkPhase, unit: bytes) -> Phase:
    word = int.from_bytes(unit, "little")
    if link.sasl_done and word:
        # Behind SASL a security layer may be in force, and then this is its big-endian length. 8 and 9 are
        # the only link errors here (reds.cpp, reds_send_link_result()); a length of 2^27 is none.
        link.result = word if word in (8, 9) else None
        return Phase.REFUSED if link.result else Phase.OPAQUE
    link.result = word
    return Phase.REFUSED if word else Phase.DATA


def _on_sasl_mechlist(link: LinkPhase, unit: bytes) -> Phase:
    link.sasl_mechanisms = [each for each in _sasl_text(unit).split(",") if each]
    return Phase.SASL_MECHNAME


def _on_sasl_mechname(link: LinkPhase, unit: bytes) -> Phase:
    link.sasl_mechanism = _sasl_text(unit)
    return Phase.SASL_CLIENT_DATA


def _sasl_text(unit: bytes) -> str:
    """What is counted, as text that can be shown; RFC 4422, 3.1, has mechanisms in capitals, digits, hyphens."""
    return unit[4:].rstrip(b"\0").decode("ascii", "backslashreplace")


def _on_sasl_client_data(_link: LinkPhase, _unit: bytes) -> Phase:
    return Phase.SASL_SERVER_DATA


def _on_sasl_server_data(_link: LinkPhase, unit: bytes) -> Phase:
    return Phase.SASL_RESULT if unit[-1] else Phase.SASL_CLIENT_DATA


def _on_sasl_result(link: LinkPhase, unit: bytes) -> Phase:
    if int.from_bytes(unit[:4], "little"):
        link.result = 1
        return Phase.REFUSED
    link.sasl_done = True
    return Phase.LINK_RESULT


def _on_error_reply(link: LinkPhase, unit: bytes) -> Phase:
    link.result = parse_link_reply(unit).error or None
    return Phase.REFUSED


# How long the next unit is: its size in bytes, or None if that cannot be known yet.
Measure = Callable[[bytearray], int | None]


def _fixed(size: int) -> Measure:
    return lambda _buffer: size


def _link_block(side: Side) -> Measure:
    def measure(buffer: bytearray) -> int | None:
        if len(buffer) < LINK_HEADER_BYTES:
            if not MAGIC.startswith(buffer[:4]):  # do not wait for twelve more bytes of what is not SPICE
                link_block_size(bytes(buffer[:4]).ljust(LINK_HEADER_BYTES, b"\0"), side)
            return None
        return link_block_size(bytes(buffer[:LINK_HEADER_BYTES]), side)

    return measure


def _counted(limit: int, what: str, tail: int = 0) -> Measure:
    """A u32 length, that many bytes, and `tail` more."""

    def measure(buffer: bytearray) -> int | None:
        if len(buffer) < 4:
            return None
        size = int.from_bytes(buffer[:4], "little")
        if size > limit:
            raise DissectionError(f"{what} of {size} bytes, {limit} allowed")
        return 4 + size + tail

    return measure


def _sasl_result(buffer: bytearray) -> int | None:
    """A u32; if it is not 0 a counted reason follows."""
    if len(buffer) < 4:
        return None
    if not int.from_bytes(buffer[:4], "little"):
        return 4
    reason = _counted(MAX_SASL_REASON_BYTES, "SASL reason")(buffer[4:])
    return None if reason is None else 4 + reason


def _as_is(unit: bytes) -> bytes:
    return unit


def _zeroed(unit: bytes) -> bytes:
    return bytes(len(unit))


def _zeroed_data(unit: bytes) -> bytes:
    """Keep the length; the data may be a password (PLAIN) or what can be searched for one (SCRAM)."""
    return unit[:4] + bytes(len(unit) - 4)


def _zeroed_step(unit: bytes) -> bytes:
    """As `_zeroed_data`; the last byte says whether the exchange is over, and who reads the recording needs it."""
    return unit[:4] + bytes(len(unit) - 5) + unit[-1:]


class _Row(NamedTuple):
    side: Side
    measure: Measure
    finish: Callable[[LinkPhase, bytes], Phase]
    redact: Callable[[bytes], bytes] = _as_is


_C, _S = Side.CLIENT, Side.SERVER
_SASL_DATA: Final = "SASL data"
_TABLE: Final[dict[Phase, _Row]] = {
    Phase.LINK_MESS: _Row(_C, _link_block(_C), _on_mess),
    Phase.LINK_REPLY: _Row(_S, _link_block(_S), _on_reply),
    Phase.AUTH_MECHANISM: _Row(_C, _fixed(4), _on_mechanism),
    Phase.TICKET: _Row(_C, _fixed(TICKET_BYTES), _on_ticket, _zeroed),
    Phase.SASL_MECHLIST: _Row(_S, _counted(MAX_SASL_LIST_BYTES, "SASL mechanism list"), _on_sasl_mechlist),
    Phase.SASL_MECHNAME: _Row(
        _C, _counted(MAX_SASL_MECHANISM_BYTES, "SASL mechanism name"), _on_sasl_mechname
    ),
    Phase.SASL_CLIENT_DATA: _Row(
        _C, _counted(MAX_SASL_BYTES, _SASL_DATA), _on_sasl_client_data, _zeroed_data
    ),
    Phase.SASL_SERVER_DATA: _Row(
        _S, _counted(MAX_SASL_BYTES, _SASL_DATA, tail=1), _on_sasl_server_data, _zeroed_step
    ),
    Phase.SASL_RESULT: _Row(_S, _sasl_result, _on_sasl_result),
    Phase.LINK_RESULT: _Row(_S, _fixed(4), _on_result),
    Phase.ERROR_REPLY: _Row(_S, _link_block(_S), _on_error_reply),
}
