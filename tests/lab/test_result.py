"""The verdict on one migration."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from spiceproxy.lab.result import ChannelPlace, HopResult, MigrationKind, Picture, ServerState, judge

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
)


def verdict(
    result: HopResult, asked: MigrationKind = MigrationKind.SEAMLESS, *, direct: bool = False
) -> list[str]:
    return judge(result, asked, CHANNELS, direct=direct)


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
