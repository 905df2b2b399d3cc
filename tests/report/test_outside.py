"""Rules that were broken where no migration goes on: status, text, JSON, JUnit, page; and a capture that has nothing else."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import captures
from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.cli.report import report_command
from spiceproxy.protocol.migration.model import (
    Cause,
    Evidence,
    Kind,
    Migration,
    Party,
    Severity,
    Share,
    Violation,
)
from spiceproxy.protocol.migration.rules import CHECKED
from spiceproxy.reading.style import Look
from spiceproxy.recording.conversation import Conversation
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.junit import render_junit
from spiceproxy.report.page import MAX_FINDINGS, render_html
from spiceproxy.report.text import report_lines
from spiceproxy.report.verdict import Report, Status, why
from tests.report.examples import CAPTURE_NS, cancelled, seamless
from tests.report.golden import text_of
from tests.report.test_page import Page


def astray(
    severity: Severity = Severity.ERROR, *, session: str = "s2", text: str = "FLUSH_MARK"
) -> Violation:
    said = Evidence(
        7, CAPTURE_NS + 1_500_000_000, "c3", "inputs:0", 0, Side.CLIENT, "SPICE_MSGC_MIGRATE_FLUSH_MARK"
    )
    return Violation("R28", Party.CLIENT, severity, text, [said], "inputs:0", session)


def report(*violations: Violation, migrations: tuple[Migration, ...] = (), **options: object) -> Report:
    return Report(migrations, start_ns=CAPTURE_NS, violations=violations, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("severity", "with_migration", "status"),
    [
        (Severity.ERROR, True, Status.VIOLATIONS),
        (Severity.ERROR, False, Status.VIOLATIONS),
        (Severity.WARNING, True, Status.GOOD),
        (Severity.WARNING, False, Status.NO_MIGRATION),
    ],
)
def test_an_error_is_status_4_also_where_there_is_no_migration(
    severity: Severity, with_migration: bool, status: Status
) -> None:
    migrations = (seamless(),) if with_migration else ()
    assert report(astray(severity), migrations=migrations).status is status


@pytest.mark.parametrize(
    ("share", "status"),
    [
        (Share.MADE, Status.GOOD),
        (Share.CHANGED, Status.GOOD),
        (Share.CHANNEL, Status.VIOLATIONS),
        (Share.SESSION, Status.VIOLATIONS),
    ],
)
def test_what_a_fault_said_is_told_but_is_nobodys_breach(share: Share, status: Status) -> None:
    violation, inside = astray(), seamless()
    violation.cause = Cause("nack", share)
    inside.violations.append(violation)
    for found in (report(violation, migrations=(seamless(),)), report(migrations=(inside,))):
        assert found.status is status
        assert "R28" in text_of(found, chart=False)
        failed = ET.fromstring(render_junit(found)).findall(".//failure")
        assert bool(failed) is (status is Status.VIOLATIONS)


def test_what_went_otherwise_than_expected_comes_before_it_and_damage_behind() -> None:
    assert report(astray(), migrations=(cancelled(),)).status is Status.OTHERWISE
    assert report(astray(), migrations=(seamless(),), expected=Kind.SWITCH_HOST).status is Status.OTHERWISE
    assert report(astray(), problems=["packet 7: cut"]).status is Status.VIOLATIONS


def test_the_status_is_told_in_words() -> None:
    assert why(report(astray())) == "1 rule was broken"
    assert why(report(astray(), astray(text="again"))) == "1 rule was broken"


def test_the_text_has_them_behind_the_verdicts_under_their_session() -> None:
    text = text_of(
        report(astray(), astray(Severity.WARNING, session="s3"), migrations=(seamless(),)), chart=False
    )
    lines = text.splitlines()
    at = lines.index("✘ s2 outside of migrations: broken: R28 by the client")
    assert lines[0].startswith("✔ s1 migration 1")
    assert lines[at + 1] == "  error R28 by the client on inputs:0: FLUSH_MARK"
    assert lines[at + 2].split() == [
        "1.500000",
        "#7",
        "c3",
        "inputs:0",
        "hop",
        "0",
        "c→s",
        "MIGRATE_FLUSH_MARK",
    ]
    assert "! s3 outside of migrations: 1 lesser finding" in lines
    assert "Rules  50 checked, none broken" in lines  # as `text_of` counts them


def test_without_a_migration_the_text_has_nothing_else() -> None:
    lines = list(report_lines(report(astray()), Look(False, 80)))
    assert lines[0] == "✘ s2 outside of migrations: broken: R28 by the client"
    assert len(lines) == 3


def test_moments_count_from_the_first_message_if_nobody_knows_when_the_capture_began() -> None:
    bare = Report([], violations=[astray()])
    assert bare.clock.moment(CAPTURE_NS + 1_500_000_000) == "0.000000"


def test_json_has_them_at_the_top_with_session_and_without_a_leg() -> None:
    made = msgspec.json.decode(msgspec.json.encode(report_object(report(astray(), migrations=(seamless(),)))))
    (found,) = made["violations"]
    assert (found["session"], found["rule"], found["by"]) == ("s2", "R28", "client")
    (said,) = found["evidence"]
    assert (said["number"], said["leg"], said["hop"], said["time_ms"]) == (7, None, 0, 1500.0)
    assert made["migrations"][0]["violations"] == []
    assert made["status"] == 4
    assert made["rules"] == list(CHECKED)


def test_junit_has_a_suite_for_each_session() -> None:
    root = ET.fromstring(
        render_junit(report(astray(), astray(Severity.NOTE, session="s3"), migrations=(seamless(),)))
    )
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"s1 migration 1", "s2 outside of migrations", "s3 outside of migrations"}
    assert suites["s2 outside of migrations"].get("failures") == "1"
    assert suites["s3 outside of migrations"].get("failures") == "0"
    (case,) = suites["s2 outside of migrations"]
    assert (case.get("name") or "").startswith("R28: FLUSH_MARK is sent once")
    names = [case.get("name") or "" for case in suites["s1 migration 1"]]
    assert names[0] == "migration"
    assert [name.partition(":")[0] for name in names[1:]] == list(CHECKED)


def test_the_page_has_them_before_the_migrations() -> None:
    found = report(astray(text="<b>FLUSH_MARK</b>"), migrations=(seamless(),))
    text = Page(render_html(found.migrations, report=found)).text()
    assert "Outside of migrations" in text
    assert "R28 error by the client on inputs:0 in s2: <b>FLUSH_MARK</b>" in text
    assert text.index("in s2") < text.index("eamless as offered")
    alone = report(*(astray(text=f"number {n}") for n in range(2 * MAX_FINDINGS)))
    page = Page(render_html([], report=alone))
    assert sum(tag == "li" for tag, _ in page.tags) == MAX_FINDINGS


# A capture that has nothing else ---------------------------------------------------------------------------


def record(path: Path) -> Path:
    """A session of two channels; on inputs the client says FLUSH_MARK, and the server is gone."""
    file, clock = captures.File(path), captures.START_NS
    ends = []
    for number, channel, id_ in ((1, ChannelType.MAIN, 0), (2, ChannelType.INPUTS, captures.SESSION_ID)):
        one = Conversation(file, ("192.0.2.2", 40000 + number), captures.SERVER, client_isn=1, server_isn=2)
        one.open(clock)
        said = captures.link_phase(channel, id_)
        if channel is ChannelType.MAIN:
            fields = dict.fromkeys(
                [
                    "display_channels_hint",
                    "supported_mouse_modes",
                    "current_mouse_mode",
                    "agent_connected",
                    "agent_tokens",
                    "multi_media_time",
                    "ram_hint",
                ],
                1,
            )
            init = captures.message("SPICE_MSG_MAIN_INIT", session_id=captures.SESSION_ID, **fields)
            said.append(captures.Sent(Side.SERVER, init))
        else:
            said.append(captures.Sent(Side.CLIENT, captures.message("SPICE_MSGC_MIGRATE_FLUSH_MARK")))
        for each in said:
            clock += 1_000_000
            one.data(each.side, clock, each.data, ends=[len(each.data)])
        ends.append(one)
    for one in ends:
        one.close(None, clock)
    file.close()
    return path


def test_a_flush_mark_out_of_nowhere_is_found_in_a_capture_and_is_status_4(tmp_path: Path) -> None:
    path = str(record(tmp_path / "astray.pcapng"))
    result = CliRunner().invoke(report_command, [path, "--json"])
    assert result.exit_code == 4
    (found,) = json.loads(result.stdout)["violations"]
    assert (found["rule"], found["session"], found["channel"]) == ("R28", "s1", "inputs:0")
    assert found["evidence"][0]["number"] == 2
    assert result.stderr.strip() == "spiceproxy: 1 rule was broken"
    assert CliRunner().invoke(report_command, [path, "--session", "2"]).exit_code == 1
    assert CliRunner().invoke(report_command, [path, "--session", "s1"]).exit_code == 4
