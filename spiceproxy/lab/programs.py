"""Programs that the lab starts, and the Debian packages that have them."""

import shutil
from collections.abc import Iterable
from typing import Final

from spiceproxy.errors import UsageError

QEMU: Final = "qemu-system-x86_64"

# Debian 12, where qemu-system-x86 brings all modules that QEMU loads for SPICE along.
PACKAGES: Final = {
    QEMU: "qemu-system-x86",
    "spicy": "spice-client-gtk",
    "remote-viewer": "virt-viewer",
    "Xvfb": "xvfb",
    "import": "imagemagick",
    "xdotool": "xdotool",
    "xclip": "xclip",
    "dumpcap": "wireshark-common",
}


def require_programs(names: Iterable[str]) -> None:
    """Check that programs are there.

    Raises:
        UsageError: Some are not; one line that names all of them and the packages to install.
    """
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in missing))
        raise UsageError(f"the lab needs {', '.join(missing)}; on Debian: apt-get install {packages}")
