"""Whatever is dropped and put in, peers that count strictly stay content."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.message_ids import Inputs, Main, Msg, MsgC
from dissectors.side import Side
from spiceproxy.faults import Engine
from tests.faults.relaying import Relay, engine, unwire, wire
from tests.faults.strict_peers import (
    WAIT,
    AgentClient,
    AgentServer,
    Client,
    MotionClient,
    MotionServer,
    Server,
)

DISPLAY = ChannelType.DISPLAY
unhurried = settings(deadline=None)

probabilities = st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0])
seeds = st.integers(0, 2**16)
windows = st.sampled_from([1, 2, 3, 5, 20])


def display_faults(drop: float, before: float, after: float, twice: float, seed: int) -> Engine:
    return engine(
        f"""
        [[fault]]
        name = "before"
        match = {{ message = "DRAW_COPY", probability = {before} }}
        do = {{ inject = {{ message = "NOTIFY", when = "before" }} }}
        [[fault]]
        name = "after"
        match = {{ message = "DRAW_COPY", probability = {after} }}
        do = {{ inject = "NOTIFY" }}
        [[fault]]
        name = "twice"
        match = {{ message = "DRAW_COPY", probability = {twice} }}
        do = "duplicate"
        [[fault]]
        name = "drop"
        match = {{ message = "DRAW_COPY", probability = {drop} }}
        do = "drop"
        """,
        seed=seed,
    )


class Display:
    """A display server and its client, and how messages on their way are delivered: some at a time."""

    def __init__(
        self, faults: Engine, *, mini: bool, window: int, first: int = 1, hop: int = 0, channel_id: int = 0
    ) -> None:
        self.relay = Relay(faults, DISPLAY, channel_id, mini=mini, hop=hop)
        self.server = Server(mini=mini, window=window, first=first)
        self.client = Client(mini=mini)
        self.mini, self.tag = mini, 0
        self.draws: dict[int, int] = {}  # serial of the server, by tag
        self.asked: list[int] = []  # tags of the other display that the client is told to wait for

    def deliver(self, to: Side, count: int) -> None:
        queue = self.relay.queues[to]
        for _ in range(min(count, len(queue))):
            message = unwire(to.other, queue.popleft(), mini=self.mini)
            if to is Side.SERVER:
                self.server.hear(message.id, message.body)
            else:
                for said in self.client.hear(message.serial, message.id, message.body):
                    self.relay.say(Side.CLIENT, said)

    def settle(self) -> None:
        while any(self.relay.queues.values()):
            for side in Side:
                self.deliver(side, 10**6)

    def draw(self) -> None:
        if not self.server.may_send:
            self.settle()
        assert self.server.may_send, "the server has stopped for good"
        self.tag += 1
        data = self.server.draw(self.tag)
        self.draws[self.tag] = self.server.serial
        self.relay.say(Side.SERVER, data)

    def wait_for(self, other: "Display", tag: int) -> None:
        """The server tells the client to wait for a draw of the other display."""
        entry = WAIT.pack(1, DISPLAY, other.relay.context.channel_id, other.draws[tag])
        self.relay.say(Side.SERVER, self.server.send(Msg.WAIT_FOR_CHANNELS, entry))
        self.asked.append(tag)


@unhurried
@given(probabilities, probabilities, probabilities, seeds, windows, st.booleans(), st.data())
def test_a_display_that_acknowledges_strictly_never_stops(
    drop: float, before: float, after: float, seed: int, window: int, mini: bool, data: st.DataObject
) -> None:
    faults = display_faults(drop, before, after, 0.1, seed)
    display = Display(faults, mini=mini, window=window)
    display.relay.say(Side.SERVER, display.server.set_ack())
    for step in data.draw(st.lists(st.integers(0, 9), min_size=20, max_size=200)):
        match step:
            case 0:
                display.deliver(Side.CLIENT, 3)
            case 1:
                display.deliver(Side.SERVER, 1)
            case 2 if data.draw(st.booleans()):
                display.relay.say(Side.SERVER, display.server.set_ack())
            case _:
                display.draw()
    display.settle()
    for _ in range(5 * window):  # and goes on
        display.draw()
        display.settle()


@unhurried
@given(probabilities, probabilities, probabilities, seeds, st.booleans(), st.data())
def test_a_wait_for_another_display_names_the_message_that_the_server_meant(
    drop: float, before: float, after: float, seed: int, mini: bool, data: st.DataObject
) -> None:
    faults = display_faults(drop, before, after, 0.1, seed)
    watched = Display(faults, mini=mini, window=20)
    waiting = Display(faults, mini=mini, window=20, channel_id=1)
    for display in (watched, waiting):
        display.relay.say(Side.SERVER, display.server.set_ack())
    for _ in range(data.draw(st.integers(1, 40))):
        watched.draw()
        if data.draw(st.booleans()):
            waiting.wait_for(watched, data.draw(st.integers(1, watched.tag)))
    for display in (watched, waiting):
        display.settle()
    assert len(waiting.client.waits) == len(waiting.asked)
    for tag, number in zip(waiting.asked, waiting.client.waits, strict=True):
        for each, seen in watched.client.numbers.items():
            assert (each <= tag) == (seen <= number)


def dcmd(serial: int, clients: tuple[int, int, int, int]) -> bytes:
    """MIGRATE_DATA of a display with the serials that matter."""
    body = bytearray(88)
    body[:8] = b"DCMD\1\0\0\0"
    struct.pack_into("<Q", body, 8, serial)
    struct.pack_into("<4Q", body, 27, *clients)
    struct.pack_into("<II", body, 76, 80, 1)
    return bytes(body)


@unhurried
@given(probabilities, probabilities, probabilities, seeds, st.booleans(), st.integers(1, 30))
def test_after_a_seamless_migration_nobody_waits_for_what_will_not_come(
    drop: float, before: float, after: float, seed: int, mini: bool, draws: int
) -> None:
    faults = display_faults(drop, before, after, 0.1, seed)
    source = Display(faults, mini=mini, window=20)
    source.relay.say(Side.SERVER, source.server.set_ack())
    for _ in range(draws):
        source.draw()
    state = dcmd(source.server.serial + 1, (source.server.serial, 0, 0, 0))
    source.relay.say(Side.SERVER, source.server.send(Msg.MIGRATE_DATA, state))
    source.settle()
    if not mini:  # to the client it names its own number, as to a client of an untouched connection
        assert struct.unpack_from("<Q", source.client.state, 8)[0] == source.client.serial

    target = Display(faults, mini=mini, window=20, hop=1, first=source.server.serial)
    target.client = source.client
    target.relay.say(Side.CLIENT, target.client._say(MsgC.MIGRATE_DATA, source.client.state))
    message = unwire(Side.CLIENT, target.relay.queues[Side.SERVER].pop(), mini=mini)
    assert message.body == state  # what the destination gets is what the source wrote
    if not mini:
        target.client.serial -= 1  # the destination's first message has the number of MIGRATE_DATA once more
    target.relay.say(Side.SERVER, target.server.set_ack())
    waiting = Display(faults, mini=mini, window=20, hop=1, channel_id=1)
    for _ in range(draws):
        target.draw()
        waiting.wait_for(target, target.tag)
        target.settle()
        waiting.settle()
        assert waiting.client.waits[-1] <= target.client.serial
        if not mini:
            behind = target.draws[target.tag]
            assert all(
                (target.draws[tag] <= behind) == (seen <= waiting.client.waits[-1])
                for tag, seen in target.client.numbers.items()
                if tag in target.draws
            )


@unhurried
@given(probabilities, probabilities, st.integers(0, 3), seeds, st.data())
def test_a_pointer_never_stops_and_no_motion_is_acknowledged_twice(
    drop: float, inject: float, carried: int, seed: int, data: st.DataObject
) -> None:
    faults = engine(
        f"""
        [[fault]]
        name = "put in"
        match = {{ message = "MOUSE_MOTION", probability = {inject} }}
        do = {{ inject = "MOUSE_MOTION" }}
        [[fault]]
        name = "drop"
        match = {{ message = "MOUSE_MOTION", probability = {drop} }}
        do = "drop"
        """,
        seed=seed,
    )
    client, server = MotionClient(), MotionServer()
    relay = Relay(faults, ChannelType.INPUTS)

    def settle() -> None:
        while any(relay.queues.values()):
            for raw in list(relay.queues[Side.SERVER]):
                relay.queues[Side.SERVER].popleft()
                for said in server.hear(unwire(Side.CLIENT, raw).id):
                    relay.say(Side.SERVER, said)
            for raw in list(relay.queues[Side.CLIENT]):
                relay.queues[Side.CLIENT].popleft()
                assert unwire(Side.SERVER, raw).id == Inputs.MOUSE_MOTION_ACK
                client.acked()

    for number in range(150):
        if number == 70:  # a seamless migration in between: both ends take their counts along
            settle()
            relay = Relay(faults, ChannelType.INPUTS, hop=1)
            relay.say(Side.CLIENT, wire(MsgC.MIGRATE_DATA, b"ICMD"))
            assert unwire(Side.CLIENT, relay.queues[Side.SERVER].popleft()).id == MsgC.MIGRATE_DATA
        if not client.may_move:
            settle()
        assert client.may_move, "the pointer has stopped"
        relay.say(Side.CLIENT, client.move())
        if data.draw(st.booleans()):
            settle()


@unhurried
@given(probabilities, probabilities, seeds, st.data())
def test_tokens_of_the_agent_neither_run_out_nor_multiply(
    drop: float, inject: float, seed: int, data: st.DataObject
) -> None:
    faults = engine(
        f"""
        [[fault]]
        name = "put in"
        match = {{ message = "SPICE_MSGC_MAIN_AGENT_DATA", probability = {inject} }}
        do = {{ inject = {{ message = "SPICE_MSGC_MAIN_AGENT_DATA", body = "00" }} }}
        [[fault]]
        name = "drop"
        match = {{ message = "SPICE_MSGC_MAIN_AGENT_DATA", probability = {drop} }}
        do = "drop"
        """,
        seed=seed,
    )
    client, server = AgentClient(10), AgentServer()
    relay = Relay(faults, ChannelType.MAIN)

    def settle() -> None:
        for raw in list(relay.queues[Side.SERVER]):
            relay.queues[Side.SERVER].popleft()
            server.hear(unwire(Side.CLIENT, raw).id)
        if (given_back := server.give_back()) is not None:
            relay.say(Side.SERVER, given_back)
        for raw in list(relay.queues[Side.CLIENT]):
            relay.queues[Side.CLIENT].popleft()
            message = unwire(Side.SERVER, raw)
            assert message.id == Main.AGENT_TOKEN
            client.given(message.body)

    for number in range(100):
        if number == 50:
            settle()
            relay = Relay(faults, ChannelType.MAIN, hop=1)
            relay.say(Side.CLIENT, wire(MsgC.MIGRATE_DATA, b"MNMD"))
            relay.queues[Side.SERVER].clear()
        if not client.tokens:
            settle()
        assert client.tokens, "the client has no token left, and none will come"
        relay.say(Side.CLIENT, client.send())
        if data.draw(st.booleans()):
            settle()
    settle()
    assert client.tokens == 10
