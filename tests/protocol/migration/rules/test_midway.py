"""A recording may begin anywhere: connections that were open are linked again, and nobody is accused of what came before."""

from collections import Counter

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import DirectionClosed, Fact, Linked, Opened, Said
from spiceproxy.protocol.migration.rules.past import Past
from spiceproxy.protocol.migration.tracked import Tracked
from tests.protocol.migration.playbook import Play, seamless
from tests.protocol.migration.rules.breaches import judged
from tests.protocol.migration.rules.test_good import GOOD

INIT = (Side.SERVER, Main.INIT)


def begun_at(play: Play, at: int) -> Play:
    """What a file shows that begins with this fact: open connections first, each with its link phase and MAIN_INIT."""
    facts, now = play.facts, play.facts[at].time_ns
    mains = {
        fact.connection
        for fact in facts
        if isinstance(fact, Linked) and fact.channel_type == ChannelType.MAIN
    }
    head: dict[str, list[Fact]] = {}
    for fact in facts[:at]:
        if isinstance(fact, DirectionClosed):
            head.pop(fact.connection, None)
        elif isinstance(fact, Opened):
            head[fact.connection] = [fact._replace(time_ns=now)]
        elif isinstance(fact, Linked):
            head[fact.connection].append(fact._replace(time_ns=now, midway=True))
        elif isinstance(fact, Said) and fact.connection in mains and (fact.side, fact.id) == INIT:
            head[fact.connection].append(fact._replace(time_ns=now))
    mini = {fact.connection for fact in facts if isinstance(fact, Linked) and fact.mini_header}
    serials: Counter[tuple[str, Side]] = Counter()
    begun: list[Fact] = []
    for fact in (*(each for repeated in head.values() for each in repeated), *facts[at:]):
        if isinstance(fact, Said):
            serials[fact.connection, fact.side] += 1
            counted = serials[fact.connection, fact.side]  # under mini headers, from what is there
            begun.append(fact._replace(serial=counted) if fact.connection in mini else fact)
        else:
            begun.append(fact)
    return Play(tuple(begun))


@pytest.mark.parametrize("mini", [True, False])
@pytest.mark.parametrize("name", GOOD)
def test_a_recording_of_a_good_migration_may_begin_anywhere(name: str, mini: bool) -> None:
    play = GOOD[name](mini=mini)
    for at in range(1 + mini, len(play.facts), 2):  # each with one of the two headers
        assert judged(begun_at(play, at)) == [], play.facts[at]


def linked(*, midway: bool) -> Tracked:
    fact = next(each for each in seamless().facts if isinstance(each, Linked))
    connection = Tracked(fact.connection, fact.hop)
    connection.know(fact._replace(midway=midway))
    return connection


def test_what_is_counted_from_the_beginning_is_not_known_of_a_connection_whose_beginning_is_missing() -> None:
    past = Past()
    for midway in (False, True):
        connection = linked(midway=midway)
        assert connection.books.unread is midway
        past.surfaces.linked(connection)
        assert past.surfaces.known(connection) == (None if midway else set())
        assert past.settled(connection) is midway
