"""A connection with the migrations that it takes part in."""

from dataclasses import dataclass

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.facts import Said


@dataclass(slots=True, eq=False)
class Tracked(ConnectionState):
    """A connection of the session."""

    departure: Attempt | None = None  # in which it is left
    arrival: Attempt | None = None  # for which it was opened
    awaited: bool = False  # what the destination says on it first is still to be noted
    judged: bool = False  # a display that has just arrived: its first messages are shown to the judge


def session_id_of(fact: Said) -> int | None:
    """What MAIN_INIT says."""
    if fact.body is None:
        return None
    try:
        found = dissect(ChannelType.MAIN, Side.SERVER, fact.id, fact.body).fields["session_id"]
    except DissectionError:
        return None
    return int(found)


def damage_of(connection: ConnectionState) -> str:
    """What of a connection is missing, in words."""
    missing = sum(connection.missing.values())
    what = f"{missing} bytes" if missing else "some bytes"
    return f"{what} of {connection.channel or 'a connection'} ({connection.id})"
