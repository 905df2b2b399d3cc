"""TLS of the simulated peers: trio's, with the manners of the plain streams that they use.

Neither side says close_notify, as spice-gtk and spice-server do not.
"""

import ssl
from dataclasses import dataclass
from typing import Any

import trio
from cryptography import x509

from spiceproxy.simulate.errors import ConnectionLost
from spiceproxy.tls.names import is_host, is_subject


@dataclass(frozen=True, slots=True)
class Trust:
    """What a client believes.

    Attributes:
        context: Of TLS, with the CAs that it trusts. If it verifies nothing, anybody is believed.
        subject: That the server's certificate has to have; None: it has to be of the host.
    """

    context: ssl.SSLContext
    subject: str | None = None


class SecureStream:
    """A TLS stream over a TCP one."""

    def __init__(self, transport: trio.SocketStream, context: ssl.SSLContext, *, server: bool) -> None:
        """Begin without a handshake."""
        self.transport = transport
        self._stream = trio.SSLStream(transport, context, server_side=server, https_compatible=True)
        self.socket, self.setsockopt = transport.socket, transport.setsockopt

    async def shake_hands(self) -> x509.Certificate | None:
        """Agree on keys; the other side's certificate, if it has shown one.

        Raises:
            ConnectionLost: The two do not agree, or the other side has gone.
        """
        try:
            await self._stream.do_handshake()
            der: Any = self._stream.getpeercert(binary_form=True)
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"no TLS: {error.__cause__ or 'the other side has gone'}") from error
        return x509.load_der_x509_certificate(der) if der else None

    async def receive_some(self, max_bytes: int) -> bytes:
        """As `trio.SocketStream.receive_some`."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        """As `trio.SocketStream.send_all`."""
        await self._stream.send_all(data)


def anybody() -> Trust:
    """Trust in whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return Trust(context)


Stream = trio.SocketStream | SecureStream


async def secure_client(transport: trio.SocketStream, host: str, trust: Trust) -> SecureStream:
    """Be a client, and judge the server's certificate.

    Raises:
        ConnectionLost: It is not the one that was expected, or there is no TLS.
    """
    stream = SecureStream(transport, trust.context, server=False)
    certificate = await stream.shake_hands()
    if trust.context.verify_mode is ssl.CERT_NONE:
        return stream
    if certificate is None:
        raise ConnectionLost("no TLS: the server has no certificate")
    good = is_host(certificate, host) if trust.subject is None else is_subject(certificate, trust.subject)
    if not good:
        raise ConnectionLost(
            f"no TLS: the certificate of {certificate.subject.rfc4514_string()!r} is not that of {trust.subject or host!r}"
        )
    return stream


async def secure_server(transport: trio.SocketStream, context: ssl.SSLContext) -> SecureStream:
    """Be a server.

    Raises:
        ConnectionLost: There is no TLS.
    """
    stream = SecureStream(transport, context, server=True)
    await stream.shake_hands()
    return stream
