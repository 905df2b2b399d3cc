"""The guest for each kind of traffic, and what its agent says."""

import struct
from pathlib import Path

import pytest

from spiceproxy.lab.agent import GUEST_TEXT, message
from spiceproxy.lab.capture import dumpcap_command
from spiceproxy.lab.client_traffic import client_options, conflict
from spiceproxy.lab.guest import floppy_image
from spiceproxy.lab.result import ClientKind, LabOptions, Traffic
from spiceproxy.lab.traffic import guest_disk


@pytest.mark.parametrize("kind", [Traffic.INPUT, Traffic.USB])
def test_what_only_the_client_does_needs_no_guest_with_drivers(kind: Traffic) -> None:
    assert guest_disk({kind}) == floppy_image()


@pytest.mark.parametrize("kind", sorted(set(Traffic) - {Traffic.INPUT, Traffic.USB}))
def test_each_other_kind_has_a_guest_of_its_own(kind: Traffic) -> None:
    disk = guest_disk({kind})
    assert disk != floppy_image()
    assert disk != guest_disk({kind}, heads=2)


def test_all_kinds_on_four_heads_fit_into_the_memory_that_a_bios_can_load() -> None:
    assert len(guest_disk(frozenset(Traffic), heads=4)) == 1474560


def test_only_the_guest_with_a_clipboard_has_a_text() -> None:
    assert GUEST_TEXT.encode() in guest_disk({Traffic.CLIPBOARD})
    assert GUEST_TEXT.encode() not in guest_disk(set(Traffic) - {Traffic.CLIPBOARD})


def test_an_agent_message_has_a_chunk_header_with_its_size() -> None:
    assert message(7, b"abcd") == struct.pack("<II", 1, 24) + struct.pack("<IIQI", 1, 7, 0, 4) + b"abcd"


def options(*traffic: Traffic, client: ClientKind = ClientKind.SPICY) -> LabOptions:
    return LabOptions(client=client, traffic=frozenset(traffic))


def test_the_client_gets_files_to_share_only_where_they_are_wanted(tmp_path: Path) -> None:
    assert client_options(options(Traffic.DRAWING), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    words = client_options(options(Traffic.USB, Traffic.WEBDAV), tmp_path)
    disc = tmp_path / "disc.iso"
    assert words[0] == f"--spice-share-cd={disc}"
    assert disc.stat().st_size == 64 * 2048
    assert words[-1] == f"--spice-shared-dir={tmp_path / 'shared'}"


def test_a_compression_that_qemu_has_no_word_for_is_asked_for_by_the_client(tmp_path: Path) -> None:
    words = client_options(LabOptions(preferred_compression="lz4"), tmp_path)
    assert words == ["--spice-preferred-compression=lz4"]


def test_a_client_that_cannot_have_a_traffic_is_told_of_it() -> None:
    simulated = ClientKind.SIMULATED
    assert conflict(options(*Traffic)) is None
    assert conflict(options(Traffic.DRAWING, Traffic.VIDEO, client=simulated)) is None
    assert (
        conflict(options(Traffic.USB, Traffic.INPUT, client=simulated))
        == "simulated has no input, usb traffic"
    )
    assert (
        conflict(options(Traffic.PORT, client=ClientKind.REMOTE_VIEWER))
        == "remote-viewer has no port traffic"
    )
    assert conflict(LabOptions(client=simulated, preferred_compression="lz4")) is not None


def test_a_capture_takes_the_ports_of_the_run_and_no_others() -> None:
    command = dumpcap_command(Path("x.pcapng"), {20002, 20001})
    assert command[command.index("-f") + 1] == "tcp port 20001 or tcp port 20002"
    assert command[command.index("-i") + 1] == "lo"
