"""A TLS connection that the relay uses as it uses a plain one: non-blocking, asked first, waited for afterwards.

Only what differs is here. A read gives as many records as are there, and a write takes as many as the kernel does, so that
"fewer bytes than asked for" still means that there is no more now. SPICE peers close without close_notify (spice-gtk and
spice-server free their SSL object and close the socket), so the end of the TCP stream is the end of this one.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

# RFC 8446, 5.1: what one record may hold.
RECORD_BYTES: Final = 2**14


class TlsError(OSError):
    """TLS has failed. `strerror` says why, in words; `alert` whether the peer said so."""

    def __init__(self, reason: str, *, alert: bool = False) -> None:
        super().__init__(0, f"TLS: {reason}")
        self.alert = alert


class TlsSocket(ssl.SSLSocket):
    """A TLS socket with the manners of a plain non-blocking one. `secure` makes one.

    What differs from `ssl.SSLSocket`: "not now" is a BlockingIOError, whatever TLS needs for going on; `shutdown` says
    close_notify and half-closes, where SSLSocket goes on in clear. Errors are `TlsError` or other OSErrors.
    """

    _other_way: dict[str, bool]  # what "read" or "write" waits for is the other one
    _waiting: dict[str, trio.Event]
    _failed: OSError | None

    @classmethod
    def _create(cls, *arguments: Any, **options: Any) -> "TlsSocket":
        created: TlsSocket = super()._create(*arguments, **options)  # type: ignore[misc]  # not in typeshed
        created._other_way, created._waiting, created._failed = {}, {}, None
        return created

    async def wait_readable(self) -> None:
        """Wait until `recv` may give something."""
        if self.pending():
            await trio.lowlevel.checkpoint()
        else:
            await self._wait("write" if self._other_way.get("read") else "read")

    async def wait_writable(self) -> None:
        """Wait until `send` may take something."""
        await self._wait("read" if self._other_way.get("write") else "write")

    async def _wait(self, for_what: str) -> None:
        """Wait for the kernel; of two tasks that wait for the same, one does so for both."""
        if (others := self._waiting.get(for_what)) is not None:
            await others.wait()
            return
        event = self._waiting[for_what] = trio.Event()
        wait: Callable[[int], Awaitable[None]] = (
            trio.lowlevel.wait_readable if for_what == "read" else trio.lowlevel.wait_writable
        )
        try:
            await wait(self.fileno())
        finally:
            del self._waiting[for_what]
            event.set()

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # noqa: ARG002
        """As of a plain socket: all that is there, as far as there is room; 0 at the end of the stream."""
        if self._failed is not None:
            raise self._failed
        view, got = memoryview(buffer), 0
        self._other_way["read"] = False
        try:
            while got < len(view):
                count = self.read(len(view) - got, view[got:])  # type: ignore[arg-type]  # any buffer will do
                if not count:
                    break
                got += count
        except ssl.SSLWantReadError:
            if not got:
                raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._other_way["read"] = True
            if not got:
                raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass  # with close_notify while we have said ours, or without
        except OSError as error:
            self._failed = translated(error)
            if not got:
                raise self._failed from None
        except ValueError:
            pass  # closed in both directions already
        return got

    def recv(self, buflen: int = RECORD_BYTES, flags: int = 0) -> bytes:  # noqa: ARG002
        """As of a plain socket."""
        buffer = bytearray(buflen)
        return bytes(memoryview(buffer)[: self.recv_into(buffer)])

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ARG002
        """As of a plain socket. What was not taken has to be sent next: a part of it may be encrypted already."""
        view, sent = memoryview(data), 0
        self._other_way["write"] = False
        try:
            while sent < len(view):
                sent += self.write(view[sent:])  # type: ignore[arg-type]  # any buffer will do
        except ssl.SSLWantWriteError:
            pass
        except ssl.SSLWantReadError:
            self._other_way["write"] = True
        except ValueError:
            raise BrokenPipeError(32, "TLS is closed") from None
        except OSError as error:
            raise translated(error) from None
        if view and not sent:
            raise BlockingIOError
        return sent

    def shutdown(self, how: int) -> None:
        """Say close_notify, as far as the kernel takes it now, and that nothing more comes on the TCP connection."""
        if how != socket.SHUT_RD:
            try:
                self.unwrap()
            except (OSError, ValueError):
                pass  # it has gone out and the peer's has not come, or nobody listens any more
        socket.socket.shutdown(self, how)

    async def shake_hands(self) -> None:
        """Agree on keys. The caller has a deadline.

        Raises:
            TlsError: The peer, or what it showed, is not acceptable to one of the two.
            OSError: The connection broke.
        """
        while True:
            try:
                self.do_handshake()
            except ssl.SSLWantReadError:
                await self._wait("read")
            except ssl.SSLWantWriteError:
                await self._wait("write")
            except OSError as error:
                raise translated(error, "closed during the handshake") from None
            else:
                return


async def secure(
    connection: socket.socket, context: ssl.SSLContext, *, server: bool, name: str | None = None
) -> TlsSocket:
    """Make a connected socket a TLS one; the plain one is no more, and is closed on every way out but the good one.

    Args:
        connection: Non-blocking.
        context: With `TlsSocket` as its class of sockets, as `new_context` makes it.
        server: Whether we are the server.
        name: The server's name, to be sent as SNI.

    Raises:
        TlsError: As `TlsSocket.shake_hands`.
        OSError: The connection broke.
    """
    try:
        secured = context.wrap_socket(
            connection,
            server_side=server,
            do_handshake_on_connect=False,
            server_hostname=None if server else name,
        )
    except BaseException:
        connection.close()
        raise
    assert isinstance(secured, TlsSocket)  # noqa: S101  the context says so
    try:
        await secured.shake_hands()
    except BaseException:
        trio.lowlevel.notify_closing(secured.fileno())
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
