"""The .vv file that makes remote-viewer connect to the proxy (virt-viewer: remote-viewer(1), CONNECTION FILE)."""

import configparser
import io
import os
from pathlib import Path

from spiceproxy.address import Address
from spiceproxy.errors import UsageError


def render_vv(address: Address, password: str | None = None) -> str:
    """The text of the file.

    Args:
        address: Where the client connects to.
        password: The ticket, if it is known.
    """
    parser = configparser.ConfigParser(interpolation=None)
    group = {
        "type": "spice",
        "host": address.host,
        "port": str(address.port),
        "title": f"spiceproxy {address}",
    }
    # remote-viewer deletes the file after reading it unless told not to.
    parser["virt-viewer"] = group | ({"password": password} if password else {}) | {"delete-this-file": "0"}
    text = io.StringIO()
    parser.write(text, space_around_delimiters=False)
    return text.getvalue()


def write_vv(path: Path, address: Address, password: str | None = None) -> None:
    """Write the file, readable by its owner only, since it may hold a password.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        path.unlink(missing_ok=True)  # a file that exists may be readable by others
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(render_vv(address, password))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
