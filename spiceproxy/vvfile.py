"""The .vv file that makes remote-viewer connect to the proxy (virt-viewer: remote-viewer(1), CONNECTION FILE).

Read by GLib's GKeyFile: values have backslash escapes.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spiceproxy.address import Address
from spiceproxy.errors import UsageError

# g_key_file_get_string() knows \s \n \t \r and \\. A blank needs it only where it comes first.
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True, slots=True)
class SecurePort:
    """Where a client connects to with TLS.

    Attributes:
        address: Of the same host as the plain port, if there is one.
        ca: Certificates in PEM that the client is to trust; None: its own choice.
        subject: That the certificate has to have; None: it has to be of the host.
    """

    address: Address
    ca: str | None = None
    subject: str | None = None


def render_vv(
    address: Address | None,
    password: str | None = None,
    *,
    username: str | None = None,
    secure: SecurePort | None = None,
    proxy: Address | None = None,
) -> str:
    """The text of the file.

    Args:
        address: Where the client connects to in clear; None: nowhere.
        password: The ticket, or the password for SASL, if it is known.
        username: For SASL.
        secure: Where it connects to with TLS; None: nowhere.
        proxy: The HTTP proxy through which it does.
    """
    either = address if address is not None or secure is None else secure.address
    assert either is not None  # noqa: S101  a client has to connect to something
    group = {"type": "spice", "host": either.host}
    if address is not None:
        group["port"] = str(address.port)
    if secure is not None:
        group["tls-port"] = str(secure.address.port)
        if secure.ca is not None:
            group["ca"] = secure.ca
        if secure.subject is not None:
            group["host-subject"] = secure.subject
    if proxy is not None:
        group["proxy"] = f"http://{proxy}"
    group["title"] = f"spiceproxy {either}"
    if username:
        group["username"] = username
    if password:
        group["password"] = password
    group["delete-this-file"] = "0"  # remote-viewer deletes the file after reading it unless told not to
    lines = (f"{key}={_escaped(value)}\n" for key, value in group.items())
    return "[virt-viewer]\n" + "".join(lines)


def _escaped(value: str) -> str:
    text = value.translate(_ESCAPES)
    return "\\s" + text[1:] if text.startswith(" ") else text


def write_vv(
    path: Path,
    address: Address | None,
    password: str | None = None,
    *,
    username: str | None = None,
    secure: SecurePort | None = None,
    proxy: Address | None = None,
) -> None:
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
            file.write(render_vv(address, password, username=username, secure=secure, proxy=proxy))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
