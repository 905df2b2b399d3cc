"""Whatever breaks a rule breaks it in a copy without secrets, too, by the same words."""

import pytest

from spiceproxy.protocol.migration.facts import Linked, Said
from spiceproxy.redaction.bodies import Bodies
from spiceproxy.redaction.kinds import Account
from tests.protocol.migration.playbook import Play
from tests.protocol.migration.rules.breaches import Breach, judged
from tests.protocol.migration.rules.test_breaches import BREACHES
from tests.protocol.migration.rules.test_faults import FAULTS
from tests.redaction.test_bodies import laid_out


def without_secrets(play: Play) -> Play:
    """The same facts with the bodies that a copy has."""
    bodies, types = Bodies(Account()), dict[str, int]()
    facts = []
    for fact in play:
        if isinstance(fact, Linked):
            types[fact.connection] = fact.channel_type
        elif isinstance(fact, Said) and fact.body is not None:
            body = bytes(fact.body)
            found = bodies.message(types.get(fact.connection, 0), fact.side, fact.id, body)
            fact = fact._replace(body=laid_out(found.pieces, len(body)))  # noqa: PLW2901
        facts.append(fact)
    return Play(tuple(facts))


@pytest.mark.parametrize("breach", BREACHES, ids=[f"{each.rule}: {each.clause}" for each in BREACHES])
def test_a_breach_is_told_of_a_copy_as_of_the_original(breach: Breach) -> None:
    play = breach.play()
    before = judged(play, quiet_ns=breach.quiet_ns)
    assert before
    assert judged(without_secrets(play), quiet_ns=breach.quiet_ns) == before


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_of_a_copy_as_of_the_original(name: str) -> None:
    play = FAULTS[name][0]()
    assert judged(without_secrets(play)) == judged(play)
