"""The kept inputs, one by one and without the fuzzer; and the fuzzer itself, where it can be had."""

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from dissectors.side import Side
from tests.fuzz.pieces import Piece, cut, join, split
from tests.fuzz.runner import Fuzzer
from tests.fuzz.targets import CORPUS, TARGETS

MAX_CORPUS_BYTES = 2**20
ROOT = Path(__file__).resolve().parents[2]
HAS_WHEEL = (
    sys.platform == "linux"
    and platform.machine() == "x86_64"
    and platform.python_implementation() == "CPython"
    and sys.version_info < (3, 15)
)
with_fuzzer = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed; `make fuzz` needs it"
)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_fails_on_an_input_that_is_kept(name: str) -> None:
    for path in sorted((CORPUS / name).iterdir()):
        try:
            TARGETS[name].run(path.read_bytes())
        except Exception as error:
            error.add_note(f"input: {path}")
            raise


def test_every_target_has_a_corpus_and_all_of_them_are_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) <= MAX_CORPUS_BYTES
    assert all(len(list((CORPUS / name).iterdir())) > 1 for name in TARGETS)


def test_pieces_are_read_as_they_were_joined() -> None:
    pieces = [Piece(Side.CLIENT, 5, b"one"), Piece(Side.SERVER, 63, b""), Piece(Side.SERVER, 0, bytes(300))]
    assert list(split(join(pieces))) == pieces
    assert list(split(join(pieces)[:-1]))[-1] == Piece(Side.SERVER, 0, bytes(299))


@pytest.mark.parametrize("rule", [0, 1, 7, 255])
def test_cutting_loses_nothing(rule: int) -> None:
    data = bytes(range(200))
    parts = list(cut(data, rule))
    assert b"".join(parts) == data
    assert all(parts)
    assert (len(parts) == 1) == (rule == 0)


@pytest.mark.skipif(not HAS_WHEEL, reason="there is no atheris for this Python")
def test_the_fuzzer_is_installed_where_there_is_one() -> None:
    assert importlib.util.find_spec("atheris") is not None


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def test_targets_are_listed_with_what_they_ask() -> None:
    done = fuzz("--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(TARGETS)
    assert all(target.meaning.endswith(".") for target in TARGETS.values())


def test_a_target_that_there_is_not_is_wrong_usage() -> None:
    done = fuzz("no-such-target")
    assert done.returncode == 2
    assert "no-such-target" in done.stderr


@with_fuzzer
def test_a_short_run_tells_how_many_inputs_it_tried(tmp_path: Path) -> None:
    done = fuzz("--seconds", "1", "--work", str(tmp_path), "sub-list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 targets, " in done.stdout
    assert "nothing failed" in done.stdout
    assert list((tmp_path / "sub-list" / "found").iterdir())


@with_fuzzer
def test_a_failure_is_told_with_the_input_and_the_way_to_see_it_again(tmp_path: Path) -> None:
    # A target that fails is made here: no kept one does.
    (tmp_path / "failing.py").write_text(
        "import sys\n"
        "from tests.fuzz import targets, worker\n"
        "def fails(data):\n"
        "    if data[:1] == b'!':\n"
        "        raise RuntimeError('found it')\n"
        "targets.TARGETS['sub-list'] = targets.Target(__name__, 'fails', 16)\n"
        "worker.main()\n"
    )
    said: list[str] = []
    outcome = Fuzzer(tmp_path, 20, said.append, worker=(str(tmp_path / "failing.py"),)).fuzz("sub-list")
    assert outcome.failed
    assert outcome.crash is not None
    assert outcome.crash.read_bytes()[:1] == b"!"
    assert "sub-list: FAILED" in said[-1]
    assert "RuntimeError: found it" in said[-1]
    assert f"python -m tests.fuzz.worker sub-list {outcome.crash}" in said[-1]
