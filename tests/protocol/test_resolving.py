"""Links that come with addresses, where messages have named hosts."""

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.protocol.resolving import AddressedSessions, plain
from spiceproxy.protocol.session import SWITCH_GRACE_S, Joined, Session, Sessions

S1, S2, OTHER = Address("10.0.0.1", 5900), Address("10.0.0.2", 5900), Address("10.0.0.3", 5901)
NAMED = Address("kvm2.example", 5900)
ME, SOMEBODY = "192.0.2.1", "192.0.2.2"
MAIN, DISPLAY = ChannelType.MAIN, ChannelType.DISPLAY


def link(
    sessions: Sessions,
    server: Address,
    *,
    id_: int = 0,
    channel: int = MAIN,
    client: str = ME,
    now: float = 0,
) -> Joined:
    return sessions.join(connection_id=id_, channel_type=channel, server=server, client_host=client, now=now)


def begun(*, client: str = ME, id_: int = 7) -> tuple[AddressedSessions, Session]:
    sessions = AddressedSessions()
    session = link(sessions, S1, client=client).session
    sessions.initialised(session, id_)
    return sessions, session


def test_the_main_link_says_which_address_a_name_has_and_the_others_follow() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=False, now=0)
    for channel in (MAIN, DISPLAY):
        joined = link(sessions, S2, id_=7, channel=channel)
        assert (joined.session, joined.hop, joined.orphan) == (session, 1, False)
    assert [expected.server for expected in session.expected] == [S2]


def test_a_name_with_another_port_is_another_server() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=False, now=0)
    assert link(sessions, OTHER, id_=7).hop == 0
    assert [expected.server for expected in session.expected] == [NAMED]


def test_an_address_that_was_announced_later_than_the_name_is_meant_itself() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=False, now=0)
    sessions.announced(session, S2, hop=1, from_scratch=False, now=0)
    assert link(sessions, S2, id_=7).hop == 2
    assert NAMED in [expected.server for expected in session.expected]


def test_a_chain_by_name_counts_its_hops() -> None:
    sessions, session = begun()
    for hop, (name, address) in enumerate([(NAMED, S2), (Address("kvm1.example", 5900), S1), (NAMED, S2)]):
        sessions.announced(session, name, hop=hop, from_scratch=False, now=0)
        assert link(sessions, address, id_=7).hop == hop + 1


def test_after_switch_host_by_name_the_client_is_known_again_while_it_may_come() -> None:
    for now, same in ((SWITCH_GRACE_S - 1, True), (SWITCH_GRACE_S + 1, False)):
        sessions, session = begun()
        sessions.announced(session, NAMED, hop=0, from_scratch=True, now=0)
        joined = link(sessions, S2, now=now)
        assert (joined.session is session) is same
        assert joined.hop == int(same)


def test_after_switch_host_to_an_address_there_is_nothing_to_find_out() -> None:
    sessions, session = begun()
    sessions.announced(session, S2, hop=0, from_scratch=True, now=0)
    assert link(sessions, S2, now=1).session is session
    assert link(sessions, S2, now=2).session is not session


def test_another_client_with_the_same_id_or_none_does_not_take_a_session_over() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=True, now=0)
    assert link(sessions, S2, client=SOMEBODY).session is not session
    sessions.announced(session, NAMED, hop=0, from_scratch=False, now=0)
    link(sessions, S2, id_=7, client=SOMEBODY)
    assert NAMED in [expected.server for expected in session.expected]


def test_a_channel_that_is_not_main_begins_a_session_without_looking_further() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=True, now=0)
    assert link(sessions, S2, channel=DISPLAY).session is not session


def test_addresses_have_one_spelling() -> None:
    assert plain("[2001:DB8::0:1]") == "2001:db8::1"
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("fe80::1%eth0") == "fe80::1"
    assert plain("KVM1.example") == "KVM1.example"


def test_of_two_switches_the_one_whose_port_fits_is_meant() -> None:
    sessions, session = begun()
    sessions.announced(session, NAMED, hop=0, from_scratch=True, now=0)
    sessions.announced(session, Address("kvm3.example", 5902), hop=0, from_scratch=True, now=0)
    assert link(sessions, S2, now=1).session is session
