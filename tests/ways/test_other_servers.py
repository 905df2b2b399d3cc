"""Servers that are no QEMU, through the proxy: andris, written by others from the protocol, and Xspice."""

import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.lab.display import Display, Screenshot, start_display
from spiceproxy.lab.process import start_child
from spiceproxy.lab.qemu import HOST, free_port
from spiceproxy.proxy import ProxyConfig, open_proxy
from tests.programs import require_files, require_programs
from tests.raw_peers import Events
from tests.whole_capture import read_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

ANDRIS = Path(sys.executable).parent / "andris"
COLOURS = {"#ff0057": (255, 0, 87), "#00ffa8": (0, 255, 168)}
# As `Xspice --auto` writes it, and with the numbers whose defaults are 0 in Debian 12, so that it crashes without.
XORG_CONF = """\
Section "Device"
    Identifier "XSPICE"
    Driver "spiceqxl"
    Option "FrameBufferSize" "16"
    Option "SurfaceBufferSize" "128"
    Option "CommandBufferSize" "128"
    Option "NumHeads" "1"
EndSection
Section "InputDevice"
    Identifier "XSPICE POINTER"
    Driver "xspice pointer"
EndSection
Section "InputDevice"
    Identifier "XSPICE KEYBOARD"
    Driver "xspice keyboard"
EndSection
Section "Monitor"
    Identifier "Monitor"
EndSection
Section "Screen"
    Identifier "Screen"
    Monitor "Monitor"
    Device "XSPICE"
    DefaultDepth 24
EndSection
Section "ServerLayout"
    Identifier "Layout"
    Screen "Screen"
    InputDevice "XSPICE KEYBOARD"
    InputDevice "XSPICE POINTER"
EndSection
Section "ServerFlags"
    Option "AutoAddDevices" "False"
EndSection
"""
_MIN_PIXELS = 100_000


async def paint(screen: Display, colour: str) -> None:
    """Fill the root window."""
    command = ["display", "-window", "root", "-size", "1024x768", f"xc:{colour}"]
    # It does that and says 1.
    await trio.run_process(command, env=screen.environment(), capture_stderr=True, check=False)


def shows(shot: Screenshot, colour: tuple[int, int, int]) -> bool:
    rgba = shot._rgba
    wanted = bytes(colour)
    return sum(rgba[at : at + 3] == wanted for at in range(0, len(rgba), 4)) >= _MIN_PIXELS


async def _wait_for_port(port: int) -> None:
    with trio.fail_after(30):
        while True:
            try:
                await (await trio.open_tcp_stream(HOST, port)).aclose()
            except OSError:
                await trio.sleep(0.1)
            else:
                return


async def start_andris(nursery: trio.Nursery, directory: Path, port: int, password: str) -> Display:
    desktop = directory / "desktop"
    desktop.mkdir()
    screen = await start_display(nursery, desktop)
    ticket = directory / "ticket"
    ticket.touch(mode=0o600)
    ticket.write_text(password)
    command = [str(ANDRIS), "--listen", f"{HOST}:{port}", "--ticket-file", str(ticket), "--no-audio"]
    command += ["--jpeg-quality", "0"]  # the colours are looked at
    await start_child(nursery, "andris", command, log=directory / "andris.log", env=screen.environment())
    return screen


def _free_display() -> int:
    return next(n for n in range(50, 99) if not Path(f"/tmp/.X11-unix/X{n}").exists())


async def start_xspice(nursery: trio.Nursery, directory: Path, port: int, password: str) -> Display:
    desktop = directory / "desktop"
    desktop.mkdir()
    number = _free_display()
    screen = Display(number, desktop)
    configuration = directory / "xorg.conf"
    configuration.write_text(XORG_CONF)
    command = [
        "Xspice",
        "--config",
        str(configuration),
        "--port",
        str(port),
        "--password",
        password,
        f":{number}",
    ]
    command += ["-logfile", str(directory / "xorg.log")]
    await start_child(nursery, "Xspice", command, log=directory / "xspice.log", env=screen.environment())
    return screen


@pytest.mark.parametrize("server", ["andris", "Xspice"])
async def test_its_picture_comes_to_spicy_and_every_message_is_decoded(server: str, tmp_path: Path) -> None:
    require_programs("spicy", "Xvfb", "import", "display")
    start: Callable[[trio.Nursery, Path, int, str], Awaitable[Display]]
    if server == "andris":
        require_files(ANDRIS)
        start = start_andris
    else:
        require_programs("Xspice", "Xorg")
        start = start_xspice
    events, recording = Events(), tmp_path / "session.pcapng"
    port, password = free_port(), secrets.token_hex(4)
    config = ProxyConfig(server=Address(HOST, port), events=EventLog([events]), record=recording)
    async with trio.open_nursery() as nursery:
        desktop = await start(nursery, tmp_path, port, password)
        await _wait_for_port(port)
        screen = await start_display(nursery, tmp_path)
        async with open_proxy(config) as proxy:
            spicy = ["spicy", "-h", HOST, "-p", str(proxy.port), "-w", password]
            client = await start_child(
                nursery, "spicy", spicy, log=tmp_path / "spicy.log", env=screen.environment()
            )
            await events.wait_for("channel_linked", channel="display:0", timeout_s=30)
            for name, colour in COLOURS.items():
                await paint(desktop, name)
                with trio.fail_after(30):
                    while not shows(await screen.screenshot(), colour):  # noqa: ASYNC110
                        await trio.sleep(0.2)
            await client.stop()
        nursery.cancel_scope.cancel()
    linked = {event["channel"] for event in events.named("channel_linked")}
    assert {"main:0", "display:0", "inputs:0", "cursor:0"} <= linked
    assert password not in str(events)
    whole = read_whole(recording)
    assert whole.messages > 20
    assert whole.undecoded == whole.left_over == whole.unreadable == []
