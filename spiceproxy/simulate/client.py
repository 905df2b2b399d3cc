"""A simulated SPICE client."""

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from dissectors.channels import ChannelType
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate.client_channel import ClientChannel
from spiceproxy.simulate.client_channels import CursorClient, DeviceClient, DisplayClient, InputsClient
from spiceproxy.simulate.client_migration import MigrationReport
from spiceproxy.simulate.client_session import ClientSession
from spiceproxy.simulate.errors import RuleBroken, SimulationError
from spiceproxy.simulate.groups import leaves
from spiceproxy.simulate.linking import CLIENT_CAPS, Dial
from spiceproxy.simulate.tickets import MAX_PASSWORD_CHARACTERS
from spiceproxy.simulate.watch import Watched, running
from spiceproxy.simulate.wire import ChannelKey, Observer, Wire

Kind = TypeVar("Kind", bound=ClientChannel)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a simulated client behaves. The defaults are spice-gtk 0.42 as far as we can do what it can.

    Attributes:
        name: What observers call it.
        password: For the ticket; None sends an empty one.
        tls: With the CAs that it trusts; None: it does not speak TLS.
        channels: Names such as ``display``, ``usbredir:1`` to link if they are offered; None for all.
        mini_header: Whether SPICE_COMMON_CAP_MINI_HEADER is announced.
        main_caps: Capability words of main. Without bit 0 there is no BEGIN, without 2 or 3 no seamless migration.
        connect_timeout_s: For each TCP connection.
        link_timeout_s: For each link phase, and for the destination's answer to DO_SEAMLESS. spice-gtk waits forever.
        observer: Called with every message sent and received.
        dial: Connects to a server, where TCP to its address will not do: through an HTTP proxy, say.
    """

    name: str = "client"
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    channels: tuple[str, ...] | None = None
    mini_header: bool = True
    main_caps: tuple[int, ...] = CLIENT_CAPS[ChannelType.MAIN]
    connect_timeout_s: float = 10.0
    link_timeout_s: float = 30.0
    observer: Observer | None = None
    dial: Dial | None = None


@dataclass(frozen=True, slots=True)
class ClientChannelView:
    """A linked channel, as a table wants it.

    Attributes:
        server: The other end of the TCP connection: the server, or a proxy.
        local: This end.
        header: ``mini`` or ``full``.
        received, sent: Messages by name, on this connection.
    """

    name: str
    server: Address
    local: Address
    header: str
    received: dict[str, int]
    sent: dict[str, int]


class SimulatedClient(Watched):
    """A SPICE client; run it with ``await nursery.start(client.run)`` or `open_client`, then `connect`.

    Attributes:
        options: As given.
        session: What is connected, or None.
        migrations: Every migration so far, the current one last.
        secure: Addresses where it speaks TLS, and the subject that the certificate has to have there.
    """

    def __init__(self, options: ClientOptions | None = None) -> None:
        """Set up a client that is not connected.

        Raises:
            SimulationError: There is no such channel, or the password is too long.
        """
        super().__init__()
        self.options = options = options or ClientOptions()
        self.name = options.name
        if len(options.password or "") > MAX_PASSWORD_CHARACTERS:
            raise SimulationError(f"a password has at most {MAX_PASSWORD_CHARACTERS} characters")
        names = options.channels
        self.wanted_channels = None if names is None else frozenset(map(ChannelKey.parse, names))
        self.session: ClientSession | None = None
        self.migrations: list[MigrationReport] = []
        self.secure: dict[Address, str | None] = {}
        self._reported = 0
        self._nursery: trio.Nursery | None = None
        self._counted: Counter[tuple[ChannelKey, int]] = Counter()

    async def run(self, task_status: trio.TaskStatus["SimulatedClient"] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until cancelled or closed; ``nursery.start`` returns the client."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started(self)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def connect(
        self, host: str, port: int, *, secure: bool = False, subject: str | None = None
    ) -> None:
        """Open a session and link every channel that the server offers and this client wants.

        Args:
            host: The server, or the proxy.
            port: Its port.
            secure: With TLS.
            subject: That the certificate has to have then; None: it has to be of the host.

        Raises:
            LinkRefused: The server said no.
            ConnectionLost: Nobody there, or gone.
            RuleBroken: The server broke a rule.
            SimulationError: Connected already, or the client is not running.
        """
        if self._nursery is None:
            raise SimulationError(
                f"{self.name} is not running: use open_client() or nursery.start(client.run)"
            )
        if self.session is not None:
            raise SimulationError(f"{self.name} is connected already")
        if secure:
            self.secure[Address(host, port)] = subject
        self.session = ClientSession(self, Address(host, port))
        self._nursery.start_soon(self._live, self.session)
        await self.wait_until(lambda: self.session is not None and self.session.is_ready)

    async def wait_migrated(self) -> MigrationReport:
        """Wait for the end of the next migration that was not reported yet. Put a deadline around it.

        Raises:
            RuleBroken: A server broke a rule.
            SimulationError: The session ended.
        """
        await self.wait_until(lambda: len(self._ended()) > self._reported)
        self._reported += 1
        return self._ended()[self._reported - 1]

    def _ended(self) -> list[MigrationReport]:
        return [report for report in self.migrations if report.ended_at is not None]

    # What a test or a demo makes it do.

    def send_key(self, scan_code: int = 0x1E) -> None:
        """Press and release a key."""
        inputs = self._channel(InputsClient, ChannelType.INPUTS)
        inputs.press(scan_code, down=True)
        inputs.press(scan_code | 0x80, down=False)

    def send_motion(self, dx: int = 1, dy: int = 1) -> None:
        """Move the mouse."""
        self._channel(InputsClient, ChannelType.INPUTS).motion(dx, dy)

    def send_agent(self, data: bytes) -> None:
        """Send bytes to the guest's agent."""
        session = self._connected()
        assert session.main is not None  # noqa: S101 - it is connected
        session.main.send_agent(data)

    def send_device(self, channel: str, data: bytes) -> None:
        """Send bytes to a usbredir, port or webdav device."""
        key = ChannelKey.parse(channel)
        self._channel(DeviceClient, key.type, key.id).send(data)

    def inject(self, channel: str, kind: int, body: bytes = b"", *, urgent: bool = False) -> None:
        """Send any message, right or wrong; an urgent one goes even while the channel is held for a migration."""
        key = ChannelKey.parse(channel)
        self._connected().find(ChannelType(key.type), key.id).put(kind, body, urgent=urgent)

    def disconnect(self) -> None:
        """Close the session."""
        if self.session is not None:
            self.session.end()

    def close(self) -> None:
        """Close everything; `run` returns."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    # What is there to see.

    @property
    def is_connected(self) -> bool:
        """Whether a session is open with all its channels."""
        return self.session is not None and self.session.is_ready

    @property
    def channels(self) -> tuple[ClientChannelView, ...]:
        """What is linked."""
        channels = self.session.channels if self.session is not None else {}
        return tuple(
            ClientChannelView(
                channel.name,
                channel.wire.remote,
                channel.wire.local,
                "mini" if channel.wire.mini_header else "full",
                {message_name(key.type, Side.SERVER, kind): n for kind, n in channel.wire.received.items()},
                {message_name(key.type, Side.CLIENT, kind): n for kind, n in channel.wire.sent.items()},
            )
            for key, channel in sorted(channels.items())
        )

    @property
    def received(self) -> Counter[str]:
        """Messages by name over all channels, sessions and servers."""
        total: Counter[str] = Counter()
        for (key, kind), count in self._counted.items():
            total[message_name(key.type, Side.SERVER, kind)] += count
        return total

    def count(self, wire: Wire, kind: int) -> None:
        """Count a message."""
        self._counted[wire.key, kind] += 1

    @property
    def drawn(self) -> int:
        """Drawing messages on all displays of this session, across migrations."""
        channels = self.session.channels.values() if self.session is not None else ()
        return sum(channel.drawn for channel in channels if isinstance(channel, DisplayClient))

    @property
    def pointer(self) -> tuple[int, int]:
        """Where the guest's pointer is, in pixels."""
        return self._channel(CursorClient, ChannelType.CURSOR).position

    # For its parts.

    def session_ready(self, session: ClientSession) -> None:
        """All channels are linked: a switch of hosts ends here."""
        report = self.migrations[-1] if self.migrations else None
        if report is not None and report.kind == "switch-host" and report.ended_at is None:
            report.ended_at = trio.current_time()
            report.moved = {channel.name: channel.wire.local for channel in session.channels.values()}
        self.notify()

    async def changed(self) -> None:
        """Wait for any change."""
        await self._changed.wait()

    async def _live(self, session: ClientSession) -> None:
        """Live a session, and those that SWITCH_HOST leads to."""
        while True:
            self.session = session
            try:
                await session.run()
            except* RuleBroken as group:
                for broken in leaves(group):
                    self.report(broken)
            except* SimulationError as group:
                self.fail(leaves(group)[0])
            next_server, self.session = session.next_server, None
            if next_server is None:
                break
            session = ClientSession(self, next_server)
        self.notify()

    def _connected(self) -> ClientSession:
        if self.session is None or self.session.main is None:
            raise SimulationError(f"{self.name} is not connected")
        return self.session

    def _channel(self, kind: type[Kind], channel_type: int, number: int = 0) -> Kind:
        channel = self._connected().find(ChannelType(channel_type), number)
        assert isinstance(channel, kind)  # noqa: S101 - the type decides the class
        return channel


@asynccontextmanager
async def open_client(options: ClientOptions | None = None) -> AsyncIterator[SimulatedClient]:
    """Run a client for a while; everything is closed on every way out.

    Raises:
        RuleBroken: A server broke a rule that nobody has heard of yet.
        SimulationError: The session failed, and nobody has heard of it yet.
    """
    client = SimulatedClient(options)
    async with running(client, client.name, client.run):
        yield client
