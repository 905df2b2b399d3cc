"""The report for people."""

import re

import pytest

from spiceproxy.protocol.migration.model import (
    TIMES,
    Closing,
    Diagnosis,
    Kind,
    Migration,
    Party,
    Severity,
    Violation,
)
from spiceproxy.reading.style import Look
from spiceproxy.report.text import MAX_EVIDENCE, MAX_FINDINGS, TIMES_IN_SHORT, verdict_lines
from spiceproxy.report.verdict import Report
from tests.report.examples import CAPTURE_NS, EXAMPLES, SERVER, Made, seamless, wedged
from tests.report.golden import FOLDER, goldens, report_of, text_of

GOLDENS = dict(goldens())


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_text_is_the_one_that_was_looked_at(name: str) -> None:
    assert GOLDENS[name] == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_every_kept_text_belongs_to_an_example() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(GOLDENS)


@pytest.mark.parametrize("width", [80, 90, 100, 140, 200])
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_line_is_longer_than_the_terminal_is_wide(name: str, width: int) -> None:
    text = text_of(report_of(name, problems=["packet 12345: " + "cut " * 50]), width)
    assert [line for line in text.splitlines() if len(line) > width] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_colours_change_nothing_but_colours(name: str) -> None:
    coloured = text_of(report_of(name), colour=True)
    assert "\x1b[" in coloured
    assert "".join(f"{line.rstrip()}\n" for line in plain(coloured).splitlines()) == "".join(
        f"{line.rstrip()}\n" for line in GOLDENS[name].splitlines()
    )


def test_the_verdict_comes_first_then_channels_times_rules_diagnoses_chart() -> None:
    text = GOLDENS["wedged"]
    parts = ["✘ s1 migration 1", "\nChannels", "\nTimes", "\nRules", "\nDiagnoses", "\nCourse", "\nLanes"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_each_migration_has_its_sentence_before_the_first_table() -> None:
    text = GOLDENS["chain"]
    assert text.index("s1 migration 2:") < text.index("Channels")
    assert text.count("Channels  times") == 2


def test_the_verdicts_stand_alone_for_other_commands() -> None:
    lines = list(verdict_lines([seamless(), wedged()], Look(colour=False, width=200), expected=Kind.SEAMLESS))
    assert [line[0] for line in lines if not line.startswith("  ")] == ["✔", "✘"]
    assert lines[0] == (
        "✔ s1 migration 1: seamless as offered, completed; the user saw nothing new for 59.0 ms"
    )


def test_moments_and_numbers_are_those_of_the_messages() -> None:
    migration = wedged()
    message = migration.violations[0].evidence[1]
    text = text_of(Report([migration], start_ns=CAPTURE_NS))
    assert message.number == 115
    assert re.search(r"^ +5\.074600 #115 +c3 +inputs:0 +source +c→s MIGRATE_FLUSH_MARK$", text, re.MULTILINE)


def test_live_reports_have_no_numbers_and_count_from_the_first_migration() -> None:
    migration = wedged()
    migration.violations[0].evidence[:] = [
        each._replace(number=None) for each in migration.violations[0].evidence
    ]
    text = text_of(Report([migration]))
    assert re.search(r"^ +1\.074600 +c3 +inputs:0 +source +c→s MIGRATE_FLUSH_MARK$", text, re.MULTILINE)


def test_what_a_peer_wrote_cannot_move_the_cursor() -> None:
    migration = wedged()
    evil = "\x1b[2J\r\nx\u202e\udcff"
    assert migration.offered is not None
    migration.offered.host = migration.destination_address = migration.reason = evil
    migration.agreed_reason = migration.offered.reason = evil
    migration.losses.append(evil)
    migration.damaged.append(evil)
    migration.violations[0].message = migration.diagnoses[0].text = migration.diagnoses[0].next = evil
    migration.waiting[0] = migration.waiting[0]._replace(text=evil)
    inputs = migration.channels["inputs:0"]
    assert inputs.destination is not None
    inputs.destination = inputs.destination._replace(error=evil, linked_ns=None)
    migration.messages[0] = migration.messages[0]._replace(name=evil)
    text = text_of(Report([migration], problems=[evil], start_ns=CAPTURE_NS))
    assert [character for character in text if not character.isprintable() and character != "\n"] == []
    text.encode()


def test_a_message_that_had_to_come_and_did_not_is_never() -> None:
    row = next(line for line in GOLDENS["wedged"].splitlines() if line.startswith("  inputs:0 "))
    assert row.split() == ["inputs:0", "✔", "✔", "FD", "0.2", "0.6", "never", "never", "stuck", "server"]


def test_a_message_that_a_damaged_capture_may_have_lost_is_a_question() -> None:
    row = next(line for line in GOLDENS["damaged"].splitlines() if line.startswith("  display:0 "))
    assert row.split()[5] == "?"


@pytest.mark.parametrize(("same", "sign"), [(True, "="), (False, "≠"), (None, "?")])
def test_the_table_says_whether_the_destination_got_the_same_bytes(same: bool | None, sign: str) -> None:
    migration = seamless()
    inputs = migration.channels["inputs:0"]
    assert inputs.data_to_destination is not None
    if not same:
        digest = None if same is None else bytes(32)
        inputs.data_to_destination = inputs.data_to_destination._replace(digest=digest)
    row = next(line for line in text_of(Report([migration])).splitlines() if line.startswith("  inputs:0 "))
    assert f" 1.1 {sign}   1.5 " in row


def test_a_channel_that_was_idle_before_the_change_has_no_pause() -> None:
    migration = seamless()
    display = migration.channels["display:0"]
    assert display.last_seen_from_source is not None
    early = display.last_seen_from_source._replace(time_ns=display.last_seen_from_source.time_ns - 2 * 10**9)
    display.last_seen_from_source = early
    text = text_of(Report([migration]))
    row = next(line for line in text.splitlines() if line.startswith("  display:0 "))
    assert row.split()[-2] == "idle"
    assert "█" not in text[text.index("Lanes") :].partition("\n")[2]


def test_every_time_has_a_word_of_explanation() -> None:
    assert TIMES_IN_SHORT.keys() == TIMES.keys()


def test_the_link_that_failed_is_named_with_its_reason() -> None:
    assert "  main:0 at the destination: connection refused (c6)\n" in GOLDENS["refused"]


def test_hundreds_of_findings_are_cut_and_counted() -> None:
    migration = seamless()
    evidence = migration.messages[:1] * (MAX_EVIDENCE + 3)
    migration.violations += [
        Violation("R28", Party.CLIENT, Severity.ERROR, f"finding {i}", evidence)
        for i in range(MAX_FINDINGS + 5)
    ]
    text = text_of(Report([migration]), chart=False)
    assert "  and 5 more\n" in text
    assert f"finding {MAX_FINDINGS - 1}" in text
    assert f"finding {MAX_FINDINGS}" not in text
    assert text.count("    and 3 more\n") == MAX_FINDINGS


def test_errors_come_before_warnings_and_notes() -> None:
    migration = seamless()
    severities = (Severity.NOTE, Severity.ERROR, Severity.WARNING)
    migration.violations += [Violation(f"R{i}", Party.SOURCE, each, "x") for i, each in enumerate(severities)]
    text = text_of(Report([migration]), chart=False)
    assert re.findall(r"^  (error|warning|note) R", text, re.MULTILINE) == ["error", "warning", "note"]


def test_a_diagnosis_says_what_to_look_at() -> None:
    migration = seamless()
    migration.diagnoses.append(Diagnosis("x-y", "it was so.", next="the other thing."))
    assert "  x-y: it was so.\n    look at: the other thing.\n" in text_of(Report([migration]))


def test_a_migration_that_goes_on_is_shown_as_far_as_it_is_known() -> None:
    made = Made(Kind.SEMI_SEAMLESS)
    made.said(3, "SPICE_MSG_PING", SERVER)
    made.m.channels["main:0"].source_closed = Closing(made.at(5), "capture", reset=False)
    text = text_of(Report([made.m]))
    assert "offered semi-seamless, still connecting" in text
    assert "Lanes" not in text


def test_a_migration_of_which_next_to_nothing_is_known_is_reported_all_the_same() -> None:
    migration = Migration("s1", 1, 0, 1, CAPTURE_NS)
    text = text_of(Report([migration]))
    assert "the offer is not in the capture, still connecting" in text
    assert "Channels  none is known" in text
