"""The head of an HTTP CONNECT request, from bytes to an answer. Sans-I/O: h11 reads, this decides.

Source: RFC 9110, 9.3.6 CONNECT, and 11 on authentication; RFC 7617 Basic. What spice-gtk sends is GLib's GHttpProxy:
HTTP/1.0, no body.
"""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11

from spiceproxy.address import Address
from spiceproxy.protocol.resolving import is_address
from spiceproxy.ways.allowing import Allowed

MAX_HEAD_BYTES: Final = 16 * 2**10
# Without brackets GLib writes an IPv6 address as well (ghttpproxy.c, create_request()), and a name of Proxmox VE.
_TARGET: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._:-]{1,400})):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is granted."""

    target: Address


@dataclass(frozen=True, slots=True)
class Refused:
    """One that is not."""

    status: int
    reason: str  # for the log and for the client


class ConnectRequest:
    """One request.

    Args:
        allowed: Where clients may go.
        credentials: USER:PASSWORD that they have to give, if any.
        proxmox: Whether names of Proxmox VE lead anywhere.
    """

    def __init__(self, allowed: Allowed, credentials: str | None, *, proxmox: bool = False) -> None:
        self._allowed, self._credentials, self._proxmox = allowed, credentials, proxmox
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    def receive(self, data: bytes) -> tuple[int, Asked | Refused | None]:
        """Take bytes, b"" at the end of the stream.

        Returns:
            How many of them belong to the request, and what comes of it; None if more are needed.
        """
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            return len(data), Refused(error.error_status_hint, f"no HTTP request: {error}")
        if event is h11.NEED_DATA:
            return len(data), None
        if not isinstance(event, h11.Request):
            return len(data), Refused(400, "closed before its HTTP request was whole")
        rest, _ = self._http.trailing_data
        return len(data) - len(rest), self._judge(event)

    def _judge(self, request: h11.Request) -> Asked | Refused:
        if request.method != b"CONNECT":
            method = request.method.decode("ascii", "backslashreplace")[:20]
            return Refused(405, f"{method} request; this proxy takes CONNECT only")
        names = {name for name, _ in request.headers}
        if b"content-length" in names or b"transfer-encoding" in names:
            return Refused(400, "CONNECT request with a body")
        if self._credentials is not None and not self._authorised(request):
            return Refused(407, "no proxy credentials, or wrong ones")
        found = _TARGET.fullmatch(request.target.decode("ascii", "backslashreplace"))
        if found is None or not 1 <= int(found[3]) <= 65535:
            return Refused(400, "CONNECT to what is no HOST:PORT")
        target = Address(found[1] or found[2], int(found[3]))
        if target.proxmox_node is not None:
            if not self._proxmox:
                reason = "a name that only the proxy of Proxmox VE knows (--upstream-proxy http://NODE:3128)"
                return Refused(403, f"{target} is {reason}")
        elif ":" in target.host and not is_address(target.host):
            return Refused(400, "CONNECT to what is no HOST:PORT")
        if target not in self._allowed:
            return Refused(403, f"{target} is not an allowed destination (--allow)")
        return Asked(target)

    def _authorised(self, request: h11.Request) -> bool:
        assert self._credentials is not None  # noqa: S101  the caller asked
        given = next((value for name, value in request.headers if name == b"proxy-authorization"), b"")
        scheme, _, token = given.partition(b" ")
        try:
            credentials = base64.b64decode(token.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        same = hmac.compare_digest(credentials, self._credentials.encode())
        return scheme.lower() == b"basic" and same

    def answer(self, result: Asked | Refused) -> bytes:
        """The response; after it the connection is a tunnel, or is closed. b"" if the client has closed already."""
        if self._http.our_state is h11.MUST_CLOSE:
            return b""
        if isinstance(result, Asked):
            return self._response(200, "Connection established", [])
        body = result.reason.encode("ascii", "backslashreplace") + b"\n"
        headers = [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *_MORE_HEADERS.get(result.status, []),
        ]
        return self._response(result.status, HTTPStatus(result.status).phrase, headers) + body

    def _response(self, status: int, phrase: str, headers: list[tuple[str, str]]) -> bytes:
        return (
            self._http.send(h11.Response(status_code=status, reason=phrase.encode(), headers=headers)) or b""
        )


_MORE_HEADERS: Final = {
    405: [("Allow", "CONNECT")],
    407: [("Proxy-Authenticate", 'Basic realm="spiceproxy", charset="UTF-8"')],
}
