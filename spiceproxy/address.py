"""Addresses as users write them: HOST:PORT, unix:/PATH, spice:// and ws:// URIs."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from spiceproxy.errors import UsageError

_DIGITS: Final = re.compile(
    "[0-9]{1,5}"
)  # int() also takes signs, blanks, underscores and other scripts' digits


UNIX: Final = "unix:"
# In the place of a host in .vv files and migrations of Proxmox VE: time, guest, node and a signature, for 40 s
# (PVE::Ticket, assemble_spice_ticket() and verify_spice_connect_url()).
_PROXMOX: Final = re.compile("pvespiceproxy:[0-9a-z]{8}:[0-9]{1,10}:([0-9A-Za-z._-]{1,253})::[0-9a-z]{40}")
# struct sockaddr_un, sun_path: 108 bytes, with the zero at the end (unix(7)).
MAX_UNIX_PATH_BYTES: Final = 107


class Address(NamedTuple):
    """A TCP endpoint, or a unix socket: then the host is `unix:/PATH` and the port 0.

    `str()` puts an IPv6 address in brackets, and leaves the signature out of a name of Proxmox VE.
    """

    host: str
    port: int

    @property
    def unix_path(self) -> str | None:
        """The path of a unix socket."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else None

    @property
    def machine(self) -> str:
        """The host as IP knows it: whoever uses a unix socket is on this machine."""
        return "127.0.0.1" if self.host.startswith(UNIX) else self.host

    @property
    def proxmox_node(self) -> str | None:
        """The node where a guest of Proxmox VE is, if the host is a name for its HTTP proxy."""
        found = _PROXMOX.fullmatch(self.host)
        return found[1] if found else None

    @property
    def authority(self) -> str:
        """As in a request of HTTP (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host and self.proxmox_node is None else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.host.startswith(UNIX):
            return self.host
        if self.proxmox_node is not None:
            return f"{self.host.partition('::')[0]}:{self.port}"
        return self.authority


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """Where the first server is, and the password its URI carried, if any."""

    address: Address | None  # None: it has a TLS port only
    password: str | None = None
    tls: Address | None = None
    websocket: str | None = None  # the path of a ws[s]:// URI: the server is spoken to through a WebSocket

    def __repr__(self) -> str:
        """Without the password: this text may end up in a log."""
        return f"ServerTarget({self})"

    def __str__(self) -> str:
        """Its addresses."""
        ports = [str(self.address)] if self.address is not None else []
        return " and ".join([*ports, *([f"{self.tls} (TLS)"] if self.tls is not None else [])])


def parse_address(text: str, *, default_host: str = "127.0.0.1", any_port: bool = False) -> Address:
    """Parse `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`.

    Args:
        text: What the user wrote.
        default_host: The host if only a port is given.
        any_port: Whether port 0 ("choose one") is acceptable.

    Raises:
        UsageError: It is none of these.
    """
    host, _, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"{text!r}: put an IPv6 address in brackets, for example [::1]:5900")
    if not _DIGITS.fullmatch(port_text) or not all(letter.isprintable() and letter != " " for letter in host):
        raise UsageError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:5900")
    port = int(port_text)
    if port > 65535 or (port == 0 and not any_port):
        raise UsageError(f"{text!r}: a port is a number from {0 if any_port else 1} to 65535")
    return Address(host or default_host, port)


def unix_address(path: str) -> Address:
    """The address of a unix socket.

    Raises:
        UsageError: It is no absolute path, or too long for a socket.
    """
    if not path.startswith("/") or not path.isprintable():
        raise UsageError(f"{path!r} is no absolute path, for example unix:/run/vm1.spice")
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise UsageError(f"{path!r}: the path of a unix socket has {MAX_UNIX_PATH_BYTES} bytes at most")
    return Address(f"{UNIX}{path}", 0)


def parse_listen(text: str) -> Address:
    """Parse what `--listen` takes: HOST:PORT and its short forms, or unix:/PATH.

    Raises:
        UsageError: It is neither.
    """
    if text.startswith(UNIX):
        return unix_address(text.removeprefix(UNIX))
    return parse_address(text, any_port=True)


def parse_server(text: str) -> ServerTarget:
    """Parse what `--server` takes.

    That is HOST:PORT, unix:/PATH, a spice:// or spice+unix:// URI as spice-gtk reads it (spice_parse_uri()), or
    ws[s]://HOST:PORT/PATH. The port of spice+tls:// and wss:// is the TLS port.

    Raises:
        UsageError: It is none of them, or it is a kind of URI that is not supported.
    """
    if text.startswith(UNIX):
        return ServerTarget(unix_address(text.removeprefix(UNIX)))
    if "://" not in text:
        return ServerTarget(parse_address(text))
    scheme = text.partition("://")[0]
    if scheme == "spice+unix":
        return ServerTarget(unix_address(unquote(text.partition("://")[2])))
    if scheme in {"ws", "wss"}:
        return _parse_websocket(text)
    if scheme not in {"spice", "spice+tls"}:
        raise UsageError(f"{scheme}:// is not a SPICE address; give HOST:PORT or spice://HOST:PORT")
    if not text.isprintable():
        raise UsageError("a spice:// URI has letters that cannot be printed; write them as %XX")
    # Both `?` and `;` begin the query, both `&` and `;` separate its keys; `#` is a letter like any other.
    try:
        parts = urlsplit(text.replace(";", "?", 1) if "?" not in text else text, allow_fragments=False)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"spice:// URI: {error}") from None
    if not host:
        raise UsageError("a spice:// URI needs a host, for example spice://127.0.0.1:5900")
    if parts.path not in {"", "/"}:
        raise UsageError("a spice:// URI has no path; write spice://HOST:PORT or spice://HOST?port=PORT")
    password, tls_port = None, None
    if scheme == "spice+tls":
        port, tls_port = None, port
    for item in filter(None, parts.query.replace(";", "&").split("&")):
        key, _, value = item.partition("=")
        match key:
            case "port":
                port = parse_address(f":{unquote(value)}").port
            case "tls-port":
                tls_port = parse_address(f":{unquote(value)}").port
            case "password":
                password = unquote(value)
            case _:
                raise UsageError(f"a spice:// URI has the keys port, tls-port and password, not {key!r}")
    if not port and not tls_port:
        raise UsageError(f"spice:// URI: it needs a port, for example {scheme}://{host}:5900")
    return ServerTarget(
        Address(host, port) if port else None, password, Address(host, tls_port) if tls_port else None
    )


def _parse_websocket(text: str) -> ServerTarget:
    example = "for example ws://kvm1.example:5900/"
    if not text.isprintable() or " " in text:
        raise UsageError(f"{text!r} is no ws:// URI, {example}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"ws:// URI: {error}") from None
    if not host or not port or "@" in parts.netloc:
        raise UsageError(f"a ws:// URI needs a host and a port and nothing more, {example}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = Address(host, port)
    if parts.scheme == "wss":
        return ServerTarget(None, tls=address, websocket=path)
    return ServerTarget(address, websocket=path)


def parse_port_range(text: str) -> range:
    """Parse `A-B` or a single port.

    Raises:
        UsageError: It is no range of ports.
    """
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    ports = (
        range(int(first), int(last) + 1) if _DIGITS.fullmatch(first) and _DIGITS.fullmatch(last) else range(0)
    )
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise UsageError(f"{text!r} is not a range of ports A-B, for example 5910-5919")
    return ports
