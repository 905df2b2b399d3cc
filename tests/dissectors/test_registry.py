"""Which message is which, on which channel, from which side."""

import pytest
from construct import Construct

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import U8, Record
from dissectors.message import Dissection, MessageSpec, table
from dissectors.registry import build, build_named, dissect, find, lookup, message_name
from dissectors.side import Side

SERVER, CLIENT = Side.SERVER, Side.CLIENT


@pytest.mark.parametrize(
    ("id_", "from_server", "from_client"),
    [
        (102, "SPICE_MSG_MAIN_MIGRATE_CANCEL", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED"),
        (103, "SPICE_MSG_MAIN_INIT", "SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR"),
        (111, "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS"),
        (1, "SPICE_MSG_MIGRATE", "SPICE_MSGC_ACK_SYNC"),
    ],
)
def test_an_id_means_different_things_in_the_two_directions(
    id_: int, from_server: str, from_client: str
) -> None:
    assert message_name(ChannelType.MAIN, SERVER, id_) == from_server
    assert message_name(ChannelType.MAIN, CLIENT, id_) == from_client


@pytest.mark.parametrize("channel_type", [*ChannelType, 0, 42])
def test_common_messages_are_known_on_every_channel(channel_type: int) -> None:
    assert message_name(channel_type, SERVER, 7) == "SPICE_MSG_NOTIFY"
    assert message_name(channel_type, CLIENT, 4) == "SPICE_MSGC_MIGRATE_FLUSH_MARK"


def test_a_main_message_is_known_on_the_main_channel_only() -> None:
    assert [each for each in range(13) if lookup(each, SERVER, 118)] == [ChannelType.MAIN]


@pytest.mark.parametrize(
    ("channel_type", "side", "id_"),
    [
        (ChannelType.MAIN, SERVER, 9),
        (ChannelType.MAIN, CLIENT, 8),
        (ChannelType.MAIN, SERVER, 0),
        (1, SERVER, 119),
    ]
    + [(each, SERVER, 65535) for each in (*ChannelType, 42)],
)
def test_an_unknown_message_keeps_its_raw_body(channel_type: int, side: Side, id_: int) -> None:
    assert lookup(channel_type, side, id_) is None
    assert message_name(channel_type, side, id_) == f"unknown_{id_}"
    found = dissect(channel_type, side, id_, memoryview(b"\1\2"))
    assert found == Dissection(f"unknown_{id_}", {"raw": b"\1\2"}, b"")
    assert type(found.fields["raw"]) is bytes
    assert build(channel_type, side, id_, found.fields) == b"\1\2"


@pytest.mark.parametrize("fields", [{}, {"raw": "text"}, {"raw": 5}, {"raw": b"", "more": 1}, {"data": b""}])
def test_an_unknown_message_is_built_from_its_raw_body_alone(fields: dict[str, object]) -> None:
    with pytest.raises(DissectionError, match="unknown_999: wants the field 'raw'"):
        build(ChannelType.MAIN, SERVER, 999, fields)


def test_a_message_is_found_by_its_name() -> None:
    ((channel_type, side, spec),) = find("SPICE_MSG_MAIN_INIT")
    assert (channel_type, side, spec.id) == (ChannelType.MAIN, SERVER, 103)
    ((channel_type, side, spec),) = find("SPICE_MSGC_PONG")
    assert (channel_type, side, spec.id) == (None, CLIENT, 3)
    assert find("SPICE_MSG_NO_SUCH_THING") == []


def test_every_message_is_found_by_the_name_it_has() -> None:
    for side in Side:
        for id_ in range(200):
            spec = lookup(ChannelType.MAIN, side, id_)
            if spec is not None:
                known = (None, side, spec), (ChannelType.MAIN, side, spec)
                assert any(each in find(spec.name) for each in known)
                assert {each.id for _, _, each in find(spec.name)} == {id_}


def test_a_body_is_built_by_the_name_of_its_message() -> None:
    assert build_named("SPICE_MSG_SET_ACK", generation=1, window=20) == bytes.fromhex("01000000 14000000")
    assert build_named("SPICE_MSGC_ACK") == b""
    assert build_named("SPICE_MSGC_ACK", trailing=b"x") == b"x"
    with pytest.raises(DissectionError, match="no message is called SPICE_MSG_SETACK"):
        build_named("SPICE_MSG_SETACK", generation=1, window=20)
    with pytest.raises(DissectionError, match="SPICE_MSG_SET_ACK: wants a value for window"):
        build_named("SPICE_MSG_SET_ACK", generation=1)


def test_an_error_names_the_message() -> None:
    with pytest.raises(DissectionError, match=r"^SPICE_MSG_MAIN_INIT: session_id: stream read less"):
        dissect(ChannelType.MAIN, SERVER, 103, b"")
    with pytest.raises(DissectionError, match=r"^SPICE_MSG_LIST: sub-message at 1 of a body of 6$") as caught:
        dissect(ChannelType.MAIN, SERVER, 8, b"\1\0\1\0\0\0")
    assert type(caught.value) is DissectionError


def test_a_message_without_a_schema_has_an_empty_body() -> None:
    spec = MessageSpec(101, "SPICE_MSG_EMPTY", "Says nothing.")
    assert isinstance(spec.schema, Construct)
    assert spec.dissect(b"") == Dissection("SPICE_MSG_EMPTY", {})
    assert spec.dissect(b"x") == Dissection("SPICE_MSG_EMPTY", {}, b"x")
    assert spec.build({}) == b""


def test_a_table_has_each_id_once() -> None:
    one, two = MessageSpec(101, "A", "A."), MessageSpec(102, "B", "B.", Record("x" / U8))
    assert table(one, two) == {101: one, 102: two}
    with pytest.raises(ValueError, match="message id 101 is there twice: A, B"):
        table(one, MessageSpec(101, "B", "B."))


def test_the_two_sides_are_each_others_other() -> None:
    assert SERVER.other is CLIENT
    assert CLIENT.other is SERVER
