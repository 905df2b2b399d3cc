"""What the user of the client does in a run: keys, mouse and wheel with xdotool, the clipboard with xclip.

Nothing of it is real: the same keys and the same texts each time.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import trio

from spiceproxy.lab.agent import CLIENT_TEXT, GUEST_TEXT
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.process import Child, start_child
from spiceproxy.lab.result import ClientKind, LabOptions, Traffic

_COMMAND_S: Final = 15.0
_CLIPBOARD_S: Final = 20.0
_BETWEEN_S: Final = 0.3
# Inside the guest's picture, wherever a client has its menus.
_POINTS: Final = ((200, 300), (260, 330), (320, 300), (260, 360))
_KEYS: Final = ("a", "Shift+b", "Left", "F5", "Caps_Lock", "Caps_Lock")
# Text is UTF-8 under several names; this is the one that spice-gtk offers for the agent's text.
_TEXT_TARGET: Final = "UTF8_STRING"

_CD_BYTES: Final = 64 * 2048
# USB redirection as soon as a channel for it is there, of a device of any class, vendor, product and version.
_EVERY_DEVICE: Final = "-1,-1,-1,-1,1"


def needed_programs(traffic: Collection[Traffic]) -> list[str]:
    """Return what must be installed for it."""
    programs = {Traffic.INPUT: "xdotool", Traffic.CLIPBOARD: "xclip"}
    return [program for kind, program in programs.items() if kind in traffic]


def client_options(options: LabOptions, directory: Path) -> list[str]:
    """Return options for spicy or remote-viewer, and make the files in `directory` that they name."""
    traffic, words = options.traffic, []
    if options.preferred_compression is not None:
        words.append(f"--spice-preferred-compression={options.preferred_compression}")
    if Traffic.USB in traffic:
        disc = directory / "disc.iso"
        disc.write_bytes(b"made-up contents\n".ljust(2048, b"\0") * (_CD_BYTES // 2048))
        words += [f"--spice-share-cd={disc}", f"--spice-usbredir-redirect-on-connect={_EVERY_DEVICE}"]
    if Traffic.WEBDAV in traffic:
        shared = directory / "shared"
        shared.mkdir()
        (shared / "hello.txt").write_text("a made-up file\n")
        words.append(f"--spice-shared-dir={shared}")
    return words


def conflict(options: LabOptions) -> str | None:
    """Return why a client cannot have what is asked for, or None if it can."""
    client, traffic = options.client, options.traffic
    if client is ClientKind.SIMULATED:
        if options.preferred_compression is not None:
            return f"the simulated client asks for no compression, so not for {options.preferred_compression}"
        if options.ticket:
            return "the simulated client knows no password"
        impossible = {Traffic.INPUT, Traffic.CLIPBOARD, Traffic.USB, Traffic.WEBDAV}
    elif client is ClientKind.REMOTE_VIEWER:
        impossible = {Traffic.WEBDAV, Traffic.PORT}  # it opens neither channel by itself
    else:
        impossible = set()
    found = sorted(impossible & traffic)
    return f"{client} has no {', '.join(found)} traffic" if found else None


class User:
    """Somebody who sits before the client's screen."""

    def __init__(self, nursery: trio.Nursery, environment: dict[str, str], directory: Path) -> None:
        self._nursery, self._environment, self._directory = nursery, environment, directory
        self._owner: Child | None = None

    async def act(self, traffic: Collection[Traffic]) -> None:
        """Do once what there is to do.

        Raises:
            LabError: A program failed, or the guest's text did not come.
        """
        if Traffic.INPUT in traffic:
            await self._use_keyboard_and_mouse()
        if Traffic.CLIPBOARD in traffic:
            await self._use_clipboard()

    async def _use_keyboard_and_mouse(self) -> None:
        steps: list[Sequence[str]] = [
            *(("mousemove", str(x), str(y)) for x, y in _POINTS),
            *(("click", button) for button in ("1", "2", "3", "4", "5")),  # 4 and 5: the wheel, up and down
            *(("mousemove", str(x + 5), str(y + 7)) for x, y in _POINTS),
            ("key", "--delay", "20", *_KEYS),
        ]
        for step in steps:
            await self._run("xdotool", *step)
            await trio.sleep(0.05)

    async def _use_clipboard(self) -> None:
        """Paste what the guest has, then copy something else, which the guest then asks for."""
        if self._owner is not None:
            await self._owner.stop()  # the guest's text comes back when nobody else offers one
            self._owner = None
        paste = ("xclip", "-selection", "clipboard", "-o", "-target", _TEXT_TARGET)
        text = ""
        with trio.move_on_after(_CLIPBOARD_S):
            while text != GUEST_TEXT:
                text = await self._run(*paste, check=False)
                await trio.sleep(_BETWEEN_S)
        if text != GUEST_TEXT:
            raise LabError(f"the guest's clipboard did not come to the client in {_CLIPBOARD_S:g} s")
        file = self._directory / "clipboard.txt"
        file.write_text(CLIENT_TEXT)
        self._owner = await start_child(
            self._nursery,
            "xclip",
            ["xclip", "-quiet", "-selection", "clipboard", "-i", str(file)],
            log=self._directory / "xclip.log",
            env=self._environment,
            may_end=True,  # when the guest offers its text again
        )

    async def _run(self, *command: str, check: bool = True) -> str:
        with trio.move_on_after(_COMMAND_S):
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, env=self._environment
            )
            if check and done.returncode:
                said = done.stderr.decode(errors="replace").strip()
                raise LabError(f"{command[0]} failed (exit status {done.returncode}): {said}")
            return done.stdout.decode(errors="replace")
        if check:
            raise LabError(f"{command[0]} did not end within {_COMMAND_S:g} s")
        return ""
