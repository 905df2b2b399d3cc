"""Documents that would otherwise drift from the code."""

import re
import subprocess
import sys
from pathlib import Path

from spiceproxy.eventlog import EVENT_NAMES, EVENTS

ROOT = Path(__file__).parent.parent
# Whose code writes events.
ROOMS = ("control", "following", "hooks", "injection", "recording", "relay", "service", "tls", "ways")
EMITTED = re.compile(r"""(?:\.(?:debug|info|warning|error|_tell)|\blevel)\(\s*"([a-z_]+)\"""")


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    rooms = ("", *(f"{room}/" for room in ROOMS))
    sources = [source for room in rooms for source in ROOT.glob(f"spiceproxy/{room}*.py")]
    sources += [ROOT / "spiceproxy/cli/run.py", ROOT / "spiceproxy/cli/service_options.py"]
    emitted = {name for source in sources for name in EMITTED.findall(source.read_text())}
    documented = {
        name
        for line in (ROOT / "docs/events.md").read_text().splitlines()
        if line.startswith("| `") and line.count("|") >= 5
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert "message_rewritten" in emitted
    assert emitted == documented - {"event", "time", "time_ns", "level"} == EVENTS


def test_the_fields_of_an_event_line_are_those_that_are_documented() -> None:
    text = (ROOT / "docs/events.md").read_text()
    for field in ("time", "time_ns", "event", "level", "session", "connection", "channel", "hop", "server"):
        assert f"`{field}`" in text


def test_the_names_that_a_filter_of_events_may_use_are_those_that_are_documented() -> None:
    text = (ROOT / "docs/events.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    fields = {row[1].strip("` ") for row in rows if len(row) == 5}  # of the table of every event
    for row in rows:
        if (
            len(row) == 6
        ):  # its examples of values and names inside of a field are in brackets, or follow "each"
            column = re.sub(r"\(`[^)]*\)|each .*", "", row[3])
            fields |= set(re.findall(r"`([a-z_]+)`", column))
    common = text.split("Events of a session also have")[1].split("On a terminal")[0]
    fields |= set(re.findall(r"`([a-z_]+)`", common))
    assert fields == EVENT_NAMES


def test_every_option_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", readme))
    assert {"--listen", "--record", "--advertise"} <= named
    known = ""
    for command in ("run", "demo", "lab", "read", "report"):
        call = [sys.executable, "-m", "spiceproxy", command, "--help"]
        known += subprocess.run(call, capture_output=True, text=True, timeout=30, check=True).stdout
    assert {option for option in named if option not in known} == set()


def test_every_declared_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    declared = re.findall(r'^    "([a-z-]+)[\[>]', project.split("[project.scripts]")[0], re.MULTILINE)
    reasons = (ROOT / "docs/dependencies.md").read_text()
    assert "trio" in declared
    assert [name for name in declared if name not in reasons and not name.startswith("types-")] == []
