"""`spiceproxy report` with pictures, run as users run it."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

CAPTURE = Path(__file__).parents[2] / "captures/seamless-two-hops/capture.pcapng.gz"


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "spiceproxy", "report", str(CAPTURE), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)


def test_all_pictures_are_written_at_once_and_the_report_is_printed_as_ever(tmp_path: Path) -> None:
    svg, page, trace = tmp_path / "a.svg", tmp_path / "a.html", tmp_path / "a.json"
    done = report("--svg", svg, "--html", page, "--perfetto", trace)
    assert done.returncode == 0, done.stderr
    assert done.stdout == report().stdout
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n<html")
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]


def test_moments_in_pictures_are_those_of_the_report(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    done = report("--html", page, "--json")
    migration = json.loads(done.stdout)["migrations"][0]
    message = migration["offer"]["message"]
    start = int(json.loads(done.stdout)["start_ns"])
    moment = f"{(int(message['time_ns']) - start) / 1e9:.6f}"
    assert f"message {message['number']}, {moment} s, " in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--svg", "--html", "--perfetto"])
def test_a_place_that_cannot_be_written_is_a_wrong_option(option: str, tmp_path: Path) -> None:
    done = report(option, tmp_path / "nowhere" / "a")
    assert done.returncode == 2
    assert "cannot write" in done.stderr


@pytest.mark.parametrize("option", ["--svg", "--html", "--perfetto"])
def test_the_option_is_in_the_help(option: str) -> None:
    assert option in report("--help").stdout
