"""A bar for who waits, and nothing for who does not see it."""

import io
from pathlib import Path

import pytest

from spiceproxy.cli import progress as module
from spiceproxy.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "FROM_BYTES", 1000)
    monkeypatch.setenv("TERM", "xterm")
    path = tmp_path / "file"
    path.write_bytes(bytes(2000))
    return path


def read_twice(file: Path) -> bytes:
    data = b""
    with progress(str(file), 2) as through:
        for _ in range(2):
            with through(file.open("rb")) as source:
                while more := source.read(300):
                    data += more
    return data


def test_a_terminal_is_told_how_much_of_all_readings_is_done(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert read_twice(file) == bytes(4000)
    assert "4.0/4.0 kB" in terminal.getvalue()


def test_who_does_not_look_is_told_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert read_twice(file) == bytes(4000)
    assert stream.getvalue() == ""


def test_small_files_and_standard_input_have_no_bar(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    file.write_bytes(bytes(999))
    assert read_twice(file) == bytes(1998)
    with progress("-") as through:
        source = io.BytesIO(b"abc")
        assert through(source) is source
    assert terminal.getvalue() == ""
