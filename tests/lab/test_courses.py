"""What a course goes with."""

import pytest

from spiceproxy.lab.courses import PLANS, Target, conflict, plan
from spiceproxy.lab.result import ClientKind, Course, LabOptions, MigrationKind

SPICY, REMOTE_VIEWER, SIMULATED = ClientKind.SPICY, ClientKind.REMOTE_VIEWER, ClientKind.SIMULATED
SEMI, SWITCH = MigrationKind.SEMI_SEAMLESS, MigrationKind.SWITCH_HOST


@pytest.mark.parametrize("client", list(ClientKind))
@pytest.mark.parametrize("migration", list(MigrationKind))
def test_the_plain_course_goes_with_everything(client: ClientKind, migration: MigrationKind) -> None:
    assert conflict(LabOptions(client=client, migration=migration)) is None


@pytest.mark.parametrize("course", list(Course))
def test_every_course_goes_with_some_client(course: Course) -> None:
    assert any(conflict(LabOptions(course=course, client=client)) is None for client in ClientKind)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (LabOptions(course=Course.CANCEL, hops=0), "the course cancel takes a migration, so one hop or more"),
        (
            LabOptions(course=Course.CANCEL, migration=SWITCH),
            "the course cancel does not go with --migration switch-host",
        ),
        (
            LabOptions(course=Course.IDLE_HEAD, migration=SEMI),
            "the course idle-head does not go with --migration semi-seamless",
        ),
        (
            LabOptions(course=Course.TWICE, migration=SEMI),
            "the course twice does not go with --migration semi-seamless",
        ),
        (
            LabOptions(course=Course.IDLE_HEAD, client=REMOTE_VIEWER),
            "the course idle-head takes --client spicy",
        ),
        (
            LabOptions(course=Course.UNOPENED_WEBDAV, client=SPICY),
            "the course unopened-webdav takes --client remote-viewer",
        ),
        (
            LabOptions(course=Course.WRONG_TICKET, client=SIMULATED),
            "the simulated client knows no password",
        ),
    ],
)
def test_what_cannot_be_is_said(options: LabOptions, reason: str) -> None:
    assert conflict(options) == reason


def test_a_semi_seamless_migration_can_be_cancelled() -> None:
    assert conflict(LabOptions(course=Course.CANCEL, migration=SEMI)) is None


def test_a_switch_host_takes_a_port_that_refuses_at_first() -> None:
    assert plan(Course.PLAIN, SWITCH).target is Target.REFUSES_AT_FIRST
    assert plan(Course.PLAIN, SEMI) is PLANS[Course.PLAIN]
