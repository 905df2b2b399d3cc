"""Guests that have booted: each kind boots once, and every source goes on with a copy of its state.

A BIOS under KVM takes four seconds and most of a core; a saved state is there in a quarter of a second. What a session
is worth does not change by that: the guest draws, its ports are open, and the SPICE server is a new one.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from spiceproxy.lab.errors import LabError
from spiceproxy.lab.guest import COLOURS
from spiceproxy.lab.hop import until
from spiceproxy.lab.qemu import Qemu, QemuConfig, free_port, start_qemu
from spiceproxy.lab.traffic import guest_disk
from spiceproxy.matrix import smartcard
from spiceproxy.matrix.setups import GuestKind

_BOOT_S: Final = 60.0
_SAVE_S: Final = 30.0
_LOOK_S: Final = 0.3
_SETTLE_S: Final = 1.0
_TOLERANCE: Final = 8
_PIXELS: Final = 2000  # of each colour: a band that is being drawn has more


class Guests:
    """All kinds that are used, in a directory of their own."""

    def __init__(self, directory: Path, accelerators: tuple[str, ...] = ("kvm", "tcg")) -> None:
        self._directory, self._accelerators = directory, accelerators
        self._locks: dict[GuestKind, trio.Lock] = {}
        self._card = trio.Lock()

    def disk(self, kind: GuestKind) -> Path:
        """Its disk."""
        return self._directory / f"{kind.name}.img"

    async def card(self, kind: GuestKind) -> list[str]:
        """Return options for a client that is to have a smartcard; none if the guest has no reader."""
        if not kind.smartcard:
            return []
        async with self._card:
            return await smartcard.options(self._directory)

    async def state(self, kind: GuestKind) -> Path:
        """Return the file with its state; boots it the first time.

        Raises:
            LabError: It does not come up.
        """
        path = self._directory / f"{kind.name}.state"
        async with self._locks.setdefault(kind, trio.Lock()):
            if not path.exists():
                await self._boot(kind, path)
        return path

    async def _boot(self, kind: GuestKind, path: Path) -> None:
        made = await trio.to_thread.run_sync(lambda: guest_disk(kind.traffic, kind.heads))
        self.disk(kind).write_bytes(made)
        with tempfile.TemporaryDirectory(prefix="spiceproxy-boot-", dir="/tmp") as name:
            async with trio.open_nursery() as nursery:
                qemu = await start_qemu(nursery, self.config(kind, "boot", Path(name)))
                picture = Path(name) / "screen.ppm"

                async def draws() -> bool | None:
                    await trio.sleep(_LOOK_S)
                    await qemu.qmp.execute("screendump", filename=str(picture))
                    return True if shows_guest(picture.read_bytes()) else None

                if await until(draws, _BOOT_S) is None:
                    raise LabError(f"the guest {kind.name} did not draw within {_BOOT_S:g} s")
                await trio.sleep(_SETTLE_S)
                part = path.with_suffix(".part")
                await self._save(qemu, part)
                part.rename(path)
                await qemu.kill()

    async def _save(self, qemu: Qemu, path: Path) -> None:
        await qemu.qmp.execute("migrate-set-parameters", max_bandwidth=2**33)
        await qemu.qmp.execute("migrate", uri=f"exec:cat > '{path}'")

        async def saved() -> str | None:
            status = str((await qemu.qmp.execute("query-migrate")).get("status"))
            return status if status in {"completed", "failed"} else None

        if await until(saved, _SAVE_S) != "completed":
            raise LabError("the guest's state could not be saved")

    def config(
        self,
        kind: GuestKind,
        name: str,
        directory: Path,
        *,
        seamless: bool = True,
        spice: Mapping[str, str] | None = None,
        x509: Path | None = None,
        ticket: bool = False,
    ) -> QemuConfig:
        """What a QEMU for this guest is started with; all of one kind have the same devices."""
        return QemuConfig(
            name=name,
            directory=directory,
            disk=self.disk(kind),
            spice_port=free_port(),
            seamless=seamless,
            traffic=kind.traffic,
            heads=kind.heads,
            smartcard=kind.smartcard,
            webdav=kind.webdav,
            spice=spice or {},
            x509=x509,
            ticket=ticket,
            accelerators=self._accelerators,
            may_fail=True,
        )


def shows_guest(ppm: bytes) -> bool:
    """Tell whether a picture, as QEMU's screendump writes it (PPM, three bytes a pixel), has the guest's four colours."""
    fields = ppm.split(maxsplit=4)
    if len(fields) < 5 or fields[0] != b"P6":
        return False
    pixels = fields[4]
    counts = Counter(zip(pixels[0::3], pixels[1::3], pixels[2::3], strict=False))
    return all(
        sum(count for pixel, count in counts.items() if _near(pixel, colour)) >= _PIXELS for colour in COLOURS
    )


def _near(pixel: tuple[int, int, int], colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= _TOLERANCE for a, b in zip(pixel, colour, strict=True))
