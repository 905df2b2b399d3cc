"""Each rule is broken by a wire that breaks it, by whom and where it says; and no other rule by the same wire."""

import importlib
import pkgutil

import pytest

from spiceproxy.protocol.migration.model import Severity
from spiceproxy.protocol.migration.rules import CHECKED
from tests.protocol.migration import rules
from tests.protocol.migration.rules.breaches import Breach, judged, names, severity_of

BREACHES: list[Breach] = [
    breach
    for module in pkgutil.iter_modules(rules.__path__)
    if module.name.startswith("breaches_")
    for breach in importlib.import_module(f"{rules.__name__}.{module.name}").BREACHES
]


@pytest.mark.parametrize("breach", BREACHES, ids=[f"{each.rule}: {each.clause}" for each in BREACHES])
def test_a_rule_is_broken_by_a_wire_that_breaks_it(breach: Breach) -> None:
    found = judged(breach.play(), quiet_ns=breach.quiet_ns)
    told = [
        each
        for each in found
        if (each.rule, each.channel, each.by) == (breach.rule, breach.channel, breach.by)
    ]
    assert told, [(each.rule, each.by, each.channel, each.message) for each in found]
    assert [names(each) for each in told] == [list(breach.evidence)]
    (violation,) = told
    assert violation.severity is severity_of(breach)
    assert (violation.session is not None) == breach.alone
    assert violation.message
    assert not violation.message.endswith(".")
    others = {each.rule for each in found if each.severity is Severity.ERROR} - {breach.rule}
    assert others == set(breach.also)


def test_every_rule_that_is_looked_at_has_a_wire_that_breaks_it() -> None:
    assert set(CHECKED) - {each.rule for each in BREACHES} == set()
