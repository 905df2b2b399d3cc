"""What the tracker reports as it happens."""

from typing import NamedTuple

from spiceproxy.protocol.migration.model import Migration, Phase, Waiting


class MigrationStarted(NamedTuple):
    """BEGIN has been sent, or SWITCH_HOST without one."""

    time_ns: int
    migration: Migration


class PhaseEntered(NamedTuple):
    """The migration has moved on."""

    time_ns: int
    migration: Migration
    phase: Phase


class MigrationStalled(NamedTuple):
    """Nothing has moved for longer than it should take; `since_ns` is when something last did."""

    time_ns: int
    migration: Migration
    since_ns: int
    waiting: list[Waiting]


class MigrationEnded(NamedTuple):
    """There is an outcome. It can be overruled once: SWITCH_HOST may follow a CANCEL."""

    time_ns: int
    migration: Migration


Change = MigrationStarted | PhaseEntered | MigrationStalled | MigrationEnded
