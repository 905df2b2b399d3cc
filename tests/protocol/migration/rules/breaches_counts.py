"""Breaches of what peers count and answer: R46 at the destination, and R51 to R57."""

import struct
from collections.abc import Iterable

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Inputs, InputsC, Main, MainC, MsgC
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import CLIENT, SECOND, SERVER, Play, seamless, state
from tests.protocol.migration.rules.breaches import S1, S2, Breach, C, said, started
from tests.protocol.migration.rules.breaches_switch import DATA

AGENT_MESSAGE = struct.pack("<IIQI", 1, 4, 0, 4) + bytes(4)
LAST_IMAGE = 110  # of the playbook's display


def glz(number: int, *, surface: int = 0) -> bytes:
    """A DRAW_COPY with this image of the dictionary."""
    box = {"top": 0, "left": 0, "bottom": 4, "right": 4}
    data = b"  ZL" + struct.pack(">IBIIIQI", 0x10001, 0x18, 4, 4, 16, number, 0)
    descriptor = {"id": 1, "type": 102, "flags": 0, "width": 4, "height": 4}
    image = {"descriptor": descriptor, "u": {"lz_rgb": {"data_size": len(data), "data": data}}}
    base = {"surface_id": surface, "box": box, "clip": {"type": 0, "u": None}}
    mask = {"flags": 0, "pos": {"x": 0, "y": 0}, "bitmap": None}
    copy = {"src_bitmap": image, "src_area": box, "rop_descriptor": 8, "scale_mode": 0, "mask": mask}
    return build(ChannelType.DISPLAY, Side.SERVER, Display.DRAW_COPY, {"base": base, "data": copy})


def drawn(body: bytes, *, hop: int) -> Play:
    """The last DRAW_COPY of the source, or the first of the destination, is another one."""
    return seamless().changed("DRAW_COPY", "display:0", hop=hop, nth=3 if hop == 0 else 0, body=body)


def moved(*motions: int, acks: int = 0, count: int = 0, cancelled: bool = False, hops: int = 1) -> Play:
    """The client moves the mouse.

    Args:
        motions: Mouse messages at each server.
        acks: MOUSE_MOTION_ACKs of the first.
        count: What the last source says of those that it did not acknowledge.
        cancelled: A migration from there came to nothing before.
        hops: Migrations.
    """
    script = started()
    if cancelled:
        script.connect(0)
        script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
        for channel in script.channels:
            script.close(channel, 1)
        script.tick(SECOND)
    for hop in range(hops):
        for number in range(motions[hop]):
            id_ = InputsC.MOUSE_POSITION if number % 2 else InputsC.MOUSE_MOTION
            script.say(CLIENT, "inputs:0", hop, id_, bytes(13))
        for _ in range(acks if hop == 0 else 0):
            script.say(SERVER, "inputs:0", hop, Inputs.MOUSE_MOTION_ACK)
        script.tick(SECOND)
        script.connect(hop)
        script.tick(SECOND)
        script.act(hop)
        script.finish_seamless(hop)
    play = script.play()
    for hop in range(hops):
        here = motions[0] - 4 * acks if hop < hops - 1 else count
        body = b"ICMD" + struct.pack("<IH", 1, here)
        play = play.changed(DATA, "inputs:0", hop=hop, body=body, nth=0 if hop == 0 else 1)
        play = play.changed(DATA, "inputs:0", hop=hop + 1, body=body)
    return play


def agent(
    spent: int = 0,
    granted: Iterable[int] = (),
    *,
    during: int = 0,
    held: int | None = None,
    after: int = 0,
    restarts: bool = False,
) -> Play:
    """The client talks to the agent.

    Args:
        spent: Messages at the source.
        granted: Tokens that the source gives back.
        during: Messages at the source when the client has connected to the destination.
        held: What the source says that the client holds; None: what it does.
        after: Messages at the destination.
        restarts: The agent goes and comes in between, with 10 tokens.
    """
    script = started()
    for _ in range(spent):
        script.say(CLIENT, "main:0", 0, MainC.AGENT_DATA, AGENT_MESSAGE)
    for tokens in granted:
        script.say(SERVER, "main:0", 0, Main.AGENT_TOKEN, struct.pack("<I", tokens))
    if restarts:
        script.say(SERVER, "main:0", 0, Main.AGENT_DISCONNECTED, bytes(4))
        script.say(SERVER, "main:0", 0, Main.AGENT_CONNECTED_TOKENS, struct.pack("<I", 10))
    script.connect(0)
    for _ in range(during):
        script.say(CLIENT, "main:0", 0, MainC.AGENT_DATA, AGENT_MESSAGE)
    script.tick(SECOND)
    script.finish_seamless(0)
    for _ in range(after):
        script.say(CLIENT, "main:0", 1, MainC.AGENT_DATA, AGENT_MESSAGE)
    body = bytearray(state("main:0", 0))
    tokens = 10 - spent + sum(granted) if held is None else held
    struct.pack_into("<IBIIIII", body, 8, 1, 1, tokens & 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0)
    play = script.play()
    return play.changed(DATA, hop=0, body=bytes(body)).changed(DATA, hop=1, body=bytes(body))


def serials(play: Play, channel: str, hop: int, *, by: int) -> Play:
    """The last messages of a server have other serials."""
    name = play.connection(channel, hop)
    last = [
        fact for fact in play if isinstance(fact, Said) and (fact.connection, fact.side) == (name, SERVER)
    ][-3:]
    return Play(
        tuple(
            fact._replace(serial=fact.serial + by) if isinstance(fact, Said) and fact in last else fact
            for fact in play
        )
    )


BREACHES = [
    Breach(
        "R46", "drawn on by the destination", lambda: drawn(glz(LAST_IMAGE, surface=3), hop=1), S2, "display:0",
        ["DISPLAY_DRAW_COPY"], captured=True,
    ),
    Breach(
        "R46", "made and not named",
        lambda: seamless().inserted(
            "SURFACE_CREATE", "display:0", hop=0,
            said=said(SERVER, Display.SURFACE_CREATE, struct.pack("<5I", 7, 9, 9, 32, 0), channel="display:0", hop=0),
        ),
        S1, "display:0", [DATA], severity=Severity.WARNING,
    ),
    Breach("R51", "too few", lambda: moved(7, acks=1, count=2), S1, "inputs:0", [DATA]),
    Breach("R51", "too many", lambda: moved(2, count=6), S1, "inputs:0", [DATA]),
    Breach("R51", "what was carried is lost", lambda: moved(3, 2, count=2, hops=2), S1, "inputs:0", [DATA]),
    Breach(
        "R52", "below the last image", lambda: drawn(glz(LAST_IMAGE), hop=0), S1, "display:0",
        ["DISPLAY_DRAW_COPY", DATA], captured=True,
    ),
    Breach(
        "R52", "begun anew", lambda: drawn(glz(0), hop=1), S2, "display:0", [DATA, "DISPLAY_DRAW_COPY"],
        severity=Severity.WARNING, captured=True,
    ),
    Breach("R53", "too many", lambda: agent(4, held=8), S1, "main:0", [DATA]),
    Breach("R53", "too few", lambda: agent(4, [4], held=6), S1, "main:0", [DATA]),
    Breach("R54", "over the switch", lambda: agent(6, after=5), C, "main:0", ["MAIN_AGENT_DATA"]),
    Breach("R54", "while the guest moves", lambda: agent(8, during=3, held=0), C, "main:0", ["MAIN_AGENT_DATA"]),
    Breach(
        "R55", "the source's generation",
        lambda: seamless().changed("ACK_SYNC", "display:0", hop=1, body=struct.pack("<I", 2)),
        C, "display:0", ["ACK_SYNC"],
    ),
    Breach(
        "R55", "without SET_ACK",
        lambda: seamless().inserted(
            DATA, "inputs:0", hop=1, said=said(CLIENT, MsgC.ACK_SYNC, struct.pack("<I", 1), channel="inputs:0")
        ),
        C, "inputs:0", ["ACK_SYNC"],
    ),
    Breach(
        "R56", "one too many",
        lambda: seamless().twice("PONG", hop=1), C, "main:0", ["PONG"],
    ),
    Breach(
        "R57", "left out", lambda: serials(seamless(mini=False), "display:0", 1, by=2), S2, "display:0",
        ["DISPLAY_INVAL_ALL_PALETTES"],
    ),
    Breach(
        "R57", "once more",
        lambda: seamless(mini=False).twice("INVAL_ALL", "cursor:0", hop=0), S1, "cursor:0",
        ["CURSOR_INVAL_ALL"],
    ),
]  # fmt: skip
