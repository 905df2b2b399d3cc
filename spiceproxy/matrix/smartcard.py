"""A smartcard in software: a database of made-up certificates, which spice-gtk (libcacard) shows to the guest as a card."""

import shutil
from pathlib import Path
from typing import Final

import trio

from spiceproxy.lab.errors import LabError

PROGRAM: Final = "certutil"
PACKAGE: Final = "libnss3-tools"
_NAMES: Final = ("id", "signing", "encryption")  # a card has three
_COMMAND_S: Final = 20.0


def there() -> bool:
    """Whether it can be made on this machine."""
    return shutil.which(PROGRAM) is not None


async def options(directory: Path) -> list[str]:
    """Make the database in an existing directory, unless it is there; return spice-gtk's options for it.

    Raises:
        LabError: certutil failed.
    """
    database = directory / "nss"
    if not database.exists():
        part = directory / "nss.part"
        part.mkdir()
        noise = directory / "noise"
        noise.write_bytes(b"not random, and not meant to be".ljust(1024))
        await _run("-N", "-d", f"sql:{part}", "--empty-password")
        for number, name in enumerate(_NAMES, start=1):
            words = ("-S", "-x", "-n", name, "-s", f"CN={name}", "-t", "TC,TC,TC", "-m", str(number))
            await _run(*words, "-d", f"sql:{part}", "-z", str(noise))
        part.rename(database)
    return [
        "--spice-smartcard",
        f"--spice-smartcard-db=sql:{database}",
        f"--spice-smartcard-certificates={','.join(_NAMES)}",
    ]


async def _run(*words: str) -> None:
    with trio.move_on_after(_COMMAND_S):
        done = await trio.run_process(
            [PROGRAM, *words], capture_stdout=True, capture_stderr=True, check=False
        )
        if done.returncode:
            raise LabError(f"{PROGRAM} failed: {done.stderr.decode(errors='replace').strip()}")
        return
    raise LabError(f"{PROGRAM} did not end within {_COMMAND_S:g} s")
