"""Every scenario of the catalog, between simulated peers: what comes of it is known, and nothing is left behind."""

import warnings
from pathlib import Path

import pytest

from spiceproxy.faults.scenarios import scenarios
from tests.injection.trials import outcomes, play

KNOWN = outcomes()
# What these come to depends on which of two connections is quicker.
RACES = ("behind-", "late-", "stall-", "twice-")
DESCRIPTORS = Path("/proc/self/fd")


def test_all_scenarios_are_known_here() -> None:
    assert list(KNOWN) == list(scenarios())


@pytest.mark.parametrize("name", scenarios())
def test_a_scenario_ends_as_known_and_the_report_says_what_was_done(name: str) -> None:
    ends, fires = KNOWN[name]
    if name.startswith(RACES):
        ends |= set(scenarios()[name].expect)
    before = len(list(DESCRIPTORS.iterdir()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        result = play(name, ends)
    assert len(list(DESCRIPTORS.iterdir())) <= before
    assert result.ok, result.reasons
    assert result.outcome in ends
    assert result.report is not None
    rules = {rule.name for rule in scenarios()[name].rules()}
    fired = {each.fault for each in result.report.faults}
    assert bool(fired) is fires
    assert fired | set(result.report.faults_never_fired) == rules
    for migration in result.report.migrations:
        assert migration.outcome is not None
        assert migration.reason
