"""Authorities, servers' certificates and contexts for tests."""

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiceproxy.tls.authority import Authority
from spiceproxy.tls.names import named

PEM = serialization.Encoding.PEM
SERVER_SUBJECT = "C=ZZ,O=Servers\\, Inc.,CN=s1"


def write_pair(
    directory: Path,
    name: str,
    authority: Authority,
    subject: str | x509.Name | bytes = SERVER_SUBJECT,
    names: tuple[x509.GeneralName, ...] = (),
) -> tuple[Path, Path]:
    """A certificate and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(named(subject) if isinstance(subject, str) else subject, names, key)
    pair = directory / f"{name}.pem", directory / f"{name}-key.pem"
    pair[0].write_bytes(certificate.public_bytes(PEM))
    pair[1].write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def trusting(authority: Authority | None) -> ssl.SSLContext:
    """A client that trusts this CA only; with None, anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if authority is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority.pem.decode())
    return context
