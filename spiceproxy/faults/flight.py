"""A message, or a unit of the link phase, on its way through the actions of rules."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from dissectors.capabilities import words_of
from dissectors.errors import DissectionError
from dissectors.link import build_link_mess, build_link_reply, parse_link_mess, parse_link_reply
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.faults import actions, schema, streams
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.names import SPECS, Capability, Kind
from spiceproxy.faults.prepare import VARIABLE, Caps, Prepared, is_variable
from spiceproxy.protocol.framer import MAX_BODY_BYTES, Message
from spiceproxy.tickets import write_ticket

_FULL: Final = struct.Struct("<QHII")  # serial, type, size, sub_list
_MINI: Final = struct.Struct("<HI")  # type, size
_U64: Final = 2**64
_MAJOR_VERSION_AT: Final = 4  # in a SpiceLinkHeader

Variables = Mapping[str, Any]


def encode(message: Message, *, mini_header: bool) -> bytes:
    """A message as it stands on the wire; its header is made anew if it has none."""
    if message.header:
        return message.header + message.body
    if mini_header:
        return _MINI.pack(message.id, message.size) + message.body
    return _FULL.pack(message.serial % _U64, message.id, message.size, message.sub_list) + message.body


@dataclass(slots=True)
class Flight:
    """What is to go out in the end.

    Attributes:
        side: Who sends it.
        id: Of the message; None for a unit of the link phase.
        body: Of the message; all of a unit.
        original: As it came; None for a unit, or for what nobody sent.
        header: What the header is to say against the truth.
        dropped: It does not go out.
        copies: So often more it goes out.
        segment_bytes: As in `effects.Send`.
        gap_ns: As in `effects.Send`.
        comment: What was done to it.
        counted: What counts messages is told of it.
        gone: It has gone out, and cannot be changed any more.
    """

    side: Side
    id: int | None
    body: bytes
    original: Message | None = None
    header: actions.Header | None = None
    dropped: bool = False
    copies: int = 0
    segment_bytes: int = 0
    gap_ns: int = 0
    comment: str = ""
    counted: bool = True
    gone: bool = False

    def message(self) -> Message:
        """What goes out, as a message; one that was not changed has its header as it came."""
        assert self.id is not None  # noqa: S101  no unit of the link phase
        was = self.original
        if was is not None and self.header is None and (was.id, was.body) == (self.id, self.body):
            return was
        serial, sub_list = (was.serial, was.sub_list) if was is not None else (0, 0)
        id_, size = self.id, len(self.body)
        if (lie := self.header) is not None:
            id_ = id_ if lie.id is None else lie.id
            size = size if lie.size is None else lie.size
            serial = serial if lie.serial is None else lie.serial
            sub_list = sub_list if lie.sub_list is None else lie.sub_list
        return Message(self.side, id_, size, serial, sub_list, b"", self.body)


def change(
    prepared: Prepared,
    flight: Flight,
    context: Context,
    moment: Moment | None,
    random: Random,
    variables: Variables,
) -> bool:
    """Do what an action does to a message or a unit.

    Returns:
        Whether this was such an action.

    Raises:
        RuleError: It cannot be done to this one, which stays as it was.
        DissectionError: Its body does not decode, or what was made of it cannot be built.
    """
    match prepared.action:
        case actions.Drop():
            flight.dropped = True
        case actions.Duplicate(times=times):
            check_copies(flight.copies + times, flight.body)
            flight.copies += times
        case actions.Set():
            flight.body = _set(prepared, flight, context, variables)
        case actions.Replace():
            kind, flight.body = _replaced(prepared, flight, context, variables)
            flight.id = kind.id
        case actions.Corrupt():
            flight.body = _corrupted(prepared, flight, context, random)
        case actions.Truncate(to=to, by=by):
            flight.body = flight.body[:to] if by is None else flight.body[: max(0, len(flight.body) - by)]
        case actions.Pad(count=count, byte=byte):
            if len(flight.body) + count > MAX_BODY_BYTES:
                raise RuleError("the message would be longer than any peer takes")
            flight.body += bytes([byte]) * count
        case actions.Header() as lie:
            flight.header = lie
        case actions.Split():
            flight.segment_bytes, flight.gap_ns = prepared.action.bytes, nanoseconds(prepared.action.gap)
        case streams.Capabilities():
            flight.body = _capabilities(prepared.caps[context.channel_type], flight.body, moment)
        case streams.Link() as link:
            flight.body = _link(link, flight.body)
        case streams.Ticket(password=password):
            flight.body = _ticket(password, context.ticket_key)
        case _:
            return False
    return True


def check_copies(count: int, body: bytes) -> None:
    """See that so many copies of a body can wait in memory.

    Raises:
        RuleError: They are too many.
    """
    if count * len(body) > actions.MAX_COPIED_BYTES:
        raise RuleError(f"{count} times {len(body)} bytes are too much to be kept")


def nanoseconds(seconds: float) -> int:
    """Seconds of a rule in nanoseconds."""
    return round(seconds * 1e9)


def injected(prepared: Prepared, context: Context, variables: Variables) -> Flight:
    """The message that `inject` sends on this connection.

    Raises:
        RuleError: There is no such message on this channel, or a field cannot have its value.
        DissectionError: It cannot be built.
    """
    kind = _target(prepared, context)
    body = prepared.data
    if body is None:
        body = _build(kind, schema.blank(SPECS[kind].schema) or {}, prepared, variables)
    return Flight(kind.side, kind.id, body)


def _target(prepared: Prepared, context: Context) -> Kind:
    kind = prepared.targets.get(context.channel_type)
    if kind is None:
        raise RuleError(f"channel {context.channel} has no such message")
    return kind


def _set(prepared: Prepared, flight: Flight, context: Context, variables: Variables) -> bytes:
    kind = _kind(flight, context)
    if kind not in prepared.values:
        raise RuleError("this message has no such field")
    found = dissect(kind.channel_type, kind.side, kind.id, flight.body)
    return _build(kind, found.fields, prepared, variables, trailing=found.trailing)


def _replaced(
    prepared: Prepared, flight: Flight, context: Context, variables: Variables
) -> tuple[Kind, bytes]:
    kind = _target(prepared, context)
    if prepared.data is not None:
        return kind, prepared.data
    fields: dict[str, Any] = schema.blank(SPECS[kind].schema) or {}
    was = _kind(flight, context)
    assert isinstance(prepared.action, actions.Replace)  # noqa: S101  change() has looked
    if prepared.action.keep and was in SPECS:
        old = dissect(was.channel_type, was.side, was.id, flight.body).fields
        fields |= schema.common_fields(SPECS[kind].schema, old)
    return kind, _build(kind, fields, prepared, variables)


def _kind(flight: Flight, context: Context) -> Kind:
    assert flight.id is not None  # noqa: S101  these actions go with messages only
    return Kind(context.channel_type, flight.side, flight.id)


def _build(
    kind: Kind, fields: dict[str, Any], prepared: Prepared, variables: Variables, *, trailing: bytes = b""
) -> bytes:
    spec = SPECS[kind]
    for keys, value in prepared.values[kind].items():
        schema.put(spec.schema, fields, keys, _filled_in(kind, keys, value, variables))
    return spec.build(fields, trailing)


def _filled_in(kind: Kind, keys: schema.Keys, value: Any, variables: Variables) -> Any:
    if not is_variable(value):
        return value
    found = VARIABLE.fullmatch(value)
    assert found is not None  # noqa: S101  is_variable() has looked
    if found.group(1) not in variables:
        raise RuleError(f"nobody has said what {value} is")
    at = schema.find(SPECS[kind].schema, keys, where=SPECS[kind].name)
    return schema.value_for(at, variables[found.group(1)], name=schema.dotted(keys))


def _corrupted(prepared: Prepared, flight: Flight, context: Context, random: Random) -> bytes:
    action = prepared.action
    assert isinstance(action, actions.Corrupt)  # noqa: S101  change() has looked
    body = bytearray(flight.body)
    start, room = 0, len(body)
    if action.field is not None:
        kind = _kind(flight, context)
        if kind not in prepared.places:
            raise RuleError("this message has no such field")
        start, room = prepared.places[kind]
    elif action.at is not None:
        start = action.at if action.at >= 0 else len(body) + action.at
        room = len(body) - start
    if not 0 <= start <= len(body) or start + max(room, 0) > len(body):
        raise RuleError(f"the body has {len(body)} bytes")
    if prepared.data is None:
        assert action.count is not None  # noqa: S101  prepare() wants bytes, xor or count
        for position in random.sample(range(start, start + room), min(action.count, room)):
            body[position] ^= random.randrange(1, 256)
        return bytes(body)
    data = prepared.data
    if start + len(data) > len(body):
        raise RuleError(f"the body has {len(body)} bytes")
    if action.xor is not None:
        data = bytes(one ^ other for one, other in zip(data, body[start:], strict=False))
    body[start : start + len(data)] = data
    return bytes(body)


def _capabilities(caps: Caps, unit: bytes, moment: Moment | None) -> bytes:
    if moment is Moment.LINK_MESSAGE:
        mess = parse_link_mess(unit)
        common, own = _words(caps, mess.common_caps, mess.channel_caps)
        return build_link_mess(replace(mess, common_caps=common, channel_caps=own))
    reply = parse_link_reply(unit)
    if reply.error:
        raise RuleError("the server has turned the link down: there are no capabilities")
    common, own = _words(caps, reply.common_caps, reply.channel_caps)
    return build_link_reply(replace(reply, common_caps=common, channel_caps=own))


def _words(
    caps: Caps, common: tuple[int, ...], own: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    changed = []
    for is_common, words in ((True, common), (False, own)):
        new = list(words)
        if caps.set is not None and (not is_common or any(bit.common for bit in caps.set)):
            new = [0] * len(words)
            _fill(new, caps.set, common=is_common)
        _fill(new, caps.add, common=is_common)
        for bit in caps.clear:
            word, position = divmod(bit.bit, 32)
            if bit.common is is_common and word < len(new):
                new[word] &= ~(1 << position)
        changed.append(tuple(new))
    return changed[0], changed[1]


def _fill(words: list[int], bits: tuple[Capability, ...], *, common: bool) -> None:
    """Set bits; words that are not there are added, never taken away."""
    wanted = words_of(bit.bit for bit in bits if bit.common is common)
    words.extend([0] * (len(wanted) - len(words)))
    for index, word in enumerate(wanted):
        words[index] |= word


def _ticket(password: str, key: bytes) -> bytes:
    try:
        return write_ticket(key, password.encode())
    except ValueError as error:
        raise RuleError(str(error)) from None


def _link(link: streams.Link, unit: bytes) -> bytes:
    mess = parse_link_mess(unit)
    for name in ("connection_id", "channel_type", "channel_id", "minor_version"):
        if (value := getattr(link, name)) is not None:
            mess = replace(mess, **{name: value})
    data = build_link_mess(mess)
    if link.major_version is not None:
        version = link.major_version.to_bytes(4, "little")
        data = data[:_MAJOR_VERSION_AT] + version + data[_MAJOR_VERSION_AT + 4 :]
    return data


FAILURES: Final = (RuleError, DissectionError)
"""What `change` and `injected` raise where an action cannot be carried out."""
