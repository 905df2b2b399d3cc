"""A screen without a screen: Xvfb, the SPICE client on it, and what can be seen there."""

import os
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from spiceproxy.address import Address
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.guest import COLOURS
from spiceproxy.lab.process import Child, start_child
from spiceproxy.lab.result import ClientKind
from spiceproxy.lab.secured import Secured
from spiceproxy.vvfile import SecurePort, write_vv

WIDTH: Final = 1280
HEIGHT: Final = 1024
_START_S: Final = 15.0
_SHOT_S: Final = 15.0

# The guest's screen has 640x400 pixels (QEMU doubles 320x200), a quarter of them in each colour. A client that shows half
# of it or scales it down by two still passes.
_MIN_PIXELS: Final = 640 * 400 // 4 // 4
_TOLERANCE: Final = 48  # a channel: lossy compression is the server's choice


def client_command(
    client: ClientKind,
    server: Address,
    options: Sequence[str] = (),
    vv: Path | None = None,
    secured: Secured | None = None,
) -> list[str]:
    """Return the command line of a client with a screen that connects to `server`, for remote-viewer as `vv` says."""
    if client is ClientKind.SPICY:
        if secured is not None:
            trust = [f"--spice-ca-file={secured.ca}", f"--spice-host-subject={secured.subject}"]
            return ["spicy", "-h", server.host, "-s", str(server.port), *trust, *options]
        return ["spicy", "-h", server.host, "-p", str(server.port), *options]
    return ["remote-viewer", *options, f"spice://{server}" if vv is None else str(vv)]


def _vv(
    directory: Path, server: Address, password: str | None, username: str | None, secured: Secured | None
) -> Path:
    """Write a file for remote-viewer, which takes a password or a subject in no other way."""
    file = directory / "lab.vv"
    secure = None if secured is None else SecurePort(server, secured.ca.read_text(), secured.subject)
    write_vv(file, server if secure is None else None, password, username=username, secure=secure)
    return file


@dataclass(frozen=True, slots=True)
class Display:
    """A running X server. Made by `start_display`."""

    number: int
    directory: Path

    def environment(self) -> dict[str, str]:
        """Return an environment for its clients: no session bus, no sound daemon, no settings or caches of the user.

        GTK programs start helpers for these that outlive them, and remember things from one run to the next.
        """
        nowhere = str(self.directory / "nowhere")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "DISPLAY": f":{self.number}",
            "HOME": str(self.directory),
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            "XDG_DATA_HOME": str(self.directory / "data"),
            "XDG_RUNTIME_DIR": str(self.directory),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={nowhere}",
            "GSETTINGS_BACKEND": "memory",
            "GDK_BACKEND": "x11",
            "NO_AT_BRIDGE": "1",
            "GTK_A11Y": "none",
            "PULSE_SERVER": f"unix:{nowhere}",
            "SPICE_NOGRAB": "1",
        }

    async def start_client(
        self,
        nursery: trio.Nursery,
        client: ClientKind,
        server: Address,
        *,
        options: Sequence[str] = (),
        grab: bool = False,
        debug: bool = False,
        password: str | None = None,
        username: str | None = None,
        secured: Secured | None = None,
        may_fail: bool = False,
    ) -> Child:
        """Start a client that connects to `server`; a task of `nursery`, which fails if the client ends unasked.

        Args:
            nursery: Where it lives.
            client: Which; not the simulated one.
            server: The SPICE server, or the proxy.
            options: More of its command line.
            grab: Let it grab keyboard and mouse, without which it sends no motion to a guest without a tablet.
            debug: Have it log every step of its own (megabytes).
            password: For the server.
            username: For SASL.
            secured: How to connect with TLS, if that is wanted.
            may_fail: It may end.
        """
        environment = self.environment()
        if grab:
            del environment["SPICE_NOGRAB"]
        if debug:
            environment |= {"SPICE_DEBUG": "1", "G_MESSAGES_DEBUG": "all"}
        vv = None
        if password is not None and client is ClientKind.SPICY:
            options = [*options, "-w", password]
        elif client is not ClientKind.SPICY and (password is not None or secured is not None):
            vv = _vv(self.directory, server, password, username, secured)
        log, command = self.directory / "client.log", client_command(client, server, options, vv, secured)
        return await start_child(nursery, client, command, log=log, env=environment, may_fail=may_fail)

    async def screenshot(self) -> "Screenshot":
        """Return what the whole screen shows now.

        Raises:
            LabError: ImageMagick's `import` failed.
        """
        command = ["import", "-silent", "-window", "root", "-depth", "8", "rgba:-"]
        with trio.move_on_after(_SHOT_S):
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, env=self.environment()
            )
            if done.returncode or len(done.stdout) != WIDTH * HEIGHT * 4:
                said = done.stderr.decode(errors="replace").strip()
                raise LabError(f"import took no screenshot (exit status {done.returncode}): {said}")
            return Screenshot(done.stdout)
        raise LabError(f"import took no screenshot within {_SHOT_S:g} s")


async def start_display(nursery: trio.Nursery, directory: Path) -> Display:
    """Start Xvfb on a display number that nobody uses; a task of `nursery`.

    Args:
        nursery: Where it lives.
        directory: For its log and for what its clients write.

    Raises:
        LabError: It did not come up.
    """
    # -displayfd: the server finds a free number, and writes it when it is ready for clients.
    read_fd, write_fd = os.pipe()
    child = Child("Xvfb", directory / "xvfb.log")
    command = [
        "Xvfb",
        "-displayfd",
        str(write_fd),
        "-screen",
        "0",
        f"{WIDTH}x{HEIGHT}x24",
        "-nolisten",
        "tcp",
        "-noreset",  # when its last client leaves it would begin anew, and look for another number
    ]
    async with trio.lowlevel.FdStream(read_fd) as pipe:
        try:
            await nursery.start(partial(child.run, command, pass_fds=(write_fd,)))
        finally:
            os.close(write_fd)
        answer = b""
        with trio.move_on_after(_START_S):
            while not answer.endswith(b"\n"):
                data = await pipe.receive_some()
                if not data:
                    break
                answer += data
    if not answer.strip().isdigit():
        raise LabError(f"Xvfb did not come up: {child.tail()}")
    return Display(int(answer), directory)


class Screenshot:
    """The pixels of the screen, four bytes each: red, green, blue and one that says nothing."""

    def __init__(self, rgba: bytes) -> None:
        self._rgba = rgba
        self._pixels = memoryview(rgba).cast("I")
        counts = Counter(self._pixels)
        self._guest = {pixel: colour for pixel in counts if (colour := _guest_colour(pixel)) is not None}
        self.guest_pixels = [0] * len(COLOURS)
        for pixel, colour in self._guest.items():
            self.guest_pixels[colour] += counts[pixel]

    def shows_guest(self) -> bool:
        """Tell whether all four colours of the guest are there, in about equal parts."""
        return min(self.guest_pixels) >= _MIN_PIXELS and max(self.guest_pixels) <= 2 * min(self.guest_pixels)

    def moved_since(self, earlier: "Screenshot") -> bool:
        """Tell whether the guest has drawn in between: pixels have gone from one of its colours to another."""
        mine, theirs = self._guest, earlier._guest  # noqa: SLF001 - of the same class
        moved = sum(
            1
            for now, before in zip(self._pixels, earlier._pixels, strict=True)  # noqa: SLF001
            if now != before and now in mine and before in theirs and mine[now] != theirs[before]
        )
        return moved >= WIDTH  # a band of 320 pixels or more in each of four places

    def write_png(self, path: Path) -> None:
        """Write the picture as a PNG file."""
        rows = bytearray()
        for start in range(0, len(self._rgba), WIDTH * 4):
            row = self._rgba[start : start + WIDTH * 4]
            rgb = bytearray(WIDTH * 3)
            rgb[0::3], rgb[1::3], rgb[2::3] = row[0::4], row[1::4], row[2::4]
            rows += b"\0" + rgb  # filter type 0: none
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _guest_colour(pixel: int) -> int | None:
    """Which of the guest's colours a pixel shows; None for anything else on the screen."""
    red, green, blue, _ = pixel.to_bytes(4, sys.byteorder)
    for index, colour in enumerate(COLOURS):
        if all(abs(a - b) <= _TOLERANCE for a, b in zip(colour, (red, green, blue), strict=True)):
            return index
    return None
