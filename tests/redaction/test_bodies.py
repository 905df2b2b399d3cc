"""Bodies without their secrets."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import migrate_data
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message import MessageSpec
from dissectors.message_ids import Msg
from dissectors.registry import build, build_named, dissect, find
from dissectors.side import Side
from spiceproxy.redaction import fillers
from spiceproxy.redaction.addresses import StandIns
from spiceproxy.redaction.bodies import Bodies, Pieces
from spiceproxy.redaction.kinds import Account, Kind
from tests.dissectors.bodies import takes_the_rest, values
from tests.dissectors.damage import ALL_SPECS
from tests.redaction.leaves import SPECS
from tests.redaction.marks import MARK, marked, survives

SOME = settings(deadline=None, max_examples=20)
EACH = pytest.mark.parametrize("name", SPECS)
# Known to be no secret (tests/redaction/test_table.py), or looked into by somebody else (test_streams.py).
LEAVE = frozenset({"version", "device_address"})


def laid_out(pieces: Pieces, size: int) -> bytes:
    body = bytearray(size)
    for at, data in pieces:
        assert 0 <= at <= at + len(data) <= size
        body[at : at + len(data)] = data
    return bytes(body)


def redacted(name: str, body: bytes, **options: Any) -> bytes:
    ((channel_type, side, spec), *_) = find(name)
    bodies = Bodies(Account(), **options)
    found = bodies.message(channel_type or ChannelType.MAIN, side, spec.id, body)
    return laid_out(found.pieces, len(body))


@EACH
@SOME
@given(data=st.data())
def test_no_mark_in_any_bytes_or_text_of_any_message_survives(name: str, data: st.DataObject) -> None:
    spec = SPECS[name]
    fields = marked(data.draw(values(spec.schema)), leave=LEAVE)
    trailing = b"" if takes_the_rest(spec.schema) else data.draw(st.sampled_from([b"", MARK]))
    try:
        body = spec.build(fields, trailing)
        found = spec.dissect(body)
    except DissectionError:  # lists that share a count
        return
    if found.trailing != trailing:  # such a list has taken it for numbers
        return
    pieces = Bodies(Account(), stand_ins=StandIns()).fields(spec.schema, found.fields, body)
    after = laid_out(pieces, len(body))
    assert not survives(after)
    _same_shape(spec, found.fields, after)


def _same_shape(spec: MessageSpec, before: dict[str, Any], after: bytes) -> None:
    """What is left still decodes, to fields of the same sizes."""
    assert _shape(spec.dissect(after).fields) == _shape(before)


def _shape(value: Any) -> Any:
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return "number" if isinstance(value, int) else value


def test_shapes_of_text_and_bytes_are_compared_with_their_nul() -> None:
    assert _shape("ab") == _shape(b"abc") == 3


@EACH
@SOME
@given(data=st.data())
def test_numbers_that_are_secret_are_gone_and_all_others_stay(name: str, data: st.DataObject) -> None:
    spec = SPECS[name]
    try:
        body = spec.build(data.draw(values(spec.schema)))
        before = spec.dissect(body).fields
    except DissectionError:
        return
    bodies = Bodies(Account())
    after = laid_out(bodies.fields(spec.schema, before, body), len(body))
    for place in bodies.plan.places(spec.schema, before, body).kept:
        assert after[slice(*place)] == body[slice(*place)]


@pytest.mark.parametrize(
    ("name", "fields", "gone"),
    [
        ("SPICE_MSGC_INPUTS_KEY_DOWN", {"code": 0x1E}, ["code"]),
        ("SPICE_MSGC_INPUTS_KEY_UP", {"code": 0x9EE0}, ["code"]),
        ("SPICE_MSGC_INPUTS_KEY_SCANCODE", {"data": b"\x1e\x9e"}, ["data"]),
        (
            "SPICE_MSGC_INPUTS_MOUSE_POSITION",
            {"x": 5, "y": 6, "buttons_state": 1, "display_id": 0},
            ["x", "y"],
        ),
        ("SPICE_MSGC_INPUTS_MOUSE_MOTION", {"dx": -5, "dy": 6, "buttons_state": 1}, ["dx", "dy"]),
        ("SPICE_MSG_MAIN_UUID", {"uuid": bytes(range(16))}, ["uuid"]),
    ],
)
def test_what_was_typed_and_where_the_pointer_was_is_zero(
    name: str, fields: dict[str, Any], gone: list[str]
) -> None:
    body = build_named(name, **fields)
    ((channel_type, side, spec),) = find(name)
    after = dissect(channel_type or 1, side, spec.id, redacted(name, body)).fields
    for field, value in fields.items():
        expected = (bytes(len(value)) if isinstance(value, bytes) else 0) if field in gone else value
        assert after[field] == expected


def test_a_name_is_replaced_by_text_of_the_same_length() -> None:
    assert redacted("SPICE_MSG_MAIN_NAME", build_named("SPICE_MSG_MAIN_NAME", name="payroll")) == build_named(
        "SPICE_MSG_MAIN_NAME", name="xxxxxxx"
    )


@pytest.mark.parametrize("name", ["org.spice-space.webdav.0", "org.qemu.console.0"])
def test_well_known_names_of_ports_stay(name: str) -> None:
    body = build_named("SPICE_MSG_PORT_INIT", name=name, opened=1)
    assert redacted("SPICE_MSG_PORT_INIT", body) == body


def test_other_names_of_ports_do_not() -> None:
    body = build_named("SPICE_MSG_PORT_INIT", name="com.acme.secret", opened=1)
    assert b"acme" not in redacted("SPICE_MSG_PORT_INIT", body)


def test_the_notice_that_every_server_sends_stays_and_others_do_not() -> None:
    def notify(text: str) -> bytes:
        return build_named("SPICE_MSG_NOTIFY", time_stamp=1, severity=1, visibilty=2, what=0, message=text)

    assert redacted("SPICE_MSG_NOTIFY", notify("keyboard channel is insecure")) == notify(
        "keyboard channel is insecure"
    )
    assert redacted("SPICE_MSG_NOTIFY", notify("user bob has logged in")) == notify("x" * 22)


def test_an_unknown_message_keeps_nothing() -> None:
    account = Account()
    found = Bodies(account).message(ChannelType.MAIN, Side.SERVER, 999, b"secret")
    assert found.pieces == []
    assert (account.undecoded, account.kinds[Kind.UNREAD].bytes) == (1, 6)


def test_a_message_that_does_not_decode_keeps_nothing() -> None:
    account = Account()
    found = Bodies(account).message(ChannelType.MAIN, Side.SERVER, 113, b"\xff\0\0\0secret")
    assert found.pieces == []
    assert account.undecoded == 1


def test_bytes_behind_a_message_of_fixed_size_are_removed() -> None:
    found = Bodies(Account()).message(
        ChannelType.INPUTS, Side.SERVER, Msg.SET_ACK, struct.pack("<II", 1, 2) + b"secret"
    )
    assert found.pieces == [(0, struct.pack("<II", 1, 2))]


def test_a_secret_that_lies_over_a_field_that_stays_wins() -> None:
    """A hostile layout: the name's pointer leads to the fixed part of its own message."""
    body = struct.pack("<IIB", 5, 4, 1)  # name_size, name at 4, opened
    assert redacted("SPICE_MSG_PORT_INIT", body)[4:] == b"xxxxx"


def test_cache_ids_are_numbered_anew_and_stay_the_same_for_the_same() -> None:
    resources = [{"type": 1, "id": id_} for id_ in (0xDEADBEEF, 0xCAFE, 0xDEADBEEF, 0)]
    body = build_named("SPICE_MSG_DISPLAY_INVAL_LIST", resources=resources)
    after = redacted("SPICE_MSG_DISPLAY_INVAL_LIST", body)
    found = dissect(ChannelType.DISPLAY, Side.SERVER, 105, after).fields["resources"]
    assert [each["id"] for each in found] == [1, 2, 1, 0]


@pytest.mark.parametrize("with_list", [True, False])
def test_messages_inside_a_message_are_redacted_by_their_own_rules(with_list: bool) -> None:
    inval = build_named("SPICE_MSG_DISPLAY_INVAL_LIST", resources=[{"type": 1, "id": 0xDEADBEEF}])
    wait = build_named(
        "SPICE_MSG_WAIT_FOR_CHANNELS", wait_list=[{"channel_type": 2, "channel_id": 1, "message_serial": 9}]
    )
    first = b"" if with_list else build_named("SPICE_MSG_DISPLAY_STREAM_DESTROY", id=3)
    at = len(first) + 2 + 8
    subs = b"".join(struct.pack("<HI", id_, len(body)) + body for id_, body in ((5, wait), (105, inval)))
    body = first + struct.pack("<HII", 2, at, at + 6 + len(wait)) + subs
    bodies = Bodies(Account())
    message_id = Msg.LIST if with_list else 125
    found = bodies.message(ChannelType.DISPLAY, Side.SERVER, message_id, body, sub_list=len(first))
    after = laid_out(found.pieces, len(body))
    assert after == body.replace(struct.pack("<Q", 0xDEADBEEF), struct.pack("<Q", 1))


def test_lists_of_messages_that_lead_nowhere_keep_nothing() -> None:
    bodies, first = Bodies(Account()), build_named("SPICE_MSG_DISPLAY_STREAM_DESTROY", id=3)
    outside = first + struct.pack("<HI", 1, 500) + b"secret"
    found = bodies.message(ChannelType.DISPLAY, Side.SERVER, 125, outside, sub_list=4)
    assert laid_out(found.pieces, len(outside)) == first + bytes(len(outside) - 4)
    strange = (
        first
        + struct.pack("<HIIHI", 2, 14, 26, 999, 6)
        + b"secret"
        + struct.pack("<HI", 113, 6)
        + b"\xff\0\0\0se"
    )
    found = bodies.message(ChannelType.DISPLAY, Side.SERVER, 125, strange, sub_list=4)
    assert laid_out(found.pieces, len(strange)) == strange.replace(b"secret", bytes(6)).replace(
        b"\xff\0\0\0se", bytes(6)
    )


def test_no_list_of_messages_makes_a_secret_public_by_lying_over_it() -> None:
    """A hostile or broken sub-list may say that a message, or the list itself, is where the secret is."""
    wait = build_named(
        "SPICE_MSG_WAIT_FOR_CHANNELS", wait_list=[{"channel_type": 2, "channel_id": 1, "message_serial": 9}]
    )
    text_at = 24  # behind the other fields and the length
    over = struct.pack("<HI", 1, text_at + 6) + struct.pack("<HI", 5, len(wait)) + wait
    body = build_named(
        "SPICE_MSG_NOTIFY", time_stamp=1, severity=0, visibilty=0, what=0, message=over, uncounted=b"\0"
    )
    assert body[text_at:-1] == over
    for place in (0, text_at):
        found = Bodies(Account()).message(ChannelType.MAIN, Side.SERVER, 7, body, sub_list=place)
        assert set(laid_out(found.pieces, len(body))[text_at:-1]) <= set(b"x\0")


# MIGRATE_DATA ---------------------------------------------------------------------------------------------


def vmc_state(data: bytes) -> bytes:
    device = {
        "version": 1, "connected": 1, "num_client_tokens": 1, "num_send_tokens": 2, "write_num_client_tokens": 0,
        "write_data_ptr": data or None,
    }  # fmt: skip
    fields = {"magic": b"SVMD", "version": 1, "char_device": device}
    return build(ChannelType.USBREDIR, Side.SERVER, Msg.MIGRATE_DATA, fields)


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=12), st.booleans())
def test_migration_data_stay_equal_if_they_were_and_different_if_they_were(
    contents: list[bytes], longer: bool
) -> None:
    bodies = Bodies(Account())
    states = [vmc_state(content * (50 if longer else 1)) for content in contents]
    after = []
    for index, state in enumerate(states):
        side, id_ = (Side.SERVER, 2) if index % 2 else (Side.CLIENT, 5)
        after.append(laid_out(bodies.message(ChannelType.USBREDIR, side, id_, state).pieces, len(state)))
    for i, one in enumerate(states):
        for j, other in enumerate(states):
            assert (after[i] == after[j]) == (one == other)


def test_migration_data_that_do_not_decode_keep_their_magic_and_stay_told_apart() -> None:
    bodies = Bodies(Account())
    one, other = (b"SVMD\1\0\0\0" + secret for secret in (b"secret", b"SECRET"))
    found = [bodies.message(ChannelType.USBREDIR, Side.SERVER, 2, body) for body in (one, other, one)]
    first, second, third = (laid_out(each.pieces, len(one)) for each in found)
    assert first == third != second
    assert first[:8] == second[:8] == b"SVMD\1\0\0\0"
    assert b"ecret" not in first + second


@given(st.lists(st.binary(min_size=6, max_size=6), min_size=2, max_size=30, unique=True))
def test_migration_data_first_differ_where_they_did(contents: list[bytes]) -> None:
    bodies = Bodies(Account())
    states = [vmc_state(content) for content in contents]
    after = [
        laid_out(bodies.message(ChannelType.USBREDIR, Side.SERVER, 2, each).pieces, len(each))
        for each in states
    ]

    def first_difference(one: bytes, other: bytes) -> int:
        return next(at for at in range(len(one)) if one[at] != other[at])

    for i in range(1, len(states)):
        for j in range(i):
            assert first_difference(after[i], after[j]) == first_difference(states[i], states[j])


def test_too_many_migration_data_look_alike_and_that_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fillers, "MAX_BRANCHES", 2)
    bodies = Bodies(Account())
    after = set()
    for number in range(5):
        state = vmc_state(bytes([number, 200 + number]))
        after.add(laid_out(bodies.message(ChannelType.USBREDIR, Side.SERVER, 2, state).pieces, len(state)))
    assert len(after) == 3
    assert bodies.exhausted


def test_migration_data_of_a_device_that_claims_too_much_keep_their_numbers() -> None:
    body = vmc_state(b"secret")
    body = body.replace((6).to_bytes(4, "little"), (600).to_bytes(4, "little"), 1)
    after = laid_out(Bodies(Account()).message(ChannelType.USBREDIR, Side.SERVER, 2, body).pieces, len(body))
    assert after == body.replace(b"secret", bytes(6))


def test_a_display_state_that_does_not_decode_keeps_its_count_of_surfaces() -> None:
    fixed = migrate_data.DisplayState.sizeof()
    body = b"DCMD" + bytes(fixed - 8) + fixed.to_bytes(4, "little") + b"\3\0\0\0secret"
    after = laid_out(Bodies(Account()).message(ChannelType.DISPLAY, Side.SERVER, 2, body).pieces, len(body))
    assert after == body.replace(b"secret", bytes(6))


@pytest.mark.parametrize(("magic", "stays"), [(b"XYZW", True), (b"\x01\xffpw", False)])
def test_a_magic_that_nobody_knows_stays_if_it_is_letters(magic: bytes, stays: bool) -> None:
    body = magic + b"\1\0\0\0secret"
    after = laid_out(Bodies(Account()).message(ChannelType.USBREDIR, Side.SERVER, 2, body).pieces, len(body))
    assert after == (magic if stays else bytes(4)) + bytes(10)


@pytest.mark.parametrize("addresses", [False, True])
def test_a_destination_that_does_not_decode_keeps_its_numbers_and_what_is_a_name(addresses: bool) -> None:
    body = struct.pack("<HHIIII", 5900, 0, 9, 20, 500, 25) + b"kvm2.example" + b"secret"
    options: dict[str, Any] = {"stand_ins": StandIns()} if addresses else {}
    after = redacted("SPICE_MSG_MAIN_MIGRATE_BEGIN", body, **options)
    assert after == (bytes(len(body)) if addresses else body)
    short = struct.pack("<HHIIII", 5900, 0, 5, 20, 0, 0) + b"kvm2"  # a name that ends behind the body
    after = redacted("SPICE_MSG_MAIN_MIGRATE_BEGIN", short + b"", **options)
    assert after == (bytes(len(short)) if addresses else short)


def test_what_kind_was_removed_is_counted() -> None:
    account = Account()
    bodies = Bodies(account)
    for _ in range(3):
        bodies.message(ChannelType.INPUTS, Side.CLIENT, 101, struct.pack("<I", 0x1E))
    bodies.message(ChannelType.INPUTS, Side.CLIENT, 101, bytes(4))  # nothing to remove
    assert [(str(kind), removed.count, removed.bytes) for kind, removed in account.rows()] == [
        ("keys", 3, 12)
    ]


def test_every_message_of_the_registry_is_among_those_that_are_tested() -> None:
    assert len(SPECS) >= 200
    assert {name for name in ALL_SPECS if "MAIN" in name} <= set(SPECS)
