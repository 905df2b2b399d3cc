"""Sessions: which links belong together, across servers, and which only look as if they did."""

import pytest

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.protocol.session import (
    MAX_CONNECTION_IDS,
    MAX_EXPECTED,
    SWITCH_GRACE_S,
    Joined,
    Session,
    Sessions,
)

S1, S2, S3 = (Address(f"192.0.2.{number}", 5900) for number in (1, 2, 3))
ALICE, BOB = "198.51.100.7", "198.51.100.8"
MAIN, DISPLAY = ChannelType.MAIN, ChannelType.DISPLAY


def link(
    sessions: Sessions,
    connection_id: int,
    server: Address = S1,
    *,
    channel: int = MAIN,
    host: str = ALICE,
    now: float = 0.0,
) -> Joined:
    return sessions.join(
        connection_id=connection_id, channel_type=channel, server=server, client_host=host, now=now
    )


def started(sessions: Sessions, connection_id: int, server: Address = S1, *, host: str = ALICE) -> Session:
    """A session whose MAIN_INIT has named its id."""
    session = link(sessions, 0, server, host=host).session
    sessions.initialised(session, connection_id)
    return session


def test_the_first_main_link_begins_a_session() -> None:
    sessions = Sessions()
    joined = link(sessions, 0)
    assert (joined.new, joined.orphan, joined.hop) == (True, False, 0)
    assert (joined.session.id, joined.session.client_host, joined.session.first) == ("s1", ALICE, S1)
    assert list(sessions) == [joined.session]


def test_links_with_its_connection_id_join_it() -> None:
    sessions = Sessions()
    session = started(sessions, 77)
    joined = link(sessions, 77, channel=DISPLAY)
    assert joined == Joined(session, 0, new=False, orphan=False)
    assert (session.connections, session.open_connections) == (2, 2)


def test_two_clients_have_two_sessions() -> None:
    sessions = Sessions()
    first, second = started(sessions, 1), started(sessions, 2, host=BOB)
    assert [session.id for session in sessions] == ["s1", "s2"]
    assert link(sessions, 1, channel=DISPLAY).session is first
    assert link(sessions, 2, channel=DISPLAY, host=BOB).session is second


@pytest.mark.parametrize("channel", [MAIN, DISPLAY])
def test_an_id_that_nobody_has_heard_of_begins_an_orphan_that_others_join(channel: int) -> None:
    sessions = Sessions()
    joined = link(sessions, 99, channel=channel)
    assert (joined.new, joined.orphan) == (True, True)
    assert link(sessions, 99, channel=DISPLAY) == Joined(joined.session, 0, new=False, orphan=False)


def test_a_channel_without_an_id_is_a_session_of_its_own() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    joined = link(sessions, 0, channel=DISPLAY)
    assert joined.session is not session
    assert (joined.new, joined.orphan) == (True, False)


def test_a_chain_of_servers_that_comes_back_counts_its_hops() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    hops = [session.hop_of(S1)]
    for server in (S2, S3, S1, S2):
        sessions.announced(session, server, hop=hops[-1], from_scratch=False, now=0)
        joined = link(sessions, 5, server)
        assert joined.session is session
        assert link(sessions, 5, server, channel=DISPLAY).hop == joined.hop
        hops.append(joined.hop)
    assert hops == [0, 1, 2, 3, 4]
    assert len(list(sessions)) == 1
    assert link(sessions, 5, S3, channel=DISPLAY).hop == 2  # a straggler
    assert session.hops == 4


def test_a_server_that_is_announced_again_is_expected_once() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    for _ in range(1000):
        sessions.announced(session, S2, hop=0, from_scratch=False, now=0)
    assert [(e.server, e.hop) for e in session.expected] == [(S2, 1)]


def test_an_announcement_is_no_hop_until_somebody_links() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    sessions.announced(session, S2, hop=0, from_scratch=False, now=0)
    assert session.hops == 0
    assert link(sessions, 5, S2).hop == 1
    assert session.hops == 1


def test_two_sessions_with_the_same_id_are_told_apart_by_their_servers() -> None:
    sessions = Sessions()
    first, second = started(sessions, 5, S1), started(sessions, 5, S2, host=BOB)
    assert link(sessions, 5, S1, channel=DISPLAY).session is first
    assert link(sessions, 5, S2, channel=DISPLAY).session is second
    sessions.announced(first, S3, hop=0, from_scratch=False, now=0)
    assert link(sessions, 5, S3).session is first


def test_where_servers_do_not_tell_them_apart_the_youngest_is_meant() -> None:
    sessions = Sessions()
    started(sessions, 5, S1)
    youngest = started(sessions, 5, S1)
    assert link(sessions, 5, S1, channel=DISPLAY).session is youngest
    assert link(sessions, 5, S3, channel=DISPLAY).session is youngest


def switched(sessions: Sessions, *, host: str = ALICE, now: float = 100.0) -> Session:
    """A session on S1 whose client has been told by SWITCH_HOST to go to S2."""
    session = started(sessions, 5, host=host)
    sessions.announced(session, S2, hop=0, from_scratch=True, now=now)
    return session


@pytest.mark.parametrize(
    ("waited_s", "joins"), [(0.0, True), (SWITCH_GRACE_S - 0.1, True), (SWITCH_GRACE_S, False)]
)
def test_a_client_that_switches_hosts_joins_within_the_grace(waited_s: float, joins: bool) -> None:
    sessions = Sessions()
    session = switched(sessions, now=100.0)
    joined = link(sessions, 0, S2, now=100.0 + waited_s)
    assert (joined.session is session, joined.new) == (joins, not joins)
    assert joined.hop == (1 if joins else 0)
    assert not joined.orphan


def test_after_a_switch_the_new_id_joins_the_same_session() -> None:
    sessions = Sessions()
    session = switched(sessions)
    link(sessions, 0, S2, now=100)
    sessions.initialised(session, 6)
    assert link(sessions, 6, S2, channel=DISPLAY, now=101) == Joined(session, 1, new=False, orphan=False)


@pytest.mark.parametrize(
    ("server", "host", "channel"),
    [(S2, BOB, MAIN), (S3, ALICE, MAIN), (S1, ALICE, MAIN), (S2, ALICE, DISPLAY)],
    ids=["another client", "another server", "the old server", "another channel"],
)
def test_only_the_client_that_was_sent_joins_and_only_where_it_was_sent(
    server: Address, host: str, channel: int
) -> None:
    sessions = Sessions()
    session = switched(sessions)
    assert link(sessions, 0, server, host=host, channel=channel, now=100).session is not session
    assert link(sessions, 0, S2, now=100).session is session  # and it is still awaited


def test_a_switch_is_used_once() -> None:
    sessions = Sessions()
    session = switched(sessions)
    assert link(sessions, 0, S2, now=100).session is session
    assert link(sessions, 0, S2, now=100).session is not session


def test_a_host_is_the_same_in_capitals() -> None:
    sessions = Sessions()
    session = started(sessions, 5, Address("KVM1.example", 5900))
    sessions.announced(session, Address("KVM2.Example", 5900), hop=0, from_scratch=True, now=0)
    assert link(sessions, 0, Address("kvm2.example", 5900)) == Joined(session, 1, new=False, orphan=False)
    other = started(sessions, 5, S3)
    assert link(sessions, 5, Address("kvm1.EXAMPLE", 5900), channel=DISPLAY).session is session
    assert other is not session


def test_a_server_cannot_make_a_session_grow_without_bound() -> None:
    sessions = Sessions()
    session = started(sessions, 1)
    for number in range(5000):
        sessions.initialised(session, number + 1)
        sessions.announced(session, Address("192.0.2.9", number), hop=0, from_scratch=False, now=0)
    assert len(session.connection_ids) == MAX_CONNECTION_IDS
    assert len(session.expected) == MAX_EXPECTED
    assert link(sessions, 1, Address("192.0.2.9", 4999)) == Joined(session, 1, new=False, orphan=False)


def test_a_session_is_over_when_its_last_connection_has_left() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    link(sessions, 5, channel=DISPLAY)
    over = []
    for _ in range(2):
        sessions.left(session)
        over.append(sessions.over(session, 0))
    assert over == [False, True]


def test_a_session_without_connections_waits_for_its_switching_client() -> None:
    sessions = Sessions()
    session = switched(sessions, now=100)
    sessions.left(session)
    assert not sessions.over(session, 100 + SWITCH_GRACE_S - 1)
    assert sessions.over(session, 100 + SWITCH_GRACE_S)
    link(sessions, 0, S2, now=101)
    sessions.left(session)
    assert sessions.over(session, 102)  # it came, so nobody is awaited any more


def test_a_forgotten_session_is_not_joined_and_its_name_not_used_again() -> None:
    sessions = Sessions()
    session = started(sessions, 5)
    for _ in range(2):  # twice does no harm
        sessions.forget(session)
    assert list(sessions) == []
    joined = link(sessions, 5, channel=DISPLAY)
    assert (joined.session.id, joined.orphan) == ("s2", True)


def opaque(sessions: Sessions, server: Address = S1, *, host: str = ALICE) -> Session:
    """A session whose main channel nobody here can read."""
    session = link(sessions, 0, server, host=host).session
    session.opaque = True
    return session


def test_an_unknown_id_is_that_of_the_one_session_whose_main_channel_cannot_be_read() -> None:
    sessions = Sessions()
    session = opaque(sessions)
    for channel in (DISPLAY, ChannelType.INPUTS):
        joined = link(sessions, 77, channel=channel)
        assert joined.session is session
        assert not joined.orphan


@pytest.mark.parametrize(
    "what",
    [
        "another client",
        "another server",
        "two of them",
        "one with an id",
        "one that has ended",
        "one that can be read",
    ],
)
def test_an_unknown_id_is_not_guessed(what: str) -> None:
    sessions = Sessions()
    session = opaque(
        sessions, S2 if what == "another server" else S1, host=BOB if what == "another client" else ALICE
    )
    if what == "two of them":
        opaque(sessions)
    elif what == "one with an id":
        sessions.initialised(session, 5)
    elif what == "one that has ended":
        sessions.left(session)
    elif what == "one that can be read":
        session.opaque = False
    joined = link(sessions, 77, channel=DISPLAY)
    assert joined.session is not session
    assert joined.orphan


def test_a_session_that_nobody_can_read_is_on_its_next_server_when_it_comes_there() -> None:
    """Its client says by itself where it goes; what sent it there was encrypted."""
    sessions = Sessions()
    session = link(sessions, 0).session
    session.opaque = True
    assert link(sessions, 77, channel=DISPLAY) == Joined(session, 0, new=False, orphan=False)
    for channel, server, hop in ((MAIN, S2, 1), (DISPLAY, S2, 1), (MAIN, S3, 2), (DISPLAY, S1, 0)):
        assert link(sessions, 77, server, channel=channel) == Joined(session, hop, new=False, orphan=False)
    other_port = Address(S3.host, S3.port + 1)  # that for TLS: which server's, nobody can say
    assert link(sessions, 77, other_port, channel=DISPLAY).session is session
    assert session.hops == 2
