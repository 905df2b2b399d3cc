"""A short load: what `make load` does with 300 sessions, with a few of them."""

from pathlib import Path

from tests.load.load import play


async def test_sessions_that_migrate_at_once_leave_nothing_behind_in_the_proxy(tmp_path: Path) -> None:
    outcome = await play(tmp_path, sessions=20, migrations=20, seconds=4, soak=False)
    assert outcome.reasons == []
    assert outcome.tally.sessions == 20
    assert outcome.tasks[1] > 20 * 6  # one for each connection, at least
    assert sum(outcome.tally.migrations.values()) == 20
    assert outcome.peak.descriptors > 20 * 6 * 2  # each channel has two
    assert outcome.events["migration_ended"] == 20
    assert outcome.events["channel_closed"] == outcome.events["channel_linked"] >= (20 + 20) * 6
