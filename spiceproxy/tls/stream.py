"""A TLS connection that the relay uses as it uses a plain one: non-blocking, asked first, waited for afterwards.

OpenSSL works on buffers in memory here, and the socket is ours. That is what makes it behave: reading never has to write nor
the other way round, many records take one system call, and after close_notify the peer can still be heard out, which
`ssl.SSLSocket.unwrap` would not let us. SPICE peers close without close_notify (spice-gtk and spice-server free their SSL
object and close the socket), so the end of the TCP stream is the end of this one.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final

import trio
from trio.lowlevel import wait_readable, wait_writable

# RFC 8446, 5.1: what one record may hold.
RECORD_BYTES: Final = 2**14
# Of what the kernel has, so much is taken at once; and of what is to be sent, so much is encrypted.
TAKE_BYTES: Final = 2**18
GIVE_BYTES: Final = 2**17
# What is encrypted and not taken by the kernel: GIVE_BYTES in messages without a body are 0.7 MB on the wire. More can only be
# answers to a peer that asks for a new handshake again and again, and reads none of them.
MAX_UNSENT_BYTES: Final = 2**20
# Where bytes are on their way from the kernel to OpenSSL: nothing waits in between.
_SCRATCH: Final = memoryview(bytearray(TAKE_BYTES))


class TlsError(OSError):
    """TLS has failed. `strerror` says why, in words; `alert` whether the peer said so."""

    def __init__(self, reason: str, *, alert: bool = False) -> None:
        super().__init__(0, f"TLS: {reason}")
        self.alert = alert


class TlsSocket(socket.socket):
    """A TLS socket with the manners of a plain non-blocking one. `secure` makes one.

    "Not now" is a BlockingIOError. `shutdown` says close_notify and half-closes. Errors are `TlsError` or other OSErrors.

    Args:
        connection: Connected; it is this socket's from now on.
        context: Of TLS.
        server: Whether we are the server.
        name: The server's name, to be sent as SNI.
    """

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, *, server: bool, name: str | None = None
    ) -> None:
        kind = connection.family, connection.type, connection.proto
        # One end of a pair has the addresses of the connection that is carried there (ways/end.py).
        self._named = connection if type(connection) is not socket.socket else None
        super().__init__(*kind, fileno=connection.detach())
        self.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=None if server else name
        )
        self._unsent = b""  # encrypted, and not taken by the kernel
        self._given = 0  # bytes of who sends that are in there
        self._kept = bytearray()  # decrypted, and not read
        self._more = self._ended = False  # there may be more than was read; there will never be
        self._failed: OSError | None = None

    def version(self) -> str | None:
        """As TLSv1.3."""
        return self._tls.version()

    def cipher(self) -> str | None:
        """The name of the cipher suite."""
        found = self._tls.cipher()
        return found[0] if found else None

    def getsockname(self) -> Any:
        """As of what is below."""
        return super().getsockname() if self._named is None else self._named.getsockname()

    def getpeername(self) -> Any:
        """As of what is below."""
        return super().getpeername() if self._named is None else self._named.getpeername()

    async def peek(self, size: int) -> bytes:
        """The first bytes, which stay there; fewer only at the end of the stream.

        Raises:
            OSError: The connection broke.
        """
        data = b""
        while len(data) < size:
            await self.wait_readable()
            try:
                more = self.recv(size - len(data))
            except BlockingIOError:
                continue
            if not more:
                break
            data += more
        self.put_back(data)
        return data

    def put_back(self, data: bytes) -> None:
        """Have what was read be read again."""
        self._kept[:0] = data
        self._more = True

    def certificate(self) -> bytes | None:
        """What the peer has shown, in DER."""
        return self._tls.getpeercert(binary_form=True)

    async def wait_readable(self) -> None:
        """Wait until `recv` may give something."""
        if self._more:
            await trio.lowlevel.checkpoint()
        else:
            await wait_readable(self)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # noqa: ARG002
        """As of a plain socket: all that is there, as far as there is room; 0 at the end of the stream."""
        view = memoryview(buffer)
        got = min(len(self._kept), len(view))
        if got:
            view[:got] = self._kept[:got]
            del self._kept[:got]
        empty = False  # the kernel has no more
        while got < len(view) and not self._ended and self._failed is None:
            if not (self._incoming.pending or self._incoming.eof or self._tls.pending()):
                if empty:  # known without an exception, which costs more than a small message
                    break
                empty = self._take()
                continue
            try:
                count: int = self._tls.read(len(view) - got, view[got:])  # type: ignore[assignment]  # with a buffer
            except ssl.SSLWantReadError:
                if empty:
                    break
                empty = self._take()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self._ended = True
            except OSError as error:
                self._failed = translated(error)
            else:
                got += count
                self._ended = not count
        self._more = got == len(view)
        # An answer to what was read.
        if self._outgoing.pending and not self._flush() and len(self._unsent) > MAX_UNSENT_BYTES:
            self._failed = TlsError("the peer does not read the answers to what it asks for")
        if not got and not self._ended:
            raise self._failed or BlockingIOError
        return got

    def recv(self, buflen: int, flags: int = 0) -> bytes:  # noqa: ARG002
        """As of a plain socket."""
        buffer = bytearray(buflen)
        return bytes(memoryview(buffer)[: self.recv_into(buffer)])

    def _take(self) -> bool:
        """Take what the kernel has; whether it has no more."""
        try:
            count = super().recv_into(_SCRATCH)
        except BlockingIOError:
            return True
        except OSError as error:
            self._failed = error
            return True
        if count:
            self._incoming.write(_SCRATCH[:count])
        else:
            self._incoming.write_eof()
        return 0 < count < TAKE_BYTES

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ARG002
        """As of a plain socket. What was not taken has to be sent next: a part of it may be encrypted already."""
        view, sent = memoryview(data), 0
        while sent < len(view) and self._flush():
            if not self._given:
                try:
                    self._given = self._tls.write(view[sent : sent + GIVE_BYTES])
                except OSError as error:
                    raise BrokenPipeError(32, str(translated(error).strerror)) from None
                if not self._flush():
                    break
            sent += self._given
            self._given = 0
        if view and not sent:
            raise BlockingIOError
        return sent

    async def send_apart(self, data: memoryview, ends: Iterable[int]) -> None:
        """Send all of `data`, in records of which none reaches over one of `ends`.

        If this is cancelled, a part of what is not sent is encrypted, and goes out with whatever is sent next.

        Raises:
            OSError: The connection broke.
        """
        write, start, flushed = self._tls.write, 0, 0
        for end in (
            *ends,
            len(data),
        ):  # a small message takes a microsecond in OpenSSL, and this loop half of one
            while start < end:
                try:
                    start += write(data[start : end if end - start < GIVE_BYTES else start + GIVE_BYTES])
                except OSError as error:
                    raise BrokenPipeError(32, str(translated(error).strerror)) from None
                if start - flushed > GIVE_BYTES:
                    await self._flushed()
                    flushed = start
        await self._flushed()

    async def _flushed(self) -> None:
        while not self._flush():
            await wait_writable(self)

    def _flush(self) -> bool:
        """Give the kernel what is encrypted; whether that is all."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                self._unsent = self._unsent[super().send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def shutdown(self, how: int) -> None:
        """Say close_notify, as far as the kernel takes it now, and that nothing more comes on the TCP connection."""
        if how != socket.SHUT_RD:
            # OpenSSL looks for the peer's close_notify in what has come, and would throw away anything else.
            with contextlib.suppress(
                OSError
            ):  # no more; if it is something else, the next read finds it again
                while data := self._tls.read(TAKE_BYTES):
                    self._kept += data
            self._more = bool(self._kept)
            with contextlib.suppress(OSError):  # the peer's has not come
                self._tls.unwrap()
            with contextlib.suppress(OSError):  # nobody listens any more
                self._flush()
        super().shutdown(how)

    async def shake_hands(self) -> None:
        """Agree on keys. The caller has a deadline.

        Raises:
            TlsError: The peer, or what it showed, is not acceptable to one of the two.
            OSError: The connection broke.
        """
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = self._more = True  # what was taken last may hold more than the handshake's end
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                self._flush()  # an alert
                raise translated(error, "closed during the handshake") from None
            await self._flushed()
            if not done:
                await wait_readable(self)
                self._take()
                if self._failed is not None:
                    raise self._failed


async def secure(
    connection: socket.socket, context: ssl.SSLContext, *, server: bool, name: str | None = None
) -> TlsSocket:
    """Make a connected socket a TLS one; the plain one is no more, and all is closed on every way out but the good one.

    Args:
        connection: Non-blocking.
        context: Of TLS.
        server: Whether we are the server.
        name: The server's name, to be sent as SNI.

    Raises:
        TlsError: As `TlsSocket.shake_hands`.
        OSError: The connection broke.
    """
    secured = TlsSocket(connection, context, server=server, name=name)
    try:
        await secured.shake_hands()
    except BaseException:
        trio.lowlevel.notify_closing(secured)
        secured.close()
        raise
    return secured


def translated(error: OSError, at_end: str = "closed in the middle") -> OSError:
    """The same error in words, without OpenSSL's file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(f"the certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError):
        return TlsError(at_end)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower()
        _, alert, told = reason.partition("_alert_")
        if alert:  # as tlsv1_alert_unknown_ca: the peer's words, whatever the version
            return TlsError(f"alert {told.replace('_', ' ')}", alert=True)
        return TlsError(reason.replace("_", " "))
    return error
