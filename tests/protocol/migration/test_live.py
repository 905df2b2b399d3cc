"""The tracker as it goes along: what it reports when, and what it costs."""

import pytest

from dissectors.message_ids import Main, MainC, Msg
from dissectors.side import Side
from spiceproxy.protocol.migration.changes import (
    Change,
    MigrationEnded,
    MigrationStalled,
    MigrationStarted,
    PhaseEntered,
)
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Fact, InputEnded, Linked, Missing, Opened, Passed, Said
from spiceproxy.protocol.migration.model import Migration, Outcome, Party, Phase, Violation
from spiceproxy.protocol.migration.rules import RuleJudge
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tracker import SessionTracker, Tracker
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    SESSION_ID,
    Play,
    Script,
    seamless,
    semi_seamless,
)


def changes_of(play: Play, tracker: SessionTracker | None = None) -> list[Change]:
    tracker = tracker or SessionTracker("s1")
    return [change for fact in play for change in tracker.feed(fact)]


def test_a_good_migration_is_reported_from_start_to_end_without_a_stall() -> None:
    play = seamless()
    changes = changes_of(play)
    assert [type(change) for change in changes] == [MigrationStarted, *[PhaseEntered] * 4, MigrationEnded]
    assert [change.phase for change in changes if isinstance(change, PhaseEntered)] == [
        Phase.WAITING, Phase.SWITCHING, Phase.SETTLING, Phase.OVER,
    ]  # fmt: skip
    assert changes[0].time_ns == play.message("MIGRATE_BEGIN_SEAMLESS").time_ns
    assert changes[2].time_ns == play.message("MIGRATE").time_ns
    assert changes[-1].migration.outcome is Outcome.COMPLETED


def test_nothing_is_reported_of_a_session_without_a_migration() -> None:
    script = Script()
    script.session(0)
    script.act(0)
    assert not changes_of(script.play())


def test_a_migration_that_stands_still_is_reported_once_while_it_does() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1])
    play = play.without("MIGRATE_DATA", "display:0", hop=1)
    tracker = SessionTracker("s1")
    assert not [change for change in changes_of(play, tracker) if isinstance(change, MigrationStalled)]
    assert tracker.busy
    assert not tracker.tick(play.end_ns + SECOND)
    (stalled,) = tracker.tick(play.end_ns + 3 * SECOND)
    assert isinstance(stalled, MigrationStalled)
    assert stalled.since_ns == play.end_ns
    assert [(each.who, each.whom, each.channel) for each in stalled.waiting] == [
        (Party.DESTINATION, Party.CLIENT, "display:0")
    ]
    assert stalled.waiting[0].deadline_ns is not None
    assert not tracker.tick(play.end_ns + 4 * SECOND)
    changes = tracker.tick(play.end_ns + 16 * SECOND)
    assert isinstance(changes[-1], MigrationEnded)
    assert changes[-1].migration.outcome is Outcome.WEDGED
    assert not tracker.busy


def test_thresholds_can_be_set() -> None:
    play = seamless().until("MIGRATE_DST_DO_SEAMLESS", hop=1)
    tracker = SessionTracker("s1", settings=Settings(connect_stall_ns=100 * MS))
    changes_of(play, tracker)
    (stalled,) = tracker.tick(play.end_ns + 200 * MS)
    assert isinstance(stalled, MigrationStalled)
    assert stalled.waiting[0].text == "the client waits for ACK or NACK from the destination on main:0"


def test_progress_ends_a_stall() -> None:
    play = seamless()
    late = play.delayed(5 * SECOND, "MIGRATE_FLUSH_MARK", "main:0")
    tracker = SessionTracker("s1")
    changes: list[Change] = []
    for fact in late:
        if isinstance(fact, Said) and fact.id == 4 and fact.side is CLIENT:
            changes += tracker.tick(fact.time_ns - MS)
        changes += tracker.feed(fact)
    assert len([change for change in changes if isinstance(change, MigrationStalled)]) == 1
    assert tracker.migrations[0].outcome is Outcome.COMPLETED
    assert tracker.migrations[0].stalled_ns is None


def test_the_guest_may_move_for_minutes() -> None:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    tracker = SessionTracker("s1")
    changes_of(play, tracker)
    assert not tracker.tick(play.end_ns + 600 * SECOND)


def test_sessions_do_not_touch_each_other() -> None:
    tracker = Tracker()
    one, two = seamless(), semi_seamless()
    for first, second in zip(one.facts, two.facts, strict=False):
        tracker.feed("s1", first)
        tracker.feed("s2", second)
    for rest, session in ((one.facts[len(two.facts) :], "s1"), (two.facts[len(one.facts) :], "s2")):
        for fact in rest:
            tracker.feed(session, fact)
    found = {each.session: each for each in tracker.all_migrations()}
    assert {name: each.performed and each.performed.value for name, each in found.items()} == {
        "s1": "seamless",
        "s2": "semi-seamless",
    }
    assert {each.outcome for each in found.values()} == {Outcome.COMPLETED}
    tracker.over("s1", one.end_ns)
    assert list(tracker.sessions) == ["s2"]
    assert len(tracker.all_migrations()) == 2


def test_what_goes_on_can_be_judged_as_if_it_ended_now_and_goes_on_all_the_same() -> None:
    play = seamless()
    cut = play.where("MIGRATE_DATA", "display:0", hop=1)
    tracker = Tracker(judge=RuleJudge)
    for fact in play.facts[:cut]:
        tracker.feed("s1", fact)
    then = play.facts[cut - 1].time_ns
    outcomes = [tracker.as_of(then + seconds * SECOND).all_migrations()[0].outcome for seconds in (1, 3)]
    assert outcomes == [Outcome.INCOMPLETE, Outcome.WEDGED]
    assert tracker.all_migrations()[0].outcome is None
    for fact in play.facts[cut:]:
        tracker.feed("s1", fact)
    (migration,) = tracker.all_migrations()
    assert migration.outcome is Outcome.COMPLETED
    assert not migration.violations
    assert tracker.as_of(play.end_ns).all_migrations() == [migration]


def test_bodies_are_needed_of_migration_messages_only() -> None:
    play = seamless()
    needed = {Msg.MIGRATE, Msg.MIGRATE_DATA, 5, Main.MIGRATE_BEGIN_SEAMLESS, Main.INIT}
    bare = Play(tuple(
        fact._replace(body=None) if isinstance(fact, Said) and fact.id not in needed else fact for fact in play
    ))  # fmt: skip
    assert bare.migration().outcome is Outcome.COMPLETED
    assert bare.migration().channels == play.migration().channels


def test_messages_that_nobody_read_count_as_life() -> None:
    play = seamless()
    first = play.where("SET_ACK", "display:0", hop=1)
    connection = play.connection("display:0", 1)
    unread = tuple(
        Passed(fact.time_ns, connection, SERVER, 1)
        if isinstance(fact, Said) and (fact.connection, fact.side) == (connection, SERVER)
        else fact
        for fact in play
    )
    found = Play(unread).migration()
    assert found.outcome is Outcome.COMPLETED
    heard = found.channels["display:0"].first_from_destination
    assert heard
    assert heard.time_ns == play.facts[first].time_ns


# Parts that are missing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channel", "hop"),
    [
        ("MIGRATE", "inputs:0", 0),
        ("MIGRATE_FLUSH_MARK", "inputs:0", 0),
        ("MIGRATE_DATA", "inputs:0", 0),
        ("MIGRATE_DATA", "inputs:0", 1),
    ],
)
def test_a_hole_in_the_capture_accuses_nobody(name: str, channel: str, hop: int) -> None:
    play = seamless()
    lost = play.message(name, channel, hop=hop)
    hole = Missing(lost.time_ns, lost.connection, lost.side, lost.size + 6)
    at = play.facts.index(lost)
    found = Play((*play.facts[:at], hole, *play.facts[at + 1 :])).migration(quiet_ns=30 * SECOND)
    assert found.outcome is Outcome.COMPLETED
    assert found.damaged == [f"{hole.size} bytes of {channel} ({lost.connection})"]
    assert found.channels[channel].damaged
    assert "inferred" in found.reason or found.channels[channel].data_equal


def test_a_hole_on_main_makes_a_migration_that_stops_incomplete() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_CONNECTED_SEAMLESS") + 1])
    connection = play.connection("main:0", 0)
    found = play.then(Missing(play.end_ns, connection, SERVER, 500)).migration(quiet_ns=30 * SECOND)
    assert found.outcome is Outcome.INCOMPLETE
    assert "500 bytes of main:0" in found.reason


def test_an_arrival_whose_source_is_not_in_the_capture_is_incomplete() -> None:
    play = seamless()
    old = {play.connection(channel, 0) for channel in CHANNELS}
    found = play.kept(lambda fact: getattr(fact, "connection", None) not in old).migration(
        quiet_ns=30 * SECOND
    )
    assert (found.offered, found.outcome) == (None, Outcome.INCOMPLETE)
    assert found.handshake.verdict == "ack"
    assert not found.waiting
    assert found.channels["display:0"].first_from_destination


# Hostile peers ------------------------------------------------------------------------------------------


def test_a_server_that_begins_for_ever_fills_no_memory() -> None:
    script = Script(channels=("main:0",))
    script.session(0)
    for _ in range(1000):
        script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"nonsense")
    tracker = SessionTracker("s1", settings=Settings(max_migrations=10))
    changes_of(script.play(), tracker)
    assert len(tracker.migrations) == 10
    assert tracker.forgotten == 990
    assert tracker.migrations[-1].number == 1000
    assert {each.outcome for each in tracker.migrations[:-1]} == {Outcome.FAILED}


def test_a_peer_that_talks_for_ever_within_a_migration_fills_no_memory() -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    for _ in range(6000):
        script.say(CLIENT, "main:0", 0, MainC.AGENT_DATA)
        script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    found = script.play().migration()
    assert len(found.messages) == 4000
    assert found.left_out == 12000 - 4000 + len(
        seamless().until("MIGRATE_CONNECTED_SEAMLESS").migration().messages
    )
    assert len(found.handshake.extra_replies) == 16


def test_connections_without_end_fill_no_memory() -> None:
    tracker = SessionTracker("s1", settings=Settings(max_connections=50))
    script = Script()
    script.session(0)
    script.connect(0)
    for _ in range(1000):
        script.link("display:0", 1)
    changes_of(script.play(), tracker)
    assert len(tracker._connections) <= 50
    assert len(tracker.migrations[0].channels) == len(CHANNELS)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_facts_is_an_error(seed: int) -> None:
    import random

    chance = random.Random(seed)
    facts = [*seamless(2).facts, *semi_seamless().facts]
    times = sorted(fact.time_ns for fact in facts)
    chance.shuffle(facts)
    tracker = SessionTracker("s1")
    for time_ns, fact in zip(times, facts, strict=True):
        if chance.random() < 0.9:
            tracker.feed(fact._replace(time_ns=time_ns))
        tracker.tick(time_ns)
    tracker.feed(InputEnded(times[-1] + SECOND))
    assert all(each.outcome is not None for each in tracker.migrations)


# The judge ----------------------------------------------------------------------------------------------


class Witness:
    """Writes down what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Fact, bool]] = []
        self.told: list[str] = []
        self.violations: list[Violation] = []

    def touched(self, channel: str | None, fault: str) -> None:
        pass

    def torn(self) -> None:
        self.told.append("torn")

    def watches(self, channel_type: int, side: Side, message_id: int) -> bool:
        return message_id == 314

    def before(self, step: Step) -> bool:
        self.seen.append(("before", step.fact, step.migration is not None))
        return True

    def after(self, step: Step) -> None:
        self.seen.append(("after", step.fact, step.migration is not None))

    def started(self, migration: Migration, source: list[ConnectionState]) -> None:
        self.told.append(f"started with {len(source)}")

    def ended(self, migration: Migration) -> None:
        self.told.append(str(migration.outcome))


def test_the_judge_sees_every_step_of_a_migration_twice_and_what_it_watches_outside() -> None:
    witness, play = Witness(), seamless()
    play.migration(judge=witness)
    assert witness.told == ["started with 8", "completed"]
    begin = play.message("MIGRATE_BEGIN_SEAMLESS")
    assert ("after", begin, True) in witness.seen
    surface, drawing = play.message("SURFACE_CREATE", "display:0"), play.message("DRAW_COPY", "display:0")
    shown = [fact for when, fact, _ in witness.seen if when == "before"]
    assert surface in shown
    assert drawing not in shown
    within = [
        fact
        for fact in play
        if isinstance(fact, Said) and begin.time_ns <= fact.time_ns < play.end_ns - 2 * MS
    ]
    word = play.message("MIGRATE", hop=0)
    ordinary = [
        fact
        for fact in within
        if fact.time_ns < word.time_ns
        and fact.connection in {play.connection(name, 0) for name in ("display:0", "inputs:0", "cursor:0")}
    ]
    assert len(ordinary) == 4
    assert all(shown.count(fact) == (fact not in ordinary) for fact in within)
    assert all(fact in shown for fact in play if isinstance(fact, Linked) and fact.hop == 1)


# What is known before the end ---------------------------------------------------------------------------


def test_what_was_agreed_and_why_is_known_as_soon_as_the_client_has_replied() -> None:
    tracker = SessionTracker("s1")
    changes_of(semi_seamless(client_caps=0b0111).until("MIGRATE_CONNECTED"), tracker)
    (found,) = tracker.migrations
    assert found.outcome is None
    assert found.phase is Phase.WAITING
    assert found.agreed_reason == "the client lacks the capability SEAMLESS_MIGRATE"


def test_a_destination_that_accepts_and_says_nothing_is_waited_for_by_name() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    began = script.now
    at = script.tick()
    script.facts.append(Opened(at, "c99", 1, "10.0.0.2:5901", 1, 0, SESSION_ID))
    tracker = SessionTracker("s1")
    changes_of(script.play(), tracker)
    (stalled,) = tracker.tick(at + 4 * SECOND)
    assert isinstance(stalled, MigrationStalled)
    link, reply = stalled.waiting
    assert (link.who, link.what, link.whom, link.since_ns) == (
        Party.CLIENT,
        "the link result",
        Party.DESTINATION,
        at,
    )
    assert (reply.who, reply.deadline_ns) == (Party.SOURCE, began + 10 * SECOND)
    assert tracker.migrations[0].destination_address == "10.0.0.2:5901"


def test_a_link_that_failed_is_waited_for_by_nobody() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    script.fail("main:0", 1, reason="closed")
    tracker = SessionTracker("s1")
    changes_of(script.play(), tracker)
    (stalled,) = tracker.tick(script.now + 4 * SECOND)
    assert isinstance(stalled, MigrationStalled)
    assert [each.who for each in stalled.waiting] == [Party.SOURCE]


def test_a_client_that_is_refused_after_switch_host_has_lost_its_session() -> None:
    script = Script(client_caps=0)
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, b"")
    for channel in CHANNELS:
        script.close(channel, 0)
    script.fail("main:0", 1, code=7, reason="permission denied", connection_id=0)
    found = script.play().migration(quiet_ns=3 * SECOND)
    assert found.outcome is Outcome.FAILED
    assert "session lost" in found.reason
    link = found.channels["main:0"].destination
    assert link
    assert (link.error, link.error_code, link.linked_ns) == ("permission denied", 7, None)
