"""Both ends of the proxy's TLS: what clients are shown, and which servers are believed.

For each server clients are shown a certificate with the server's own subject and names, and the address by which they
reach the proxy, signed by the proxy's CA. So whoever trusts that CA finds what it was told to look for.
"""

import contextlib
import os
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.tls.authority import Authority, read_certificates
from spiceproxy.tls.der import read_subject
from spiceproxy.tls.names import (
    alternative_names,
    common_names,
    identities,
    is_host,
    is_subject,
    named,
    render_subject,
    written_subject,
)
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.tls.stream import TlsError, TlsSocket, secure

# What is kept of servers and of certificates for clients. Honest chains have a few of each.
MAX_KEPT: Final = 256
# A certificate that ends soon is made anew.
_RENEW: Final = timedelta(days=7)
# What may stand in a certificate as the name of a host; some programs refuse a whole certificate with another one in it.
_HOST: Final = re.compile(r"[0-9A-Za-z*._:-]{1,253}")
_HANDSHAKE: Final = 0x16  # RFC 8446, 5.1: the first byte of a record that belongs to one

Reach = Callable[[Address, float], Awaitable[socket.socket]]
"""Connects to an address within so many seconds."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with TLS, and how it is known."""

    address: Address
    subject: str | None  # that its certificate has to have; None: it has to be of the host


class Tls:
    """TLS of one proxy.

    Args:
        config: What the user said.

    Raises:
        UsageError: A file cannot be used.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._known: OrderedDict[Peer, x509.Certificate] = OrderedDict()
        self._shown: OrderedDict[tuple[Peer, str, str], tuple[ssl.SSLContext, datetime, datetime]] = (
            OrderedDict()
        )
        self._servers = self._server_context()
        fixed = config.certificate
        self._fixed = None if isinstance(fixed, Authority) else self._fixed_context(fixed)
        self._door = self._fixed if config.door is None else self._fixed_context(config.door)
        self.subject = None if isinstance(config.certificate, Authority) else self._fixed_subject()
        """Of the one certificate that all clients are shown; None: it is each server's own, or cannot be written."""

    # Servers --------------------------------------------------------------------------------------

    def _server_context(self) -> ssl.SSLContext:
        config = self._config
        context = self._new_context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # that is done as SPICE clients do it, below
        if config.insecure:
            context.verify_mode = ssl.CERT_NONE
        elif config.server_ca_pem is not None:
            try:
                context.load_verify_locations(cadata=config.server_ca_pem)
            except ssl.SSLError:
                raise UsageError("the CA of the .vv file is no certificate in PEM") from None
        elif config.server_ca is None:
            context.set_default_verify_paths()
        else:
            try:
                context.load_verify_locations(config.server_ca)
            except ssl.SSLError:
                raise UsageError(f"{config.server_ca} has no certificate in PEM") from None
            except OSError as error:
                raise UsageError(f"cannot read {config.server_ca}: {error.strerror}") from None
        return context

    async def connect(self, peer: Peer, timeout_s: float, *, reach: Reach = sockets.connect) -> TlsSocket:
        """Connect to a server, and see to it that it is the right one.

        Args:
            peer: The server.
            timeout_s: For connection and handshake.
            reach: Makes the connection below.

        Raises:
            TlsError: It is not, or has no TLS.
            OSError: It cannot be reached.
        """
        started = trio.current_time()
        plain = await reach(peer.address, timeout_s)
        host = peer.address.host
        try:
            with trio.fail_after(max(0.0, started + timeout_s - trio.current_time())):
                connected = await secure(plain, self._servers, server=False, name=_sni(host))
        except trio.TooSlowError:
            raise TlsError(f"no handshake within {timeout_s:g} s") from None
        try:
            self._learn(peer, connected)
        except BaseException:
            sockets.close(connected)
            raise
        return connected

    async def look(self, peer: Peer, timeout_s: float, *, reach: Reach = sockets.connect) -> TlsSocket | None:
        """As `connect`, for the certificate: a client is waiting to be shown its like.

        What is wrong is found again, and told, when the client's link message has come.
        """
        try:
            return await self.connect(peer, timeout_s, reach=reach)
        except OSError:
            return None

    def _learn(self, peer: Peer, connected: TlsSocket) -> None:
        der = connected.certificate()
        try:
            try:
                certificate = x509.load_der_x509_certificate(der or b"")
                read_subject(certificate)
            except (ValueError, x509.InvalidVersion) as error:
                raise ValueError(f"the certificate cannot be read: {error}") from None
            if not self._config.insecure:
                _check(peer, certificate)
        except ValueError as error:
            raise TlsError(str(error)) from None
        if self._known.get(peer) != certificate:
            for key in [key for key in self._shown if key[0] == peer]:
                del self._shown[key]
        self._known[peer] = certificate
        self._known.move_to_end(peer)
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)

    def knows(self, peer: Peer) -> bool:
        """Whether the server has shown its certificate."""
        return peer in self._known

    def subject_of(self, peer: Peer) -> str | None:
        """The subject that clients find when they come to this server through the proxy, if it is known and can be written."""
        if self._fixed is not None:
            return self.subject
        return written_subject(self._known[peer]) if peer in self._known else None

    # Clients --------------------------------------------------------------------------------------

    async def accept(
        self, connection: socket.socket, peer: Peer, reached_at: str, *, door: bool = False
    ) -> TlsSocket:
        """Be the server for a client. The caller has a deadline.

        Args:
            connection: The client's; closed unless this succeeds.
            peer: The server that the client means.
            reached_at: The host by which the client reached the proxy, or was sent to it.
            door: The client means the proxy itself, and says the server inside.

        Raises:
            TlsError: The client does not accept us, or speaks no TLS.
            OSError: The connection broke.
        """
        try:
            context = (self._door if door else self._fixed) or self._context_for(peer, reached_at)
        except (
            ValueError,
            ssl.SSLError,
        ) as error:  # a server's certificate may be odder than one that can be made
            sockets.close(connection)
            raise TlsError(f"no certificate like the server's can be made: {error}") from None
        return await secure(connection, context, server=True)

    def _context_for(self, peer: Peer, reached_at: str, called: str = "") -> ssl.SSLContext:
        key, now = (peer, reached_at, called), datetime.now(UTC)
        if (found := self._shown.get(key)) is not None and found[1] <= now < found[2]:
            self._shown.move_to_end(key)
            return found[0]
        authority = self._config.certificate
        assert isinstance(authority, Authority)  # noqa: S101  else there is a fixed one
        names = self._names(peer, reached_at, called)
        certificate = authority.issue(self._subject(peer), names, self._key)
        private = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM) + authority.pem
        context = self._new_context(ssl.PROTOCOL_TLS_SERVER)
        load_from_memory(context, chain + private)
        if not called:
            context.sni_callback = partial(self._called, peer, reached_at)
        if peer in self._known or peer.subject is not None:  # else the server's own may be known next time
            until = certificate.not_valid_after_utc - _RENEW
            self._shown[key] = context, certificate.not_valid_before_utc, until  # the clock may be set back
            while len(self._shown) > MAX_KEPT:
                self._shown.popitem(last=False)
        return context

    def _called(
        self,
        peer: Peer,
        reached_at: str,
        connection: ssl.SSLObject,
        name: str | None,
        _context: ssl.SSLContext,
    ) -> None:
        """The client says by which name it reached us (SNI): it may look for that one in the certificate."""
        if name:
            with contextlib.suppress(ValueError, ssl.SSLError):  # none that can stand in a certificate
                connection.context = self._context_for(peer, reached_at, name.lower())

    def _subject(self, peer: Peer) -> bytes:
        """In DER."""
        if (known := self._known.get(peer)) is not None:
            return read_subject(known).der
        if peer.subject is not None:
            with contextlib.suppress(
                ValueError
            ):  # it cannot stand in a certificate, so no client can look for it
                return named(peer.subject).public_bytes()
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer.address.host[:64])]).public_bytes()

    def _names(self, peer: Peer, reached_at: str, called: str = "") -> list[x509.GeneralName]:
        names, hosts = [], [reached_at, peer.address.host]
        if (known := self._known.get(peer)) is not None:
            with contextlib.suppress(ValueError):  # believed without a look at them, or for its subject
                names = alternative_names(known)
            if not any(isinstance(name, x509.DNSName | x509.IPAddress) for name in names):
                # It counts for its common names, which nobody looks at where there are alternative ones.
                hosts += filter(_HOST.fullmatch, common_names(known))
        if called:
            hosts.append(called)
        return list(dict.fromkeys([*names, *(name for host in hosts for name in identities(host))]))

    def _fixed_context(self, fixed: FixedCertificate) -> ssl.SSLContext:
        context = self._new_context(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(fixed.certificate, fixed.key, password=_no_password)
        except ssl.SSLError as error:
            raise UsageError(
                f"{fixed.certificate} and {fixed.key} are no certificate and its key in PEM without a password: "
                f"{error.reason or error}"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot read {fixed.certificate} or {fixed.key}: {error.strerror}") from None
        return context

    def _fixed_subject(self) -> str | None:
        fixed = self._config.certificate
        assert not isinstance(fixed, Authority)  # noqa: S101  asked for by the caller
        try:
            return written_subject(read_certificates(fixed.certificate)[0])
        except ValueError as error:
            raise UsageError(f"{fixed.certificate}: {error}") from None

    def _new_context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.options |= ssl.OP_NO_RENEGOTIATION
        # OpenSSL's own choice, as SPICE programs have it. Python's is shorter, and a server may have nothing that is in it.
        context.set_ciphers("DEFAULT")
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # SPICE clients resume nothing
        if self._config.keylog is not None:
            try:  # whoever has the keys can read all that passed: OpenSSL would make a file that everybody may read
                os.close(
                    os.open(self._config.keylog, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                )
                context.keylog_filename = str(self._config.keylog)
            except OSError as error:
                raise UsageError(f"cannot write {self._config.keylog}: {error.strerror}") from None
        return context


def _check(peer: Peer, certificate: x509.Certificate) -> None:
    """Whose certificate it is.

    Raises:
        ValueError: Not the server's.
    """
    found = render_subject(read_subject(certificate))
    if peer.subject is not None:
        if not is_subject(certificate, peer.subject):
            raise ValueError(f"the certificate's subject is {found!r}, not {peer.subject!r}")
    elif not is_host(certificate, host := peer.address.proxmox_node or peer.address.host):
        raise ValueError(f"the certificate, of {found!r}, is not for the host {host!r}")


def _sni(host: str) -> str | None:
    """The name for SNI: none for an address (RFC 6066, 3), nor for what is no host name."""
    name = next(identities(host), None)
    if not isinstance(name, x509.DNSName) or not host or host.startswith(".") or ":" in host:
        return None
    try:
        host.encode("idna")  # as ssl does
    except UnicodeError:
        return None
    return host


def load_from_memory(context: ssl.SSLContext, pem: bytes) -> None:
    """Give a context a certificate and its key. OpenSSL reads keys from files only, by Python's interface: this one has no name and never was on a disk."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _no_password() -> str:
    """Python would ask on the terminal."""
    return ""


async def begins_with_handshake(connection: socket.socket) -> bool:
    """Whether a client speaks TLS, by its first byte, which is left to be read; False as well if it closes.

    Raises:
        OSError: The connection broke.
    """
    while True:
        await sockets.wait_readable(connection)
        try:
            return connection.recv(1, socket.MSG_PEEK) == bytes([_HANDSHAKE])
        except BlockingIOError:
            continue
