"""What counts messages still adds up when messages are dropped and put in between a client and its servers.

One ledger a session. All that goes out on its connections, in the place of a message or by itself, passes `carry`,
which says what goes out then: the message with its serial, and the serials in it, as the receiver counts; fewer or more
acknowledgements than the peer sent; tokens that nobody gave back. Everything else is left alone.

What client and server carry over a seamless migration is carried over here when the client hands MIGRATE_DATA to the
destination: one half of the display's serials, of unacknowledged motion and of agent tokens lives on in the client, the
other half comes in MIGRATE_DATA. Acknowledgement windows begin anew, with the destination's SET_ACK.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.headers import sub_messages
from dissectors.message_ids import Display, Inputs, InputsC, Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.faults.context import Context
from spiceproxy.faults.counts import AckWindow, Credit, Serials, Tokens
from spiceproxy.protocol.framer import Message

MOTION_BUNCH: Final = 4  # spice-protocol spice/enums.h, SPICE_INPUT_MOTION_ACK_BUNCH
MAX_PINGS: Final = 64  # put in and not answered, that are remembered

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_WAIT: Final = struct.Struct("<BBQ")  # channel type, channel id, serial
_SUB_HEADER_BYTES: Final = 6
_PING_BYTES: Final = 12  # id and timestamp, which a PONG repeats
_MOTION: Final = frozenset({InputsC.MOUSE_MOTION, InputsC.MOUSE_POSITION})
_AGENT_STARTS: Final = frozenset(
    {Main.INIT, Main.AGENT_CONNECTED, Main.AGENT_DISCONNECTED, Main.AGENT_CONNECTED_TOKENS}
)
_WAIT_LISTS: Final = frozenset({Msg.WAIT_FOR_CHANNELS, Display.INVAL_ALL_PIXMAPS})
_ACKED: Final = frozenset({ChannelType.DISPLAY, ChannelType.CURSOR})
_CLIENT, _SERVER = Side.CLIENT, Side.SERVER

# DCMD, MIGRATE_DATA of a display: u64 message_serial at 8, u64 pixmap_cache_clients[4] from 27 on. Source: spice-server
# migration-protocol.h, SpiceMigrateDataDisplay.
_DCMD_SERIAL_AT: Final = 8
_DCMD_CLIENTS_AT: Final = (27, 35, 43, 51)


class Carried(NamedTuple):
    """What goes out.

    Attributes:
        messages: In the place of what was to go out.
        extra: Put in by the ledger, behind these; of either side.
    """

    messages: list[Message]
    extra: list[Message]


@dataclass(slots=True)
class _Books:
    """The accounts of one connection."""

    serials: dict[Side, Serials] = field(default_factory=lambda: {side: Serials() for side in Side})
    window: AckWindow = field(default_factory=AckWindow)
    motion: Credit = field(default_factory=lambda: Credit(sent=MOTION_BUNCH, received=MOTION_BUNCH))
    tokens: Tokens = field(default_factory=Tokens)
    pings: list[bytes] = field(default_factory=list)  # put in, and not answered yet
    # In a display's MIGRATE_DATA: where, what the server wrote, what the client got.
    translated: list[tuple[int, bytes, bytes]] = field(default_factory=list)


class Ledger:
    """The books of one session."""

    def __init__(self) -> None:
        self._books: dict[tuple[int, int, int], _Books] = {}  # by hop, channel type, channel id

    def opened(self, context: Context) -> None:
        """A connection begins to count. What it goes on from is never further back than one server."""
        self._books = {key: books for key, books in self._books.items() if key[0] >= context.hop - 1}
        self._books[_key(context)] = _Books()

    def carry(
        self,
        context: Context,
        side: Side,
        original: Message | None,
        sent: Sequence[Message],
        *,
        counted: bool = True,
        before: Message | None = None,
    ) -> Carried:
        """Say what goes out.

        Args:
            context: Of the connection.
            side: Who sends it, or is meant to have sent it.
            original: What came from there; None if nobody sent this.
            sent: What is to go out in its place; nothing for a message that is dropped.
            counted: Whether what counts messages is to add up all the same.
            before: What is put in stands in front of this message, which has come already.
        """
        books = self._books.setdefault(_key(context), _Books())
        going = list(sent)
        if original is not None and sent and sent[0].id == original.id:
            passing = self._passes(context, books, original, sent[0])
            going = [*passing, *sent[1:]]
        extra = _make_up(context, books, side, original, going) if counted else []
        numbered = _number(context, books, side, original, going, counted=counted, before=before)
        return Carried(numbered, [_number(context, books, each.side, None, [each])[0] for each in extra])

    def _passes(self, context: Context, books: _Books, original: Message, message: Message) -> list[Message]:
        """What becomes of a message that reaches its receiver: the same, or what the receiver has to be told instead."""
        channel = context.channel_type
        if message.side is _CLIENT:
            if channel in _ACKED and message.id == MsgC.ACK:
                return [message] * books.window.ack()
            if channel in _ACKED and message.id == MsgC.ACK_SYNC:
                passes, acks = books.window.ack_sync(message.body)
                return [message, *_acks(acks)] if passes else []
            if message.id == MsgC.PONG and message.body[:_PING_BYTES] in books.pings:
                books.pings.remove(message.body[:_PING_BYTES])
                return []
            if message.id == MsgC.MIGRATE_DATA and context.hop:
                return [self._handed_over(context, books, message)]
            return [message]
        if channel in _ACKED and message.id == Msg.SET_ACK:
            books.window.set_ack(original.body, message.body)
        elif (channel, message.id) == (ChannelType.INPUTS, Inputs.MOUSE_MOTION_ACK):
            return [message] * books.motion.acknowledge()
        elif channel == ChannelType.MAIN and message.id in _AGENT_STARTS:
            books.tokens.start()
        elif (channel, message.id) == (ChannelType.MAIN, Main.AGENT_TOKEN):
            return _tokens(books.tokens, message)
        return [self._as_received(context, books, message)]

    # Serials inside of bodies ---------------------------------------------------------------------

    def _as_received(self, context: Context, books: _Books, message: Message) -> Message:
        """The message with the serials in its body as the client counts."""
        body = bytearray(message.body)
        display = context.channel_type == ChannelType.DISPLAY
        if message.id == Msg.WAIT_FOR_CHANNELS or (display and message.id == Display.INVAL_ALL_PIXMAPS):
            self._translate_waits(context.hop, body, 0)
        if display and message.id == Msg.MIGRATE_DATA:
            books.translated = self._translate_state(context, body)
        if message.sub_list or message.id == Msg.LIST:
            try:
                inside = sub_messages(message.body, 0 if message.id == Msg.LIST else message.sub_list)
            except DissectionError:
                inside = []  # who cannot read it cannot wait for anything in it
            for each in inside:
                if each.type in _WAIT_LISTS:
                    self._translate_waits(context.hop, body, each.offset + _SUB_HEADER_BYTES)
        return message if body == message.body else message._replace(body=bytes(body))

    def _translate_waits(self, hop: int, body: bytearray, at: int) -> None:
        """Translate a wait list: u8 count, then 10 bytes each."""
        count = body[at] if at < len(body) else 0
        for place in range(at + 1, min(at + 1 + count * _WAIT.size, len(body) - _WAIT.size + 1), _WAIT.size):
            channel_type, channel_id, serial = _WAIT.unpack_from(body, place)
            translated = serial + self._shift(hop, channel_type, channel_id, serial)
            _WAIT.pack_into(body, place, channel_type, channel_id, max(0, translated))

    def _translate_state(self, context: Context, body: bytearray) -> list[tuple[int, bytes, bytes]]:
        """Translate the serials in a display's MIGRATE_DATA; return what was changed, to change it back."""
        places = [(_DCMD_SERIAL_AT, context.channel_id), *((at, n) for n, at in enumerate(_DCMD_CLIENTS_AT))]
        changed = []
        for at, channel_id in places:
            if at + _U64.size > len(body):
                continue
            was = bytes(body[at : at + _U64.size])
            serial: int = _U64.unpack(was)[0]
            shift = self._shift(context.hop, ChannelType.DISPLAY, channel_id, serial) if serial else 0
            _U64.pack_into(body, at, max(0, serial + shift))
            changed.append((at, was, bytes(body[at : at + _U64.size])))
        return changed

    def _shift(self, hop: int, channel_type: int, channel_id: int, serial: int) -> int:
        books = self._books.get((hop, channel_type, channel_id))
        return books.serials[_SERVER].shift(serial) if books is not None else 0

    # Seamless migration ---------------------------------------------------------------------------

    def _handed_over(self, context: Context, books: _Books, message: Message) -> Message:
        """The client hands the source's state to the destination: what it goes on counting goes on here."""
        source = self._books.get((context.hop - 1, context.channel_type, context.channel_id))
        if source is None:
            return message
        body = bytearray(message.body)
        for at, was, told in source.translated:
            if body[at : at + len(told)] == told:
                body[at : at + len(was)] = was
        books.motion, books.tokens = source.motion, source.tokens
        if context.channel_type == ChannelType.DISPLAY and len(body) >= _DCMD_SERIAL_AT + _U64.size:
            # The destination's next message has this serial; under the mini header nothing but counting tells.
            first: int = _U64.unpack_from(body, _DCMD_SERIAL_AT)[0]
            serials = books.serials[_SERVER] = source.serials[_SERVER]
            serials.base = first - 1 - context.messages(_SERVER)
            serials.last = 0
        return message if body == message.body else message._replace(body=bytes(body))


def _key(context: Context) -> tuple[int, int, int]:
    return context.hop, context.channel_type, context.channel_id


# What is made up for ------------------------------------------------------------------------------


def _make_up(
    context: Context, books: _Books, side: Side, original: Message | None, going: Sequence[Message]
) -> list[Message]:
    """What has to be said in a peer's place because not what was sent goes out."""
    channel = context.channel_type
    came = [] if original is None else [original]
    if side is _SERVER:
        put_in = going[len(came) :]
        for each in put_in:
            if each.id == Msg.PING and len(books.pings) < MAX_PINGS:
                books.pings.append(each.body[:_PING_BYTES])
        if channel not in _ACKED:
            return []
        for each in put_in:
            if each.id == Msg.SET_ACK:  # it sets the client's count, and is not counted
                books.window.put_in(each.body)
        counted = [each for each in put_in if each.id != Msg.SET_ACK]
        return _acks(books.window.lack(len(came[len(going) :]) - len(counted)))
    if channel == ChannelType.INPUTS:
        lacking = _count(came, _MOTION) - _count(going, _MOTION)
        return [_made(_SERVER, Inputs.MOUSE_MOTION_ACK)] * books.motion.lack(lacking)
    if channel == ChannelType.MAIN:
        data = frozenset({MainC.AGENT_DATA})
        back = books.tokens.lack(_count(came, data) - _count(going, data))
        return [_made(_SERVER, Main.AGENT_TOKEN, _U32.pack(back))] if back else []
    return []


def _count(messages: Sequence[Message], ids: frozenset[int]) -> int:
    return sum(each.id in ids for each in messages)


def _tokens(tokens: Tokens, message: Message) -> list[Message]:
    """AGENT_TOKEN without those that are not the client's."""
    if len(message.body) < _U32.size:
        return [message]
    given: int = _U32.unpack_from(message.body)[0]
    kept = tokens.give(given)
    if kept == given:
        return [message]
    return [message._replace(body=_U32.pack(kept) + message.body[_U32.size :])] if kept else []


def _acks(count: int) -> list[Message]:
    return [_made(_CLIENT, MsgC.ACK)] * count


def _made(side: Side, id_: int, body: bytes = b"") -> Message:
    return Message(side, id_, len(body), 0, 0, b"", body)


# Serials of messages ------------------------------------------------------------------------------


def _number(
    context: Context,
    books: _Books,
    side: Side,
    original: Message | None,
    going: Sequence[Message],
    *,
    counted: bool = True,
    before: Message | None = None,
) -> list[Message]:
    """Give what goes out the serials that the receiver expects, and remember by how much they differ from here on."""
    serials, placed = books.serials[side], original or before
    if counted and not context.mini_header and placed is not None and going and placed.serial < serials.last:
        return _number_late(serials, original, placed, going)
    if original is not None:
        number = _number_of(context, serials, original)
        shift = serials.shift(number)
    elif before is not None:
        number = _number_of(context, serials, before)
        shift = serials.shift(number)
    else:
        number, shift = _next_number(context, serials, side), serials.present
    first = number + shift
    if counted:
        change = len(going) - (original is not None)
        if change:
            serials.move(number if original is None or not going else number + 1, change)
    elif original is None:
        first -= 1  # it has the number of the message before it: nobody's counting moves
    if original is not None:
        serials.last = max(serials.last, number)
    if context.mini_header:
        return list(going)
    return [
        each
        if original is not None and _is_told(each, original, first + position)
        else each._replace(serial=max(0, first + position), header=b"")
        for position, each in enumerate(going)
    ]


def _number_late(
    serials: Serials, original: Message | None, placed: Message, going: Sequence[Message]
) -> list[Message]:
    """As `_number`, where messages that were sent later have gone out: the sender's own keeps its number, all else is new."""
    own = [] if original is None else [placed.serial + serials.shift(placed.serial)]
    following = serials.last + serials.present + 1
    more = len(going) - len(own)
    if more:
        serials.move(serials.last + 1, more)
    return [
        each if own and _is_told(each, placed, number) else each._replace(serial=number, header=b"")
        for each, number in zip(going, [*own, *range(following, following + more)], strict=True)
    ]


def _is_told(message: Message, original: Message, serial: int) -> bool:
    """Whether a message says its serial already: the right one, or one that a fault has chosen."""
    return message.serial == serial or (message.serial != original.serial and not message.header)


def _number_of(context: Context, serials: Serials, message: Message) -> int:
    return message.serial + (serials.base if context.mini_header else 0)


def _next_number(context: Context, serials: Serials, side: Side) -> int:
    """The number of the next message that the sender will send."""
    if context.mini_header:
        return max(serials.last, serials.base + context.messages(side)) + 1
    return serials.last + 1
