"""Breaches while channels change over: R24 to R38, and R45 to R47."""

import struct
from collections.abc import Callable, Iterable

from dissectors.message_ids import Display, InputsC, Msg, MsgC
from spiceproxy.protocol.migration.facts import Linked
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    device,
    display_state,
    seamless,
    state,
)
from tests.protocol.migration.rules.breaches import S1, S2, Breach, C, said

MARK, DATA = "MIGRATE_FLUSH_MARK", "MIGRATE_DATA"
_KEY = (InputsC.KEY_DOWN, bytes(4))


def flags(value: int, channel: str) -> Play:
    """MIGRATE of a channel has other flags; what follows is as if it had the right ones."""
    return seamless().changed("MIGRATE", channel, hop=0, body=struct.pack("<I", value))


def without_reaction(value: int, channel: str) -> Play:
    """MIGRATE of a channel has other flags, and client and source keep to them."""
    play = flags(value, channel)
    for name, hop in ((MARK, 0), (DATA, 0), (DATA, 1)):
        play = play.without(name, channel, hop=hop)
    return play


def dropped(channel: str, missing: Iterable[tuple[str, int]], *, after_ns: int = 10 * SECOND) -> Play:
    """Messages of a channel do not come, by name and hop; the source drops the client in the end."""
    play = seamless()
    play = Play(play.facts[: play.where(DATA, "webdav:0", hop=1) + 1])
    for name, hop in missing:
        play = play.without(name, channel, hop=hop)
    for other in CHANNELS:
        play = play.closes(other, 0, SERVER, after_ns=after_ns if other == CHANNELS[0] else MS)
    return play


def payload(channel: str, body: bytes) -> Play:
    """The source sends another state, and the client carries it."""
    return seamless().changed(DATA, channel, hop=0, body=body).changed(DATA, channel, hop=1, body=body)


def agent(tokens: int, written: int = 0, *, connected: int = 1) -> bytes:
    """State of main with an agent."""
    body = bytearray(state("main:0", 0))
    struct.pack_into("<IBIIIII", body, 8, 1, connected, tokens, 0xFFFFFFFF, 0, written, 0)
    return bytes(body)


def main_state(at: int, value: bytes) -> bytes:
    """State of main with other bytes somewhere."""
    body = bytearray(agent(10))
    body[at : at + len(value)] = value
    return bytes(body)


def partial_header(size: int, *, chunk: int) -> bytes:
    """State of main with so much of a message's header, and of its chunk's."""
    body = bytearray(main_state(34, struct.pack("<I", chunk)))
    struct.pack_into("<II", body, 47, size, len(body))
    return bytes(body) + bytes(size)


def capable(channel: str, caps: int, play: Play) -> Play:
    """The source announces these capabilities of a channel."""
    name = play.connection(channel, 0)
    return Play(
        tuple(
            fact._replace(server=fact.server._replace(channel=(caps,)))
            if isinstance(fact, Linked) and fact.connection == name
            else fact
            for fact in play
        )
    )


def serial_of(play: Play) -> int:
    """What DCMD has to say."""
    return int.from_bytes((play.message(DATA, "display:0", hop=0).body or b"")[8:16], "little")


def display_with(serial: int = 0, freezer: int = 1, surfaces: Iterable[int] = (0,)) -> Play:
    """The source sends another state of the display."""
    body = display_state(serial_of(seamless()) + serial, freezer=freezer, surfaces=surfaces)
    return payload("display:0", body)


def drawn(play: Play) -> Play:
    """The destination draws for a while."""
    for _ in range(20):
        play = play.inserted(
            "DRAW_COPY",
            "display:0",
            hop=1,
            said=said(SERVER, Display.DRAW_COPY, bytes(100), channel="display:0"),
        )
    return play


def heads(*freezers: int) -> Play:
    """Two displays, of which these froze the cache that they share."""
    play = Script(channels=(*CHANNELS[:2], "display:1", *CHANNELS[2:]))
    play.session(0)
    play.tick(SECOND)
    play.connect(0)
    play.tick(SECOND)
    play.finish_seamless(0)
    made = play.play()
    for number, freezer in enumerate(freezers):
        name = f"display:{number}"
        body = bytearray(made.message(DATA, name, hop=0).body or b"")
        body[26] = freezer
        made = made.changed(DATA, name, hop=0, body=bytes(body)).changed(DATA, name, hop=1, body=bytes(body))
    return made


def after(
    name: str, channel: str, id_: int, body: bytes = b"", *, client: bool = False, hop: int = 0
) -> Play:
    """One more message, behind another one."""
    side = CLIENT if client else SERVER
    return seamless().inserted(name, channel, hop=hop, said=said(side, id_, body, channel=channel, hop=hop))


def before_carrying(id_: int, body: bytes) -> Play:
    """The client says something to the destination before it hands the state on."""
    return seamless().inserted(
        DATA, "inputs:0", hop=1, said=said(CLIENT, id_, body, channel="inputs:0"), before=True
    )


def state_breach(
    rule: str, clause: str, channel: str, body: Callable[[], bytes], severity: Severity | None = None
) -> Breach:
    """A state of the source that breaks a rule by itself."""
    return Breach(rule, clause, lambda: payload(channel, body()), S1, channel, [DATA], severity=severity)


def vmc(**options: int) -> bytes:
    """State of a USB channel."""
    return device(b"SVMD", **options)


BREACHES = [
    Breach("R24", "flags 0 on inputs", lambda: without_reaction(0, "inputs:0"), S1, "inputs:0", ["MIGRATE"]),
    Breach(
        "R24", "flags 0 on a display that compresses",
        lambda: capable("display:0", 0x1052, without_reaction(0, "display:0")), S1, "display:0", ["MIGRATE"],
    ),
    Breach("R24", "a flag that nobody knows", lambda: flags(7, "usbredir:0"), S1, "usbredir:0", ["MIGRATE"]),
    Breach("R24", "flags on cursor", lambda: flags(3, "cursor:0"), S1, "cursor:0", ["MIGRATE"], also=["R28"]),
    Breach(
        "R25", "the source goes on", lambda: after("MIGRATE", "display:0", Display.DRAW_COPY, bytes(100)),
        S1, "display:0", ["MIGRATE", "DISPLAY_DRAW_COPY"],
    ),
    Breach(
        "R25", "sound goes on", lambda: after("MIGRATE", "playback:0", 101, bytes(8)),
        S1, "playback:0", ["MIGRATE", "PLAYBACK_DATA"],
    ),
    Breach(
        "R25", "the source goes on behind its state", lambda: after(DATA, "inputs:0", 102, bytes(2)),
        S1, "inputs:0", ["MIGRATE", "INPUTS_KEY_MODIFIERS"], severity=Severity.WARNING,
    ),
    Breach("R26", "twice", lambda: seamless().twice(DATA, "inputs:0", hop=0), S1, "inputs:0", [DATA, DATA]),
    Breach(
        "R26", "not announced", lambda: after("MIGRATE", "cursor:0", Msg.MIGRATE_DATA, bytes(8)),
        S1, "cursor:0", ["MIGRATE", DATA],
    ),
    Breach(
        "R26", "never", lambda: dropped("usbredir:0", [(DATA, 0), (DATA, 1)]), S1, "usbredir:0",
        ["MIGRATE", MARK], quiet_ns=2 * SECOND,
    ),
    Breach("R27", "no mark", lambda: seamless().without(MARK, "inputs:0", hop=0), S1, "inputs:0", ["MIGRATE", DATA]),
    Breach("R28", "twice", lambda: seamless().twice(MARK, "inputs:0", hop=0), C, "inputs:0", [MARK, MARK]),
    Breach(
        "R28", "not asked for", lambda: after("MIGRATE", "record:0", MsgC.MIGRATE_FLUSH_MARK, client=True),
        C, "record:0", ["MIGRATE", MARK], also=["R30"],
    ),
    Breach(
        "R28", "never", lambda: dropped("inputs:0", [(MARK, 0), (DATA, 0), (DATA, 1)]), C, "inputs:0",
        ["MIGRATE"], quiet_ns=2 * SECOND,
    ),
    Breach(
        "R29", "a key", lambda: after(MARK, "inputs:0", *_KEY, client=True), C, "inputs:0",
        [MARK, "INPUTS_KEY_DOWN"],
    ),
    Breach(
        "R30", "a mark", lambda: after("MIGRATE", "cursor:0", MsgC.MIGRATE_FLUSH_MARK, client=True),
        C, "cursor:0", ["MIGRATE", MARK], also=["R28"],
    ),
    Breach(
        "R30", "state",
        lambda: seamless().inserted(
            DATA, "webdav:0", hop=1, said=said(CLIENT, MsgC.MIGRATE_DATA, bytes(8), channel="cursor:0")
        ),
        C, "cursor:0", ["MIGRATE", DATA], also=["R31"],
    ),
    Breach(
        "R31", "other bytes", lambda: seamless().changed(DATA, "inputs:0", hop=1, body=b"ICMD\1\0\0\0\1\0"),
        C, "inputs:0", [DATA, DATA],
    ),
    Breach(
        "R31", "cut", lambda: seamless().changed(DATA, "display:0", hop=1, body=b"DCMD\1\0\0\0"),
        C, "display:0", [DATA, DATA],
    ),
    Breach(
        "R31", "from nowhere",
        lambda: dropped("usbredir:0", [(DATA, 0)], after_ns=SECOND), C, "usbredir:0", ["MIGRATE", DATA],
    ),
    Breach("R32", "a key first", lambda: before_carrying(*_KEY), C, "inputs:0", [DATA, "INPUTS_KEY_DOWN"]),
    Breach("R32", "twice", lambda: seamless().twice(DATA, "inputs:0", hop=1), C, "inputs:0", [DATA, DATA]),
    Breach(
        "R32", "never", lambda: dropped("inputs:0", [(DATA, 1)]), C, "inputs:0", [DATA], quiet_ns=2 * SECOND,
    ),
    state_breach("R33", "another magic", "inputs:0", lambda: b"SVMD" + bytes(6)),
    state_breach("R33", "a later version", "inputs:0", lambda: b"ICMD" + struct.pack("<IH", 2, 0)),
    state_breach(
        "R33", "an earlier version", "inputs:0", lambda: b"ICMD" + struct.pack("<IH", 0, 0), Severity.WARNING
    ),
    state_breach("R33", "a later version of the device", "usbredir:0", lambda: vmc()[:8] + b"\2" + vmc()[9:]),
    state_breach("R34", "too short", "usbredir:0", lambda: vmc()[:30]),
    state_breach("R34", "a wild pointer", "usbredir:0", lambda: vmc()[:21] + struct.pack("<III", 9, 1, 4000)),
    state_breach("R34", "bytes at the end", "usbredir:0", lambda: vmc() + bytes(3), Severity.WARNING),
    state_breach("R34", "no device", "usbredir:0", lambda: vmc(connected=0)),
    state_breach("R34", "a chunk's header", "main:0", lambda: main_state(34, b"\x09")),
    state_breach("R34", "a message's header", "main:0", lambda: partial_header(20, chunk=8)),
    state_breach(
        "R34", "a message's header ahead of its chunk's", "main:0", lambda: partial_header(3, chunk=2), Severity.WARNING
    ),
    state_breach("R34", "an agent that is not there", "main:0", lambda: agent(0)[:12] + b"\0" + agent(3)[13:], Severity.WARNING),
    state_breach("R34", "a filter's result", "main:0", lambda: main_state(59, b"\x04"), Severity.WARNING),
    Breach("R35", "a step ahead", lambda: display_with(serial=1), S1, "display:0", [DATA]),
    Breach(
        "R36", "another message first", lambda: seamless().without("SET_ACK", "display:0", hop=1),
        S2, "display:0", [DATA, "DISPLAY_INVAL_ALL_PIXMAPS"], also=["R55"],
    ),
    Breach(
        "R36", "another serial", lambda: seamless(mini=False).changed("SET_ACK", "display:0", hop=1, serial=2),
        S2, "display:0", [DATA, "SET_ACK"],
    ),
    Breach(
        "R36", "the cache is kept",
        lambda: drawn(seamless().without("INVAL_ALL_PIXMAPS", "display:0", hop=1)),
        S2, "display:0", [DATA, "DISPLAY_DRAW_COPY"],
    ),
    Breach("R37", "none", lambda: display_with(freezer=0), S1, "display:0", [DATA]),
    Breach("R37", "two", lambda: heads(1, 1), S1, "display:0", [DATA, DATA]),
    Breach(
        "R38", "none", lambda: seamless().without("INVAL_ALL", "cursor:0", hop=0), S1, "cursor:0",
        ["CURSOR_SET", "MIGRATE"],
    ),
    Breach(
        "R45", "late", lambda: seamless().delayed(12 * SECOND, DATA, "display:0", hop=1), C, "display:0",
        ["MIGRATE", DATA],
    ),
    Breach(
        "R45", "never", lambda: dropped("display:0", [(DATA, 1)], after_ns=11 * SECOND), C, "display:0", [DATA],
        quiet_ns=2 * SECOND,
    ),
    Breach("R46", "not made", lambda: display_with(surfaces=(0, 7)), S1, "display:0", [DATA]),
    Breach("R46", "twice", lambda: display_with(surfaces=(0, 0)), S1, "display:0", [DATA]),
    Breach("R46", "too many", lambda: display_with(surfaces=(0, 4000)), S1, "display:0", [DATA]),
    state_breach("R47", "tokens alone", "main:0", lambda: agent(11)),
    state_breach("R47", "with what is not written", "main:0", lambda: agent(8, 3)),
]  # fmt: skip
