"""Every message of the protocol has a schema, and it is the one that the protocol has: held against the whole list."""

from typing import Any

import pytest

from dissectors import vd_agent
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import Pointer, Record
from dissectors.migrate_data import CharDevice
from dissectors.registry import MODULES, dissect, lookup
from dissectors.side import Side
from tests.dissectors.listed import LISTED, Row, differences, least_bytes, listed_messages

# What is not as in spice.proto, and why.
KNOWN = {
    "SPICE_MSG_NOTIFY: has the fields time_stamp, severity, visibilty, what, message_len, message, uncounted": (
        "spice-server sends a NUL more than it counts"
    ),
    "SPICE_MSG_LIST: has the fields size, sub_messages, data": (
        "spice.proto has bytes there; they are a SpiceSubMessageList (protocol.h)"
    ),
}
# A list needs its count to be one; spice.proto takes a body of nothing.
LONGER = {"SPICE_MSG_LIST": 2}
NO_STATE = {"cursor", "playback", "record"}

ROWS = listed_messages()
every_message = pytest.mark.parametrize("row", ROWS, ids=[f"{row[1].value}-{row[2]['name']}" for row in ROWS])
every_state = pytest.mark.parametrize("channel", sorted(set(LISTED["migrate_data"]["channels"]) - NO_STATE))


def on_its_channel(row: Row) -> int:
    """A common message is looked up on a channel that has none of its own."""
    return row[0] or 200


def test_every_message_of_the_list_that_is_not_obsolete_has_a_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    current = [row for row in ROWS if not row[2].get("obsolete")]
    known = [row for row in current if lookup(on_its_channel(row), row[1], row[2]["id"]) is not None]
    with capsys.disabled():
        print(
            f"\n{len(known)} of {len(current)} messages have a schema, and {len(ROWS) - len(current)} obsolete ones"
        )
    assert len(known) == len(current) == 130


@every_message
def test_a_message_has_the_name_the_fields_and_the_layout_of_the_list(row: Row) -> None:
    _, side, message = row
    spec = lookup(on_its_channel(row), side, message["id"])
    assert spec is not None
    assert (spec.id, spec.name) == (message["id"], message["name"])
    assert spec.obsolete == message.get("obsolete", False)
    assert set(differences(message["fields"], spec.schema, spec.name)) - KNOWN.keys() == set()


def test_what_is_known_to_differ_still_does() -> None:
    found = {
        text
        for row in ROWS
        if (spec := lookup(on_its_channel(row), row[1], row[2]["id"])) is not None
        for text in differences(row[2]["fields"], spec.schema, spec.name)
    }
    assert found == KNOWN.keys()


@every_message
def test_a_body_is_as_long_as_the_list_says_and_none_is_shorter(row: Row) -> None:
    _, side, message = row
    spec = lookup(on_its_channel(row), side, message["id"])
    assert spec is not None
    least = LONGER.get(spec.name, message["min_size"])
    assert least_bytes(spec.schema) == least
    if message["fixed_size"] is not None:
        assert spec.schema.sizeof() == message["fixed_size"]
    for size in range(least):
        for filling in (b"\0", b"\1", b"\xff"):
            with pytest.raises(DissectionError):
                dissect(on_its_channel(row), side, message["id"], filling * size)


def test_no_channel_has_a_message_that_the_list_does_not_have() -> None:
    listed = {(channel, side, message["id"]) for channel, side, message in ROWS}
    states = {(channel, Side.SERVER, 2) for channel in MODULES} | {
        (channel, Side.CLIENT, 5) for channel in MODULES
    }
    ours = {
        (channel, side, id_)
        for channel, module in MODULES.items()
        for side, specs in ((Side.SERVER, module.SERVER_MESSAGES), (Side.CLIENT, module.CLIENT_MESSAGES))
        for id_ in specs
    }
    assert ours - states <= listed
    assert {channel for channel, _, _ in ours} == set(MODULES) - {ChannelType.TUNNEL}
    assert set(MODULES) == set(ChannelType) == {each["id"] for each in LISTED["channels"]}


@every_state
@pytest.mark.parametrize(("side", "id_"), [(Side.SERVER, 2), (Side.CLIENT, 5)])
def test_a_state_has_the_fields_of_the_list_in_their_order(channel: str, side: Side, id_: int) -> None:
    listed = LISTED["migrate_data"]["channels"][channel]
    expected = list(LISTED["migrate_data"]["header"])
    for part in listed["fields"]:
        expected += (
            [(f"char_device.{name}", type_) for name, type_ in LISTED["migrate_data"]["char_device"]]
            if (part == "char_device")
            else part
        )
    spec = lookup(ChannelType[channel.upper()], side, id_)
    assert spec is not None
    assert list(flat(spec.schema)) == [(name, width(type_)) for name, type_ in expected]
    # The four bytes of a display's count lie where its pointer leads to.
    assert least_bytes(spec.schema) + 4 * (channel == "display") == listed["min_body"]


@pytest.mark.parametrize("channel", sorted(NO_STATE))
def test_a_channel_without_state_has_no_message_of_its_own_for_it(channel: str) -> None:
    assert LISTED["migrate_data"]["channels"][channel] is None
    for side, id_ in ((Side.SERVER, 2), (Side.CLIENT, 5)):
        spec = lookup(ChannelType[channel.upper()], side, id_)
        assert spec is not None
        assert [name for name, _ in flat(spec.schema)] == ["data"]


def flat(schema: Record, before: str = "") -> list[tuple[str, int]]:
    """Names and sizes in bytes; of records inside by their names with a dot."""
    found = []
    for name, member in schema.members:
        if isinstance(member, Record):
            found += flat(member, f"{before}{name}.")
        else:
            found.append((before + name, 4 if isinstance(member, Pointer) else least_bytes(member)))
    return found


def width(type_: str) -> int:
    """Bytes of "u32" or "u8[4]"."""
    element, _, count = type_.partition("[")
    return int(element[1:]) // 8 * int(count.rstrip("]") or 1)


def test_the_device_inside_a_state_has_25_bytes() -> None:
    assert CharDevice.sizeof() == 25


@pytest.mark.parametrize("message", LISTED["agent"], ids=lambda message: message["name"])
def test_an_agent_message_has_the_name_and_the_fields_of_the_list(message: dict[str, Any]) -> None:
    spec = vd_agent.AGENT_MESSAGES[message["id"]]
    assert spec.name == message["name"]
    assert isinstance(spec.schema, Record)
    ours = [name for name, _ in spec.schema.members if name not in {"selection", "reserved"}]
    assert ours == [name for name, _ in message["fields"]]


def test_there_is_no_agent_message_that_the_list_does_not_have() -> None:
    assert set(vd_agent.AGENT_MESSAGES) == {message["id"] for message in LISTED["agent"]}
