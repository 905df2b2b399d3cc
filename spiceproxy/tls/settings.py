"""What the user told the proxy about TLS."""

from dataclasses import dataclass, field
from pathlib import Path

from spiceproxy.address import Address
from spiceproxy.tls.authority import Authority


@dataclass(frozen=True, slots=True)
class FixedCertificate:
    """A certificate and key to show to every client, in PEM files."""

    certificate: Path  # with the chain behind it, if there is one
    key: Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS of a proxy. Without one, a TLS port that a server names leads through the proxy unread.

    Attributes:
        listen: Where clients connect with TLS; None: nowhere.
        server: The first server's TLS port; None: it is reached in clear.
        server_ca: PEM file with the CAs that servers' certificates have to come from; None: those of the system.
        server_subject: Subject that the first server's certificate has to have; None: it has to be of the server's host.
        insecure: Believe any server.
        certificate: What clients are shown; an authority makes one for each server.
        keylog: File for the keys of all connections, so that Wireshark can read them.
        server_ca_pem: As `server_ca`, in PEM; it comes first.
        door: What clients of a CONNECT proxy are shown when they speak TLS to it, if that is not as `certificate` says.
        inside: Whether TLS of clients that chose their server by themselves is read.
    """

    listen: Address | None = None
    server: Address | None = None
    server_ca: Path | None = None
    server_subject: str | None = None
    insecure: bool = False
    certificate: Authority | FixedCertificate = field(default_factory=Authority.new)
    keylog: Path | None = None
    server_ca_pem: str | None = None
    door: FixedCertificate | None = None
    inside: bool = True
