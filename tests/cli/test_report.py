"""`spiceproxy report`, run as users run it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/report.md"
CAPTURES = Path(__file__).parents[2] / "captures"


def report(
    *arguments: Any, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spiceproxy", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        **options,
    )


def capture(name: str) -> Path:
    return CAPTURES / name / "capture.pcapng.gz"


def test_a_good_migration_is_status_0_and_its_verdict_is_the_first_line() -> None:
    done = report(capture("seamless-text"), "--expect", "seamless")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("✔ s1 migration 1: seamless as offered, completed; ")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_numbers_and_moments_are_those_of_the_reader() -> None:
    done = report(capture("seamless-text"), "--json")
    offer = json.loads(done.stdout)["migrations"][0]["offer"]["message"]
    call = [sys.executable, "-m", "spiceproxy", "read", "--json", str(capture("seamless-text"))]
    lines = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    said = json.loads(lines[offer["number"] - 1])
    assert said["name"] == "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"
    assert {
        key: said[key] for key in ("time_ns", "connection", "channel", "hop", "from", "name", "size")
    } == {key: offer[key] for key in ("time_ns", "connection", "channel", "hop", "from", "name", "size")}
    call = [sys.executable, "-m", "spiceproxy", "read", str(capture("seamless-text"))]
    text = subprocess.run(
        call, capture_output=True, text=True, timeout=60, check=True, encoding="utf-8"
    ).stdout
    moment = next(line.split()[0] for line in text.splitlines() if "MIGRATE_BEGIN_SEAMLESS" in line)
    assert f" {moment} #{offer['number']}\n" in report(capture("seamless-text")).stdout


@pytest.mark.parametrize(
    ("name", "expected", "status", "why"),
    [
        ("seamless-text", "switch-host", 3, "s1 migration 1 was seamless, not switch-host"),
        ("destination-refuses", "seamless", 3, "s1 migration 1 was not completed: failed"),
        ("semi-seamless", "semi-seamless", 0, ""),
        ("usb-cd", "seamless", 1, "no migration in "),
    ],
)
def test_the_exit_status_says_whether_it_went_as_expected(
    name: str, expected: str, status: int, why: str
) -> None:
    done = report(capture(name), "--expect", expected, "--no-chart")
    assert done.returncode == status
    assert done.stderr.startswith(f"spiceproxy: {why}" if why else "")
    assert bool(done.stderr) is bool(why)


def test_a_capture_that_is_cut_is_reported_to_where_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(gzip.decompress(capture("seamless-text").read_bytes())[:-7])
    done = report(path, "--json")
    made = json.loads(done.stdout)
    assert (done.returncode, made["status"]) == (5, 5)
    assert made["damaged"]
    assert made["migrations"][0]["outcome"] == "completed"
    assert done.stderr.endswith("the capture is damaged; what could be read is reported\n")


def test_what_is_no_capture_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello, hello, hello, hello, hello")
    done = report(path)
    assert done.returncode == 2
    assert "Error: " in done.stderr


def test_both_migrations_of_a_chain_are_told_and_a_session_can_be_chosen() -> None:
    found = json.loads(report(capture("seamless-two-hops"), "--json", "--session", "1").stdout)["migrations"]
    assert [(each["session"], each["number"], each["performed"]) for each in found] == [
        ("s1", 1, "seamless"),
        ("s1", 2, "seamless"),
    ]
    assert report(capture("seamless-two-hops"), "--session", "s2").returncode == 1


def test_junit_is_written_beside_the_text(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    done = report(capture("seamless-text"), "--junit", path, "--expect", "semi-seamless")
    root = ET.parse(path).getroot()
    assert (root.tag, root.get("failures"), done.returncode) == ("testsuites", "1", 3)
    assert done.stdout.startswith("✘ s1 migration 1: expected semi-seamless, ")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = report(capture("seamless-text"), "--junit", tmp_path / "none" / "x.xml")
    assert done.returncode == 2
    assert "none/x.xml" in done.stderr


@pytest.mark.parametrize(("options", "charted"), [([], True), (["--no-chart"], False), (["--chart"], True)])
def test_the_chart_can_be_had_or_left(options: list[str], charted: bool) -> None:
    assert ("Lanes" in report(capture("seamless-text"), *options).stdout) is charted


def test_where_there_is_no_room_there_is_no_chart_unless_asked_for() -> None:
    assert "Lanes" not in report(capture("seamless-text"), env={"COLUMNS": "60"}).stdout
    assert "Lanes" in report(capture("seamless-text"), "--chart", env={"COLUMNS": "60"}).stdout


def test_colours_are_for_terminals_or_for_who_asks() -> None:
    assert "\x1b[" not in report(capture("seamless-text")).stdout
    assert "\x1b[" in report(capture("seamless-text"), "--color", "always").stdout


def test_a_terminal_without_unicode_gets_shapes_that_it_has() -> None:
    done = report(capture("seamless-text"), env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith("+ s1 migration 1")
    assert "?" not in done.stdout
    assert done.stdout.isascii()


def test_it_reads_standard_input() -> None:
    with capture("seamless-text").open("rb") as stream:
        done = report("-", "--json", stdin=stream)
    assert json.loads(done.stdout)["file"] == "-"
    assert done.returncode == 0


def test_nobody_minds_if_nobody_reads() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as gone:
        call = [
            sys.executable,
            "-m",
            "spiceproxy",
            "report",
            str(capture("seamless-text")),
            "--expect",
            "switch-host",
        ]
        done = subprocess.run(call, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "spiceproxy: s1 migration 1 was seamless, not switch-host\n")


def test_the_sample_in_the_document_is_what_is_printed() -> None:
    sample = DOCUMENT.read_text(encoding="utf-8").split("```")[1].partition("\n")[2]
    head, _, lines = sample.partition("\n")
    assert head == "$ spiceproxy report captures/seamless-text/capture.pcapng.gz"
    assert lines.strip()
    assert report(capture("seamless-text")).stdout.startswith(lines)


def test_the_help_names_every_exit_status() -> None:
    text = report("--help").stdout
    for status in range(6):
        assert f"\n    {status}  " in text
