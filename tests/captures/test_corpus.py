"""Every specimen in captures/ is a test case by being there."""

import difflib
import re

import pytest

from tests.captures.corpus import CAPTURES, HEADINGS, Specimen, specimens
from tests.whole_capture import read_whole

SPECIMENS = specimens()
EACH = pytest.mark.parametrize("specimen", SPECIMENS, ids=[specimen.name for specimen in SPECIMENS])

MAX_CAPTURE_BYTES = 440_000
MAX_EXPECTED_BYTES = 300_000
MAX_ALL_CAPTURES_BYTES = 4 * 2**20
SHOWN_LINES = 60


def test_there_are_specimens() -> None:
    assert len(SPECIMENS) >= 20


def test_every_specimen_is_in_the_table_of_contents() -> None:
    text = (CAPTURES / "README.md").read_text()
    listed = re.findall(r"^\| \[([a-z0-9-]+)\]\(\1/\) \|", text, re.MULTILINE)
    assert listed == [specimen.name for specimen in SPECIMENS]


@EACH
def test_a_specimen_has_a_capture_an_expected_dissection_and_a_note(specimen: Specimen) -> None:
    files = {path.name for path in specimen.folder.iterdir()}
    assert files == {specimen.capture.name, "expected.txt", "README.md"}
    specimen.front_matter()
    headings = re.findall(r"^## (.*)$", specimen.note, re.MULTILINE)
    assert tuple(headings) == HEADINGS
    assert specimen.note.isascii()


@EACH
def test_a_specimen_is_small(specimen: Specimen) -> None:
    assert specimen.capture.stat().st_size <= MAX_CAPTURE_BYTES
    assert specimen.expected.stat().st_size <= MAX_EXPECTED_BYTES


def test_all_captures_together_are_small() -> None:
    assert sum(specimen.capture.stat().st_size for specimen in SPECIMENS) <= MAX_ALL_CAPTURES_BYTES


@EACH
def test_the_dissection_is_the_expected_one(specimen: Specimen) -> None:
    expected, found = specimen.expected.read_text().splitlines(), specimen.dissect().splitlines()
    if found != expected:
        difference = list(difflib.unified_diff(expected, found, "expected.txt", "found", lineterm="", n=1))
        shown = "\n".join(difference[:SHOWN_LINES])
        pytest.fail(
            f"{len(difference)} lines of difference; if all of it is meant: make captures\n{shown}",
            pytrace=False,
        )


@EACH
def test_every_message_decodes_to_its_last_byte_and_builds_back(specimen: Specimen) -> None:
    whole = read_whole(specimen.capture)
    assert whole.messages > 0
    assert whole.not_rebuilt == []
    assert whole.left_over == []
    if specimen.damaged:
        assert whole.unreadable != []
    else:
        assert whole.undecoded == []
        assert whole.unreadable == []


# What the corpus as a whole has to show; the notes say which specimen does.
IMAGES = {
    "BITMAP", "QUIC", "LZ_PLT", "LZ_RGB", "GLZ_RGB", "FROM_CACHE", "SURFACE", "JPEG", "FROM_CACHE_LOSSLESS",
    "ZLIB_GLZ_RGB", "JPEG_ALPHA", "LZ4",
}  # fmt: skip
DRAWING = {
    "FILL", "OPAQUE", "COPY", "BLEND", "BLACKNESS", "WHITENESS", "INVERS", "ROP3", "STROKE", "TEXT", "TRANSPARENT",
    "ALPHA_BLEND", "COMPOSITE",
}  # fmt: skip
OTHERS = {
    "SPICE_MSG_DISPLAY_COPY_BITS", "SPICE_MSG_DISPLAY_STREAM_DATA", "SPICE_MSGC_DISPLAY_STREAM_REPORT",
    "SPICE_MSG_DISPLAY_MONITORS_CONFIG", "SPICE_MSG_CURSOR_SET", "SPICE_MSG_CURSOR_TRAIL", "SPICE_MSG_PLAYBACK_DATA",
    "SPICE_MSGC_RECORD_DATA", "SPICE_MSGC_INPUTS_MOUSE_MOTION", "SPICE_MSGC_INPUTS_MOUSE_POSITION",
    "SPICE_MSGC_SPICEVMC_COMPRESSED_DATA", "SPICE_MSG_MIGRATE_DATA", "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
    "SPICE_MSG_MAIN_MIGRATE_END", "SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR",
}  # fmt: skip
INSIDE = {
    ("vd_agent", "VD_AGENT_CLIPBOARD"), ("usbredir", "usb_redir_bulk_packet"), ("webdav", "webdav_frame"),
}  # fmt: skip


def test_the_corpus_has_every_image_type_every_drawing_operation_and_all_that_migrates() -> None:
    found = [read_whole(specimen.capture) for specimen in SPECIMENS if not specimen.damaged]
    names = {name for whole in found for _, name in whole.names}
    assert {kind for whole in found for kind in whole.images} >= IMAGES
    assert names >= {f"SPICE_MSG_DISPLAY_DRAW_{kind}" for kind in DRAWING} | OTHERS
    assert {inner for whole in found for inner in whole.inside} >= INSIDE
