"""An HTTP proxy that stands between us and servers: the other side of `http_connect.py`.

Source: RFC 9110, 9.3.6 CONNECT. Which URIs spice-gtk takes for a proxy: spice-uri.c, spice_uri_parse().
"""

import base64
import errno
import socket
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.tls.stream import secure
from spiceproxy.ways.carrying import carry

MAX_HEAD_BYTES: Final = 16 * 2**10
_READ_BYTES: Final = 4096
_REASON_LETTERS: Final = 100
_DEFAULT_PORTS: Final = {"http": 3128, "https": 3129}


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """The proxy.

    Attributes:
        address: Where it is.
        tls: Whether it is spoken to with TLS.
        credentials: USER:PASSWORD, if it wants them.
    """

    address: Address
    tls: bool = False
    credentials: str | None = field(default=None, repr=False)


def parse_upstream(text: str) -> UpstreamProxy:
    """Parse what `--upstream-proxy`, SPICE_PROXY and `proxy=` in a .vv file take.

    That is [http[s]://][USER:PASSWORD@]HOST[:PORT], the port being 3128, or 3129 for https, if there is none.

    Raises:
        UsageError: It is nothing of the kind. The text does not repeat it, since it may hold a password.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"URI of the proxy: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise UsageError(
            f"{parts.scheme}:// is no URI of a proxy; give http://HOST:PORT or https://HOST:PORT"
        )
    if not host or not text.isprintable() or " " in text or parts.path not in {"", "/"} or parts.query:
        raise UsageError("the URI of a proxy is http://[USER:PASSWORD@]HOST:PORT and nothing more")
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return UpstreamProxy(
        Address(host, port or _DEFAULT_PORTS[parts.scheme]), parts.scheme == "https", credentials
    )


class TunnelRefusedError(OSError):
    """There is no tunnel; `strerror` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNREFUSED, reason)


class TunnelRequest:
    """One request. Sans-I/O: h11 reads and writes.

    Args:
        server: Where the tunnel is to lead.
        credentials: USER:PASSWORD for the proxy.
    """

    def __init__(self, server: Address, credentials: str | None) -> None:
        import h11  # late: few need it

        self._h11 = h11
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        headers = [("Host", server.authority)]
        if credentials is not None:
            token = base64.b64encode(credentials.encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {token}"))
        try:
            request = h11.Request(method="CONNECT", target=server.authority, headers=headers)
        except (h11.LocalProtocolError, UnicodeError):
            raise TunnelRefusedError("not a host name") from None
        self.data: Final = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        """What is to be sent."""

    def receive(self, data: bytes) -> bool:
        """Take bytes, b"" at the end of the stream; whether the tunnel is open.

        Raises:
            TunnelRefusedError: It will not be.
        """
        h11 = self._h11
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._http.next_event()
        except h11.RemoteProtocolError:
            raise TunnelRefusedError("it did not answer as an HTTP proxy" if data else "it closed") from None
        if event is h11.NEED_DATA:
            return False
        assert isinstance(event, h11.Response)  # noqa: S101  its state machine begins with nothing else
        if not 200 <= event.status_code < 300:
            reason = event.reason.decode("ascii", "backslashreplace")[:_REASON_LETTERS]
            raise TunnelRefusedError(f"it answered {event.status_code} {reason}".rstrip())
        if self._http.trailing_data[0]:  # neither SPICE nor TLS has a server that speaks first
            raise TunnelRefusedError("it said more than it was asked")
        return True


class Upstream:
    """Makes connections through the proxy.

    Args:
        proxy: Which.
        nursery: Where TLS to it is carried.
    """

    def __init__(self, proxy: UpstreamProxy, nursery: trio.Nursery) -> None:
        self._proxy, self._nursery = proxy, nursery
        self._context = ssl.create_default_context() if proxy.tls else None

    async def connect(self, server: Address, timeout_s: float) -> socket.socket:
        """Connect to a server.

        Raises:
            OSError: The proxy cannot be reached, or would not; a timeout is a TimeoutError.
        """
        proxy = self._proxy.address
        try:
            with trio.fail_after(timeout_s):
                return await self._connect(server, timeout_s)
        except trio.TooSlowError:
            raise TimeoutError(
                errno.ETIMEDOUT, f"the proxy {proxy} has not answered within {timeout_s:g} s"
            ) from None
        except OSError as error:
            raise OSError(error.errno, f"the proxy {proxy}: {error.strerror or error}") from None

    async def _connect(self, server: Address, timeout_s: float) -> socket.socket:
        request = TunnelRequest(server, self._proxy.credentials)
        connection = await sockets.connect(self._proxy.address, timeout_s)
        if self._context is not None:
            secured = await secure(connection, self._context, server=False, name=self._proxy.address.host)
            connection = carry(secured, self._nursery)
        try:
            await sockets.send_all(connection, request.data)
            while not request.receive(await sockets.receive(connection, _READ_BYTES)):
                pass
        except BaseException:
            sockets.close(connection)
            raise
        return connection
