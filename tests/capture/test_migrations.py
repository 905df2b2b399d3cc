"""The migrations of captures: the recorded ones with their known verdicts, and feeding the tracker from stream events."""

import random
from pathlib import Path
from typing import Final

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC
from spiceproxy.capture.events import Closed, Data, Gap
from spiceproxy.capture.migrations import CaptureFollower, migrations_in
from spiceproxy.capture.streams import stream_events
from spiceproxy.protocol.migration.model import Kind, Migration, Outcome
from spiceproxy.protocol.migration.tracker import Tracker
from tests.capture.wire import CLIENT, SERVER, Wire, announcement

CAPTURES: Final = Path(__file__).parents[2] / "captures"
SEAMLESS, SEMI, SWITCH = (Kind.SEAMLESS, Kind.SEMI_SEAMLESS, Kind.SWITCH_HOST)

# Offered, agreed and performed, outcome, channels that were open at the source: as the notes of the captures say.
VERDICTS: Final = {
    "seamless-text": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 8)],
    "seamless-drawing-input": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 8)],
    "semi-seamless": [(SEMI, SEMI, SEMI, Outcome.COMPLETED, 8)],
    "destination-refuses": [(SEAMLESS, None, SWITCH, Outcome.FAILED, 8)],
    "seamless-two-hops": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 8)] * 2,
    "port-webdav-two-hops": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 9)] * 2,
    "remote-viewer": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 7)],
    "switch-host": [(SEAMLESS, None, SWITCH, Outcome.COMPLETED, 9)],
    "switch-host-direct": [(SEAMLESS, None, SWITCH, Outcome.COMPLETED, 9)],
    "demo": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 8)],
    "two-heads-one-adapter": [(SEMI, SEMI, SEMI, Outcome.COMPLETED, 8)],
    "images-off": [],
    "cancelled": [
        (SEAMLESS, SEAMLESS, None, Outcome.CANCELLED, 9),
        (SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 9),
    ],
    "twice": [
        (SEAMLESS, SEAMLESS, None, Outcome.CANCELLED, 9),
        (SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 9),
    ],
    "unreachable": [(SEAMLESS, None, SWITCH, Outcome.FAILED, 9)],
    "expired-ticket": [(SEAMLESS, None, SWITCH, Outcome.FAILED, 9)],
    "too-early": [(SEAMLESS, None, SWITCH, Outcome.COMPLETED, 9)] * 2,
    "unopened-webdav": [
        (SEAMLESS, SEAMLESS, SEAMLESS, Outcome.WEDGED, 7),
        (SWITCH, None, SWITCH, Outcome.COMPLETED, 7),
    ],
    "idle-head": [
        (SEAMLESS, SEAMLESS, SEAMLESS, Outcome.WEDGED, 10),
        (SEAMLESS, None, SWITCH, Outcome.COMPLETED, 10),
    ],
    "two-heads-two-hops": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.COMPLETED, 11)] * 2,
    "killed-during": [(SEAMLESS, SEAMLESS, None, Outcome.CANCELLED, 9)],
    "killed-after": [(SEAMLESS, SEAMLESS, SEAMLESS, Outcome.FAILED, 9)],
    "killed-source": [(SEAMLESS, SEAMLESS, None, Outcome.FAILED, 9)],
    "more-on-source": [(SEAMLESS, None, None, Outcome.FAILED, 10)],
}


def migrations_of(name: str) -> list[Migration]:
    with (CAPTURES / name / "capture.pcapng.gz").open("rb") as file:
        return migrations_in(stream_events(file))


@pytest.mark.parametrize("name", VERDICTS)
def test_a_capture_has_the_verdict_that_its_note_implies(name: str) -> None:
    found = migrations_of(name)
    assert [
        (
            each.offered and each.offered.kind, each.agreed, each.performed, each.outcome,
            sum(channel.source_linked for channel in each.channels.values()),
        )
        for each in found
    ] == VERDICTS[name]  # fmt: skip
    assert not any(each.damaged or each.left_out for each in found)


def test_the_numbers_of_messages_are_those_of_the_reader() -> None:
    (found,) = migrations_of("seamless-text")
    assert found.offered
    assert (found.offered.evidence.number, found.offered.evidence.connection) == (230, "c1")
    display = found.channels["display:0"]
    assert display.data_from_source
    assert (display.data_from_source.evidence.number, display.data_from_source.magic) == (266, "DCMD")
    assert display.migrate
    assert display.flush_mark
    assert (display.migrate.number, display.flush_mark.number) == (259, 265)
    assert display.source_closed
    assert (display.source_closed.by, display.source_closed.reset) == ("client", False)
    assert display.source_closed.time_ns < display.data_to_destination.evidence.time_ns  # type: ignore[union-attr]


def test_a_refused_destination_is_named() -> None:
    (found,) = migrations_of("destination-refuses")
    assert found.agreed_reason.startswith("CONNECT_ERROR: no link to 127.0.0.1:1 is there")
    assert "session lost" in found.reason


# Capture, which of its migrations, and what its reasons must name: why nothing was agreed, and why it ended as it did.
REASONS: Final = [
    ("unopened-webdav", 0, "", "the client never left the source, which dropped it after 10.0 s: it waits for MIGRATE on webdav:0"),
    ("unopened-webdav", 1, "BEGIN was put off: the source still waits for MIGRATE_DATA of webdav:0", ""),
    ("idle-head", 0, "", "the client never left the source, which dropped it after 10.0 s: it waits for MIGRATE on cursor:1"),
    ("idle-head", 1, "CONNECT_ERROR: the client did not try: it has not finished migration 1", ""),
    ("too-early", 0, "before the client had replied", "which let it wait for 10.0 s until it answered"),
    ("too-early", 1, "CONNECT_ERROR: the client did not try: it has not finished migration 1", ""),
    ("killed-after", 0, "", "the destination reset main:0, display:0 at the destination"),
    ("expired-ticket", 0, "SPICE_LINK_ERR_PERMISSION_DENIED", "and was not linked: SPICE_LINK_ERR_PERMISSION_DENIED"),
    ("unreachable", 0, "CONNECT_ERROR: no link to", "no connection of it got there"),
    ("killed-during", 0, "", "after the destination had closed its connections to the client"),
    ("killed-source", 0, "", "the source closed the session before the source said how it ends"),
    ("more-on-source", 0, "port:1 was not linked at the destination", "the client closed the session"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "which", "agreed", "ended"), REASONS)
def test_a_broken_migration_is_explained(name: str, which: int, agreed: str, ended: str) -> None:
    found = migrations_of(name)[which]
    assert agreed in found.agreed_reason
    assert ended in found.reason


def test_a_channel_that_the_source_never_had_is_what_a_wedged_client_waits_for() -> None:
    for name, channel in (("unopened-webdav", "webdav:0"), ("idle-head", "cursor:1")):
        found, following = migrations_of(name)
        assert found.blocking == [channel]
        assert not found.channels[channel].source_linked
        assert channel not in following.channels or not following.channels[channel].source_linked


def test_a_capture_from_the_middle_accuses_nobody() -> None:
    found = migrations_of("middle")
    assert found
    assert {each.outcome for each in found} == {Outcome.INCOMPLETE}
    assert all(each.damaged and not each.waiting for each in found)
    assert found[-1].channels["display:0"].first_from_destination


@pytest.mark.parametrize("name", ["seamless-text", "semi-seamless", "switch-host", "demo"])
@pytest.mark.parametrize("seed", range(6))
def test_a_capture_with_holes_anywhere_accuses_nobody(name: str, seed: int) -> None:
    chance = random.Random(seed)
    rate = chance.choice([0.001, 0.01, 0.05, 0.2])
    with (CAPTURES / name / "capture.pcapng.gz").open("rb") as file:
        holed = [
            Gap(event.connection, event.time_ns, event.side, len(event.data))
            if isinstance(event, Data) and chance.random() < rate
            else event
            for event in stream_events(file)
        ]
    assert not {each.outcome for each in migrations_in(holed)} & {Outcome.FAILED, Outcome.WEDGED}


def session(
    wire: Wire, first: int, *, port: int = 5900, client: str = "10.0.0.9", session_id: int = 7
) -> None:
    """A main channel and a display."""
    wire.open(first, port=port, client=client)
    wire.link(first)
    wire.init(first, session_id)
    wire.open(first + 1, port=port, client=client)
    wire.link(first + 1, channel=ChannelType.DISPLAY, connection_id=session_id)


def semi_seamless(
    wire: Wire, first: int, *, port: int, client: str = "10.0.0.9", session_id: int = 7
) -> None:
    """Its migration to the same host at another port, over connections with the numbers behind."""
    wire.say(first, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.1", port))
    for number, channel in ((first + 2, ChannelType.MAIN), (first + 3, ChannelType.DISPLAY)):
        wire.open(number, port=port, client=client)
        wire.link(number, channel=channel, connection_id=session_id)
    wire.say(first, CLIENT, MainC.MIGRATE_CONNECTED)
    wire.say(first, SERVER, Main.MIGRATE_END)
    for number in (first, first + 1):
        wire.close(number, CLIENT)
        wire.close(number, SERVER)
    wire.say(first + 2, CLIENT, MainC.MIGRATE_END)
    wire.init(first + 2, session_id)
    wire.say(first + 3, SERVER, 102)  # DISPLAY_MARK


@pytest.mark.parametrize("session_id", [8, 0])
def test_a_link_with_a_wrong_connection_id_is_found_where_the_capture_says_which_server_it_leads_to(
    session_id: int,
) -> None:
    wire = Wire()
    session(wire, 1)
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.1", 5901))
    wire.open(3, port=5902, comment="main:0 hop 1")
    wire.link(3, connection_id=session_id)
    wire.say(1, CLIENT, MainC.MIGRATE_CONNECT_ERROR)
    (found,) = migrations_in(wire.events)
    assert [(each.rule, each.channel) for each in found.violations if each.rule == "R11"] == [
        ("R11", "main:0")
    ]


def test_where_a_link_cannot_be_read_nobody_is_accused_for_it() -> None:
    wire = Wire()
    session(wire, 1)
    wire.open(3)
    wire.gap(3, CLIENT, 50)
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.1", 5901))
    (found,) = migrations_in(wire.events)
    assert found.torn
    assert found.violations == []


def test_sessions_of_one_capture_are_kept_apart() -> None:
    wire = Wire()
    session(wire, 1)
    session(wire, 11, client="10.0.0.8", session_id=8)
    semi_seamless(wire, 1, port=5901)
    semi_seamless(wire, 11, port=5902, client="10.0.0.8", session_id=8)
    found = migrations_in(wire.events)
    assert [(each.session, each.performed, each.outcome) for each in found] == [
        ("s1", SEMI, Outcome.COMPLETED),
        ("s2", SEMI, Outcome.COMPLETED),
    ]
    assert [each.destination_address for each in found] == ["10.0.0.1:5901", "10.0.0.1:5902"]


def test_who_closed_a_connection_first_is_kept() -> None:
    wire = Wire()
    session(wire, 1)
    semi_seamless(wire, 1, port=5901)
    swapped = [
        event._replace(side=event.side.other)
        if isinstance(event, Closed) and event.connection == 2 and event.side
        else event
        for event in wire.events
    ]
    (found,) = migrations_in(swapped)
    closings = {name: channel.source_closed for name, channel in found.channels.items()}
    assert {name: closing and closing.by for name, closing in closings.items()} == {
        "main:0": "client",
        "display:0": "server",
    }


def test_a_gap_is_damage() -> None:
    wire = Wire()
    session(wire, 1)
    semi_seamless(wire, 1, port=5901)
    end = wire.events[-1].time_ns
    (found,) = migrations_in([*wire.events[:-1], Gap(4, end, SERVER, 6)])
    assert found.outcome is Outcome.INCOMPLETE or found.channels["display:0"].damaged
    assert "6 bytes of display:0 (c4)" in found.damaged


def test_sessions_that_are_over_are_forgotten_but_not_their_migrations() -> None:
    wire = Wire()
    for number in range(20):
        session(wire, 10 * number + 1, client=f"10.0.1.{number}", session_id=number + 1)
        semi_seamless(wire, 10 * number + 1, port=5901, client=f"10.0.1.{number}", session_id=number + 1)
        for connection in (10 * number + 3, 10 * number + 4):
            wire.close(connection, None)
        wire.wait(31)
    follower = CaptureFollower(Tracker())
    most = 0
    for item in follower.read(wire.events):
        follower.take(item)
        most = max(most, len(follower.tracker.sessions))
    follower.end()
    assert most <= 3
    assert [each.outcome for each in follower.tracker.all_migrations()] == [Outcome.COMPLETED] * 20
