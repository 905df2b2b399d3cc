"""What holds for every message there is a schema for; damaged bodies are in test_extremes.py."""

from enum import IntEnum, IntFlag
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import common, registry
from dissectors.channels import ChannelType
from dissectors.compiler import UNFIT, NotCompilable, Style, compile_reader
from dissectors.errors import DissectionError
from dissectors.fields import Record, read
from dissectors.message import _JSON, _JSON_BULK, _VALUES, Dissection, MessageSpec
from dissectors.plain import plain
from dissectors.registry import build, dissect, lookup
from dissectors.side import Side
from tests.dissectors.bodies import has_all_of, takes_the_rest, unhurried, values

# spice.proto and enums.h: every message of BaseChannel and MainChannel, and the fewest bytes its body may have.
SERVER_COMMON = [
    (1, "SPICE_MSG_MIGRATE", 4),
    (2, "SPICE_MSG_MIGRATE_DATA", 0),
    (3, "SPICE_MSG_SET_ACK", 8),
    (4, "SPICE_MSG_PING", 12),
    (5, "SPICE_MSG_WAIT_FOR_CHANNELS", 1),
    (6, "SPICE_MSG_DISCONNECTING", 12),
    (7, "SPICE_MSG_NOTIFY", 24),
    (8, "SPICE_MSG_LIST", 2),  # spice.proto says 0, but a list begins with its count
    (100, "SPICE_MSG_BASE_LAST", 0),
]
CLIENT_COMMON = [
    (1, "SPICE_MSGC_ACK_SYNC", 4),
    (2, "SPICE_MSGC_ACK", 0),
    (3, "SPICE_MSGC_PONG", 12),
    (4, "SPICE_MSGC_MIGRATE_FLUSH_MARK", 0),
    (5, "SPICE_MSGC_MIGRATE_DATA", 0),
    (6, "SPICE_MSGC_DISCONNECTING", 12),
]
SERVER_MAIN = [
    (101, "SPICE_MSG_MAIN_MIGRATE_BEGIN", 20),
    (102, "SPICE_MSG_MAIN_MIGRATE_CANCEL", 0),
    (103, "SPICE_MSG_MAIN_INIT", 32),
    (104, "SPICE_MSG_MAIN_CHANNELS_LIST", 4),
    (105, "SPICE_MSG_MAIN_MOUSE_MODE", 4),
    (106, "SPICE_MSG_MAIN_MULTI_MEDIA_TIME", 4),
    (107, "SPICE_MSG_MAIN_AGENT_CONNECTED", 0),
    (108, "SPICE_MSG_MAIN_AGENT_DISCONNECTED", 4),
    (109, "SPICE_MSG_MAIN_AGENT_DATA", 0),
    (110, "SPICE_MSG_MAIN_AGENT_TOKEN", 4),
    (111, "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", 20),
    (112, "SPICE_MSG_MAIN_MIGRATE_END", 0),
    (113, "SPICE_MSG_MAIN_NAME", 4),
    (114, "SPICE_MSG_MAIN_UUID", 16),
    (115, "SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS", 4),
    (116, "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", 24),
    (117, "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", 0),
    (118, "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK", 0),
]
CLIENT_MAIN = [
    (101, "SPICE_MSGC_MAIN_CLIENT_INFO", 8),
    (102, "SPICE_MSGC_MAIN_MIGRATE_CONNECTED", 0),
    (103, "SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR", 0),
    (104, "SPICE_MSGC_MAIN_ATTACH_CHANNELS", 0),
    (105, "SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST", 2),
    (106, "SPICE_MSGC_MAIN_AGENT_START", 4),
    (107, "SPICE_MSGC_MAIN_AGENT_DATA", 0),
    (108, "SPICE_MSGC_MAIN_AGENT_TOKEN", 4),
    (109, "SPICE_MSGC_MAIN_MIGRATE_END", 0),
    (110, "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", 4),
    (111, "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS", 0),
    (112, "SPICE_MSGC_MAIN_QUALITY_INDICATOR", 0),
]
EXPECTED = [
    (side, *row)
    for side, rows in [
        (Side.SERVER, SERVER_COMMON + SERVER_MAIN),
        (Side.CLIENT, CLIENT_COMMON + CLIENT_MAIN),
    ]
    for row in rows
]
OBSOLETE = {
    "SPICE_MSG_DISCONNECTING",
    "SPICE_MSG_BASE_LAST",
    "SPICE_MSGC_DISCONNECTING",
    "SPICE_MSG_MAIN_AGENT_CONNECTED",
    "SPICE_MSGC_MAIN_CLIENT_INFO",
}
TABLES = {("common", side): getattr(common, f"{side.name}_MESSAGES") for side in Side} | {
    (channel.name.lower(), side): getattr(module, f"{side.name}_MESSAGES")
    for channel, module in registry.MODULES.items()
    for side in Side
}
READERS = {Style.VALUES: _VALUES, Style.JSON: _JSON, Style.JSON_BULK: _JSON_BULK}
SPECS = {f"{channel}-{spec.name}": spec for (channel, _), table in TABLES.items() for spec in table.values()}
WITH_FIELDS = {
    name: spec for name, spec in SPECS.items() if not isinstance(spec.schema, Record) or spec.schema.subcons
}
every_message = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_message_with_fields = pytest.mark.parametrize("spec", WITH_FIELDS.values(), ids=WITH_FIELDS)


def dissected(spec: MessageSpec, body: bytes) -> Dissection | DissectionError:
    try:
        return spec.dissect(body)
    except DissectionError as error:
        return error


def assert_plain(value: Any) -> None:
    assert type(value) in {dict, list, int, bytes, str, type(None)} or isinstance(value, IntEnum | IntFlag), (
        value
    )
    if isinstance(value, dict):
        assert all(type(key) is str and not key.startswith("_") for key in value)
        for each in value.values():
            assert_plain(each)
    if isinstance(value, list):
        for each in value:
            assert_plain(each)


@pytest.mark.parametrize(("side", "id_", "name", "least"), EXPECTED, ids=[row[2] for row in EXPECTED])
def test_a_message_of_the_protocol_has_its_name_and_no_body_shorter_than_it_can_be(
    side: Side, id_: int, name: str, least: int
) -> None:
    # The common MIGRATE_DATA has no layout of its own; cursor has none either.
    channel = ChannelType.MAIN if "_MAIN_" in name else ChannelType.CURSOR
    spec = lookup(channel, side, id_)
    assert spec is not None
    assert (spec.id, spec.name) == (id_, name)
    assert spec.obsolete == (name in OBSOLETE)
    sizes = []
    for size in range(40):
        body = bytearray(size)
        if "BEGIN" in name and size > 8:
            body[8] = 1  # host_data: anywhere will do but 0, the null pointer
        try:
            dissect(channel, side, id_, body)
        except DissectionError:
            continue
        sizes.append(size)
    assert sizes == list(range(least, 40))


@pytest.mark.parametrize("side", Side)
def test_there_is_no_message_that_the_protocol_does_not_have(side: Side) -> None:
    known = {(spec.id, spec.name) for table in ("common", "main") for spec in TABLES[table, side].values()}
    assert known == {(id_, name) for each, id_, name, _ in EXPECTED if each is side}


@every_message
def test_a_meaning_is_one_sentence(spec: MessageSpec) -> None:
    assert spec.meaning.endswith(".")
    assert spec.meaning[0].isupper()
    assert "\n" not in spec.meaning
    assert ". " not in spec.meaning


@every_message_with_fields
@settings(unhurried, max_examples=12)
@given(st.data())
def test_what_was_built_dissects_to_the_same_fields_and_builds_to_the_same_bytes(
    spec: MessageSpec, data: st.DataObject
) -> None:
    fields = data.draw(values(spec.schema))
    trailing = b"" if takes_the_rest(spec.schema) else data.draw(st.binary(max_size=9))
    body = spec.build(fields, trailing)
    found = spec.dissect(body)
    assert found.name == spec.name
    assert has_all_of(found.fields, fields)
    assert found.trailing == trailing
    assert spec.build(found.fields, found.trailing) == body
    assert_plain(found.fields)


@every_message_with_fields
@settings(unhurried, max_examples=15)
@given(st.binary(max_size=80))
def test_any_bytes_are_an_error_or_build_to_the_same_bytes(spec: MessageSpec, body: bytes) -> None:
    found = dissected(spec, body)
    if isinstance(found, Dissection):
        assert_plain(found.fields)
        assert spec.build(found.fields, found.trailing) == body


@every_message_with_fields
@settings(unhurried, max_examples=6)  # each of them cut at every byte
@given(st.data())
def test_the_compiled_reader_says_what_construct_says_or_leaves_it_to_it(
    spec: MessageSpec, data: st.DataObject
) -> None:
    body = spec.build(data.draw(values(spec.schema))) + data.draw(st.binary(max_size=4))
    for cut in [*range(len(body) + 1), None]:
        damaged = body[:cut] if cut is not None else data.draw(st.binary(max_size=len(body) + 8))
        try:
            expected: Any = read(spec.schema, damaged)
        except DissectionError:
            expected = None
        for style in Style:
            try:
                found: Any = READERS[style][spec](damaged)
            except UNFIT:
                continue
            assert expected is not None
            if style is Style.VALUES:
                assert found == expected
                assert repr(found) == repr(expected)  # names and all
            else:
                shown = plain(spec.schema, expected[0], bulk=style is Style.JSON_BULK)
                assert found == (shown, expected[1])
                assert repr(found) == repr((shown, expected[1]))


# SPICE_MSG_LIST and the display's MIGRATE_DATA have a block that no declaration can say.
READ_BY_CONSTRUCT = {
    "common-SPICE_MSG_LIST",
    "display-SPICE_MSG_MIGRATE_DATA",
    "display-SPICE_MSGC_MIGRATE_DATA",
}


@every_message_with_fields
@settings(unhurried, max_examples=10)
@given(st.data())
def test_what_was_built_is_read_without_construct(spec: MessageSpec, data: st.DataObject) -> None:
    if any(spec is SPECS[name] for name in READ_BY_CONSTRUCT):
        with pytest.raises(NotCompilable):
            compile_reader(spec.schema)
        return
    body = spec.build(data.draw(values(spec.schema)))
    assert _VALUES[spec](body)[1] == len(body)


@every_message
@pytest.mark.parametrize("fields", [None, [], 7, "text", {"no_such_field": 1}])
def test_fields_that_do_not_fit_are_an_error_of_ours(spec: MessageSpec, fields: Any) -> None:
    with pytest.raises(DissectionError, match=spec.name):
        spec.build(fields)


ANYTHING = (
    st.none()
    | st.text()
    | st.integers()
    | st.floats()
    | st.lists(st.integers())
    | st.just(object())
    | st.binary()
)


@every_message_with_fields
@settings(unhurried, max_examples=8)
@given(st.data())
def test_a_field_of_any_other_kind_is_an_error_of_ours_or_builds(
    spec: MessageSpec, data: st.DataObject
) -> None:
    fields = data.draw(values(spec.schema))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(ANYTHING)
    try:
        built: bytes | DissectionError = spec.build(fields)
    except DissectionError as error:
        built = error
    assert isinstance(built, bytes) or str(built).startswith(f"{spec.name}: ")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_kind_of_buffer(kind: Any) -> None:
    found = dissect(ChannelType.DISPLAY, Side.SERVER, 4, kind(bytes(12) + b"tail"))
    assert found.fields == {"id": 0, "timestamp": 0, "data": b"tail"}
    assert type(found.fields["data"]) is bytes
    found = dissect(ChannelType.DISPLAY, Side.SERVER, 3, kind(bytes(8) + b"tail"))
    assert type(found.trailing) is bytes
    assert (
        build(ChannelType.DISPLAY, Side.SERVER, 3, found.fields, trailing=found.trailing)
        == bytes(8) + b"tail"
    )
