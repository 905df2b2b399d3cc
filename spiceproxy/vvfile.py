"""The .vv file that makes remote-viewer connect to the proxy (virt-viewer: remote-viewer(1), CONNECTION FILE).

Read by GLib's GKeyFile: values have backslash escapes.
"""

import os
from pathlib import Path
from typing import Final

from spiceproxy.address import Address
from spiceproxy.errors import UsageError

# g_key_file_get_string() knows \s \n \t \r and \\. A blank needs it only where it comes first.
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def render_vv(address: Address, password: str | None = None, proxy: Address | None = None) -> str:
    """The text of the file.

    Args:
        address: Where the client connects to.
        password: The ticket, if it is known.
        proxy: The HTTP proxy through which it does.
    """
    group = {
        "type": "spice",
        "host": address.host,
        "port": str(address.port),
        "title": f"spiceproxy {address}",
    }
    if proxy is not None:
        group["proxy"] = f"http://{proxy}"
    if password:
        group["password"] = password
    group["delete-this-file"] = "0"  # remote-viewer deletes the file after reading it unless told not to
    lines = (f"{key}={_escaped(value)}\n" for key, value in group.items())
    return "[virt-viewer]\n" + "".join(lines)


def _escaped(value: str) -> str:
    text = value.translate(_ESCAPES)
    return "\\s" + text[1:] if text.startswith(" ") else text


def write_vv(path: Path, address: Address, password: str | None = None, proxy: Address | None = None) -> None:
    """Write the file, readable by its owner only, since it may hold a password.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(f"cannot write {path}: it is there and no regular file")
        path.unlink(missing_ok=True)  # a file that is there may be readable by others
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(render_vv(address, password, proxy))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
