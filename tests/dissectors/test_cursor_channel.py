"""Messages of the cursor channel."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.cursor_channel import CLIENT_MESSAGES, SERVER_MESSAGES, CursorFlags, CursorType
from dissectors.errors import DissectionError
from dissectors.message import Dissection
from tests.dissectors.pictures import pack

HEADER = {
    "unique": 2**64 - 1,
    "type": CursorType.MONO,
    "width": 3,
    "height": 2,
    "hot_spot_x": 1,
    "hot_spot_y": 65535,
}
HEADER_WIRE = pack("QBHHHH", 2**64 - 1, 1, 3, 2, 1, 65535)
POSITION = {"x": -1, "y": 32767}
SHAPE = {"flags": CursorFlags.CACHE_ME, "u": {"header": HEADER}, "data": b"pixels and mask"}
SHAPE_WIRE = pack("H", 2) + HEADER_WIRE + b"pixels and mask"
CACHED = {"flags": CursorFlags.FROM_CACHE, "u": {"header": HEADER}, "data": b""}
NONE = {"flags": CursorFlags.NONE, "u": None, "data": b""}
INIT = {"position": POSITION, "trail_length": 5, "trail_frequency": 100, "visible": 1}

# (message id, body, fields)
RECORDED: list[tuple[int, bytes, dict[str, Any]]] = [
    (101, pack("hhHHBH", -1, 32767, 5, 100, 1, 1), {**INIT, "cursor": NONE}),
    (101, pack("hhHHB", -1, 32767, 5, 100, 1) + SHAPE_WIRE, {**INIT, "cursor": SHAPE}),
    (103, pack("hhB", -1, 32767, 0) + SHAPE_WIRE, {"position": POSITION, "visible": 0, "cursor": SHAPE}),
    (
        103,
        pack("hhBH", -1, 32767, 9, 4) + HEADER_WIRE,
        {"position": POSITION, "visible": 9, "cursor": CACHED},
    ),
    (103, pack("hhBH", -1, 32767, 0, 1), {"position": POSITION, "visible": 0, "cursor": NONE}),
    (104, pack("hh", -1, 32767), {"position": POSITION}),
    (106, pack("HH", 5, 100), {"length": 5, "frequency": 100}),
    (107, pack("Q", 2**63), {"id": 2**63}),
    *[(id_, b"", {}) for id_ in (102, 105, 108)],
]
NAMES = ["INIT", "RESET", "SET", "MOVE", "HIDE", "TRAIL", "INVAL_ONE", "INVAL_ALL"]
# Fewest bytes; INIT and SET with flags NONE, since without that bit there is a header
LEAST = {101: 11, 102: 0, 103: 7, 104: 4, 105: 0, 106: 4, 107: 8, 108: 0}
every_message = pytest.mark.parametrize(("id_", "body", "fields"), RECORDED)


@every_message
def test_a_message_reads_as_what_it_says_and_builds_back(
    id_: int, body: bytes, fields: dict[str, Any]
) -> None:
    spec = SERVER_MESSAGES[id_]
    assert spec.dissect(body) == Dissection(spec.name, fields, b"")
    assert spec.build(fields) == body


@every_message
@settings(deadline=None)
@given(st.data())
def test_a_cut_and_changed_message_is_an_error_or_builds_back(
    id_: int, body: bytes, fields: dict[str, Any], data: st.DataObject
) -> None:
    spec = SERVER_MESSAGES[id_]
    changed = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for at in data.draw(st.lists(st.integers(0, len(changed)), max_size=3)):
        changed[at : at + 1] = data.draw(st.binary(min_size=1, max_size=4))
    try:
        found = spec.dissect(changed)
    except DissectionError:
        return
    assert spec.build(found.fields, found.trailing) == changed
    assert spec.dissect(body).fields == fields


def test_the_server_says_what_the_protocol_has_and_the_client_nothing() -> None:
    assert [(id_, spec.name, spec.obsolete) for id_, spec in SERVER_MESSAGES.items()] == [
        (id_, f"SPICE_MSG_CURSOR_{name}", False) for id_, name in enumerate(NAMES, 101)
    ]
    assert CLIENT_MESSAGES == {}
    assert {id_ for id_, _, _ in RECORDED} == set(SERVER_MESSAGES)


@pytest.mark.parametrize(("id_", "least"), LEAST.items())
def test_a_body_is_no_shorter_than_it_can_be(id_: int, least: int) -> None:
    body = b"\0" * (least - 2) + b"\1\0" if id_ in (101, 103) else b"\0" * least
    assert SERVER_MESSAGES[id_].dissect(body).trailing == b""
    for size in range(least):
        with pytest.raises(DissectionError):
            SERVER_MESSAGES[id_].dissect(body[:size])


def test_a_shape_without_its_whole_header_is_an_error() -> None:
    body = pack("hhBH", 0, 0, 1, 0) + HEADER_WIRE
    for size in range(7, len(body)):
        with pytest.raises(DissectionError, match="cursor -> u -> header"):
            SERVER_MESSAGES[103].dissect(body[:size])
    assert SERVER_MESSAGES[103].dissect(body).fields["cursor"]["data"] == b""


def test_a_pointer_without_shape_may_have_data_all_the_same() -> None:
    body = pack("hhBH", 0, 0, 1, 0x8001) + b"left over"
    found = SERVER_MESSAGES[103].dissect(body)
    assert found.fields["cursor"] == {"flags": 0x8001, "u": None, "data": b"left over"}
    assert SERVER_MESSAGES[103].build(found.fields) == body


def test_an_unknown_cursor_type_is_kept() -> None:
    body = pack("hhBHQBHHHH", 0, 0, 1, 0, 1, 77, 1, 1, 0, 0) + b"?"
    found = SERVER_MESSAGES[103].dissect(body)
    assert found.fields["cursor"]["u"]["header"]["type"] == 77
    assert SERVER_MESSAGES[103].build(found.fields) == body
