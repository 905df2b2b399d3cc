"""The life of one connection: link message, server, link phase, messages, end."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import trio

from dissectors.channels import ChannelType, channel_name
from dissectors.link import LinkError
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.authentication import sasl_told, with_our_key
from spiceproxy.errors import ProtocolError
from spiceproxy.eventlog import EventLog
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.following.watching import Place
from spiceproxy.injection.faulty import FaultyConnection
from spiceproxy.protocol.framer import Framer
from spiceproxy.protocol.link import Phase, Unit
from spiceproxy.protocol.session import Session
from spiceproxy.recording.conversations import Conversations
from spiceproxy.relay.arrival import Arrival, log_secured
from spiceproxy.relay.fairness import Share, metered
from spiceproxy.relay.link_phase import ClosedEarlyError, refuse, relay_link
from spiceproxy.relay.observer import ChannelObserver
from spiceproxy.relay.pump import End, relay_data
from spiceproxy.shared import Shared

# In a recording, which has packets of IP, a server on a unix socket has this port.
UNIX_SERVER_PORT: Final = 5900

_SIDES: Final = {side.value: side for side in Side}

State = Literal["linking", "open", "closed"]


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A connection as it is now."""

    id: str
    channel: str
    hop: int
    server: Address
    client: Address
    upstream: Address | None  # our own address on the connection to the server, as the server sees its peer
    state: State
    messages: Mapping[str, int]  # from "client", from "server"


class Connection:
    """One channel of a client, from accept() to close().

    Args:
        shared: What all connections share.
        arrival: The client's side of it, with its link message; this object closes it.
    """

    def __init__(self, shared: Shared, arrival: Arrival) -> None:
        self._shared, self._arrival, self._listener = shared, arrival, arrival.listener
        self._upstream_socket: socket.socket | None = None
        self.id, self.client, self.log = arrival.id, arrival.client, arrival.log
        self._link = arrival.link
        self.hop = 0
        self._session = ""
        self._state: State = "linking"
        self._framers: dict[Side, Framer] | None = None
        self._upstream_address: Address | None = None
        self._followed: FollowedConnection | None = None
        self._observer: ChannelObserver | None = None
        self._faulty: FaultyConnection | None = None

    @property
    def channel(self) -> str:
        """As `display:0`."""
        mess = self._link.mess
        return f"{channel_name(mess.channel_type)}:{mess.channel_id}" if mess else "unknown"

    def view(self) -> ConnectionView:
        """A copy of what is known."""
        counts = {side.value: self._framers[side].messages if self._framers else 0 for side in Side}
        return ConnectionView(
            self.id, self.channel, self.hop, self._listener.server, self.client, self._upstream_address,
            self._state, counts,
        )  # fmt: skip

    def close(self) -> None:
        """Close both sockets; may be called twice."""
        self._state = "closed"
        self._arrival.close()
        if self._upstream_socket is not None:
            sockets.close(self._upstream_socket)

    # In its session -------------------------------------------------------------------------------

    async def serve(self, session: Session, log: EventLog, hop: int, share: Share) -> None:
        """Connect to the server and relay until the end. Closes everything on every way out.

        Args:
            session: The session that the link message belongs to.
            log: The session's log.
            hop: Which server of the session this is.
            share: What the session may use of the processor.
        """
        self.hop, self._session = hop, session.id
        self.log = log.bind(
            connection=self.id, channel=self.channel, hop=hop, server=str(self._listener.server)
        )
        started = trio.current_time()
        with self._shared.gate.newcomers.used():
            followed = self._join(session)
        end: End | None = End("proxy", "the proxy stops")  # unless something else comes first
        live = partial(self._live, session, followed, share)
        try:
            end = await (live() if self._faulty is None else self._faulty.run(live))
        except OSError as error:  # a socket died between two calls that only ask for its address
            end = self._link_failed("unknown", error.strerror or str(error))
        finally:
            with self._shared.gate.newcomers.used():  # most of those who come are gone soon
                self._over(end, followed)
                self._log_end(end, trio.current_time() - started)

    def _over(self, end: End | None, followed: FollowedConnection) -> None:
        """Close everything, and tell everybody."""
        self.close()
        if self._observer is not None:
            self._observer.closed(end)
            if self._observer.watched is not None:
                self._observer.watched.close()
        cut = self._faulty.cut if self._faulty is not None else None
        if cut is not None:
            followed.over(cut.side, reset=cut.reset)
        else:
            followed.over(_SIDES.get(end.by) if end is not None else Side.SERVER)  # None: it was not there

    def _join(self, session: Session) -> FollowedConnection:
        """Tell those who follow, and break, sessions that it belongs to one."""
        assert self._link.mess is not None  # noqa: S101  read_link_message() came first
        followed = self._followed = self._shared.follower.connect(
            session.id,
            self.id,
            self._link.mess,
            hop=self.hop,
            server=str(self._listener.server),
            opened_ns=self._arrival.accepted_ns,
        )
        if (injector := self._shared.injector) is not None:
            self._faulty = injector.connection(
                session.id,
                self.id,
                self._link.mess,
                self.hop,
                self._arrival.socket,
                self._listener.server,
                followed,
                self.log,
            )
            self._faulty.secured = self._listener.way.server_tls
        return followed

    async def _live(self, session: Session, followed: FollowedConnection, share: Share) -> End | None:
        """From the server's connection to the end; None if there was no server."""
        newcomers = self._shared.gate.newcomers
        upstream = await metered(self._connect(), newcomers)
        if upstream is None:
            return None
        sides = {Side.CLIENT: self._arrival.socket, Side.SERVER: upstream}
        recordings = self._shared.recordings
        recorder = await recordings.of(session.id) if recordings is not None else None
        observer = self._observer = self._observe(
            session, self._shared.dialer.server_end(self._listener.server, upstream), followed, recorder
        )
        if self._faulty is not None:
            self._faulty.attach(self._link, upstream, observer, partial(self._linked, observer))
        failed = await metered(self._relay_link(sides, observer, session), newcomers)
        return failed or await self._relay_data(sides, observer, share)

    async def _connect(self) -> socket.socket | None:
        server = self._listener.server
        if self._faulty is not None:
            await self._faulty.connect()
            if self._faulty.refused:
                self._link_failed("server", f"cannot connect to {server}: refused by a fault")
                await refuse(self._arrival.socket, LinkError.ERROR)
                return None
        try:
            looked, self._arrival.looked = self._arrival.looked, None
            upstream = await self._shared.dialer.connect(self._listener.way, self._arrival.socket, looked)
        except OSError as error:
            self._link_failed("server", f"cannot connect to {server}: {error.strerror or error}")
            await refuse(self._arrival.socket, LinkError.ERROR)
            return None
        self._upstream_socket = upstream
        sockets.give_up_after(upstream, self._shared.gate.limits.peer_timeout_s)
        if self._listener.way.server_tls:
            log_secured(self.log, "server", upstream)
        self._upstream_address = sockets.local_address(upstream)
        return upstream

    def _observe(
        self,
        session: Session,
        server: Address,
        followed: FollowedConnection,
        recorder: Conversations | None,
    ) -> ChannelObserver:
        conversation = None
        if recorder is not None:
            comment = f"{self.channel} hop {self.hop}"
            ends = (_recorded(self.client, self._arrival.number), _recorded(server, UNIX_SERVER_PORT))
            conversation = recorder.conversation(*ends, comment=comment)
        assert self._link.mess is not None  # noqa: S101  read_link_message() came first
        return ChannelObserver(
            self._shared,
            session,
            self.log,
            channel_type=self._link.mess.channel_type,
            hop=self.hop,
            reached_at=sockets.local_address(self._arrival.socket).machine,
            conversation=conversation,
            recorder=recorder,
            followed=followed,
        )

    async def _relay_link(
        self, sides: dict[Side, socket.socket], observer: ChannelObserver, session: Session
    ) -> End | None:
        """Relay the link phase; None if bytes follow."""
        link = self._link

        change = partial(with_our_key, link=link, tickets=self._shared.config.tickets, log=self.log)

        async def pass_on(unit: Unit) -> None:
            unit = change(unit)
            await observer.passed(unit.side, unit.safe, (len(unit.safe),))
            if unit.phase is Phase.LINK_RESULT and link.phase is Phase.DATA:
                # Before the client knows: what it does next, on any connection, must not seem to come first.
                self._linked(observer)
            await sockets.send_all(sides[unit.side.other], unit.data)

        try:
            with trio.fail_after(self._shared.config.link_timeout_s), sasl_told(link, self.log):
                if self._faulty is not None:
                    self._faulty.change = change
                    await self._faulty.relay_link(link, self._arrival.units, sides)
                else:
                    for unit in self._arrival.units:
                        await pass_on(unit)
                    await relay_link(link, sides, pass_on)
        except trio.TooSlowError:
            within = f"within {self._shared.config.link_timeout_s:g} s"
            if link.finished:  # it ends with a word of the server, and that could not be passed on
                return self._link_failed("client", f"did not read the server's answer {within}")
            return self._link_failed(link.turn.value, f"no {link.phase.value} {within}")
        except ClosedEarlyError as error:
            return self._link_failed(error.side.value, str(error))
        except ProtocolError as error:
            return self._link_failed(error.side.value, error.reason, offset=error.offset)
        except OSError as error:
            return self._link_failed("unknown", error.strerror or str(error))
        if link.phase is Phase.REFUSED:
            observer.client_may_send_secrets = True
            code = "unknown" if link.result is None else _error_name(link.result)
            self.log.warning("link_refused", error=code, code=link.result)
            self._tell_failed(Side.SERVER, code, code=link.result)
        elif link.phase is Phase.OPAQUE:
            self._state = "open"
            reason = "a SASL security layer encrypts what follows"
            if link.mess is not None and link.mess.channel_type == ChannelType.MAIN:
                session.opaque = True
                reason += ", so that neither its messages nor a migration can be seen; with TLS there is none"
            self.log.warning("connection_opaque", reason=reason)
            self._tell_failed(None, reason, opaque=True)
        return None

    def _link_failed(self, by: str, reason: str, **fields: Any) -> End:
        self.log.warning("link_failed", by=by, reason=reason, **fields)
        if self._framers is None:  # else it broke with the last word of the link phase
            self._tell_failed(_SIDES.get(by), reason)
        return End(by, reason)

    def _tell_failed(
        self, by: Side | None, reason: str, *, code: int | None = None, opaque: bool = False
    ) -> None:
        if self._followed is not None:
            self._followed.link_failed(by, reason, code=code, opaque=opaque)

    async def _relay_data(
        self, sides: dict[Side, socket.socket], observer: ChannelObserver, share: Share
    ) -> End:
        link = self._link
        if link.phase is Phase.DATA:
            self._linked(observer)
        early = {side: link.leftover(side) for side in Side}
        relay = relay_data if self._faulty is None else self._faulty.relay_data
        return await relay(sides, self._framers, early, self._shared.pool, share, observer)

    def _linked(self, observer: ChannelObserver) -> None:
        """The link phase is over, messages follow; may be called again."""
        link, followed = self._link, self._followed
        if self._framers is not None:
            return
        assert followed is not None  # noqa: S101  it is served
        self._state = "open"
        self._framers = {
            side: Framer(
                side,
                mini_header=link.sends_mini_header(side),
                wanted={},  # what it is, `interest` says
                trace=observer.tracing,
                mark=self._faulty is not None,
                offset=link.offset(side),
            )
            for side in Side
        }
        for framer in self._framers.values():
            followed.interest.attach(framer)
        followed.linked(link, self._framers)
        observer.linked()
        self._watch(observer, followed)
        self.log.info(
            "channel_linked", client=str(self.client), header="mini" if link.mini_header else "full"
        )

    def _watch(self, observer: ChannelObserver, followed: FollowedConnection) -> None:
        """Somebody may wait for messages of this connection, now or later."""
        mess = self._link.mess
        assert mess is not None  # noqa: S101  read_link_message() came first
        place = Place(self._session, self.id, mess.channel_type, mess.channel_id, self.hop)
        observer.watched = self._shared.watching.open(place, followed.interest)

    def _log_end(self, end: End | None, duration_s: float) -> None:
        if end is None or self._link.phase not in {Phase.DATA, Phase.OPAQUE}:
            return
        framers = self._framers or {}  # none where nobody can read what passes
        self.log.info(
            "channel_closed",
            by=end.by,
            reason=end.reason,
            duration_s=round(duration_s, 3),
            **{f"messages_from_{side.value}": framer.messages for side, framer in framers.items()},
            **{f"bytes_from_{side.value}": framer.offset for side, framer in framers.items()},
        )


def _recorded(end: Address, port: int) -> Address:
    """An end as a recording has it: what came over a unix socket gets a port."""
    return end if end.unix_path is None else Address(end.machine, port % 65535 or 65535)


def _error_name(code: int) -> str:
    try:
        return f"SPICE_LINK_ERR_{LinkError(code).name}"
    except ValueError:
        return f"link_error_{code}"
