"""`spiceproxy repair` as it is called."""

import gzip
import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spiceproxy.cli import cli
from tests.capture.build import pcap
from tests.captures.corpus import CAPTURES
from tests.repair.test_repair import PACKETS, packets

WHOLE = gzip.decompress((CAPTURES / "usb-cd" / "capture.pcapng.gz").read_bytes())


def repair(*arguments: str | Path, standard_input: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["repair", *map(str, arguments)], input=standard_input)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    path = tmp_path / "session.pcapng"
    path.write_bytes(WHOLE[:150_001])
    return path


def test_a_file_that_was_cut_is_repaired_beside_itself(cut: Path) -> None:
    os.chmod(cut, 0o644)  # noqa: PTH101 - of the original, which says nothing of the copy
    done = repair(cut)
    assert done.exit_code == 0
    assert cut.read_bytes() == WHOLE[:150_001]
    assert names(cut.parent) == {"session.pcapng", "session.repaired.pcapng"}
    copy = cut.with_name("session.repaired.pcapng")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    found = packets(copy.read_bytes())
    assert found == packets(WHOLE)[: len(found)]
    assert len(found) > 10
    assert "up to the end: after 2026-" in done.output
    assert f"at least 1 packet; {len(found)} packets are whole" in done.output
    assert repair("--check", copy).exit_code == 0


def test_check_only_says(cut: Path) -> None:
    done = repair("--check", cut)
    assert done.exit_code == 5
    assert "lost at byte" in done.output
    assert names(cut.parent) == {"session.pcapng"}


def test_a_whole_file_is_said_to_be_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    path.write_bytes(WHOLE)
    done = repair(path)
    assert (done.exit_code, done.output) == (0, f"{path}: whole, {len(packets(WHOLE))} packets\n")
    assert repair("--check", path).exit_code == 0
    assert repair("--in-place", path).exit_code == 0
    assert names(tmp_path) == {"session.pcapng"}
    assert repair(path, tmp_path / "copy.pcapng").exit_code == 0  # who names OUT wants it
    assert (tmp_path / "copy.pcapng").read_bytes() == WHOLE


def test_in_place_puts_the_repaired_one_there(cut: Path) -> None:
    done = repair("--in-place", cut)
    assert done.exit_code == 0
    assert names(cut.parent) == {"session.pcapng"}
    assert packets(cut.read_bytes())
    assert stat.S_IMODE(cut.stat().st_mode) == 0o600


def test_a_compressed_file_is_repaired_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "session.pcap.gz"
    packed = gzip.compress(pcap(PACKETS), mtime=0)
    path.write_bytes(packed[:-20])
    done = repair(path)
    assert done.exit_code == 0
    assert "the gzip data end in the middle" in done.output
    assert names(tmp_path) == {"session.pcap.gz", "session.repaired.pcap"}
    found = packets((tmp_path / "session.repaired.pcap").read_bytes())
    assert found
    assert found == packets(pcap(PACKETS))[: len(found)]
    assert repair("--in-place", path).exit_code == 2


def test_standard_input_needs_a_name_for_the_copy(tmp_path: Path) -> None:
    assert repair("-", standard_input=WHOLE).exit_code == 2
    assert repair("-", "--check", standard_input=WHOLE[:-3]).exit_code == 5
    out = tmp_path / "copy.pcapng"
    assert repair("-", out, standard_input=WHOLE[:-3]).exit_code == 0
    assert len(packets(out.read_bytes())) == len(packets(WHOLE)) - 1


def test_json_says_the_same(cut: Path) -> None:
    told = json.loads(repair("--json", cut).output)
    copy = cut.with_name("session.repaired.pcapng")
    assert (told["v"], told["out"], told["format"], told["whole"]) == (1, str(copy), "pcapng", False)
    assert told["packets"] == len(packets(copy.read_bytes()))
    (loss,) = told["losses"]
    assert loss["offset"] + loss["size"] == told["size"] == 150_001
    assert loss["size"] == told["lost_bytes"]
    assert int(loss["after_ns"]) == packets(copy.read_bytes())[-1][0]
    assert loss["before_ns"] is None


@pytest.mark.parametrize(
    ("data", "status"), [(b"no capture", 2), (b"", 2), (WHOLE[:20], 1), (b"\n\r\r\n" + b"\xff" * 50, 1)]
)
def test_of_what_has_no_beginning_nothing_is_written(data: bytes, status: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert repair(path).exit_code == status
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize(
    "arguments", [["{cut}", "{cut}"], ["--check", "--in-place", "{cut}"], ["--check", "{cut}", "{out}"]]
)
def test_the_original_is_never_written_over_unasked(arguments: list[str], cut: Path) -> None:
    done = repair(*(each.format(cut=cut, out=cut.parent / "out") for each in arguments))
    assert done.exit_code == 2
    assert cut.read_bytes() == WHOLE[:150_001]
    assert names(cut.parent) == {"session.pcapng"}


def test_many_places_are_not_all_listed(tmp_path: Path) -> None:
    data = bytearray(WHOLE)
    at, starts = 0, []
    while at < len(data):
        starts.append(at)
        at += int.from_bytes(data[at + 4 : at + 8], "little")
    for start in starts[10:300:8]:
        data[start : start + 8] = b"\xff" * 8
    path = tmp_path / "session.pcapng"
    path.write_bytes(data)
    done = repair(path)
    assert "more places" in done.output
    assert done.output.count("lost at byte") == 20
