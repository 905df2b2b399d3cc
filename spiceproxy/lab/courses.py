"""What can happen to a migration on purpose, and what is to be seen when it has.

A course is played on the first migration of a run; what follows are plain migrations, so that a run can show whether a
session is still good for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Final, NamedTuple

from spiceproxy.lab.result import ClientKind, Course, LabOptions, MigrationKind


class Target(StrEnum):
    """Where the client is sent."""

    SERVER = auto()  # to the destination itself
    REFUSES_AT_FIRST = (
        auto()
    )  # a port that refuses connections until `migrate`, then leads to the destination
    REFUSES = auto()  # a port where nobody listens
    SILENT = (
        auto()
    )  # a port that takes no connection and refuses none, like a host behind a firewall that drops


class Act(StrEnum):
    """What is done to a migration."""

    CANCEL = auto()  # migrate_cancel
    KILL_SOURCE = auto()  # SIGKILL
    KILL_DESTINATION = auto()
    KILL_CLIENT = auto()


class Moment(StrEnum):
    """When."""

    CONNECTED = auto()  # the client has replied, `migrate` has not been issued
    MOVING = auto()  # QEMU sends the guest
    MOVED = auto()  # QEMU says completed


class Stroke(NamedTuple):
    """One act at its moment."""

    act: Act
    moment: Moment


class Ticket(StrEnum):
    """The destination's password, where the source has one that the client knows."""

    SAME = auto()
    OTHER = auto()
    EXPIRED = auto()


class Place(StrEnum):
    """Where guest or client are in the end."""

    SOURCE = "the source"
    DESTINATION = "the destination"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Expected:
    """One way in which a migration may go."""

    kind: str | None  # what passes amounts to: a MigrationKind, "cancelled", or None: the source says nothing
    qmp_status: str = "completed"
    guest: Place = Place.DESTINATION
    client: Place = Place.DESTINATION
    new_session: bool = False  # the client's, at the destination
    outcomes: tuple[tuple[str, ...], ...] = (
        ("completed",),
    )  # what reports may say, of each BEGIN in this migration
    missing: tuple[str, ...] = ()  # channels, without their number, that do not come along


@dataclass(frozen=True, slots=True)
class Plan:
    """How a migration is played."""

    target: Target = Target.SERVER
    patient: bool = True  # `migrate` waits until the client has replied
    twice: bool = False  # client_migrate_info is issued once more when the client has replied
    hangs: bool = False  # the destination is stopped (SIGSTOP) until the client has replied
    stroke: Stroke | None = None
    ticket: Ticket | None = None
    webdav: bool | None = None  # offered; None: if the client opens it
    idle_head: bool = (
        False  # a second adapter that the guest leaves alone, for which spicy opens no cursor channel
    )
    more_on_source: bool = False  # a port channel that the destination has not
    more_on_destination: bool = False
    hurried: bool = False  # QEMU moves the guest as fast as it can
    expected: tuple[Expected, ...] = ()  # any of them; none: what the kind of migration says
    afterwards: tuple[Expected, ...] = ()  # also for the migrations that follow, beside what their kind says


_SWITCHED: Final = Expected("switch-host", new_session=True)
# A reply that comes too late is answered with CANCEL, before SWITCH_HOST or after it.
_OVERTAKEN: Final = (_SWITCHED, replace(_SWITCHED, kind="cancelled"))
_STAYED: Final = Expected("cancelled", guest=Place.SOURCE, client=Place.SOURCE, outcomes=(("cancelled",),))
_GONE: Final = Expected(
    None, qmp_status="gone", guest=Place.NOWHERE, client=Place.NOWHERE, outcomes=(("failed",),)
)
# The guest does not care for its user's death.
_ALONE: Final = Expected(None, client=Place.NOWHERE, outcomes=(("failed",),))
_LOST: Final = Expected("switch-host", client=Place.NOWHERE, outcomes=(("failed",),))
# QEMU sees nothing wrong: the channels are where they should be, only the client's state is not.
_WEDGED: Final = Expected("seamless", outcomes=(("wedged",),))

# Whether these courses go as they do hangs on which channels a client opens.
_CLIENTS: Final = {
    Course.UNOPENED_WEBDAV: ClientKind.REMOTE_VIEWER,
    Course.IDLE_HEAD: ClientKind.SPICY,
    Course.MORE_ON_SOURCE: ClientKind.SPICY,
}

PLANS: Final[Mapping[Course, Plan]] = {
    Course.PLAIN: Plan(),
    Course.CANCEL: Plan(
        stroke=Stroke(Act.CANCEL, Moment.MOVING), expected=(replace(_STAYED, qmp_status="cancelled"),)
    ),
    Course.UNREACHABLE: Plan(target=Target.REFUSES, expected=(_LOST,)),
    Course.SILENT: Plan(target=Target.SILENT, expected=(_LOST,)),
    Course.TOO_EARLY: Plan(
        patient=False,
        hurried=True,
        expected=(*_OVERTAKEN, Expected("seamless")),  # a client may be quick enough all the same
        afterwards=(_SWITCHED,),
    ),
    Course.TWICE: Plan(twice=True, expected=(Expected("seamless", outcomes=(("cancelled", "completed"),)),)),
    Course.HANGING: Plan(hangs=True, expected=_OVERTAKEN, afterwards=(_SWITCHED,)),
    Course.WRONG_TICKET: Plan(ticket=Ticket.OTHER, expected=(_LOST,)),
    Course.EXPIRED_TICKET: Plan(ticket=Ticket.EXPIRED, expected=(_LOST,)),
    Course.KILL_BEFORE: Plan(
        stroke=Stroke(Act.KILL_DESTINATION, Moment.CONNECTED),
        expected=(replace(_STAYED, qmp_status="failed"),),
    ),
    Course.KILL_DURING: Plan(
        stroke=Stroke(Act.KILL_DESTINATION, Moment.MOVING), expected=(replace(_STAYED, qmp_status="failed"),)
    ),
    Course.KILL_AFTER: Plan(
        stroke=Stroke(Act.KILL_DESTINATION, Moment.MOVED),
        expected=(
            Expected(
                "seamless", guest=Place.NOWHERE, client=Place.NOWHERE, outcomes=(("failed",), ("completed",))
            ),
        ),
    ),
    Course.KILL_SOURCE: Plan(stroke=Stroke(Act.KILL_SOURCE, Moment.MOVING), expected=(_GONE,)),
    Course.KILL_SOURCE_BEFORE: Plan(stroke=Stroke(Act.KILL_SOURCE, Moment.CONNECTED), expected=(_GONE,)),
    # Whether every channel has handed over its state by then is a matter of milliseconds.
    Course.KILL_SOURCE_AFTER: Plan(
        stroke=Stroke(Act.KILL_SOURCE, Moment.MOVED),
        expected=tuple(
            Expected("seamless", "gone", client=place, outcomes=(("completed",), ("failed",)))
            for place in (Place.DESTINATION, Place.NOWHERE)
        ),
    ),
    Course.KILL_CLIENT_BEFORE: Plan(stroke=Stroke(Act.KILL_CLIENT, Moment.CONNECTED), expected=(_ALONE,)),
    Course.KILL_CLIENT_DURING: Plan(stroke=Stroke(Act.KILL_CLIENT, Moment.MOVING), expected=(_ALONE,)),
    Course.KILL_CLIENT_AFTER: Plan(
        stroke=Stroke(Act.KILL_CLIENT, Moment.MOVED),
        expected=(Expected("seamless", client=Place.NOWHERE, outcomes=(("failed",), ("completed",))),),
    ),
    Course.UNOPENED_WEBDAV: Plan(webdav=True, expected=(_WEDGED,), afterwards=(_SWITCHED,)),
    Course.IDLE_HEAD: Plan(idle_head=True, expected=(_WEDGED,), afterwards=(_SWITCHED,)),
    # spicy may crash while it takes back its half-made connections.
    Course.MORE_ON_SOURCE: Plan(
        more_on_source=True,
        expected=(replace(_SWITCHED, missing=("port",)), _LOST, replace(_LOST, kind=None)),
    ),
    Course.MORE_ON_DESTINATION: Plan(more_on_destination=True),
}


def plan(course: Course, migration: MigrationKind) -> Plan:
    """Return how a migration is played: a plain switch-host takes a port that refuses at first."""
    if course is Course.PLAIN and migration is MigrationKind.SWITCH_HOST:
        return Plan(target=Target.REFUSES_AT_FIRST)
    return PLANS[course]


def expected(course: Course, migration: MigrationKind, hop: int) -> tuple[Expected, ...]:
    """Return in which ways a migration may go, of a run in which the first one takes a course."""
    chosen = PLANS[course]
    if hop == 1 and chosen.expected:
        return chosen.expected
    usual = Expected(migration, new_session=migration is MigrationKind.SWITCH_HOST)
    return (usual, *chosen.afterwards) if hop > 1 else (usual,)


def conflict(options: LabOptions) -> str | None:
    """Return why a run cannot take its course, or None if it can."""
    course, migration = options.course, options.migration
    if course is Course.PLAIN:
        return None
    if not options.hops:
        return f"the course {course} takes a migration, so one hop or more"
    seamless = course is Course.TWICE or any(way.kind == "seamless" for way in PLANS[course].expected)
    if migration is MigrationKind.SWITCH_HOST or (seamless and migration is not MigrationKind.SEAMLESS):
        return f"the course {course} does not go with --migration {migration}"
    client = _CLIENTS.get(course)
    if client is not None and options.client is not client:
        return f"the course {course} takes --client {client}"
    stroke = PLANS[course].stroke
    if stroke is not None and stroke.act is Act.KILL_CLIENT and options.client is ClientKind.SIMULATED:
        return "the simulated client is no process of its own that could be killed"
    if PLANS[course].ticket and options.client is ClientKind.SIMULATED:
        return "the simulated client knows no password"
    return None
