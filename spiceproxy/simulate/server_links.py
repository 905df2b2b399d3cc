"""The door of a simulated server: every connection comes in here, and what it does wrong ends here."""

import random
from typing import TYPE_CHECKING

import trio

from dissectors.link import LinkError
from dissectors.side import Side
from spiceproxy.simulate.errors import ConnectionLost, RuleBroken, SimulationError
from spiceproxy.simulate.groups import leaves
from spiceproxy.simulate.linking import SERVER_CAPS, Linked, answer_link
from spiceproxy.simulate.secure import Stream, secure_server
from spiceproxy.simulate.server_channel import ServerChannel
from spiceproxy.simulate.server_session import ServerSession
from spiceproxy.simulate.tickets import shared_key
from spiceproxy.simulate.wire import MAIN, ChannelKey

if TYPE_CHECKING:
    from spiceproxy.simulate.server import SimulatedServer


class Door:
    """Links connections and finds their session."""

    def __init__(self, server: "SimulatedServer") -> None:
        """Begin without connections."""
        self._server, self._ticket_key = server, shared_key()
        self._next_session_id = server.options.session_id

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection from link to end; whatever its client does, only its session ends."""
        server, channel = self._server, None
        try:
            channel = await self._open(await self._secured(stream))
            if channel is not None:
                await channel.run()
                channel.session.remove(channel)
        except* RuleBroken as group:
            for error in leaves(group):
                server.report(error)
            if channel is not None:
                channel.session.end()
        except* ConnectionLost:
            self._remove(channel)
        except* SimulationError as group:
            server.remarks += [str(error) for error in leaves(group)]
            self._remove(channel)
        finally:
            stream.socket.close()
            server.notify()

    async def _secured(self, stream: trio.SocketStream) -> Stream:
        context = self._server.options.tls
        if context is None:
            return stream
        with trio.move_on_after(self._server.options.link_timeout_s):
            return await secure_server(stream, context)
        raise ConnectionLost("no TLS handshake in time")

    async def _open(self, stream: Stream) -> ServerChannel | None:
        """Link, and join the session; None if the client was turned down, or its session ended meanwhile."""
        admitted: list[ServerSession] = []

        def admit(key: ChannelKey, connection_id: int) -> LinkError:
            session = self._find_session(key, connection_id)
            if session is not None:
                admitted.append(session)
            return LinkError.BAD_CONNECTION_ID if session is None else LinkError.OK

        linked: Linked | None = None
        with trio.move_on_after(self._server.options.link_timeout_s):
            linked = await answer_link(
                stream,
                ticket_key=self._ticket_key,
                password=self._server.options.password,
                mini_header=self._server.options.mini_header,
                server_caps=self._caps_of,
                admit=admit,
                peer_name=self._server.name,
                observer=self._server.options.observer,
            )
        if linked is None or admitted[0].ended:
            return None
        channel = admitted[0].add(linked)
        self._server.notify()
        return channel

    def _caps_of(self, key: ChannelKey) -> tuple[int, ...] | None:
        if key == MAIN:
            return self._server.options.main_caps
        return SERVER_CAPS.get(key.type, ()) if key in self._server.channel_keys else None

    def _find_session(self, key: ChannelKey, connection_id: int) -> ServerSession | None:
        """The session that a link belongs to. A main link begins a new one, and sends the client before it away."""
        server, session = self._server, self._server.session
        if key == MAIN:
            if session is not None:
                session.end()
            wanted, self._next_session_id = self._next_session_id, None
            session_id = connection_id or wanted or random.randrange(1, 2**32)  # noqa: S311 - an id, no secret
            server.session = ServerSession(server, session_id, is_target=connection_id != 0)
            return server.session
        if session is not None and session.session_id == connection_id:
            return session
        if session.is_target if session is not None else not server.has_guest:
            known = f"{session.session_id:#x}" if session is not None else "none"
            detail = f"linked with id {connection_id:#x}, main's is {known}"
            server.report(RuleBroken("R11", by=Side.CLIENT, channel=key.name, detail=detail))
        return None

    def _remove(self, channel: ServerChannel | None) -> None:
        if channel is None:
            return
        try:
            channel.session.remove(channel)
        except RuleBroken as error:
            self._server.report(error)
