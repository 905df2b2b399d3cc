"""Who asks a proxy for something: `spiceproxy ctl`. Blocks; one connection for each request."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from spiceproxy.address import Address
from spiceproxy.control import runtime
from spiceproxy.control.options import parse_control, text_of
from spiceproxy.errors import UsageError

_ANSWER_S: Final = 30.0
_MAX_LINE: Final = 2**20


class Client:
    """Asks one proxy.

    Args:
        address: Of its API.
        token: That it wants to see.
    """

    def __init__(self, address: Address | Path, token: str) -> None:
        self.address, self._token = address, token

    @classmethod
    def found(cls, address: str | None, token_file: Path | None) -> "Client":
        """For the proxy that is meant: the only one that runs, unless an address is given.

        Args:
            address: As `--control` takes it.
            token_file: Its token, if it is not to be found by itself.

        Raises:
            UsageError: There is none, or several.
        """
        cards = runtime.running()
        if address is None:
            if not cards:
                raise UsageError("no proxy with --control runs; or give its address: --control ADDRESS")
            if len(cards) > 1:
                told = ", ".join(f"{card.address} ({card.listen} for {card.server})" for card in cards)
                raise UsageError(f"{len(cards)} proxies run; say which with --control: {told}")
            address = cards[0].address
        where = parse_control(address, any_port=False)
        if token_file is not None:
            return cls(where, runtime.read_token(token_file))
        for card in cards:
            if card.address == text_of(where):
                return cls(where, card.token or runtime.read_token(Path(card.token_file or "")))
        raise UsageError(f"the token of the proxy at {address} is not known here: give --token-file")

    def ask(
        self, method: str, path: list[str], *, body: bytes | None = None, content_type: str | None = None
    ) -> Any:
        """The answer, from JSON.

        Raises:
            UsageError: There is none, or the proxy says no.
        """
        with self._asked(method, path, {}, body, content_type, _ANSWER_S) as answer:
            return msgspec.json.decode(answer.read())

    def lines(
        self,
        method: str,
        path: list[str],
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        silence_s: float | None = None,
    ) -> Iterator[Any]:
        """An answer of lines, as they come.

        Args:
            method: Of HTTP.
            path: Its segments.
            query: Parameters.
            body: JSON.
            silence_s: How long to wait for a line; None: for ever.

        Raises:
            UsageError: As `ask`; or the proxy has ended.
        """
        with self._asked(method, path, query or {}, body, "application/json", silence_s) as answer:
            while line := answer.readline(_MAX_LINE):
                yield msgspec.json.decode(line)

    @contextlib.contextmanager
    def _asked(
        self,
        method: str,
        path: list[str],
        query: dict[str, str],
        body: bytes | None,
        content_type: str | None,
        silence_s: float | None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = (
            _UnixConnection(self.address, silence_s)
            if isinstance(self.address, Path)
            else http.client.HTTPConnection(self.address.host, self.address.port, timeout=silence_s)
        )
        target = "/" + "/".join(quote(segment, safe="") for segment in path)
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None and content_type is not None:
            headers["Content-Type"] = content_type
        try:
            with contextlib.closing(connection):
                connection.request(method, f"{target}?{urlencode(query)}" if query else target, body, headers)
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise UsageError(_reason(answer))
                yield answer
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            reason = (
                (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            )
            raise UsageError(f"{text_of(self.address)} does not answer: {reason.lower()}") from None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


def _reason(answer: http.client.HTTPResponse) -> str:
    try:
        return str(msgspec.json.decode(answer.read(_MAX_LINE))["error"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return f"{answer.status} {answer.reason}"
