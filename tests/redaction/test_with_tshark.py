"""Other programs read copies without a complaint that they did not have of the original."""

from pathlib import Path

import pytest

from tests.captures.corpus import CAPTURES, specimens
from tests.recording.tshark import assert_flawless, fields, run
from tests.redaction.test_packets import recorded
from tests.redaction.test_redact import copy_of
from tests.redaction.world import capture, redacted

pytestmark = pytest.mark.lab

REMARKS = (
    "frame.number",
    "frame.len",
    "tcp.checksum.status",
    "ip.checksum.status",
    "tcp.analysis.flags",
)


@pytest.mark.parametrize("addresses", [False, True])
def test_a_copy_of_a_recording_is_flawless(tmp_path: Path, addresses: bool) -> None:
    path = tmp_path / "copy.pcapng"
    path.write_bytes(redacted(recorded(), addresses=addresses)[0])
    assert_flawless(path)


@pytest.mark.parametrize("name", ["usb-cd", "sound-direct", "microseconds", "middle"])
def test_tshark_says_the_same_of_the_packets_of_a_copy(name: str, tmp_path: Path) -> None:
    (original,) = CAPTURES.joinpath(name).glob("capture.*")
    path = tmp_path / "copy.pcapng"
    path.write_bytes(copy_of(original, keep_others=True))
    assert fields(path, *REMARKS) == fields(original, *REMARKS)
    if name != "middle":  # of connections without a beginning tshark guesses what is in them
        assert malformed(path) <= malformed(original)


def malformed(path: Path) -> set[tuple[str, ...]]:
    return set(fields(path, "frame.number", only="_ws.malformed"))


def test_capinfos_shows_what_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "copy.pcapng"
    path.write_bytes(redacted(capture())[0])
    told = run("capinfos", str(path))
    assert "redacted: secrets are removed from this capture" in told
    assert "redacted: clipboard, 2 times" in told
    assert "Strict time order:   True" in told


def test_there_are_specimens_of_other_programs() -> None:
    assert {"sound-direct", "microseconds"} <= {specimen.name for specimen in specimens()}
