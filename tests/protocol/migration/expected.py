"""How rows of tests say what is to be diagnosed."""

from collections.abc import Callable
from typing import NamedTuple

from spiceproxy.protocol.migration.model import Diagnosis, Migration
from tests.protocol.migration.playbook import SECOND, Play


class Row(NamedTuple):
    """A migration, and its diagnoses: all of them, in order."""

    name: str
    play: Callable[[], Play]
    codes: tuple[str, ...]
    says: tuple[str, ...] = ()  # in the text of the first one
    channels: tuple[str, ...] | None = None  # of the first one
    quiet_ns: int = 4 * SECOND
    nth: int = -1  # which migration


class Near(NamedTuple):
    """A migration that comes close to a diagnosis and has not got it."""

    code: str
    why: str
    play: Callable[[], Play]
    quiet_ns: int = 4 * SECOND
    nth: int = -1


def check(row: Row) -> None:
    """The diagnoses are those of the row, and say something."""
    found = row.play().migrations(quiet_ns=row.quiet_ns)[row.nth]
    assert tuple(each.code for each in found.diagnoses) == row.codes
    for each in found.diagnoses:
        complete(each, found)
    first = found.diagnoses[0]
    for words in row.says:
        assert words in first.text
    if row.channels is not None:
        assert tuple(first.channels) == row.channels


def check_near(near: Near) -> None:
    """The diagnosis is not there."""
    found = near.play().migrations(quiet_ns=near.quiet_ns)[near.nth]
    assert near.code not in {each.code for each in found.diagnoses}


def complete(diagnosis: Diagnosis, migration: Migration) -> None:
    """It is a sentence, names channels that are there, and says what to look at."""
    assert diagnosis.text[:1].isupper() or diagnosis.text[:1].isdigit() or ":" in diagnosis.text[:16]
    assert diagnosis.text.endswith(".")
    assert ".." not in diagnosis.text
    assert diagnosis.next
    assert not diagnosis.next.endswith(".")
    # What the migration before owes need not be open in this one.
    assert set(diagnosis.channels) <= set(migration.channels) or diagnosis.code == "begin-postponed"
    times = [each.time_ns for each in diagnosis.evidence]
    assert times == sorted(times)
