"""TLS in the lab: a CA of the run, a certificate for each server, and what the client is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiceproxy.tls.authority import Authority
from spiceproxy.tls.names import named

# Names as people give them; the comma has to be escaped wherever the subject is written.
_SUBJECT: Final = "C=ZZ,O=spiceproxy lab\\, for tests,CN={}"


@dataclass(frozen=True, slots=True)
class Secured:
    """What a client has to know to connect with TLS.

    Attributes:
        ca: PEM file of the CA that it trusts.
        subject: That the certificate has to have.
    """

    ca: Path
    subject: str


def subject_of(server: str) -> str:
    """The subject of a server's certificate."""
    return _SUBJECT.format(server)


class Certificates:
    """Certificates of the servers of one run.

    Args:
        directory: Where they are put.
    """

    def __init__(self, directory: Path) -> None:
        self._authority, self._directory = Authority.new(), directory
        self.ca = directory / "servers-ca.pem"
        self.ca.write_bytes(self._authority.pem)

    def make(self, server: str) -> Path:
        """Make a server's certificate and key; return the directory, as QEMU's x509-dir."""
        directory = self._directory / f"{server}-x509"
        directory.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._authority.issue(named(subject_of(server)), [], key)
        pem = serialization.Encoding.PEM
        (directory / "ca-cert.pem").write_bytes(self._authority.pem)
        (directory / "server-cert.pem").write_bytes(certificate.public_bytes(pem))
        (directory / "server-key.pem").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return directory
