"""Smaller parts: when a guest draws, how a program ended, which versions take part, a card in software."""

import signal
import sys
from pathlib import Path

import pytest
import trio

from spiceproxy.lab.guest import COLOURS
from spiceproxy.lab.process import Child, start_child
from spiceproxy.lab.qemu import QemuConfig, build_command
from spiceproxy.matrix import smartcard
from spiceproxy.matrix.guests import shows_guest
from spiceproxy.matrix.results import Column
from spiceproxy.matrix.sight import ending_of
from spiceproxy.matrix.versions import versions
from tests.programs import require_programs


def ppm(rows: list[tuple[int, int, int]]) -> bytes:
    width = 320
    return b"P6\n%d %d\n255\n" % (width, len(rows)) + b"".join(bytes(row) * width for row in rows)


def test_a_guest_draws_when_all_its_colours_are_on_the_screen() -> None:
    bands = [colour for colour in COLOURS for _ in range(10)]
    assert shows_guest(ppm(bands))
    assert shows_guest(ppm([(r, min(255, g + 4), b) for r, g, b in bands]))
    assert not shows_guest(ppm(bands[:30]))
    assert not shows_guest(ppm([(0, 0, 0)] * 40))
    assert not shows_guest(b"")


async def run(directory: Path, code: str) -> Child:
    async with trio.open_nursery() as nursery:
        return await start_child(
            nursery, "it", [sys.executable, "-c", code], log=directory / "it.log", may_fail=True
        )


async def test_a_program_that_a_signal_ended_says_which_and_its_last_lines(tmp_path: Path) -> None:
    said = "import os, sys; print('one'); print(); print('two', flush=True); "
    aborted = ending_of("s2", "destination", await run(tmp_path, said + "os.abort()"))
    assert (aborted.crashed, aborted.returncode, aborted.signal) == (True, -signal.SIGABRT, "SIGABRT")
    assert aborted.said == ["one", "two"]
    ended = ending_of("client", "client", await run(tmp_path, "raise SystemExit(3)"))
    assert (ended.crashed, ended.returncode, ended.signal) == (False, 3, "")


def test_a_source_goes_on_with_a_saved_guest_and_a_destination_waits_for_one() -> None:
    saved = QemuConfig(
        "s1", Path("/d"), Path("/d/disk"), 5900, state=Path("/a b/guest.state"), smartcard=True
    )
    command = build_command(saved)
    assert command[command.index("-incoming") + 1] == "exec:cat '/a b/guest.state'"
    assert "ccid-card-passthru,chardev=card" in command
    waiting = QemuConfig("s2", Path("/d"), Path("/d/disk"), 5901, state=Path("/s"), incoming=True)
    command = build_command(waiting)
    assert command[command.index("-incoming") + 1] == "unix:/d/s2.migration"
    assert command.count("-incoming") == 1


def test_versions_of_simulated_peers_are_our_own() -> None:
    found = versions([])
    assert (
        found.server(Column.SIMULATED)
        == found.client(Column.SIMULATED)
        == f"simulated, spiceproxy {found.own}"
    )


@pytest.mark.lab
def test_versions_of_real_programs_are_theirs() -> None:
    require_programs("qemu-system-x86_64", "spicy", "dpkg-query")
    found = versions([Column.SPICY])
    assert "QEMU 7" in found.server(Column.SPICY)
    assert "spice-server 0." in found.server(Column.SPICY)
    assert found.client(Column.SPICY).startswith("spicy, spice-gtk 0.")


@pytest.mark.lab
async def test_a_card_has_three_certificates_and_is_made_once(tmp_path: Path) -> None:
    require_programs(smartcard.PROGRAM)
    words = await smartcard.options(tmp_path)
    assert words == await smartcard.options(tmp_path)
    assert words[-1] == "--spice-smartcard-certificates=id,signing,encryption"
    listed = await trio.run_process(
        [smartcard.PROGRAM, "-L", "-d", f"sql:{tmp_path / 'nss'}"], capture_stdout=True
    )
    assert all(f"\n{name} ".encode() in listed.stdout for name in ("id", "signing", "encryption"))
