"""`spiceproxy redact` as it is called."""

import gzip
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dissectors.side import Side
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.cli import cli
from spiceproxy.lab.agent import CLIENT_TEXT, GUEST_TEXT
from spiceproxy.redaction.kinds import KEEPABLE
from tests.capture.build import Talk, pcapng, stamped
from tests.captures.corpus import CAPTURES
from tests.redaction.world import capture, found_in, views

CLIPBOARD = CAPTURES / "clipboard-and-input" / "capture.pcapng.gz"


def redact(*arguments: str | Path, **options: Any) -> Result:
    return CliRunner().invoke(cli, ["redact", *map(str, arguments)], **options)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "session.pcapng"
    path.write_bytes(capture())
    return path


def test_a_copy_is_made_for_its_owner_alone_and_what_was_removed_is_said(
    session: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy.pcapng"
    done = redact(session, out)
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert found_in(views(out.read_bytes())) == set()
    for kind in (
        "credentials",
        "keys",
        "clipboard",
        "files",
        "webdav",
        "usb",
        "smartcard",
        "port",
        "pixels",
        "sound",
    ):
        assert f"\n{kind} " in done.output
    assert "messages written to" in done.output
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_real_capture_keeps_neither_its_clipboard_nor_its_keys(tmp_path: Path) -> None:
    out = tmp_path / "copy.pcapng"
    assert redact(CLIPBOARD, out).exit_code == 0
    before, after = views(gzip.decompress(CLIPBOARD.read_bytes())), views(out.read_bytes())
    for text in (GUEST_TEXT, CLIENT_TEXT):
        assert text.encode() in before
        assert text.encode() not in after
    with open_capture(str(CLIPBOARD)) as source:
        typed = key_codes(source.read())
    assert {0x1E, 0x30} <= typed  # a, b
    assert key_codes(out.read_bytes()) == {0}


def key_codes(file: bytes) -> set[int]:
    """Bytes of the scan codes that the client sent."""
    if file[:2] == b"\x1f\x8b":
        file = gzip.decompress(file)
    return {
        byte
        for item in read_messages(stream_events(io.BytesIO(file)))
        if isinstance(item, CapturedMessage)
        and (item.connection.channel, item.message.side) == ("inputs:0", Side.CLIENT)
        and item.message.id in {101, 102, 104}
        for byte in item.message.body
    }


def test_json_says_the_same(session: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.pcapng"
    done = redact("--json", "--keep", "sound", session, out)
    told = json.loads(done.output)
    assert (told["v"], told["out"], told["kept"], told["undecoded"]) == (1, str(out), ["sound"], 0)
    assert told["removed"]["keys"]["count"] > 10
    assert "sound" not in told["removed"]
    assert found_in(views(out.read_bytes())) == {"sound"}


def test_a_dry_run_writes_nothing_and_counts_the_same(session: Path, tmp_path: Path) -> None:
    counted = json.loads(redact("--json", "--dry-run", session).output)
    written = json.loads(redact("--json", session, tmp_path / "copy.pcapng").output)
    assert counted | {"out": None} == written | {"out": None}
    assert {path.name for path in tmp_path.iterdir()} == {"session.pcapng", "copy.pcapng"}


def test_standard_input_is_read(session: Path, tmp_path: Path) -> None:
    out, same = tmp_path / "copy.pcapng", tmp_path / "same.pcapng"
    assert redact("-", out, input=session.read_bytes()).exit_code == 0
    redact(session, same)
    assert out.read_bytes() == same.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["{session}"], ["--dry-run", "{session}", "{out}"], ["{session}", "{session}"], ["--keep", "credentials", "{session}", "{out}"],
        ["--keep", "unread", "{session}", "{out}"], ["{none}", "{out}"], ["{text}", "{out}"], ["{session}", "{link}"],
        ["{session}", "{none}/out"], ["{session}", "-"],
        ["--addresses", "--keep-others", "{session}", "{out}"], ["--addresses", "--keep-comments", "{session}", "{out}"],
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_and_leaves_everything_as_it_was(
    arguments: list[str], session: Path, tmp_path: Path
) -> None:
    text, link = tmp_path / "text", tmp_path / "link"
    text.write_text("no capture")
    link.symlink_to(session)
    before = session.read_bytes()
    names = {
        "session": session,
        "out": tmp_path / "out",
        "none": tmp_path / "none",
        "text": text,
        "link": link,
    }
    done = redact(*(each.format(**names) for each in arguments))
    assert done.exit_code == 2
    assert session.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"session.pcapng", "text", "link"}


def test_an_older_copy_is_replaced_only_by_a_whole_one(session: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.pcapng"
    out.write_bytes(b"older")
    http = Talk().greet()
    empty = tmp_path / "empty.pcapng"
    empty.write_bytes(pcapng(stamped(http.packets)))
    done = redact(empty, out)
    assert done.exit_code == 1
    assert "no SPICE" in done.output
    assert out.read_bytes() == b"older"
    told = json.loads(redact("--json", empty, out).stdout)
    assert (told["out"], told["messages"], told["packets_dropped"]) == (None, 0, len(http.packets) - 1)
    assert redact(session, out).exit_code == 0
    assert out.read_bytes() != b"older"


def test_of_a_damaged_capture_what_can_be_read_is_copied(session: Path, tmp_path: Path) -> None:
    data = session.read_bytes()
    session.write_bytes(data[: len(data) // 2 + 1])
    out = tmp_path / "copy.pcapng"
    done = redact(session, out)
    assert done.exit_code == 5
    assert "ends within" in done.output
    assert found_in(views(out.read_bytes())) == set()
    session.write_bytes(data[: len(data) // 2 // 4 * 4] + b"\0" * 64 + data[len(data) // 2 :])
    assert redact(session, out).exit_code == 5
    assert found_in(out.read_bytes()) == set()


def test_a_full_disk_is_an_error_and_leaves_no_file(
    session: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spiceproxy.capture.newfile.os.fsync", full)
    done = redact(session, tmp_path / "copy.pcapng")
    assert done.exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["session.pcapng"]


def test_help_names_every_kind() -> None:
    text = redact("--help").output
    assert all(kind in text for kind in KEEPABLE)
