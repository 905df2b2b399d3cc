"""Where a client meant to go, whose connection the kernel brought here.

REDIRECT is destination NAT: connection tracking knows what the address was before (Linux uapi linux/netfilter_ipv4.h,
SO_ORIGINAL_DST, and linux/netfilter_ipv6/ip6_tables.h, IP6T_SO_ORIGINAL_DST, both 80). With TPROXY nothing was changed:
the socket's own address is the one the client meant (Linux Documentation/networking/tproxy.rst).
"""

import socket
import struct
from typing import Final

from spiceproxy import sockets
from spiceproxy.address import Address

SO_ORIGINAL_DST: Final = 80
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2xH4x16s4x")


def original_destination(accepted: socket.socket, listening_port: int) -> Address | None:
    """The address the client dialled, or None if it dialled the proxy itself."""
    own = sockets.local_address(accepted)
    tracked = _tracked(accepted, ":" in own.host)
    if tracked is not None and tracked != own:
        return tracked
    # Not translated: TPROXY, or a client that connects to our port, at an address of this machine.
    return None if own.port == listening_port and _is_local(own.host) else own


def _tracked(accepted: socket.socket, ipv6: bool) -> Address | None:
    level, form = (socket.IPPROTO_IPV6, _SOCKADDR_IN6) if ipv6 else (socket.SOL_IP, _SOCKADDR_IN)
    try:
        name = accepted.getsockopt(level, SO_ORIGINAL_DST, form.size)
    except OSError:  # ENOENT: not tracked; ENOPROTOOPT: there is no connection tracking
        return None
    port, packed = form.unpack(name)
    return Address(socket.inet_ntop(socket.AF_INET6 if ipv6 else socket.AF_INET, packed), port)


def _is_local(host: str) -> bool:
    """Whether an address is one of this machine: anything else cannot be bound without IP_TRANSPARENT."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
