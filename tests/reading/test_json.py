"""The lines of `spiceproxy read --json`: the format of docs/reading.md."""

import re
import struct
from pathlib import Path

import msgspec
import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, Msg, MsgC
from spiceproxy.filter import compile_filter
from spiceproxy.reading.decode import NAMES
from spiceproxy.reading.jsonlines import MessageLine
from tests.capture.wire import CLIENT, SERVER, START_NS, Wire, announcement
from tests.reading.show import objects, show

PING = struct.pack("<IQ", 1, 2)
SOURCE = Path(__file__).parents[2] / "spiceproxy/capture/messages.py"
EVENTS = set(re.findall(r'Happening\(\s*\w+(?:\.time_ns)?, "([a-z_]+)"', SOURCE.read_text()))


def session() -> Wire:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.init(1, 77)
    return wire


def test_a_message_has_these_keys_in_this_order() -> None:
    text = show(session().events, as_json=True, events=False)
    assert text == (
        '{"v":1,"time":1700000000.006,"time_ns":"1700000000006000000","number":1,"session":"s1","connection":"c1",'
        '"leg":"source","hop":0,"channel":"main:0","from":"server","id":103,"name":"SPICE_MSG_MAIN_INIT","size":32,'
        '"fields":{"session_id":77,"display_channels_hint":1,"supported_mouse_modes":3,"current_mouse_mode":1,'
        '"agent_connected":0,"agent_tokens":0,"multi_media_time":0,"ram_hint":0}}\n'
    )


def test_the_time_is_that_of_the_packet_that_completed_the_message_to_the_nanosecond() -> None:
    wire = session()
    raw = wire.raw(1, SERVER, Msg.PING, PING)
    wire.data(1, SERVER, raw[:9])
    wire.wait(1.000000001)
    wire.data(1, SERVER, raw[9:])
    assert objects(wire.events)[1]["time_ns"] == str(START_NS + 1_008_000_001)


def test_messages_are_numbered_over_all_connections() -> None:
    wire = session()
    wire.open(2)
    wire.link(2, channel=ChannelType.CURSOR, connection_id=77)
    wire.say(2, SERVER, Msg.PING, PING)
    wire.say(1, SERVER, Msg.PING, PING)
    found = [(each["number"], each["connection"]) for each in objects(wire.events)]
    assert found == [(1, "c1"), (2, "c2"), (3, "c1")]


def test_enums_and_flags_are_numbers_and_bytes_are_hex() -> None:
    wire = session()
    wire.say(1, SERVER, Main.UUID, bytes(range(16)))
    wire.say(1, SERVER, Main.MOUSE_MODE, struct.pack("<HH", 3, 2))
    uuid, mode = objects(wire.events)[1:]
    assert uuid["fields"] == {"uuid": "000102030405060708090a0b0c0d0e0f"}
    assert mode["fields"] == {"supported_modes": 3, "current_mode": 2}


@pytest.mark.parametrize(("bulk", "expected"), [(False, 3), (True, "010203")])
def test_bulk_is_its_length_unless_asked_for(bulk: bool, expected: object) -> None:
    wire = session()
    wire.open(2)
    wire.link(2, channel=ChannelType.PLAYBACK, connection_id=77)
    wire.say(2, SERVER, 101, struct.pack("<I", 5) + b"\1\2\3")
    assert objects(wire.events, bulk=bulk)[1]["fields"] == {"time": 5, "data": expected}


def test_a_body_that_does_not_decode_has_an_error_and_no_fields() -> None:
    wire = session()
    wire.say(1, SERVER, Msg.PING, b"short")
    wire.data(1, SERVER, wire.raw(1, SERVER, Msg.PING, PING)[:-2])
    wire.gap(1, SERVER, 2)
    wire.say(1, SERVER, 999, b"ab")
    short, cut, unknown = objects(wire.events)[1:]
    assert short["fields"] == cut["fields"] == {}
    assert "SPICE_MSG_PING" in short["error"]
    assert cut["error"] == "2 bytes of the body are not in the capture"
    assert (unknown["name"], unknown["fields"], "error" in unknown) == ("unknown_999", {"raw": "6162"}, False)


def test_trailing_bytes_are_there_if_there_are_any() -> None:
    wire = session()
    wire.say(1, SERVER, Main.MULTI_MEDIA_TIME, bytes(4) + b"\1\2")
    assert objects(wire.events)[1]["trailing"] == "0102"


def test_the_destination_of_a_migration_is_its_own_leg() -> None:
    wire = session()
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.2", 5900))
    wire.open(2, server="10.0.0.2")
    wire.link(2, connection_id=77)
    wire.say(2, CLIENT, MsgC.PONG, PING)
    assert [(o["leg"], o["hop"], o["connection"]) for o in objects(wire.events)] == [
        ("source", 0, "c1"), ("source", 0, "c1"), ("destination", 1, "c2"),
    ]  # fmt: skip


@pytest.mark.parametrize("mini", [True, False])
def test_messages_inside_a_message_are_told(mini: bool) -> None:
    """Under full headers by sub_list, under mini headers as SPICE_MSG_LIST."""
    wire = Wire()
    wire.open(1)
    wire.link(1, channel=ChannelType.DISPLAY, mini=mini)
    wait = struct.pack("<HI", Msg.WAIT_FOR_CHANNELS, 11) + b"\1" + struct.pack("<BBQ", 2, 0, 9)
    if mini:
        wire.say(1, SERVER, Msg.LIST, struct.pack("<HI", 1, 6) + wait)
    else:
        wire.say(1, SERVER, Msg.PING, PING + struct.pack("<HI", 1, 18) + wait, sub_list=12)
    (found,) = objects(wire.events)
    assert found["inside"] == [
        {
            "protocol": "spice",
            "name": "SPICE_MSG_WAIT_FOR_CHANNELS",
            "size": 11,
            "fields": {
                "wait_count": 1,
                "wait_list": [{"channel_type": 2, "channel_id": 0, "message_serial": 9}],
            },
        }
    ]


def agent_message(body: bytes, *, type_: int = 1) -> bytes:
    """A VDAgentMessage: VD_AGENT_MOUSE_STATE by default."""
    return struct.pack("<IIQI", 1, type_, 0, len(body)) + body


def test_an_agent_message_is_told_where_it_becomes_whole_and_goes_on_after_a_seamless_migration() -> None:
    wire = session()
    raw = agent_message(struct.pack("<IIIB", 1, 2, 0, 0))
    wire.say(1, CLIENT, 107, raw[:10])
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.2", 5900))
    wire.open(2, server="10.0.0.2")
    wire.link(2, connection_id=77)
    wire.say(2, CLIENT, MsgC.MIGRATE_DATA, b"MNMD")
    wire.say(2, CLIENT, 107, raw[10:])
    *_, last = objects(wire.events)
    assert [(entry["protocol"], entry["name"]) for entry in last["inside"]] == [
        ("vd_agent", "VD_AGENT_MOUSE_STATE")
    ]
    assert (last["inside"][0]["fields"]["x"], last["inside"][0]["fields"]["y"]) == (1, 2)


def test_events_come_on_request_only() -> None:
    wire = session()
    wire.gap(1, SERVER, 3)
    wire.close(1, None)
    assert len(objects(wire.events)) == 1
    found = objects(wire.events, events=True)
    assert [o.get("event") for o in found] == [
        "connection_opened", "channel_linked", None, "gap", "framing_lost", "connection_closed",
    ]  # fmt: skip
    linked = found[1]
    assert linked["connection"] == "c1"
    assert linked["header"] == "mini"
    assert linked["client"] == "10.0.0.9:40001"
    assert "SPICE_COMMON_CAP_MINI_HEADER" in linked["client_caps"]


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ('name =~ "*PING"', [4]),
        ("fields.id == 1", [4]),
        ('error =~ "*"', [3]),
        ("size > 20", [103]),
        ('event == "gap"', []),
    ],
)
def test_a_filter_chooses(expression: str, ids: list[int]) -> None:
    wire = session()
    wire.say(1, SERVER, Msg.PING, PING)
    wire.say(1, SERVER, Msg.SET_ACK, b"?")
    found = objects(wire.events, filters=(compile_filter(expression),))
    assert [o["id"] for o in found] == ids


def test_what_a_filter_turns_down_is_remembered_for_what_comes_later() -> None:
    wire = session()
    raw = agent_message(struct.pack("<IIIB", 1, 2, 0, 0))
    wire.say(1, CLIENT, 107, raw[:10])
    wire.say(1, CLIENT, 107, raw[10:])
    (found,) = objects(wire.events, filters=(compile_filter("size > 20 and id == 107"),))
    assert found["inside"][0]["name"] == "VD_AGENT_MOUSE_STATE"


def test_stats_as_json_have_a_line_for_each_kind() -> None:
    wire = session()
    for _ in range(3):
        wire.say(1, SERVER, Msg.PING, PING)
    wire.say(1, SERVER, Msg.PING, b"")
    lines = [msgspec.json.decode(line) for line in show(wire.events, as_json=True, stats=True).splitlines()]
    assert {"v": 1, "stats": {
        "channel": "main:0", "from": "server", "name": "SPICE_MSG_PING", "messages": 4, "bytes": 36, "undecoded": 1,
    }} in lines  # fmt: skip


def test_every_key_and_event_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/reading.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    keys = {row[1].strip(" `") for row in rows if len(row) == 5}
    assert set(MessageLine.__struct_encode_fields__) == keys - {"s1/c9", "s→c`, `c→s`, `*"} - EVENTS
    assert keys >= EVENTS
    for name in NAMES - keys - {"event"}:
        assert f"`{name}`" in text, name
