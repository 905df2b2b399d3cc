"""A simulated SPICE server with a guest behind it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import trio

from dissectors.message_ids import Display
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate import bodies
from spiceproxy.simulate.errors import ConnectionLost, RuleBroken, SimulationError
from spiceproxy.simulate.guest import Guest, Handover
from spiceproxy.simulate.server_channel import ServerChannel
from spiceproxy.simulate.server_channels import KINDS, CursorServer, DisplayServer
from spiceproxy.simulate.server_links import Door
from spiceproxy.simulate.server_migration import SourceMigration, describe_destination
from spiceproxy.simulate.server_options import ChannelView, ServerOptions
from spiceproxy.simulate.server_session import ServerSession
from spiceproxy.simulate.steps import Outcome, Source
from spiceproxy.simulate.watch import Watched, running
from spiceproxy.simulate.wire import MAIN, ChannelKey

Kind = TypeVar("Kind", bound=ServerChannel)
NO_PORT = 0xFFFF  # how QEMU says that there is no such port


class SimulatedServer(Watched):
    """A SPICE server; run it with ``await nursery.start(server.serve)`` or `open_server`.

    Attributes:
        options: As given.
        address: Where it listens, once it does.
        guest: The virtual machine.
        has_guest: Whether the guest is here; an `incoming` server waits for it.
        devices_stalled: While true, agent and device channels do not read what the client sends them.
        session: The connected client, or None.
        source: The migration that this server is the source of.
        migration_completed: Set when a migration has ended and the client has left (SPICE_MIGRATE_COMPLETED).
    """

    def __init__(self, options: ServerOptions | None = None) -> None:
        """Set up a server that does not listen yet.

        Raises:
            SimulationError: There is no such channel.
        """
        super().__init__()
        self.options = options = options or ServerOptions()
        self.name = options.name
        self.channel_keys = tuple(ChannelKey.parse(text) for text in options.channels)
        if unknown := [key.name for key in self.channel_keys if key.type not in KINDS]:
            raise SimulationError(f"no simulation of {', '.join(unknown)}")
        self.address: Address | None = None
        self.guest, self.has_guest, self.devices_stalled = Guest(), not options.incoming, False
        self.session: ServerSession | None = None
        self.source = SourceMigration(self)
        self.migration_completed = trio.Event()
        self._door = Door(self)
        self._nursery: trio.Nursery | None = None
        self._started_at = time.monotonic()

    async def serve(self, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; the bound address is what ``nursery.start`` returns.

        Raises:
            SimulationError: The address is taken.
        """
        options = self.options
        try:
            listeners = await trio.open_tcp_listeners(options.port, host=options.host)
        except OSError as error:
            raise SimulationError(
                f"{options.name}: cannot listen on {options.host}:{options.port}: {error}"
            ) from error
        self.address = Address(*listeners[0].socket.getsockname()[:2])
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started(self.address)
            try:
                await trio.serve_listeners(self._door.serve, listeners, handler_nursery=nursery)
            finally:
                self._nursery = None
                if self.session is not None:
                    self.session.end()

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Serve a connection that somebody else has accepted, to its end. The server must be running."""
        await self._door.serve(stream)

    # What a test or a demo makes it do.

    def draw(self, count: int = 1, *, image: tuple[int, int] | None = None) -> None:
        """Let the guest draw. Messages are queued, however many; see `drawn`.

        Args:
            count: Messages for each display.
            image: Width and height of an uncompressed image per message; without, a coloured rectangle.

        Raises:
            SimulationError: The guest is not here.
        """
        self._need_guest()
        width, height = self.guest.surfaces[0]
        for _ in range(count):
            self.guest.drawn += 1
            step = self.guest.drawn * 16
            left, top = step % (width - 64), step % (height - 64)
            if image is None:
                kind, body = (
                    Display.DRAW_FILL,
                    bodies.draw_fill(0, left, top, 64, 64, (step * 2654435761) & 0xFFFFFF),
                )
            else:
                pixels = step.to_bytes(4, "little") * (image[0] * image[1])
                kind = Display.DRAW_COPY
                body = bodies.draw_copy(0, 0, 0, *image, image_id=self.guest.drawn, pixels=pixels)
            for channel in self._channels_of(DisplayServer):
                channel.draw(kind, body)

    def fill_screen(self, colour: int) -> None:
        """Let the guest paint the whole screen; `colour` is 0xRRGGBB."""
        self._need_guest()
        self.guest.drawn += 1
        body = bodies.draw_fill(0, 0, 0, *self.guest.surfaces[0], colour)
        for channel in self._channels_of(DisplayServer):
            channel.draw(Display.DRAW_FILL, body)

    async def drawn(self) -> None:
        """Wait until all that the guest drew is on the wire."""
        for channel in self._channels_of(DisplayServer):
            await channel.drained()

    def add_surface(self, width: int, height: int) -> int:
        """Let the guest make one more surface, off screen; returns its id."""
        self._need_guest()
        surface_id = max(self.guest.surfaces) + 1
        self.guest.surfaces[surface_id] = (width, height)
        for channel in self._channels_of(DisplayServer):
            channel.create_surface(surface_id, width, height)
        return surface_id

    def move_pointer(self, x: int, y: int) -> None:
        """Let the guest move its pointer."""
        self._need_guest()
        self.guest.pointer = (x, y)
        for channel in self._channels_of(CursorServer):
            channel.move(x, y)

    def inject(self, channel: str, kind: int, body: bytes = b"") -> None:
        """Send any message, right or wrong, behind what is queued.

        Raises:
            SimulationError: The client has no such channel.
        """
        self._linked(channel).outbox.put(kind, body)

    # Migration.

    def migrate_connect(
        self, host: str, port: int, sport: int = NO_PORT, cert_subject: str | None = None
    ) -> None:
        """Announce a destination to the client (QMP client_migrate_info). Returns at once.

        Raises:
            SimulationError: No usable port, or the server is not running.
        """
        self.source.begin(describe_destination(host, port, sport, cert_subject))

    async def wait_client_connected(self) -> Source:
        """Wait for what came of `migrate_connect`: SEAMLESS, CONNECTED, REFUSED, TIMED_OUT or NO_BEGIN.

        Raises:
            RuleBroken: The client broke a rule meanwhile.
            ConnectionLost: The client went away.
        """
        had_client = self.session is not None
        await self.wait_until(lambda: not self.source.is_waiting or (had_client and self.session is None))
        if had_client and self.session is None:
            raise ConnectionLost(f"{self.name}: the client went away before it had answered")
        return self.source.state

    def hand_over_to(self, other: "SimulatedServer") -> None:
        """Move the guest, as the hypervisors do beside SPICE. Call it before `migrate_end`, or after: the guest runs there.

        Raises:
            SimulationError: The guest is not here.
            RuleBroken: The client is not linked to `other` as it should be (R11, R12).
        """
        self._need_guest()
        handover = None
        if (session := self.session) is not None and self.source.state in {Source.CONNECTED, Source.SEAMLESS}:
            handover = Handover(session.session_id, frozenset(session.channels), session.payloads)
        self.has_guest = False
        other.guest_arrives(replace(self.guest), handover)

    def guest_arrives(self, guest: Guest, handover: Handover | None = None) -> None:
        """Start the guest here.

        Args:
            guest: Its state.
            handover: What to hold the client to; None to take it as it comes.

        Raises:
            RuleBroken: The client is not linked as it should be (R11, R12).
        """
        self.guest, self.has_guest = guest, True
        self.migration_completed = trio.Event()
        if self.session is not None:
            self.session.guest_came = True
        if self.session is not None and handover is not None:
            try:
                self.session.expect(handover)
            except RuleBroken as error:
                self.broken_rules.append(error)
                self._heard += 1
                self.session.end()
                raise
        if self.session is not None and self.session.is_target:
            for channel in self.session.channels.values():
                if not channel.parked:
                    channel.guest_runs()
            self.start_timer(self._await_display_data, self.session)
        self.notify()

    async def migrate_end(self, *, completed: bool = True) -> Outcome:
        """End the migration for the client, and wait until it has left (spice_server_migrate_end).

        Returns:
            What the client was told.

        Raises:
            RuleBroken: What the client did wrong, or that it did not leave in time (R28, R44).
        """
        return await self.source.end(completed=completed)

    async def wait_client_arrived(self, told: Outcome | None = None) -> None:
        """Wait until a client has arrived, every channel of it, by migration or as a new session with all channels.

        Args:
            told: What the source has told it. After MIGRATE and MIGRATE_END it is linked here, or lost.

        Raises:
            RuleBroken: The client broke a rule meanwhile.
            ConnectionLost: It has left.
        """
        is_linked = told in {Outcome.MIGRATE, Outcome.MIGRATE_END}
        await self.wait_until(lambda: self._is_client_complete() or (is_linked and self.session is None))
        if self.session is None:
            raise ConnectionLost(f"{self.name}: the client went away before it had arrived")

    def _is_client_complete(self) -> bool:
        session = self.session
        if (
            session is None
            or not session.has_arrived
            or not all(c.is_ready for c in session.channels.values())
        ):
            return False
        return session.is_target or session.channels.keys() >= {MAIN, *self.channel_keys}

    # What is there to see.

    @property
    def channels(self) -> tuple[ChannelView, ...]:
        """What the client has linked."""
        session = self.session
        return tuple(
            ChannelView(
                channel.name,
                channel.wire.remote,
                channel.wire.local,
                "mini" if channel.wire.mini_header else "full",
                {message_name(key.type, Side.CLIENT, kind): n for kind, n in channel.wire.received.items()},
                {message_name(key.type, Side.SERVER, kind): n for kind, n in channel.wire.sent.items()},
            )
            for key, channel in sorted(session.channels.items() if session is not None else ())
        )

    @property
    def mm_time(self) -> int:
        """The multimedia clock, in milliseconds."""
        return int((time.monotonic() - self._started_at) * 1000) & 0xFFFFFFFF

    def abort(self) -> None:
        """Reset every connection and stop, as a hypervisor that dies."""
        for channel in self.session.channels.values() if self.session is not None else ():
            channel.wire.abort()
        self.close()

    def close(self) -> None:
        """Stop listening and close every connection; `serve` returns."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    # For its parts.

    def start_timer(self, task: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run something that waits, as long as the server runs."""
        if self._nursery is None:
            raise SimulationError(f"{self.name} is not running")
        self._nursery.start_soon(task, *args)

    def session_ended(self, session: ServerSession) -> None:
        """A session is over."""
        if self.session is session:
            self.session = None
            self.source.client_left()
        self.notify()

    def client_arrived(self) -> None:
        """The client's arrival is complete."""
        self.source.client_arrived()
        self.notify()

    def _need_guest(self) -> None:
        if not self.has_guest:
            raise SimulationError(f"{self.name}: the guest is not here")

    def _channels_of(self, kind: type[Kind]) -> list[Kind]:
        return (
            [c for c in self.session.channels.values() if isinstance(c, kind)]
            if self.session is not None
            else []
        )

    def _linked(self, name: str) -> ServerChannel:
        key = ChannelKey.parse(name)
        if self.session is None or key not in self.session.channels:
            raise SimulationError(f"{self.name}: no client has linked {key.name}")
        return self.session.channels[key]

    async def _await_display_data(self, session: ServerSession) -> None:
        """The guest waits so long for the state of its displays, then runs without them."""
        await trio.sleep(self.options.migrate_timeout_s)
        if self.session is session:
            for display in self._channels_of(DisplayServer):
                if display.owes_data:
                    detail = (
                        f"no MIGRATE_DATA within {self.options.migrate_timeout_s:g} s of the guest's start"
                    )
                    self.report(display.broken("R45", detail))
                    display.scope.cancel()


@asynccontextmanager
async def open_server(options: ServerOptions | None = None) -> AsyncIterator[SimulatedServer]:
    """Run a server for a while; everything is closed on every way out.

    Raises:
        SimulationError: The address is taken.
        RuleBroken: A client broke a rule that nobody has heard of yet.
    """
    server = SimulatedServer(options)
    async with running(server, server.name, server.serve):
        yield server
