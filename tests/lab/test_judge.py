"""The verdict on one migration."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from spiceproxy.lab.courses import PLANS, Expected, Place, expected
from spiceproxy.lab.judge import judge, judge_report
from spiceproxy.lab.result import ChannelPlace, Course, HopResult, MigrationKind, Picture, ServerState

CHANNELS = ["display:0", "main:0"]
SOURCE = ServerState("s1", "127.0.0.1:20001", "postmigrate", migrated=True, channels=[])
DESTINATION = ServerState("s2", "127.0.0.1:20002", "running", migrated=False, channels=CHANNELS)


def place(channel: str) -> ChannelPlace:
    return ChannelPlace(channel, "127.0.0.1:40000", through_proxy=True, hop=1, server="127.0.0.1:20002")


GOOD = HopResult(
    hop=1,
    kind="seamless",
    qmp_status="completed",
    total_ms=50,
    downtime_ms=5,
    completed_event=True,
    session_kept=True,
    source=SOURCE,
    destination=DESTINATION,
    channels=[place("display:0"), place("main:0")],
    picture=Picture.MOVING,
    client_hop=1,
)


def verdict(
    result: HopResult, asked: MigrationKind = MigrationKind.SEAMLESS, *, direct: bool = False
) -> list[str]:
    return judge(result, expected(Course.PLAIN, asked, 1), CHANNELS, direct=direct)[1]


def test_a_migration_that_went_as_asked_has_no_problem() -> None:
    assert verdict(GOOD) == []


def with_display(change: Callable[[ChannelPlace], ChannelPlace]) -> HopResult:
    return replace(GOOD, channels=[change(place("display:0")), place("main:0")])


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (replace(GOOD, qmp_status="failed"), "QEMU's migration ended as 'failed'"),
        (replace(GOOD, completed_event=False), "s1 sent no SPICE_MIGRATE_COMPLETED"),
        (replace(GOOD, source=replace(SOURCE, migrated=False)), "s1 does not say migrated"),
        (replace(GOOD, source=replace(SOURCE, channels=["main:0"])), "s1 still has main:0"),
        (
            replace(GOOD, destination=replace(DESTINATION, guest="inmigrate")),
            "the guest is 'inmigrate' on s2",
        ),
        (replace(GOOD, kind="switch-host"), "the migration was switch-host, not seamless"),
        (replace(GOOD, kind=None), "the migration was not finished, not seamless"),
        (replace(GOOD, session_kept=False), "the client began a new session on s2"),
        (replace(GOOD, channels=[place("main:0")]), "display:0 is not connected to s2"),
        (with_display(lambda it: replace(it, peer=None)), "display:0 is not connected to s2"),
        (
            with_display(lambda it: replace(it, through_proxy=False)),
            "display:0 is connected to s2 past the proxy, from 127.0.0.1:40000",
        ),
        (
            with_display(lambda it: replace(it, server=None, hop=None)),
            "the proxy has no open connection for display:0 to s2",
        ),
        (with_display(lambda it: replace(it, hop=0)), "the proxy has display:0 on hop 0, not 1"),
        (replace(GOOD, picture=Picture.STILL), "the guest's picture stands still"),
        (replace(GOOD, picture=Picture.ABSENT), "the guest's picture is not on the client's screen"),
    ],
)
def test_each_thing_that_can_be_wrong_is_named(result: HopResult, problem: str) -> None:
    assert verdict(result) == [problem]


def test_a_client_that_is_nowhere_has_not_begun_a_new_session() -> None:
    lost = replace(GOOD, session_kept=False, destination=replace(DESTINATION, channels=[]), channels=[])
    assert verdict(lost) == ["display:0 is not connected to s2", "main:0 is not connected to s2"]


def test_a_switch_host_is_a_new_session() -> None:
    switched = replace(GOOD, kind="switch-host", session_kept=False)
    assert verdict(switched, MigrationKind.SWITCH_HOST) == []
    kept = replace(switched, session_kept=True)
    assert verdict(kept, MigrationKind.SWITCH_HOST) == ["the client kept its session on s2"]


def test_without_the_proxy_only_qemu_is_asked() -> None:
    places = [ChannelPlace(name, "127.0.0.1:40000", through_proxy=None) for name in CHANNELS]
    assert verdict(replace(GOOD, kind=None, channels=places), direct=True) == []


def test_a_client_without_a_screen_is_not_blamed_for_the_picture() -> None:
    assert verdict(replace(GOOD, picture=Picture.UNSEEN)) == []


def test_the_way_that_fits_best_is_taken() -> None:
    ways = (Expected("semi-seamless"), Expected("seamless"))
    assert judge(GOOD, ways, CHANNELS, direct=False) == (ways[1], [])


STAYED = replace(
    GOOD,
    kind="cancelled",
    qmp_status="cancelled",
    completed_event=False,
    source=ServerState("s1", "127.0.0.1:20001", "running", migrated=False, channels=CHANNELS),
    destination=ServerState("s2", "127.0.0.1:20002", "gone", migrated=False, channels=[]),
    channels=[],
)


def of_course(course: Course, result: HopResult) -> list[str]:
    return judge(result, expected(course, MigrationKind.SEAMLESS, 1), CHANNELS, direct=False)[1]


def test_a_client_that_stays_when_the_migration_is_cancelled_is_as_it_should_be() -> None:
    assert of_course(Course.CANCEL, STAYED) == []


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (
            replace(STAYED, source=replace(STAYED.source, channels=["main:0"])),
            "s1 has lost display:0",
        ),
        (
            replace(STAYED, destination=replace(STAYED.destination, channels=["main:0"])),
            "s2 has main:0",
        ),
        (
            replace(STAYED, destination=replace(STAYED.destination, guest="running")),
            "the guest runs on s2",
        ),
        (replace(STAYED, source=replace(STAYED.source, guest="paused")), "the guest is 'paused' on s1"),
        (replace(STAYED, kind=None), "the migration was not finished, not cancelled"),
        (replace(STAYED, picture=Picture.STILL), "the guest's picture stands still"),
    ],
)
def test_each_thing_that_can_be_wrong_after_a_cancel_is_named(result: HopResult, problem: str) -> None:
    assert of_course(Course.CANCEL, result) == [problem]


LOST = replace(
    GOOD,
    kind="switch-host",
    session_kept=False,
    destination=replace(DESTINATION, channels=[]),
    channels=[],
    picture=Picture.UNSEEN,
)


def test_a_client_that_was_sent_to_nowhere_has_to_be_lost() -> None:
    assert of_course(Course.UNREACHABLE, LOST) == []
    there = replace(LOST, destination=DESTINATION)
    assert of_course(Course.UNREACHABLE, there) == ["the client is still on s2, with display:0, main:0"]


def test_a_channel_that_the_destination_has_not_does_not_come_along() -> None:
    channels = [*CHANNELS, "port:0"]
    way = Expected("seamless", missing=("port",))
    assert judge(GOOD, [way], channels, direct=False)[1] == []
    with_port = replace(GOOD, channels=[*GOOD.channels, place("port:0")])
    assert judge(with_port, [way], channels, direct=False)[1] == [
        "port:0 is connected to s2, which has no such channel"
    ]


def test_every_course_has_a_plan_and_a_way_for_the_migrations_after_it() -> None:
    assert set(PLANS) == set(Course)
    for course in Course:
        for kind in MigrationKind:
            assert expected(course, kind, 1)
            after = expected(course, kind, 2)
            assert after[0].kind == kind
            assert {way.client for way in after} == {Place.DESTINATION}


def test_a_report_has_to_give_each_migration_an_outcome_that_it_may_have() -> None:
    hops = [
        replace(GOOD, outcomes=(("cancelled", "completed"),)),
        replace(GOOD, outcomes=(("failed",), ("completed",))),
    ]
    assert judge_report(hops, ["cancelled", "completed", "failed"]) == []
    assert judge_report(hops, ["cancelled", "completed", "completed"]) == []
    (problem,) = judge_report(hops, ["cancelled", "completed"])
    assert problem == (
        "the report says cancelled, completed, not cancelled, completed, failed or cancelled, completed, completed"
    )
    assert judge_report([], []) == []
    assert judge_report([replace(GOOD, outcomes=(("completed",),))], []) == [
        "the report says nothing, not completed"
    ]
