"""A relay without sockets: messages pass one by one, through an engine, between two models of peers."""

import struct
from collections import Counter, deque
from collections.abc import Iterable

from dissectors.side import Side
from spiceproxy.faults import Context, Engine, Moment, parse
from spiceproxy.faults.effects import Effect, Fired, Send, Wait, Wake
from spiceproxy.protocol.framer import Message

FULL = struct.Struct("<QHII")
MINI = struct.Struct("<HI")


def wire(id_: int, body: bytes = b"", *, serial: int = 0, sub_list: int = 0, mini: bool = True) -> bytes:
    """A message as bytes."""
    header = MINI.pack(id_, len(body)) if mini else FULL.pack(serial, id_, len(body), sub_list)
    return header + body


def unwire(side: Side, data: bytes, *, number: int = 1, mini: bool = True) -> Message:
    """A message from bytes; under mini headers it is the `number`th."""
    if mini:
        (id_, size), serial, sub_list, step = MINI.unpack_from(data), number, 0, MINI.size
    else:
        serial, id_, size, sub_list = FULL.unpack_from(data)
        step = FULL.size
    return Message(side, id_, size, serial, sub_list, data[:step], data[step:])


def engine(rules: str, *, seed: int = 0, **variables: object) -> Engine:
    """An engine with the rules of a TOML text."""
    return Engine(parse(rules).rules, seed=seed, variables=variables)


def sent(effects: Iterable[Effect], to: Side | None = None) -> list[bytes]:
    """What goes out, or what of it goes to one side."""
    return [each.data for each in effects if isinstance(each, Send) and to in {None, each.to}]


def fired(effects: Iterable[Effect]) -> list[str]:
    """Names of the rules that fired."""
    return [each.rule for each in effects if isinstance(each, Fired)]


class Relay:
    """One connection. `queues` holds what is on its way to each side, as whole messages."""

    def __init__(
        self,
        faults: Engine,
        channel_type: int,
        channel_id: int = 0,
        *,
        hop: int = 0,
        mini: bool = True,
        connection: str = "",
        session: str = "s1",
    ) -> None:
        self.engine, self.mini = faults, mini
        self.counts = Counter[Side]()
        self.queues: dict[Side, deque[bytes]] = {side: deque() for side in Side}
        self.context = Context(
            session,
            connection or f"c{hop}{channel_type}{channel_id}",
            channel_type,
            channel_id,
            hop,
            mini_header=mini,
            messages=lambda side: self.counts[side],
        )
        self.wanted = {side: faults.wanted(channel_type, side, mini_header=mini) for side in Side}
        self.do(faults.moment(self.context, Moment.LINKED))

    def say(self, side: Side, data: bytes) -> list[Effect]:
        """A peer sends a message."""
        self.counts[side] += 1
        message = unwire(side, data, number=self.counts[side], mini=self.mini)
        if message.id not in self.wanted[side]:
            self.queues[side.other].append(data)
            return []
        return self.do(self.engine.message(self.context, message))

    def do(self, effects: list[Effect]) -> list[Effect]:
        """Carry effects out; whoever waits, waits no time at all."""
        for effect in effects:
            match effect:
                case Send(to, data):
                    self.queues[to].append(data)
                case Wait(token) | Wake(token):
                    self.do(self.engine.resume(self.context, token))
        return effects
