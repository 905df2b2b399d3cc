"""Where a proxy is controlled from."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spiceproxy.address import Address, parse_address
from spiceproxy.errors import UsageError

UNIX: Final = "unix:"
# sun_path of a Linux sockaddr_un has 108 bytes, the last one a zero.
_MAX_PATH_BYTES: Final = 107


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """Where the control API listens, and who may use it.

    Attributes:
        address: On loopback, or the path of a unix socket.
        token_file: Holds the token that has to be shown; None: one is made.
    """

    address: Address | Path
    token_file: Path | None = None


def parse_control(text: str, *, any_port: bool = True) -> Address | Path:
    """Parse `127.0.0.1:PORT`, `[::1]:PORT`, `PORT` or `unix:/PATH`.

    Raises:
        UsageError: It is none of these, or not on loopback.
    """
    if text.startswith(UNIX):
        path = Path(text.removeprefix(UNIX))
        if not path.is_absolute():
            raise UsageError(
                f"{text!r}: a unix socket has an absolute path, for example unix:/run/user/1000/spice.sock"
            )
        if len(bytes(path)) > _MAX_PATH_BYTES:
            raise UsageError(f"{text!r}: the path of a unix socket has {_MAX_PATH_BYTES} bytes at most")
        return path
    address = parse_address(text, any_port=any_port)
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UsageError(
            f"the control API listens on loopback or a unix socket only, not on {address.host}: "
            f"127.0.0.1:{address.port} or unix:/PATH"
        )
    return Address(host, address.port)


def text_of(address: Address | Path) -> str:
    """As it is parsed."""
    return f"{UNIX}{address}" if isinstance(address, Path) else str(address)
