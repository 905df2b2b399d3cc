"""The .vv files that make remote-viewer connect to something (virt-viewer: remote-viewer(1), CONNECTION FILE).

Read by GLib's GKeyFile: values have backslash escapes.
"""

import configparser
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spiceproxy.address import Address, ServerTarget, parse_address
from spiceproxy.errors import UsageError

# g_key_file_get_string() knows \s \n \t \r and \\. A blank needs it only where it comes first.
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


_UNESCAPED: Final = {"s": " ", "n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_MAX_BYTES: Final = 256 * 2**10  # with a few certificates it has 10 KiB


@dataclass(frozen=True, slots=True)
class VvFile:
    """What a client is given by somebody else: oVirt, Proxmox VE, ourselves.

    Attributes:
        target: The server's ports, and the password.
        ca: Certificates in PEM that the server's has to come from.
        subject: That it has to have.
        proxy: URI of the HTTP proxy that leads to the server.
    """

    target: ServerTarget
    ca: str | None
    subject: str | None
    proxy: str | None = field(repr=False)  # it may hold a password


def read_vv(path: Path) -> VvFile:
    """Read a file for remote-viewer.

    Raises:
        UsageError: It cannot be read, or does not lead to a SPICE server.
    """
    # As GKeyFile reads it: `#` begins a comment, and where a blank matters it is escaped.
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=("#",), strict=False, default_section=""
    )
    try:
        with path.open(encoding="utf-8-sig") as file:
            parser.read_string(file.read(_MAX_BYTES))
        group = {key: _unescaped(value) for key, value in parser.items("virt-viewer")}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):  # whose text repeats what may be secret
        raise UsageError(f"{path} is no file for remote-viewer: it has no group [virt-viewer]") from None
    host = group.get("host", "")
    if group.get("type") != "spice" or not host or not host.isprintable():
        raise UsageError(f"{path} does not name a SPICE server: type has to be spice, and host be there")
    ports = {key: _port(group[key], path) for key in ("port", "tls-port") if group.get(key)}
    if not ports:
        raise UsageError(f"{path} has neither port nor tls-port")
    plain, tls = (Address(host, ports[key]) if key in ports else None for key in ("port", "tls-port"))
    ca, subject, proxy = (group.get(key) or None for key in ("ca", "host-subject", "proxy"))
    return VvFile(ServerTarget(plain, group.get("password") or None, tls), ca, subject, proxy)


def _port(text: str, path: Path) -> int:
    try:
        return parse_address(f":{text}").port
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _unescaped(value: str) -> str:
    return re.sub(r"\\([snrt\\])", lambda found: _UNESCAPED[found[1]], value)


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
    proxy_tls: bool = False,
) -> str:
    """The text of the file.

    Args:
        address: Where the client connects to in clear; None: nowhere.
        password: The ticket, or the password for SASL, if it is known.
        username: For SASL.
        secure: Where it connects to with TLS; None: nowhere.
        proxy: The HTTP proxy through which it does.
        proxy_tls: Whether that is spoken to with TLS.
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
        group["proxy"] = f"{'https' if proxy_tls else 'http'}://{proxy}"
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
    proxy_tls: bool = False,
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
            file.write(
                render_vv(
                    address, password, username=username, secure=secure, proxy=proxy, proxy_tls=proxy_tls
                )
            )
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
