"""The command line of a QEMU, and the port it gets."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from spiceproxy.lab.errors import LabError
from spiceproxy.lab.qemu import QemuConfig, build_command, free_port
from spiceproxy.lab.result import Traffic

CONFIG = QemuConfig(name="s1", directory=Path("/run/lab"), disk=Path("/run/lab/guest.img"), spice_port=20001)


def values(command: list[str], option: str) -> list[str]:
    return [command[index + 1] for index, word in enumerate(command) if word == option]


def test_the_spice_server_is_on_loopback_only() -> None:
    (spice,) = values(build_command(CONFIG), "-spice")
    assert spice == "addr=127.0.0.1,port=20001,disable-ticketing=on,seamless-migration=on"


def test_semi_seamless_is_the_seamless_option_turned_off() -> None:
    (spice,) = values(build_command(replace(CONFIG, seamless=False)), "-spice")
    assert "seamless-migration=off" in spice.split(",")


def test_kvm_is_tried_before_tcg() -> None:
    assert values(build_command(CONFIG), "-accel") == ["kvm", "tcg"]
    assert values(build_command(replace(CONFIG, accelerators=("tcg",))), "-accel") == ["tcg"]


def test_source_and_destination_have_the_same_devices_in_the_same_order() -> None:
    source = build_command(CONFIG)
    destination = build_command(replace(CONFIG, name="s2", spice_port=20002, incoming=True))
    for option in ("-M", "-m", "-device", "-chardev", "-audiodev", "-drive"):
        assert values(source, option) == values(destination, option) != []
    assert values(source, "-incoming") == []
    assert values(destination, "-incoming") == ["unix:/run/lab/s2.migration"]


def test_every_channel_of_a_debian_client_has_its_device() -> None:
    command = build_command(CONFIG)
    devices = [device.split(",")[0] for device in values(command, "-device")]
    assert {"qxl-vga", "hda-duplex", "usb-redir", "virtserialport"} <= set(devices)
    assert any("org.spice-space.webdav.0" in chardev for chardev in values(command, "-chardev"))
    assert "webdav" not in " ".join(build_command(replace(CONFIG, webdav=False)))


def test_each_head_has_an_adapter_unless_all_are_on_one() -> None:
    def adapters(config: QemuConfig) -> list[str]:
        return [device for device in values(build_command(config), "-device") if device.startswith("qxl")]

    assert adapters(CONFIG) == ["qxl-vga,addr=2"]
    assert adapters(replace(CONFIG, heads=3)) == ["qxl-vga,addr=2", "qxl,addr=3", "qxl,addr=4"]
    assert adapters(replace(CONFIG, heads=2, one_adapter=True)) == ["qxl-vga,addr=2,max_outputs=2"]


def test_options_of_the_spice_server_are_passed_on() -> None:
    spice = {"image-compression": "glz", "streaming-video": "all"}
    (value,) = values(build_command(replace(CONFIG, spice=spice)), "-spice")
    assert value.endswith(",image-compression=glz,streaming-video=all")


def test_traffic_brings_the_devices_that_its_guest_drives() -> None:
    plain = build_command(CONFIG)
    command = build_command(replace(CONFIG, traffic=frozenset({Traffic.SOUND, Traffic.PORT})))
    assert "org.test.port.0" not in " ".join(plain)
    assert "spiceport,id=text,name=org.test.port.0" in values(command, "-chardev")
    sound = [device for device in values(command, "-device") if "audiodev" in device]
    assert sound == ["AC97,addr=7,audiodev=sound"]


def test_the_disk_is_read_only_so_that_two_qemus_may_open_it() -> None:
    (drive,) = values(build_command(CONFIG), "-drive")
    assert drive.startswith("file=/run/lab/guest.img,format=raw,")
    assert drive.endswith(",readonly=on")


def test_a_free_port_can_be_bound_and_is_below_those_that_linux_gives_away_by_default() -> None:
    port = free_port()
    assert 20000 <= port < 32768
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))


def test_a_taken_port_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr("spiceproxy.lab.qemu._PORTS", range(port, port + 1))
        with pytest.raises(LabError, match=f"no free port on 127.0.0.1 between {port} and {port}"):
            free_port()


def test_a_server_asks_for_a_password_only_if_it_is_to() -> None:
    (plain,) = values(build_command(CONFIG), "-spice")
    (asking,) = values(build_command(replace(CONFIG, ticket=True)), "-spice")
    assert "disable-ticketing=on" in plain
    assert "ticketing" not in asking


def test_one_of_two_servers_may_have_a_channel_more() -> None:
    assert "org.test.port.1" not in " ".join(build_command(CONFIG))
    more = build_command(replace(CONFIG, more=True))
    assert "spiceport,id=more,name=org.test.port.1" in values(more, "-chardev")
    assert values(more, "-device") == values(build_command(CONFIG), "-device")
