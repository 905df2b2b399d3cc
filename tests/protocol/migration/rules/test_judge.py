"""The judge itself: what it is shown live, what it keeps, and that nothing a peer does makes it stumble."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import (
    MIGRATION_IDS,
    DirectionClosed,
    Fact,
    Linked,
    Missing,
    Opened,
    Said,
    is_migration_message,
    wants_body,
)
from spiceproxy.protocol.migration.model import Migration, Party, Severity
from spiceproxy.protocol.migration.rules import RULES, RuleJudge
from spiceproxy.protocol.migration.rules.case import MAX_OF_A_RULE, MAX_VIOLATIONS, Case
from spiceproxy.protocol.migration.rules.past import MAX_CONNECTIONS
from spiceproxy.protocol.migration.tables import STARTS
from spiceproxy.protocol.migration.tracker import Tracker
from tests.protocol.migration.playbook import CLIENT, MS, SECOND, SERVER, Play, Script, cancelled, seamless
from tests.protocol.migration.rules.breaches import Breach, judged, plain, said, started
from tests.protocol.migration.rules.test_breaches import BREACHES
from tests.protocol.migration.rules.test_good import GOOD

FLAGS = struct.pack("<I", 3)


def live(play: Play) -> Play:
    """What a proxy that relays shows: before the first BEGIN or SWITCH_HOST only what belongs to migrations, without numbers."""
    types = {fact.connection: fact.channel_type for fact in play if isinstance(fact, Linked)}
    facts, begun, watches = list[Fact](), False, RuleJudge().watches
    for fact in play:
        if not isinstance(fact, Said):
            facts.append(fact)
            continue
        type_ = types[fact.connection]
        main = type_ == ChannelType.MAIN
        begun = begun or (main and fact.side is Side.SERVER and fact.id in STARTS)
        shown = is_migration_message(type_, fact.side, fact.id) if main else begun
        body = fact.body if wants_body(type_, fact.side, fact.id) else None
        if begun or shown or body is not None or watches(type_, fact.side, fact.id):
            facts.append(fact._replace(number=None, body=body))
    return Play(tuple(facts))


@pytest.mark.parametrize("name", GOOD)
def test_a_good_migration_breaks_no_rule_where_it_is_relayed(name: str) -> None:
    assert judged(live(GOOD[name]())) == []


@pytest.mark.parametrize(
    "breach",
    [each for each in BREACHES if not each.alone and not each.captured],
    ids=lambda each: f"{each.rule}: {each.clause}",
)
def test_a_breach_is_told_where_it_is_relayed(breach: Breach) -> None:
    found = judged(live(breach.play()), quiet_ns=breach.quiet_ns)
    assert (breach.rule, breach.by, breach.channel) in {(each.rule, each.by, each.channel) for each in found}
    errors = {each.rule for each in found if each.severity is Severity.ERROR}
    assert errors - {breach.rule, *breach.also} == set()
    assert all(said.number is None for each in found for said in each.evidence)


# What it keeps ---------------------------------------------------------------------------------------------


def case_of(migration: Migration | None = None) -> Case:
    return Case(migration or seamless().migration(), {})


def test_the_same_breach_is_told_once() -> None:
    case = case_of()
    for _ in range(3):
        case.report("R8", Party.CLIENT, "the client spoke")
    assert [(each.rule, each.message, each.channel) for each in case.m.violations] == [
        ("R8", "the client spoke", None)
    ]


def test_how_often_a_rule_is_told_is_bounded_and_so_is_the_whole() -> None:
    case = case_of()
    for number in range(100):
        case.report("R8", Party.CLIENT, f"message {number}")
    assert len(case.m.violations) == MAX_OF_A_RULE
    for rule in RULES.values():
        for number in range(MAX_OF_A_RULE):
            case.report(rule.id, rule.bound[0], f"message {number}")
    assert len(case.m.violations) == MAX_VIOLATIONS


def test_only_those_whom_a_rule_binds_can_break_it() -> None:
    with pytest.raises(AssertionError, match="R7 does not bind the source"):
        case_of().report("R7", Party.SOURCE, "twice")


def test_a_message_that_is_not_there_is_left_out_of_the_evidence() -> None:
    found = seamless().migration()
    case = case_of(found)
    case.report("R9", Party.CLIENT, "no ACK", None, found.handshake.reply_evidence)
    assert [each.channel for each in found.violations] == ["main:0"]


def test_where_a_channel_has_holes_nobody_is_accused_of_anything_on_it() -> None:
    found = seamless().migration()
    found.channels["inputs:0"].damaged = True
    case = case_of(found)
    case.report("R28", Party.CLIENT, "twice", channel="inputs:0")
    case.report("R9", Party.CLIENT, "no ACK", found.handshake.reply_evidence, needs=("inputs:0",))
    assert found.violations == []
    found.torn, found.channels["inputs:0"].damaged = True, False
    case.report("R28", Party.CLIENT, "twice", channel="inputs:0")
    assert found.violations == []


def flush_mark() -> Play:
    return plain().inserted(
        "DRAW_COPY", "display:0", said=said(CLIENT, MsgC.MIGRATE_FLUSH_MARK, channel="inputs:0", hop=0)
    )


@pytest.mark.parametrize("name", ["main:0", "inputs:0", None])
def test_where_a_migration_may_have_been_missed_nothing_is_astray(name: str | None) -> None:
    play = flush_mark()
    assert [each.rule for each in judged(play)] == ["R28"]
    at = play.where("INIT")
    connection = play.connection(name, 0) if name is not None else None
    missing = Missing(play.facts[at].time_ns, connection, SERVER if name else None, 100)
    last = play.where("MIGRATE_FLUSH_MARK", "inputs:0")
    assert judged(Play((*play.facts[:last], missing, *play.facts[last:]))) == []


def test_a_connection_of_a_session_whose_main_channel_is_not_there_is_not_judged() -> None:
    assert judged(flush_mark().without_channel("main:0", hop=0)) == []


def test_a_migrate_out_of_nowhere_is_what_the_answers_to_it_are_due_to() -> None:
    script = started()
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE, FLAGS)
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_FLUSH_MARK)
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE_DATA, b"ICMD")
    assert [each.rule for each in judged(script.play())] == ["R20"]
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_FLUSH_MARK)
    assert [each.rule for each in judged(script.play())] == ["R20", "R28"]


def test_a_migrate_out_of_nowhere_whose_flags_are_not_known_may_be_answered() -> None:
    script = started()
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE)
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_FLUSH_MARK)
    assert [each.rule for each in judged(script.play())] == ["R20"]


def test_breaches_outside_of_migrations_have_their_session_and_are_bounded() -> None:
    tracker = Tracker(judge=RuleJudge)
    play = flush_mark()
    for session in ("s1", "s2"):
        for fact in play:
            tracker.feed(session, fact)
    tracker.over("s1", play.end_ns)
    assert [(each.session, each.rule, each.by) for each in tracker.all_violations()] == [
        ("s1", "R28", Party.CLIENT),
        ("s2", "R28", Party.CLIENT),
    ]
    mark = play.message("MIGRATE_FLUSH_MARK", "inputs:0")
    for _ in range(1000):
        tracker.feed("s2", mark)
    assert len(tracker.all_violations()) == 1 + MAX_OF_A_RULE


def test_a_tracker_without_a_judge_has_no_violations() -> None:
    assert flush_mark().tracked().violations == []


def test_what_is_kept_of_a_session_does_not_grow_with_its_connections() -> None:
    judge, script = RuleJudge(), Script(channels=("main:0",))
    for _ in range(2 * MAX_CONNECTIONS):
        script.session(0)
        script.say(SERVER, "main:0", 0, Msg.MIGRATE, FLAGS)
        script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN, b"")
        script.close("main:0", 0)
    script.play().tracked(judge=judge)
    past = judge._past
    assert len(past.mains) == len(past.unanswered) == len(past.moved_astray) == MAX_CONNECTIONS


def test_a_reply_to_an_offer_that_another_one_overtook_is_no_breach() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    script.tick(100 * MS)
    script.connect(0)
    first = script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    play = script.play()
    assert first in play.facts
    assert [each.rule for each in judged(play) if each.rule != "R4"] == []


def test_an_answer_on_a_link_of_an_earlier_attempt_is_not_astray() -> None:
    play = cancelled()
    script = Script()
    script.session(0)
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    old = script.where["main:0", 1]
    script.connect(0)
    new, script.where["main:0", 1] = script.where["main:0", 1], old
    script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
    script.where["main:0", 1] = new
    script.finish_seamless(0)
    assert play.facts
    assert judged(script.play()) == []


def test_what_comes_to_a_source_when_nobody_has_moved_is_judged_no_more() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE", "inputs:0", hop=0) + 1]).closes("main:0", 1, SERVER)
    late = play.message("MIGRATE", "inputs:0", hop=0)._replace(time_ns=play.end_ns + 30 * SECOND)
    tracker = play.tracked(quiet_ns=30 * SECOND, judge=RuleJudge())
    before = [each.rule for each in tracker.migrations[0].violations]
    tracker.feed(late)
    assert [each.rule for each in tracker.migrations[0].violations] == before


# Spoilt anyhow ---------------------------------------------------------------------------------------------

# What is part of a migration, and what rules count: acknowledgements, pings, the mouse, the agent, surfaces and images.
_IDS = sorted({
    *((side.value, int(id_)) for (_main, side), ids in MIGRATION_IDS.items() for id_ in ids),
    *(("server", id_) for id_ in (3, 4, 109, 110, 111, 115, 304, 314, 315)),
    *(("client", id_) for id_ in (1, 2, 3, 107, 111, 112)),
})  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn) -> Play:
    """A good play with messages dropped, doubled, moved, changed and put in."""
    play = GOOD[draw(st.sampled_from(sorted(GOOD)))]()
    facts = list(play.facts)
    connections = sorted({fact.connection for fact in facts if isinstance(fact, Opened)})
    for _ in range(draw(st.integers(1, 12))):
        at = draw(st.integers(0, len(facts) - 1))
        match draw(st.sampled_from(["drop", "double", "move", "body", "say", "close", "hole"])):
            case "drop":
                del facts[at]
            case "double":
                facts.insert(at, facts[at])
            case "move":
                facts.insert(draw(st.integers(0, len(facts) - 1)), facts.pop(at))
            case "body":
                fact = facts[at]
                if isinstance(fact, Said):
                    body = draw(st.none() | st.binary(max_size=40))
                    facts[at] = fact._replace(body=body, size=len(body or b""))
            case "say":
                side, id_ = draw(st.sampled_from(_IDS))
                body = draw(st.none() | st.binary(max_size=40))
                name = draw(st.sampled_from(connections))
                facts.insert(at, Said(facts[at].time_ns, name, Side(side), id_, len(body or b""), 0, body))
            case "close":
                name = draw(st.sampled_from(connections))
                facts.insert(at, DirectionClosed(facts[at].time_ns, name, draw(st.sampled_from(Side)), True))
            case "hole":
                torn = draw(st.none() | st.sampled_from(connections))
                facts.insert(at, Missing(facts[at].time_ns, torn, None, 10))
        if not facts:
            break
    ordered = zip(sorted(fact.time_ns for fact in facts), facts, strict=True)
    return Play(tuple(fact._replace(time_ns=time_ns) for time_ns, fact in ordered)) if facts else play


@given(spoilt())
@settings(max_examples=150, deadline=None)
def test_nothing_that_peers_do_makes_the_judge_stumble(play: Play) -> None:
    tracker = play.tracked(quiet_ns=20 * SECOND, judge=RuleJudge())
    found = [
        *(each for migration in tracker.migrations for each in migration.violations),
        *tracker.violations,
    ]
    assert len(found) <= MAX_VIOLATIONS * (1 + len(tracker.migrations))
    for violation in found:
        rule = RULES[violation.rule]
        assert violation.by in rule.bound
        assert violation.message
        assert all(isinstance(each.channel, str) for each in violation.evidence)
