"""TLS of one cell: certificates of its servers, what its proxy is told, and what its client has to trust."""

from pathlib import Path
from typing import Any

from spiceproxy.address import Address
from spiceproxy.lab.qemu import HOST
from spiceproxy.lab.secured import Certificates, Secured, subject_of
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.settings import TlsConfig


class CellTls:
    """Servers with a TLS port only, and a proxy that opens it up, with a CA of its own.

    Args:
        directory: For certificates.
    """

    def __init__(self, directory: Path) -> None:
        self._certificates, self._authority = Certificates(directory), Authority.new()
        self._ca = directory / "proxy-ca.pem"
        self._ca.write_bytes(self._authority.pem)

    def x509(self, server: str) -> Path:
        """Make the certificate of a server; its directory."""
        return self._certificates.make(server)

    def proxy(self, server: str, address: Address) -> TlsConfig:
        """What a proxy before this server is told."""
        return TlsConfig(
            listen=Address(HOST, 0),
            server=address,
            server_ca=self._certificates.ca,
            server_subject=subject_of(server),
            certificate=self._authority,
        )

    def client(self, server: str) -> Secured:
        """What a client of the proxy has to trust."""
        return Secured(self._ca, subject_of(server))

    @staticmethod
    def announcement(server: str, port: int) -> dict[str, Any]:
        """Arguments of client_migrate_info. QEMU's own word for no plain port is 65535, which spice-gtk would dial."""
        return {"port": 0, "tls-port": port, "cert-subject": subject_of(server)}
