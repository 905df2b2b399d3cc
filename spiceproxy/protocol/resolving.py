"""Servers that messages name by host name, and connections by address: which is which.

A client that goes where the server sent it shows an address; the message may have had a name. Nobody here asks a
name server: the client may have got another answer. The port, the connection id and the order of things decide.
"""

from ipaddress import ip_address

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.protocol.session import Joined, Session, Sessions


class AddressedSessions(Sessions):
    """Sessions whose clients go by themselves to where they are sent, so that links come with addresses."""

    def join(
        self, *, connection_id: int, channel_type: int, server: Address, client_host: str, now: float
    ) -> Joined:
        """Find the session a link message belongs to, or begin one."""
        resolve(
            self,
            connection_id=connection_id,
            channel_type=channel_type,
            server=server,
            client_host=client_host,
            now=now,
        )
        return super().join(
            connection_id=connection_id,
            channel_type=channel_type,
            server=server,
            client_host=client_host,
            now=now,
        )


def resolve(
    sessions: Sessions,
    *,
    connection_id: int,
    channel_type: int,
    server: Address,
    client_host: str,
    now: float,
) -> bool:
    """Find the announcement that named this server by a host name, and make it name the address.

    Returns:
        Whether a session of this client is known by the link's connection id.
    """
    newest_first = reversed(list(sessions))
    if not connection_id:
        if channel_type == ChannelType.MAIN:
            any(
                switch(sessions, session, server, now)
                for session in newest_first
                if session.client_host == client_host
                and not any(
                    (e.server, bool(e.from_scratch_until)) == (server, True) for e in session.expected
                )
            )
        return False
    known = [s for s in newest_first if connection_id in s.connection_ids and s.client_host == client_host]
    for session in known:
        named = [
            e for e in session.expected if e.server.port == server.port and not is_address(e.server.host)
        ]
        if not named or any(e.server == server and e.hop > named[-1].hop for e in session.expected):
            continue
        # A main link with an id is always the first to a new server. The others follow where it went.
        if channel_type == ChannelType.MAIN:
            latest = named[-1]
            session.expected.remove(latest)
            sessions.announced(session, server, hop=latest.hop - 1, from_scratch=False, now=now)
        break
    return bool(known)


def switch(
    sessions: Sessions, session: Session, server: Address, now: float, *, hop: int | None = None
) -> bool:
    """SWITCH_HOST sent the client of this session to a server whose address is seen only now.

    Args:
        sessions: All of them.
        session: The one that may have been sent there.
        server: The address.
        now: In seconds.
        hop: Which server of the session it is, if that is known.
    """
    for expected in reversed(session.expected):
        until = expected.from_scratch_until
        if until is None or now >= until:
            continue
        if hop is None:
            fits = expected.server.port == server.port and not is_address(expected.server.host)
        else:
            fits = expected.hop == hop
        if fits:
            expected.from_scratch_until = None
            sessions.announced(session, server, hop=expected.hop - 1, from_scratch=True, now=now)
            return True
    return False


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain(host: str) -> str:
    """An address as packets show it: in the one usual spelling, without zone and brackets."""
    bare = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
