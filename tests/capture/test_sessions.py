"""Which connections of a capture belong together, and on which hop of a migration they are."""

from collections.abc import Iterable

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main
from spiceproxy.capture.messages import Happening, read_messages
from spiceproxy.capture.sessions import MAX_LINGERING, CapturedSessions
from tests.capture.wire import CLIENT, SERVER, Wire, announcement

DISPLAY, INPUTS = ChannelType.DISPLAY, ChannelType.INPUTS


def places(wire: Wire) -> dict[str, tuple[str | None, int | None]]:
    """Connection to session and hop, of all that were linked."""
    return {
        item.connection.id: (item.connection.session, item.connection.hop)
        for item in read_messages(wire.events)
        if isinstance(item, Happening) and item.event == "channel_linked"
    }


def begin(wire: Wire, session_id: int = 77, *, number: int = 1, **where: object) -> None:
    """A main channel on the first server."""
    wire.open(number, **where)  # type: ignore[arg-type]
    wire.link(number)
    wire.init(number, session_id)


def move(wire: Wire, number: int, kind: int, host: str, port: int) -> None:
    """The server of a main channel tells where to go."""
    wire.say(number, SERVER, kind, announcement(kind, host, port))


def go(wire: Wire, number: int, server: str, port: int, *, connection_id: int = 77, channel: int = 1) -> None:
    """The client connects there."""
    wire.open(number, server=server, port=port)
    wire.link(number, connection_id=connection_id, channel=channel)


def test_channels_with_the_id_of_main_init_are_of_its_session() -> None:
    wire = Wire()
    begin(wire)
    go(wire, 2, "10.0.0.1", 5900, channel=DISPLAY)
    begin(wire, 78, number=3)
    go(wire, 4, "10.0.0.1", 5900, channel=INPUTS, connection_id=78)
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 0), "c3": ("s2", 0), "c4": ("s2", 0)}


@pytest.mark.parametrize("kind", [Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS])
def test_connections_to_the_announced_address_are_one_hop_on(kind: int) -> None:
    wire = Wire()
    begin(wire)
    move(wire, 1, kind, "10.0.0.2", 5901)
    go(wire, 2, "10.0.0.2", 5901)
    go(wire, 3, "10.0.0.2", 5901, channel=DISPLAY)
    go(wire, 4, "10.0.0.1", 5900, channel=INPUTS)  # late, on the source
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 1), "c3": ("s1", 1), "c4": ("s1", 0)}


def test_a_chain_that_comes_back_to_its_first_server_counts_on() -> None:
    wire = Wire()
    begin(wire)
    move(wire, 1, Main.MIGRATE_BEGIN_SEAMLESS, "10.0.0.2", 5900)
    go(wire, 2, "10.0.0.2", 5900)
    move(wire, 2, Main.MIGRATE_BEGIN_SEAMLESS, "10.0.0.3", 5900)
    go(wire, 3, "10.0.0.3", 5900)
    move(wire, 3, Main.MIGRATE_BEGIN_SEAMLESS, "10.0.0.1", 5900)
    go(wire, 4, "10.0.0.1", 5900)
    go(wire, 5, "10.0.0.1", 5900, channel=DISPLAY)
    assert places(wire) == {
        "c1": ("s1", 0), "c2": ("s1", 1), "c3": ("s1", 2), "c4": ("s1", 3), "c5": ("s1", 3),
    }  # fmt: skip


def test_host_names_are_matched_by_port_id_and_order() -> None:
    """All servers have the same port, and the capture shows addresses only."""
    wire = Wire()
    begin(wire)
    move(wire, 1, Main.MIGRATE_BEGIN_SEAMLESS, "kvm2.example", 5900)
    go(wire, 2, "10.0.0.1", 5900, channel=INPUTS)  # late, on the source
    go(wire, 3, "10.0.0.2", 5900)
    go(wire, 4, "10.0.0.2", 5900, channel=DISPLAY)
    move(wire, 3, Main.MIGRATE_BEGIN_SEAMLESS, "kvm1.example", 5900)
    go(wire, 5, "10.0.0.1", 5900)
    go(wire, 6, "10.0.0.1", 5900, channel=DISPLAY)
    go(wire, 7, "10.0.0.2", 5900, channel=INPUTS)  # late, on the second
    assert places(wire) == {
        "c1": ("s1", 0), "c2": ("s1", 0), "c3": ("s1", 1), "c4": ("s1", 1), "c5": ("s1", 2), "c6": ("s1", 2),
        "c7": ("s1", 1),
    }  # fmt: skip


@pytest.mark.parametrize("host", ["10.0.0.2", "kvm2.example"])
def test_a_client_that_was_switched_comes_back_from_scratch_into_its_session(host: str) -> None:
    wire = Wire()
    begin(wire)
    move(wire, 1, Main.MIGRATE_SWITCH_HOST, host, 5901)
    wire.close(1, None)
    wire.wait(2)
    begin(wire, 99, number=2, server="10.0.0.2", port=5901)
    go(wire, 3, "10.0.0.2", 5901, connection_id=99, channel=DISPLAY)
    begin(wire, 100, number=4, server="10.0.0.2", port=5901)  # somebody else
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 1), "c3": ("s1", 1), "c4": ("s2", 0)}


@pytest.mark.parametrize(("client", "wait"), [("10.0.0.8", 2.0), ("10.0.0.9", 40.0)])
def test_another_client_or_a_late_one_is_not_the_one_that_was_switched(client: str, wait: float) -> None:
    wire = Wire()
    begin(wire)
    move(wire, 1, Main.MIGRATE_SWITCH_HOST, "10.0.0.2", 5901)
    wire.wait(wait)
    begin(wire, 99, number=2, server="10.0.0.2", port=5901, client=client)
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s2", 0)}


def test_recordings_of_the_proxy_say_the_hop_themselves() -> None:
    """The message names the proxy, the connection goes to the real server."""
    wire = Wire()
    begin(wire, comment="main:0 hop 0")
    move(wire, 1, Main.MIGRATE_BEGIN_SEAMLESS, "127.0.0.1", 33135)
    for number, channel in ((2, ChannelType.MAIN), (3, DISPLAY)):
        wire.open(number, server="10.0.0.2", comment=f"x:0 hop 1\nThe client's port is {number}.")
        wire.link(number, connection_id=77, channel=channel)
    move(wire, 2, Main.MIGRATE_SWITCH_HOST, "127.0.0.1", 33136)
    wire.close(1, None)
    begin(wire, 99, number=4, server="10.0.0.1", comment="main:0 hop 2")
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 1), "c3": ("s1", 1), "c4": ("s1", 2)}


@pytest.mark.parametrize(
    ("connection_id", "channel"), [(78, ChannelType.MAIN), (0, ChannelType.MAIN), (78, DISPLAY)]
)
def test_a_link_with_a_wrong_id_to_a_server_where_no_session_begins_is_of_the_one_that_was_sent_there(
    connection_id: int, channel: ChannelType
) -> None:
    wire = Wire()
    begin(wire, comment="main:0 hop 0")
    begin(wire, 99, number=5, client="10.0.0.8", comment="main:0 hop 0")
    move(wire, 1, Main.MIGRATE_BEGIN_SEAMLESS, "127.0.0.1", 33135)
    wire.open(2, server="10.0.0.2", comment="x:0 hop 1")
    wire.link(2, connection_id=connection_id, channel=channel)
    wire.open(3, server="10.0.0.2", comment="x:0 hop 1")
    wire.link(3, connection_id=77, channel=INPUTS)
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s2", 0), "c3": ("s1", 1), "c4": ("s1", 1)}


def test_a_channel_whose_main_channel_is_not_in_the_capture_has_a_session_by_its_id() -> None:
    wire = Wire()
    go(wire, 1, "10.0.0.1", 5900, channel=DISPLAY)
    go(wire, 2, "10.0.0.1", 5900, channel=INPUTS)
    go(wire, 3, "10.0.0.1", 5900, channel=INPUTS, connection_id=78)
    assert places(wire) == {"c1": ("s1", None), "c2": ("s1", None), "c3": ("s2", None)}
    linked = [
        i for i in read_messages(wire.events) if isinstance(i, Happening) and i.event == "channel_linked"
    ]
    assert ["note" in item.fields for item in linked] == [True, False, True]


def test_a_session_whose_beginning_is_not_in_the_capture_has_hops_as_soon_as_it_is_seen_to_move() -> None:
    wire = Wire()
    go(wire, 1, "10.0.0.1", 5900, channel=DISPLAY)
    go(wire, 2, "10.0.0.1", 5900)
    move(wire, 2, Main.MIGRATE_BEGIN, "10.0.0.2", 5900)
    go(wire, 3, "10.0.0.2", 5900)
    assert places(wire) == {"c1": ("s1", None), "c2": ("s1", None), "c3": ("s1", 1)}


def test_channels_find_a_main_channel_whose_init_is_not_in_the_capture() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    go(wire, 2, "10.0.0.1", 5900, channel=DISPLAY)
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 0)}


def test_messages_that_name_nobody_change_nothing() -> None:
    wire = Wire()
    begin(wire)
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, b"short")
    wire.say(1, SERVER, Main.INIT, b"short")
    move(wire, 1, Main.MIGRATE_BEGIN, "10.0.0.2", 0)
    wire.say(1, CLIENT, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.3", 5900))
    go(wire, 2, "10.0.0.3", 5900)
    assert places(wire) == {"c1": ("s1", 0), "c2": ("s1", 0)}


def sessions_after(wires: Iterable[Wire]) -> CapturedSessions:
    sessions = CapturedSessions()
    for wire in wires:
        for _ in read_messages(wire.events, sessions):
            pass
    return sessions


def test_what_is_kept_of_sessions_does_not_grow_with_the_capture() -> None:
    wire = Wire()
    for number in range(1, MAX_LINGERING + 100):
        begin(wire, number, number=number)
        wire.close(number, None)
    sessions = sessions_after([wire])
    assert len(list(sessions._sessions)) <= MAX_LINGERING + 1
    assert len(sessions._lingering) <= MAX_LINGERING + 1
