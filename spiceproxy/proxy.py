"""The proxy: listeners, sessions, and what all connections share."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from dissectors.link import LinkMessage
from spiceproxy import clock, sockets
from spiceproxy.address import Address
from spiceproxy.destinations import Destinations, Listener, Way
from spiceproxy.following.follower import MigrationFollower
from spiceproxy.following.watching import Watching
from spiceproxy.injection import Faults, Injector
from spiceproxy.limits import JOIN_COST_S, Gate, Place
from spiceproxy.live_sessions import LiveSessions
from spiceproxy.protocol.migration.model import Kind, Migration, Violation
from spiceproxy.protocol.resolving import AddressedSessions
from spiceproxy.protocol.session import Sessions
from spiceproxy.proxy_session import SessionView
from spiceproxy.recording.conversations import Conversations
from spiceproxy.recording.recordings import Recordings, open_recordings
from spiceproxy.relay.arrival import Arrival
from spiceproxy.relay.connection import Connection, ConnectionView
from spiceproxy.relay.fairness import Fairness, metered
from spiceproxy.relay.tunnel import tunnel
from spiceproxy.report.verdict import Report
from spiceproxy.shared import ProxyConfig, Shared
from spiceproxy.tls.ends import Tls
from spiceproxy.ways.dialing import Dialer
from spiceproxy.ways.entrance import Entrance
from spiceproxy.ways.foreign import check_mark, make_transparent
from spiceproxy.ways.inside_tls import Subjects

if TYPE_CHECKING:  # it looks at this module itself
    from spiceproxy.control.server import Control

__all__ = ["ConnectionView", "Proxy", "ProxyConfig", "SessionView", "open_proxy"]

# A server that is not there yet when the proxy starts is asked for its certificate when the first client comes.
LEARN_S: Final = 3.0


class Proxy:
    """A running proxy. `open_proxy` makes one."""

    def __init__(
        self,
        config: ProxyConfig,
        first: Sequence[tuple[Way, socket.socket]],
        recordings: Recordings | None,
        nursery: trio.Nursery,
        tls: Tls | None = None,
    ) -> None:
        self.config, self.tls = config, tls
        self._nursery = nursery
        self.gate = Gate(config.limits, config.events)
        """Who is let in. Its limits may be changed while the proxy runs."""
        hosts = {way.tls: listen.machine for listen, way in config.first_ways()}
        if config.inherited is not None:  # then clients come by that, whatever is said of `listen`
            hosts[first[0][0].tls] = sockets.local_address(first[0][1]).machine
        destinations = Destinations(
            hosts, config.destination_ports or (0,), nursery, self._accepted, config.events, self.gate
        )
        self._follower = MigrationFollower(config.events, judge=config.judge, settings=config.patience)
        faults = _faults(config)
        self.injector = (
            Injector(faults, self._follower, nursery, config.events) if faults is not None else None
        )
        """Faults, if there are or may be any."""
        offered = {way.tls: way.server_tls for way, _ in first}
        fairness = Fairness()
        dialer = Dialer(config.ways, config.first_server, config.connect_timeout_s, nursery, tls, fairness)
        if self.injector is not None:
            self.injector.reach = dialer.reach(None)
        subjects = Subjects(None if config.tls is None else config.tls.server_subject)
        sessions = Sessions() if config.ways.mode.rewrites else AddressedSessions()
        self._shared = Shared(
            config,
            destinations,
            recordings,
            self._follower,
            self.gate,
            dialer,
            sessions,
            subjects,
            self.injector,
            tls,
            offered,
            fairness=fairness,
        )
        self._entrance = Entrance(
            config.ways,
            [listen for listen, _ in config.first_ways()],
            tls,
            subjects if config.tls is not None and config.tls.inside else None,
            config.link_timeout_s,
            dialer.own,
            nursery,
            fairness,
        )
        nursery.start_soon(self._follower.run)
        nursery.start_soon(clock.watch, config.events)
        self._unrecorded = False
        if recordings is not None and config.recording.on_full == "end-sessions":
            recordings.on_lost = self._recording_lost
        self._live = LiveSessions(self._shared, nursery)
        self._connections = 0
        self._first = [destinations.adopt(way, listening) for way, listening in first]

    @property
    def address(self) -> Address:
        """Where clients connect to; in clear, if they can."""
        return self._first[0].address

    @property
    def tls_address(self) -> Address | None:
        """Where clients connect to with TLS, if they can."""
        return next((each.address for each in self._first if each.way.tls), None)

    @property
    def plain_address(self) -> Address | None:
        """Where clients connect to in clear, if they can."""
        return next((each.address for each in self._first if not each.way.tls), None)

    @property
    def host_subject(self) -> str | None:
        """What clients find as the subject of the first server's certificate, if that is known."""
        if self.tls is None:
            return None
        ways = [each.way for each in self._first if each.way.tls]
        return self.tls.subject_of(ways[0].peer) if ways else None

    @property
    def host(self) -> str:
        """The host part of `address`."""
        return self.address.host

    @property
    def port(self) -> int:
        """The port part of `address`."""
        return self.address.port

    async def learn(self) -> None:
        """Look at the first server's certificate, so that the first client can be shown its like, and mistakes show early."""
        for way in {each.way.peer: each.way for each in self._first if each.way.server_tls}.values():
            try:
                sockets.close(await self._shared.dialer.secured(way, None, LEARN_S))
            except OSError as error:
                self.config.events.warning(
                    "server_unknown", server=str(way.server), reason=error.strerror or str(error)
                )

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """All live sessions and the latest ended ones, in the order they began."""
        return self._live.views()

    @property
    def migrations(self) -> list[Migration]:
        """Those of all sessions, in the order in which they began; also after the proxy has stopped."""
        return self._follower.migrations

    @property
    def violations(self) -> list[Violation]:
        """Rules that were broken outside of any migration."""
        return self._follower.violations

    @property
    def migrations_forgotten(self) -> int:
        """How many there were before those that are kept."""
        return self._follower.forgotten

    @property
    def start_ns(self) -> int | None:
        """When the first connection was accepted."""
        return self._follower.start_ns

    def report(
        self, *, expected: Kind | None = None, file: str | None = None, conclude: bool = False
    ) -> Report:
        """What became of the migrations so far.

        Args:
            expected: As which each was to be performed.
            file: The recording's name.
            conclude: As if everything ended now, in a copy of its own: what goes on is judged by where it stands.
        """
        injector, told = self.injector, self._follower.as_of_now() if conclude else None
        return Report(
            self.migrations if told is None else told.all_migrations(),
            expected=expected,
            start_ns=self.start_ns,
            file=file,
            violations=self.violations if told is None else told.all_violations(),
            faults=tuple(injector.fired_faults) if injector is not None else (),
            faults_left_out=injector.left_out if injector is not None else 0,
            faults_never_fired=injector.never_fired() if injector is not None else (),
        )

    @property
    def recorder(self) -> Conversations | None:
        """What records all sessions, if anything does; sessions with recordings of their own have others."""
        recordings = self._shared.recordings
        return recordings.common if recordings is not None else None

    @property
    def watching(self) -> Watching:
        """Where somebody can wait for messages that pass."""
        return self._shared.watching

    @property
    def live_sessions(self) -> int:
        """Sessions that are open."""
        return len(self._live)

    @property
    def listeners(self) -> int:
        """Ports that clients can come to."""
        return len(self._shared.destinations)

    @property
    def healthy(self) -> bool:
        """Whether clients are let in as they should be."""
        return not self._unrecorded

    @property
    def totals(self) -> dict[str, int]:
        """Connections and sessions so far."""
        return {"connections": self._connections, "sessions": self._shared.sessions.count}

    async def _accepted(self, accepted: socket.socket, listener: Listener) -> None:
        """One connection, in a task of its own, until its session is known."""
        self._connections += 1
        try:
            arrival = Arrival(self._shared, accepted, listener, self._connections)
        except OSError:  # gone before it could be looked at
            sockets.close(accepted)
            return
        if self._unrecorded:
            host, reason = arrival.client.machine, "nothing can be recorded any more"
            arrival.log.warning("connection_refused", client=host, reason=reason, connections=1)
            arrival.close()
            return
        if (place := self.gate.enter(arrival.client.machine)) is None:
            arrival.close()
            return
        try:
            await metered(self._begin(arrival, accepted, listener, place), self.gate.newcomers)
        except Exception as error:  # a bug of ours ends this connection, not its neighbours
            arrival.log.error("connection_crashed", reason=repr(error), exc_info=error)
            arrival.close()

    async def _begin(
        self, arrival: Arrival, accepted: socket.socket, listener: Listener, place: Place
    ) -> None:
        handed_over = False
        try:
            listener, mess = await self._first_word(arrival, accepted, listener, place)
            place.linked()
            if mess is not None:
                self.gate.newcomers.use(JOIN_COST_S)
                await self._live.join(Connection(self._shared, arrival), mess, listener, place)
                handed_over = True
        finally:
            if not handed_over:
                arrival.close()
                place.leave()

    async def _first_word(
        self, arrival: Arrival, accepted: socket.socket, listener: Listener, place: Place
    ) -> tuple[Listener, LinkMessage | None]:
        """The link message and where it leads to; None if there is none and the connection is over."""
        if (admitted := await self._entrance.admit(accepted, listener, arrival.log)) is None:
            return listener, None
        accepted, listener = admitted
        arrival.came_through(accepted, listener)
        if listener.way.unread:
            place.linked()
            self._tell_unread(listener, arrival.client.machine)
            await tunnel(self._shared, accepted, listener, arrival.log)
            return listener, None
        if not await arrival.secure():
            return listener, None
        if not await arrival.unwrap(self._entrance):
            return listener, None
        return listener, await arrival.read_link_message()

    def dump(self, reason: str) -> bool:
        """Write the last seconds of the recording to a file, if it is a ring; whether it is."""
        return self._shared.recordings is not None and self._shared.recordings.dump(reason)

    def _recording_lost(self, session: str | None) -> None:
        """What cannot be recorded shall not go on: this session, or all of them and whatever comes."""
        self._unrecorded = self._unrecorded or session is None
        self._live.end(session)

    def _tell_unread(self, listener: Listener, client_host: str) -> None:
        """A migration that leads through TLS cannot be seen: say so to those of which it may be a part."""
        for core in self._shared.sessions:
            if core.client_host == client_host and core.expects(listener.server):
                self._follower.unread(core.id, f"a TLS connection to {listener.server}, which cannot be read")


def _faults(config: ProxyConfig) -> Faults | None:
    """What is to be broken. Whoever controls the proxy may add to it at any time."""
    if config.control is None:
        return config.faults
    return replace(config.faults or Faults(), live=True)


@contextlib.contextmanager
def _controlled(config: ProxyConfig, first: socket.socket) -> "Iterator[Callable[[Proxy], Control] | None]":
    """Listen for who controls the proxy, if anybody may; gives what makes the control of it."""
    if config.control is None:
        yield None
        return
    from spiceproxy.control.server import Control, opened  # late: h11

    with opened(config.control, config, sockets.local_address(first)) as door:
        yield lambda proxy: Control(proxy, door)


@contextlib.asynccontextmanager
async def open_proxy(config: ProxyConfig) -> AsyncIterator[Proxy]:
    """Run a proxy for as long as the block runs; leaving it closes every connection and the recording.

    Raises:
        UsageError: The port or the recording cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Before the nursery, so that what the user did wrong arrives as it was raised and not in a group.
        first: list[tuple[Way, socket.socket]] = []
        for listen, way in config.first_ways():
            # The one that the service manager has opened is where clients connect.
            listening = config.inherited if not first else None
            if listening is None:
                listening = sockets.listen(listen.host, (listen.port,))
            first.append((way, stack.enter_context(listening)))
            stack.callback(sockets.remove_unix, listen)
            if config.ways.tproxy:
                make_transparent(first[-1][1])
            if config.ways.local:
                check_mark()
        tls = Tls(config.tls) if config.tls is not None else None
        control = stack.enter_context(_controlled(config, first[0][1]))
        recordings = (
            await stack.enter_async_context(open_recordings(config.record, config.recording, config.events))
            if config.record
            else None
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        proxy = Proxy(config, first, recordings, nursery, tls)
        await proxy.learn()
        config.events.info(
            "proxy_started",
            host=proxy.host,
            port=proxy.port,
            listen=str(proxy.address),
            plain=proxy.plain_address is not None,
            tls_listen=None if proxy.tls_address is None else str(proxy.tls_address),
            host_subject=proxy.host_subject,
            mode=str(config.ways.mode),
            server=str(config.first_server) if config.ways.mode.rewrites else None,
            record=str(config.record) if config.record else None,
        )
        if control is not None:
            await nursery.start(control(proxy).run)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
    for name in proxy.injector.never_fired() if proxy.injector is not None else ():
        config.events.warning("fault_never_fired", fault=name)
    config.events.info("proxy_stopped", **proxy.totals)
