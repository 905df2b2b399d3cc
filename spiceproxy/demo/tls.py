"""TLS in the demo: servers with certificates of a CA of their own, and a client that trusts the proxy's."""

import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiceproxy.address import Address
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.ends import load_from_memory
from spiceproxy.tls.names import named
from spiceproxy.tls.settings import TlsConfig

_PEM: Final = serialization.Encoding.PEM


class DemoTls:
    """The certificates of one demo; none of them outlives it."""

    def __init__(self) -> None:
        self._servers, self._proxy = Authority.new(), Authority.new()

    def subject(self, server: str) -> str:
        """That a server's certificate has."""
        return f"O=spiceproxy demo,CN={server}"

    def server(self, name: str) -> ssl.SSLContext:
        """For a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._servers.issue(named(self.subject(name)), [], key)
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        load_from_memory(context, certificate.public_bytes(_PEM) + private)
        return context

    def client(self) -> ssl.SSLContext:
        """For the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the client does that itself, as SPICE clients do
        context.load_verify_locations(cadata=self._proxy.pem.decode())
        return context

    def proxy(self, server: Address, name: str) -> TlsConfig:
        """For the proxy."""
        with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
            file.write(self._servers.pem)
        self._file = Path(file.name)
        return TlsConfig(
            listen=Address("127.0.0.1", 0),
            server=server,
            server_ca=self._file,
            server_subject=self.subject(name),
            certificate=self._proxy,
        )

    def close(self) -> None:
        """The proxy has read what it needs."""
        self._file.unlink(missing_ok=True)
