"""Following migrations live: what connections tell becomes the same account as what a file shows."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Msg, MsgC
from dissectors.side import Side
from spiceproxy.following import follower
from spiceproxy.protocol.migration.changes import Change
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Fact, Passed, Said
from spiceproxy.protocol.migration.model import Kind, Migration, Outcome, Party, Severity, Violation
from spiceproxy.protocol.migration.rules import RuleJudge
from spiceproxy.protocol.migration.session import SessionTracker
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.verdict import Report, Status
from tests.following.live_play import LivePlay, scrubbed
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    cancelled,
    refused,
    seamless,
    semi_seamless,
    switch_host,
    too_early,
)

PLAYS: dict[str, Callable[..., Play]] = {
    "seamless": seamless,
    "two hops": lambda **options: seamless(2, **options),
    "semi-seamless": semi_seamless,
    "NACK": refused,
    "switch-host": switch_host,
    "switch-host after CONNECT_ERROR": lambda **options: switch_host(begin=True, **options),
    "cancelled": cancelled,
    "too early": too_early,
}
EDITS: dict[str, Callable[[], Play]] = {
    "no FLUSH_MARK": lambda: seamless().without("MIGRATE_FLUSH_MARK", "inputs:0"),
    "no MIGRATE_DATA": lambda: seamless().without("MIGRATE_DATA", "display:0", hop=1),
    "other MIGRATE_DATA": lambda: seamless().changed(
        "MIGRATE_DATA", "webdav:0", hop=1, body=b"SVMD" + bytes(29)
    ),
    "no reply": lambda: seamless().until("MIGRATE_DST_DO_SEAMLESS", hop=1),
    "the end in the middle": lambda: seamless().until("MIGRATE", "display:0"),
}


def report_of(migrations: list[Migration]) -> Any:
    return scrubbed(report_object(Report(migrations)))


def watch_facts(monkeypatch: pytest.MonkeyPatch) -> list[Fact]:
    """What reaches the trackers of sessions from now on."""
    fed: list[Fact] = []
    feed = SessionTracker.feed

    def watched(self: SessionTracker, fact: Fact) -> Sequence[Change]:
        fed.append(fact)
        return feed(self, fact)

    monkeypatch.setattr(SessionTracker, "feed", watched)
    return fed


@pytest.mark.parametrize("mini", [True, False], ids=["mini header", "full header"])
@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)
def test_live_says_exactly_what_a_file_says(play: Callable[..., Play], mini: bool) -> None:
    live = LivePlay().play(play(mini=mini)).end()
    assert report_of(live.follower.migrations) == report_of(play(mini=mini).migrations())
    assert not live.events.named("migration_unfollowed")


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_also_of_migrations_that_go_wrong(edit: Callable[[], Play]) -> None:
    live = LivePlay().play(edit()).end()
    assert report_of(live.follower.migrations) == report_of(edit().migrations())


def test_while_nothing_goes_on_only_what_is_wanted_always_reaches_the_tracker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fed = watch_facts(monkeypatch)
    script = Script()
    script.session(0)
    for _ in range(50):
        script.act(0)
    live = LivePlay().play(script.play())
    assert {each.id for each in fed if isinstance(each, Said)} == {103, 314}  # MAIN_INIT, SURFACE_CREATE
    assert live.noted == 0
    assert not any(followed.awaited for followed in live.connections.values())


def test_during_a_migration_every_message_reaches_the_tracker_and_afterwards_none_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fed = watch_facts(monkeypatch)
    play = seamless()
    begin = play.message("MIGRATE_BEGIN_SEAMLESS").time_ns
    live = LivePlay().play(play)
    said = [each for each in play if isinstance(each, Said) and each.time_ns >= begin]
    told = [each for each in fed if isinstance(each, Said) and each.time_ns >= begin]
    ended = live.events.named("migration_ended")
    assert len(ended) == 1
    over = live.follower.migrations[0].ended_ns or 0
    assert [each.time_ns for each in told if each.time_ns <= over] == [
        each.time_ns for each in said if each.time_ns <= over
    ]
    # What is told before BEGIN of what was not read counts every message, and times only fall there.
    assert sum(each.messages for each in fed if isinstance(each, Passed)) + sum(
        isinstance(each, Said) for each in fed if each.time_ns < begin
    ) == sum(isinstance(each, Said) for each in play if each.time_ns < begin)
    assert all(one.time_ns <= other.time_ns for one, other in pairwise(told))
    noted = live.noted
    display = play.connection("display:0", 1)
    for _ in range(20):
        live.tell(Said(live.now_ns + MS, display, SERVER, 304, 4, 0, bytes(4)))
    assert live.noted == noted  # it has shown something there before


def test_what_a_destination_says_first_is_still_noted_when_the_migration_is_over() -> None:
    play = seamless()
    at = play.where("VOLUME", "playback:0", hop=1)
    late = Play(play.facts[:at] + play.facts[at + 1 :])
    live = LivePlay().play(late).wait(SECOND)
    (migration,) = live.follower.migrations
    playback = live.connections[play.connection("playback:0", 1)]
    channel = migration.channels["playback:0"]
    assert (migration.outcome, playback.awaited, channel.first_from_destination) == (
        Outcome.COMPLETED,
        True,
        None,
    )
    volume = play.facts[at]
    assert isinstance(volume, Said)
    live.tell(volume._replace(time_ns=live.now_ns + MS))
    assert channel.first_from_destination
    live.tell(Said(live.now_ns + MS, volume.connection, SERVER, 101, 4, 0, bytes(4)))  # what can be heard
    assert not playback.awaited
    live.end()


def test_events_tell_a_migration_from_its_start_to_its_end() -> None:
    live = LivePlay().play(seamless()).end()
    (started,) = live.events.named("migration_started")
    assert {key: started[key] for key in started if key not in {"time", "time_ns"}} == {
        "event": "migration_started", "level": "info", "session": "s1", "number": 1, "offered": "seamless",
        "source_hop": 0, "destination_hop": 1, "source_address": "10.0.0.1:5900",
        "destination_address": "10.0.0.2:5901",
    }  # fmt: skip
    phases = live.events.named("migration_phase")
    assert [each["phase"] for each in phases] == ["waiting", "switching", "settling", "over"]
    assert [each["performed"] for each in phases] == [None, "seamless", "seamless", "seamless"]
    assert 0 < phases[0]["time_ms"] < phases[1]["time_ms"]
    (ended,) = live.events.named("migration_ended")
    report = report_object(Report(live.follower.migrations))["migrations"][0]
    for key in ("verdict", "status", "offered", "agreed", "agreed_reason", "performed", "outcome", "reason", "waiting", "blocking", "violations", "diagnoses", "losses"):  # fmt: skip
        assert ended[key] == report[key], key
    assert ended["times_ms"].keys() == report["times_ms"].keys()
    assert ended["times_ms"] == pytest.approx(
        report["times_ms"], abs=1
    )  # a cursor may show something later still
    for short, channel in zip(ended["channels"], report["channels"], strict=True):
        for key in short.keys() - {"pause_ms"}:
            assert short[key] == channel[key], key
        assert short["pause_ms"] in {None, channel["pause_ms"]}
    assert ended["level"] == "info"
    assert not live.events.named("migration_stalled")


def test_a_good_end_is_told_with_the_first_picture_or_after_a_second_without_one() -> None:
    play = seamless()
    drawn = play.where("DRAW_COPY", "display:0", hop=1)
    live = LivePlay().play(Play(play.facts[:drawn])).wait(300 * MS)
    assert live.follower.migrations[0].outcome is Outcome.COMPLETED
    assert not live.events.named("migration_ended")
    picture = play.facts[drawn]._replace(time_ns=live.now_ns)
    live.tell(picture)
    (ended,) = live.events.named("migration_ended")
    assert ended["times_ms"]["unseen"] > 300
    idle = LivePlay().play(Play(play.facts[:drawn]))
    idle.wait(900 * MS)
    assert not idle.events.named("migration_ended")
    idle.wait(200 * MS)
    assert len(idle.events.named("migration_ended")) == 1
    idle.tell(picture._replace(time_ns=idle.now_ns))
    idle.end()
    assert len(idle.events.named("migration_ended")) == 1
    over = LivePlay().play(Play(play.facts[:drawn]))
    over.follower.over("s1")
    assert len(over.events.named("migration_ended")) == 1


def test_a_good_end_is_told_before_the_next_migration_begins() -> None:
    play = seamless(2)
    begin = play.where("MIGRATE_BEGIN_SEAMLESS", hop=1)
    drawn = {i for i in range(begin) if isinstance(play.facts[i], Said) and play.facts[i].id == 304}  # type: ignore[union-attr]
    first = play.message("MIGRATE_BEGIN_SEAMLESS", hop=0).time_ns
    dark = [fact for i, fact in enumerate(play.facts) if i not in drawn or fact.time_ns < first]
    live = LivePlay().play(Play(tuple(dark))).end()
    names = [
        each["event"] for each in live.events if each["event"] in {"migration_started", "migration_ended"}
    ]
    assert names == ["migration_started", "migration_ended"] * 2


def test_a_migration_that_stands_still_says_who_waits_for_whom_as_it_happens() -> None:
    play = seamless()
    stuck = Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1])
    stuck = stuck.without("MIGRATE_DATA", "display:0", hop=1)
    live = LivePlay(settings=Settings(switch_stall_ns=500 * MS)).play(stuck)
    live.wait(400 * MS)
    assert not live.events.named("migration_stalled")
    live.wait(200 * MS)
    (stalled,) = live.events.named("migration_stalled")
    assert stalled["level"] == "warning"
    assert stalled["reason"].startswith(
        "the destination waits for MIGRATE_DATA from the client on display:0; nothing has "
    )
    assert (stalled["blocking"], stalled["phase"]) == (["display:0"], "switching")
    (waiting,) = stalled["waiting"]
    assert (waiting["who"], waiting["what"], waiting["whom"]) == ("destination", "MIGRATE_DATA", "client")
    assert 500 <= stalled["stood_ms"] < 700
    assert waiting["since_ms"] < stalled["since_ms"] + stalled["stood_ms"]
    live.wait(20 * SECOND)
    assert len(live.events.named("migration_stalled")) == 1
    (ended,) = live.events.named("migration_ended")
    assert (ended["outcome"], ended["level"]) == ("wedged", "warning")


class Accuser:
    """A judge that finds fault with every MIGRATE on inputs, and with what follows the end on main."""

    def __init__(self) -> None:
        self.seen: list[Step] = []
        self.over: Migration | None = None
        self.violations: list[Violation] = []

    def watches(self, channel_type: int, side: Side, message_id: int) -> bool:
        return (channel_type, side, message_id) == (ChannelType.DISPLAY, Side.CLIENT, MsgC.ACK)

    def before(self, step: Step) -> bool:
        return True

    def after(self, step: Step) -> None:
        self.seen.append(step)
        fact = step.fact
        if (
            isinstance(fact, Said)
            and fact.id == Msg.MIGRATE
            and step.connection.channel == "inputs:0"
            and step.migration
        ):
            evidence = [step.connection.evidence(fact)]
            found = Violation("R99", Party.SOURCE, Severity.ERROR, "it may not", evidence, "inputs:0")
            step.migration.violations.append(found)

    def touched(self, channel: str | None, fault: str) -> None:
        pass

    def torn(self) -> None:
        pass

    def started(self, migration: Migration, source: list[ConnectionState]) -> None:
        self.connections = source

    def ended(self, migration: Migration) -> None:
        migration.violations.append(Violation("R98", Party.CLIENT, Severity.NOTE, "it came late"))


def test_broken_rules_are_told_as_they_are_found_and_before_the_end() -> None:
    live = LivePlay(judge=Accuser).play(seamless()).end()
    names = [event["event"] for event in live.events if event["event"] in {"rule_broken", "migration_ended"}]
    assert names == ["rule_broken", "rule_broken", "migration_ended"]
    first, second = live.events.named("rule_broken")
    assert (first["rule"], first["by"], first["severity"], first["channel"], first["level"]) == (
        "R99", "source", "error", "inputs:0", "warning",
    )  # fmt: skip
    assert first["evidence"][0]["name"] == "SPICE_MSG_MIGRATE"
    assert first["time"] < second["time"]
    assert (second["rule"], second["level"]) == ("R98", "info")
    (ended,) = live.events.named("migration_ended")
    assert [each["rule"] for each in ended["violations"]] == ["R99", "R98"]
    assert (ended["level"], ended["status"]) == ("warning", Status.VIOLATIONS)


def test_a_judge_sees_between_migrations_what_it_watches() -> None:
    judges: list[Accuser] = []

    def make() -> Accuser:
        judges.append(Accuser())
        return judges[-1]

    script = Script()
    script.session(0)
    ack = script.say(CLIENT, "display:0", 0, MsgC.ACK)
    script.say(CLIENT, "display:0", 0, MsgC.PONG, bytes(12))
    LivePlay(judge=make).play(script.play())
    seen = [step.fact for judge in judges for step in judge.seen if isinstance(step.fact, Said)]
    assert [fact.id for fact in seen if fact.side is CLIENT and fact.connection == ack.connection] == [
        MsgC.ACK
    ]


def test_an_error_of_ours_costs_an_event_and_the_account_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = seamless()
    at = play.where("MIGRATE", "display:0")
    live = LivePlay().play(Play(play.facts[:at]))
    monkeypatch.setattr(SessionTracker, "feed", lambda *_: 1 / 0)
    live.play(Play(play.facts[at:])).end()
    (event,) = live.events.named("migration_unfollowed")
    assert (event["level"], event["session"]) == ("error", "s1")
    assert "division" in event["reason"]
    (migration,) = live.follower.migrations
    assert migration.outcome is None
    assert Report([migration]).status is Status.DAMAGED
    assert not any(followed.awaited for followed in live.connections.values())
    noted = live.noted
    live.tell(Said(live.now_ns, play.connection("display:0", 1), SERVER, 304, 4, 0, bytes(4)))
    assert live.noted == noted


@pytest.mark.parametrize("method", ["tick", "feed"])
def test_so_does_one_in_a_tick_or_at_the_end(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LivePlay().play(seamless().until("MIGRATE", "display:0"))
    monkeypatch.setattr(SessionTracker, method, lambda *_: 1 / 0)
    live.end()
    assert len(live.events.named("migration_unfollowed")) == 1
    assert len(live.follower.migrations) == 1
    live.wait(SECOND)


def test_an_error_before_anything_is_known_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionTracker, "feed", lambda *_: 1 / 0)
    live = LivePlay().play(seamless()).end()
    assert len(live.events.named("migration_unfollowed")) == 1
    assert live.follower.migrations == []


def test_what_cannot_be_read_accuses_nobody() -> None:
    play = seamless().until("MIGRATE_BEGIN_SEAMLESS")
    live = LivePlay().play(play)
    live.follower.unread("s1", "a TLS connection to 10.0.0.2:5901, which cannot be read")
    live.follower.unread("s2", "of a session that is not there")
    live.wait(11 * SECOND)
    live.follower.over("s1")
    (migration,) = live.follower.migrations
    assert migration.outcome is Outcome.INCOMPLETE
    assert "TLS" in migration.damaged[0]
    assert migration.offered
    assert migration.offered.kind is Kind.SEAMLESS


def test_a_direction_that_cannot_be_read_is_missing_and_a_proxy_that_stops_closes_nothing() -> None:
    play = seamless().until("MIGRATE", "display:0")
    live = LivePlay().play(play)
    broken, cut = play.connection("display:0", 0), play.connection("inputs:0", 0)
    live.connections[broken].direction_ended(SERVER, unreadable="message of 4294967295 bytes announced")
    live.connections[broken].over(SERVER)
    live.connections[cut].over(None)
    channels = live.follower.migrations[0].channels
    assert channels["display:0"].damaged
    display, inputs = channels["display:0"].source_closed, channels["inputs:0"].source_closed
    assert display
    assert inputs
    assert (display.by, inputs.by) == ("server", "capture")


def test_sessions_that_are_over_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "MAX_MIGRATIONS", 3)
    live = LivePlay()
    for _ in range(5):
        live.play(cancelled()).end()
        live.connections.clear()
    assert len(live.follower.migrations) == 3
    assert live.follower.forgotten == 2
    assert not live.follower._sessions
    assert not live.follower._tracker.sessions


def test_connections_that_are_over_are_forgotten() -> None:
    live = LivePlay().play(seamless())
    session = live.connections["c1"].session
    assert len(session.connections) == len(CHANNELS)  # those to the source are gone


def test_an_answer_that_passed_unread_is_not_told_before_what_it_answers() -> None:
    facts = list(seamless(2))
    starts = [at for at, fact in enumerate(facts) if isinstance(fact, Said) and fact.id == 116]
    assert len(starts) == 2
    begin = facts[starts[1]]
    assert isinstance(begin, Said)
    quiet = [
        Said(begin.time_ns, begin.connection, side, id_, 12, serial, bytes(12))
        for serial in (900, 901)
        for side, id_ in ((SERVER, Msg.PING), (CLIENT, MsgC.PONG))
    ]
    # The destination of the first migration has asked twice, and been answered, when the second one begins.
    live = LivePlay(judge=RuleJudge)
    for fact in facts[: starts[1]]:
        live.tell(fact)
    live.wait(2 * SECOND)
    for fact in quiet:
        live.tell(replace_time(fact, live.now_ns))
    live.tell(replace_time(begin, live.now_ns))
    assert not live.events.named("rule_broken")


def replace_time(said: Said, time_ns: int) -> Said:
    return said._replace(time_ns=time_ns)
