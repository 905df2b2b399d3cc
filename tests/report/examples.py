"""Migrations made by hand, as the tracker would tell of them. Times are milliseconds after BEGIN."""

import hashlib
from collections.abc import Callable
from typing import Final

from dissectors.channels import ChannelType, channel_name
from dissectors.side import Side
from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    ChannelStep,
    Closing,
    Diagnosis,
    Evidence,
    Kind,
    Link,
    Migration,
    Offer,
    Outcome,
    Party,
    Payload,
    Phase,
    Severity,
    Violation,
    Waiting,
)

CLIENT, SERVER = Side.CLIENT, Side.SERVER
CAPTURE_NS: Final = 1_700_000_000_000_000_000
"""When the capture begins; BEGIN of the first migration comes 4 s later."""
BEGIN_S: Final = 4
SOURCE: Final = "192.0.2.1:5900"
DESTINATION: Final = "192.0.2.2:5900"

CHANNELS: Final = (
    (ChannelType.MAIN, 0, 3),
    (ChannelType.DISPLAY, 0, 3),
    (ChannelType.INPUTS, 0, 3),
    (ChannelType.CURSOR, 0, 0),
    (ChannelType.PLAYBACK, 0, 0),
)
"""Kind, id, flags of MIGRATE."""


class Made:
    """A migration in the making."""

    def __init__(self, kind: Kind, *, session: str = "s1", number: int = 1) -> None:
        self.count = 100 * number
        self.start_ns = CAPTURE_NS + (BEGIN_S + 10 * (number - 1)) * 10**9
        self.m = Migration(
            session,
            number,
            number - 1,
            number,
            self.start_ns,
            source_address=SOURCE,
            destination_address=DESTINATION,
            session_id=77,
            source_caps="mini",
        )
        self.m.phases.append((Phase.CONNECTING, self.start_ns))
        self.connections: dict[tuple[str, bool], str] = {}
        for index, (kind_of, id_, _) in enumerate(CHANNELS):
            name = f"{channel_name(kind_of)}:{id_}"
            connection = f"c{index + 1}"
            self.connections[name, False] = connection
            self.connections[name, True] = f"c{index + 1 + len(CHANNELS)}"
            link = Link(
                connection, self.at(-4000), self.at(-3990 + index), 77 if index else 0, "mini", SOURCE
            )
            self.m.channels[name] = ChannelMigration(name, kind_of, id_, source=link)
        if kind is not Kind.SWITCH_HOST:
            word = "BEGIN_SEAMLESS" if kind is Kind.SEAMLESS else "BEGIN"
            begin = self.said(0, f"SPICE_MSG_MAIN_MIGRATE_{word}", SERVER, size=34)
            version = 1 if kind is Kind.SEAMLESS else None
            self.m.offered = Offer(kind, begin, version, "192.0.2.2", 5900, 0xFFFF)

    def at(self, ms: float) -> int:
        """Nanoseconds of a time in milliseconds."""
        return self.start_ns + round(ms * 1e6)

    def said(
        self, ms: float, name: str, side: Side, channel: str = "main:0", *, there: bool = False, size: int = 0,
        keep: bool = True,
    ) -> Evidence:  # fmt: skip
        """A message; `there`: on the connection to the destination."""
        self.count += 1
        hop = self.m.destination_hop if there else self.m.source_hop
        evidence = Evidence(
            self.count, self.at(ms), self.connections[channel, there], channel, hop, side, name, size
        )
        if keep:
            self.m.messages.append(evidence)
        return evidence

    def phase(self, phase: Phase, ms: float) -> None:
        """It enters this phase."""
        self.m.phase = phase
        self.m.phases.append((phase, self.at(ms)))

    def link_destination(self, ms: float, *, session_id: int = 77) -> None:
        """All channels link there, one a millisecond."""
        for index, channel in enumerate(self.m.channels.values()):
            connection = self.connections[channel.channel, True]
            channel.destination = Link(
                connection, self.at(ms + index), self.at(ms + index + 1), session_id, "mini", DESTINATION
            )

    def shake_hands(self, reply: str = "connected-seamless", verdict: str | None = "ack") -> None:
        """The client links the destination, asks it, and replies after 174 ms."""
        self.link_destination(30)
        handshake = self.m.handshake
        if verdict is not None:
            handshake.do_seamless = self.said(
                38, "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", CLIENT, there=True, size=4
            )
            handshake.version, handshake.verdict = 1, verdict
            name = f"SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_{verdict.upper()}"
            handshake.verdict_evidence = self.said(54, name, SERVER, there=True)
        word = reply.replace("-", "_").upper()
        handshake.reply = reply
        handshake.reply_evidence = self.said(174, f"SPICE_MSGC_MAIN_MIGRATE_{word}", CLIENT)
        self.m.times_ms["handshake"] = 174.0
        self.phase(Phase.WAITING, 174)

    def drew(self, ms: float, *, there: bool = False) -> None:
        """The display shows something; before the change it is the last one, after it the first one."""
        channel = self.m.channels["display:0"]
        evidence = self.said(
            ms, "SPICE_MSG_DISPLAY_DRAW_COPY", SERVER, "display:0", there=there, size=4096, keep=False
        )
        if there:
            channel.first_seen_from_destination = evidence
        else:
            channel.last_seen_from_source = channel.last_from_source = evidence

    def switch(self, ms: float, *, without: tuple[str, str] | None = None) -> None:
        """MIGRATE, FLUSH_MARK, MIGRATE_DATA on all channels; `without`: one step of one channel does not come."""
        self.phase(Phase.SWITCHING, ms)
        for index, (_, _, flags) in enumerate(CHANNELS):
            channel = list(self.m.channels.values())[index]
            name, now = channel.channel, ms + index / 10
            channel.flags = flags
            channel.migrate = self.said(now, "SPICE_MSG_MIGRATE", SERVER, name, size=4)
            self.m.ending.migrate = self.m.ending.migrate or channel.migrate
            channel.step, channel.step_ns = ChannelStep.MOVED, channel.migrate.time_ns
            if not flags:
                continue
            channel.step = ChannelStep.FLUSHING
            if without == (name, "flush"):
                continue
            channel.flush_mark = self.said(now + 0.4, "SPICE_MSGC_MIGRATE_FLUSH_MARK", CLIENT, name)
            channel.step = ChannelStep.UNLOADING
            if without == (name, "out"):
                continue
            body = f"{name}'s state".encode()
            sent = self.said(now + 0.9, "SPICE_MSG_MIGRATE_DATA", SERVER, name, size=len(body))
            digest = hashlib.sha256(body).digest()
            channel.data_from_source = Payload(sent, len(body), 9, digest, "TEST", body)
            channel.last_from_source = sent
            channel.step = ChannelStep.CARRYING
            if without == (name, "in"):
                continue
            got = self.said(now + 1.3, "SPICE_MSGC_MIGRATE_DATA", CLIENT, name, there=True, size=len(body))
            channel.data_to_destination = Payload(got, len(body), 1, digest, "TEST", body)
            channel.step, channel.step_ns = ChannelStep.MOVED, got.time_ns
        self.m.times_ms.update(reply_to_end=ms - 174, migrate_to_flush=0.4, data_transit=0.4)

    def arrive(self, ms: float) -> None:
        """The destination speaks on every channel but playback, and shows something 40 ms later; the source is left."""
        first = (
            "SPICE_MSG_MAIN_MULTI_MEDIA_TIME",
            "SPICE_MSG_SET_ACK",
            "SPICE_MSG_INPUTS_INIT",
            "SPICE_MSG_SET_ACK",
        )
        for index, (name, channel) in enumerate(zip(first, self.m.channels.values(), strict=False)):
            channel.first_from_destination = self.said(
                ms + index / 10,
                name,
                SERVER,
                channel.channel,
                there=True,
                size=4,
                keep=name[10:].startswith("MAIN"),
            )
        self.drew(ms + 40, there=True)
        last = self.m.channels["display:0"].last_seen_from_source
        if last is not None:
            self.m.times_ms["pause"] = self.m.times_ms["unseen"] = (self.at(ms + 40) - last.time_ns) / 1e6
        self.close(ms + 3)

    def close(self, ms: float, by: str = "client", *, reset: bool = False) -> None:
        """All connections to the source end."""
        for channel in self.m.channels.values():
            channel.source_closed = Closing(self.at(ms), by, reset)

    def end(self, ms: float, outcome: Outcome, reason: str) -> Migration:
        """It is over."""
        self.phase(Phase.OVER, ms)
        self.m.ended_ns, self.m.outcome, self.m.reason = self.at(ms), outcome, reason
        self.m.times_ms["total"] = float(ms)
        return self.m


def seamless(*, session: str = "s1", number: int = 1) -> Migration:
    """Everything is well."""
    made = Made(Kind.SEAMLESS, session=session, number=number)
    made.shake_hands()
    made.m.agreed, made.m.agreed_reason = Kind.SEAMLESS, "the destination said ACK to version 1"
    made.drew(1061)
    made.switch(1074)
    made.m.performed = Kind.SEAMLESS
    made.phase(Phase.SETTLING, 1077)
    made.arrive(1080)
    return made.end(1120, Outcome.COMPLETED, "every channel of the session moved")


def semi_seamless() -> Migration:
    """The destination said NACK."""
    made = Made(Kind.SEAMLESS)
    made.shake_hands("connected", "nack")
    made.m.agreed = Kind.SEMI_SEAMLESS
    made.m.agreed_reason = "the destination said NACK to version 1"
    made.drew(1061)
    made.phase(Phase.SWITCHING, 1074)
    made.m.ending.end = made.said(1074, "SPICE_MSG_MAIN_MIGRATE_END", SERVER)
    made.m.performed = Kind.SEMI_SEAMLESS
    made.close(1075)
    made.m.ending.client_end = made.said(1076, "SPICE_MSGC_MAIN_MIGRATE_END", CLIENT, there=True)
    made.m.ending.init = made.said(1078, "SPICE_MSG_MAIN_INIT", SERVER, there=True, size=32)
    for channel in made.m.channels.values():
        channel.step = ChannelStep.MOVED
    made.arrive(1079)
    made.m.diagnoses.append(
        Diagnosis(
            "nack",
            "semi-seamless although seamless was offered: the destination said NACK to version 1, so the state of the "
            "channels was not carried over and what was on its way is lost.",
            evidence=[made.m.handshake.verdict_evidence] if made.m.handshake.verdict_evidence else [],
            next="the versions of spice-server on both hosts, and whether the destination allows several clients.",
        )
    )
    made.m.losses.append("2 key presses that the source had not read")
    return made.end(1140, Outcome.COMPLETED, "every channel of the session moved")


def switch_host() -> Migration:
    """`migrate` was issued too soon: SWITCH_HOST before the client had answered."""
    made = Made(Kind.SEAMLESS)
    made.drew(3)
    switch = made.m.ending.switch_host = made.said(12, "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", SERVER, size=30)
    made.phase(Phase.SWITCHING, 12)
    made.m.performed = Kind.SWITCH_HOST
    made.m.handshake.reply = "connected-seamless"
    made.m.handshake.reply_evidence = made.said(174, "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS", CLIENT)
    made.m.times_ms["handshake"] = 174.0
    made.close(180)
    made.link_destination(190, session_id=0)
    made.m.ending.init = made.said(200, "SPICE_MSG_MAIN_INIT", SERVER, there=True, size=32)
    for channel in made.m.channels.values():
        channel.step = ChannelStep.MOVED
    made.phase(Phase.SETTLING, 200)
    made.arrive(210)
    assert made.m.offered is not None
    made.m.agreed_reason = "the client had not answered yet"
    made.m.diagnoses.append(
        Diagnosis(
            "too-early-migrate",
            "switch-host although both sides could do seamless: the source sent SWITCH_HOST 12 ms after "
            "BEGIN_SEAMLESS, before the client had answered.",
            channels=["main:0"],
            evidence=[made.m.offered.evidence, switch],
            next="`migrate` was issued too soon after `client_migrate_info`: wait for the client's reply, which took "
            "174 ms here.",
        )
    )
    return made.end(250, Outcome.COMPLETED, "the client reconnected from scratch")


def wedged() -> Migration:
    """The source never sends MIGRATE_DATA on inputs, and sent a message too many on the display."""
    made = Made(Kind.SEAMLESS)
    made.shake_hands()
    made.m.agreed, made.m.agreed_reason = Kind.SEAMLESS, "the destination said ACK to version 1"
    made.drew(1061)
    made.switch(1074, without=("inputs:0", "out"))
    made.m.performed = Kind.SEAMLESS
    late = made.said(1074.3, "SPICE_MSG_DISPLAY_DRAW_COPY", SERVER, "display:0", size=4096, keep=False)
    inputs = made.m.channels["inputs:0"]
    assert inputs.migrate is not None
    assert inputs.flush_mark is not None
    made.m.waiting.append(
        Waiting(
            Party.CLIENT, "MIGRATE_DATA", Party.SOURCE, "inputs:0", inputs.flush_mark.time_ns,
            inputs.flush_mark.time_ns + 10 * 10**9,
            "the client waits for MIGRATE_DATA of the source on inputs:0",
        )
    )  # fmt: skip
    made.m.violations += [
        Violation(
            "R26", Party.SOURCE, Severity.ERROR,
            "MIGRATE with NEED_DATA_TRANSFER on inputs:0 is not followed by MIGRATE_DATA",
            [inputs.migrate, inputs.flush_mark], "inputs:0",
        ),
        Violation(
            "R25", Party.SOURCE, Severity.WARNING, "the source goes on after MIGRATE on display:0", [late], "display:0"
        ),
    ]  # fmt: skip
    made.m.diagnoses.append(
        Diagnosis(
            "data-missing",
            "wedged: the client waits for MIGRATE_DATA of the source on inputs:0, and holds every other channel until "
            "that has come.",
            channels=["inputs:0"],
            evidence=[inputs.flush_mark],
            next="the log of the source's QEMU around this time.",
        )
    )
    made.close(11074, "server")
    return made.end(11080, Outcome.WEDGED, "inputs:0 blocks: the client waits for MIGRATE_DATA of the source")


def cancelled() -> Migration:
    """The guest did not move after all."""
    made = Made(Kind.SEAMLESS)
    made.shake_hands()
    made.m.agreed, made.m.agreed_reason = Kind.SEAMLESS, "the destination said ACK to version 1"
    made.drew(900)
    made.m.ending.cancel = made.said(1074, "SPICE_MSG_MAIN_MIGRATE_CANCEL", SERVER)
    for channel in made.m.channels.values():
        channel.destination_closed = Closing(made.at(1075), "client", reset=True)
    return made.end(1075, Outcome.CANCELLED, "the source sent CANCEL; the client stays with it")


def refused() -> Migration:
    """Nobody listens at the destination, and the session is lost."""
    made = Made(Kind.SEAMLESS)
    main = made.m.channels["main:0"]
    main.destination = Link("c6", made.at(20), None, 77, None, DESTINATION, "connection refused", None, None)
    made.m.handshake.reply = "connect-error"
    made.m.handshake.reply_evidence = made.said(25, "SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR", CLIENT)
    made.m.times_ms["handshake"] = 25.0
    made.phase(Phase.WAITING, 25)
    made.m.agreed_reason = "the client could not connect to the destination"
    made.drew(500)
    made.phase(Phase.SWITCHING, 600)
    made.m.ending.switch_host = made.said(600, "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", SERVER, size=30)
    made.m.performed = Kind.SWITCH_HOST
    made.close(601)
    made.m.diagnoses.append(
        Diagnosis(
            "destination-unreachable",
            f"the client could not connect to {DESTINATION}: connection refused.",
            channels=["main:0"],
            evidence=[made.m.handshake.reply_evidence],
            next="does a QEMU listen there, and can the client reach it?",
        )
    )
    return made.end(620, Outcome.FAILED, "the client has no connection left")


def damaged() -> Migration:
    """The capture begins after BEGIN and lacks bytes of the display."""
    made = Made(Kind.SWITCH_HOST)
    made.drew(1061)
    made.switch(1074)
    made.m.times_ms.pop("reply_to_end")
    made.m.performed = Kind.SEAMLESS
    display = made.m.channels["display:0"]
    display.damaged, display.flush_mark = True, None
    made.link_destination(1000)
    made.arrive(1080)
    made.m.damaged.append("the capture begins after BEGIN")
    made.m.damaged.append("640 bytes of display:0 from the client are missing at 5.074500")
    return made.end(1120, Outcome.COMPLETED, "every channel of the session moved")


def incomplete() -> Migration:
    """The capture ends while the guest moves."""
    made = Made(Kind.SEMI_SEAMLESS)
    made.shake_hands("connected", None)
    made.m.agreed, made.m.agreed_reason = Kind.SEMI_SEAMLESS, "seamless was not offered"
    for channel in made.m.channels.values():
        channel.source_closed = Closing(made.at(500), "capture", reset=False)
    made.m.outcome, made.m.reason = Outcome.INCOMPLETE, "the capture ends while the guest moves"
    made.m.ended_ns = made.at(500)
    return made.m


EXAMPLES: Final[dict[str, Callable[[], Migration]]] = {
    "seamless": seamless,
    "semi-seamless": semi_seamless,
    "switch-host": switch_host,
    "wedged": wedged,
    "cancelled": cancelled,
    "refused": refused,
    "damaged": damaged,
    "incomplete": incomplete,
}
