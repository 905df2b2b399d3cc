"""Fields by name: of every message that is known, and of bodies that no honest peer sends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.faults import Context, schema
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.names import SPECS, Kind, link_error
from tests.faults.relaying import engine, unwire, wire

DRAW_COPY = Kind(ChannelType.DISPLAY, Side.SERVER, 304)


# Their fields depend on a field of another that is 0 in what is made of nothing.
NEED_MORE = {
    "SPICE_MSG_CURSOR_INIT",
    "SPICE_MSG_CURSOR_SET",
    "SPICE_MSG_SPICEVMC_COMPRESSED_DATA",
    "SPICE_MSGC_SPICEVMC_COMPRESSED_DATA",
}


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: f"{SPECS[kind].name}-{kind.channel_type}")
def test_nearly_every_message_can_be_made_of_nothing(kind: Kind) -> None:
    spec = SPECS[kind]
    fields = schema.blank(spec.schema) or {}
    if spec.name in NEED_MORE:
        with pytest.raises(DissectionError, match="wants"):
            spec.build(fields)
    else:
        assert dissect(kind.channel_type, kind.side, kind.id, spec.build(fields)).name == spec.name


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: f"{SPECS[kind].name}-{kind.channel_type}")
def test_every_field_that_has_a_place_is_found_by_its_name(kind: Kind) -> None:
    layout = SPECS[kind].schema
    end = 0
    for keys in schema.leaves(layout):
        assert schema.keys_of(schema.dotted(keys)) == keys
        assert schema.find(layout, keys, where="it") is not None
        try:
            offset, size = schema.place(layout, keys, where="it")
        except RuleError:
            break  # what follows has no place of its own either
        assert offset == end
        end += size


def test_an_item_of_a_fixed_list_has_a_place() -> None:
    state = SPECS[Kind(ChannelType.DISPLAY, Side.CLIENT, 5)].schema
    assert schema.place(state, ("pixmap_cache_clients", 3), where="it") == (51, 8)
    assert schema.place(state, ("glz_dict", "max_encoders"), where="it") == (64, 4)
    with pytest.raises(RuleError, match="does not always stand"):
        schema.place(state, ("pixmap_cache_clients", 4), where="it")


def test_fields_behind_switches_pointers_and_lists_are_set() -> None:
    def put(fields: dict[str, object], name: str, value: object) -> None:
        schema.put(SPECS[DRAW_COPY].schema, fields, schema.keys_of(name), value)

    fields: dict[str, object] = {
        "base": {"clip": {"type": 1, "u": {"rects": {"num_rects": 1, "rects": [{"top": 0}]}}}}
    }
    put(fields, "base.clip.u.rects.rects[0].top", 7)
    put(fields, "base.clip.u.rects.rects", [1, 2])
    assert fields == {"base": {"clip": {"type": 1, "u": {"rects": {"rects": [1, 2]}}}}}
    for name, reason in (
        ("base.clip.u.rects.rects[2]", r"this message has no base\.clip\.u\.rects\.rects\[2\]"),
        ("base.clip.type.x", r"base\.clip\.type has no fields inside"),
        ("base.box.top", r"this message has no base\.box"),
    ):
        with pytest.raises(RuleError, match=reason):
            put(fields, name, 1)
    put(fields, "base.clip.u.rects", None)  # the case of a switch: nothing in it is counted
    fields = {"base": None}
    with pytest.raises(RuleError, match="base of this message is empty"):
        put(fields, "base.box", 1)


AREA = {"top": 1, "left": 2, "bottom": 3, "right": 4}


@pytest.mark.parametrize(
    ("name", "value", "ready"),
    [
        ("base.clip.u.rects.rects", [AREA], {"base.clip.u.rects.rects": [AREA]}),
        ("base.clip.u", 7, {"base.clip.u": 7}),
        ("base.clip.type", "RECTS", {"base.clip.type": 1}),
        ("data.src_bitmap_offset", 7, {"data.src_bitmap_offset": 7}),
        ("data.src_area", {"top": 1, "left": 2}, {"data.src_area.top": 1, "data.src_area.left": 2}),
    ],
)
def test_values_of_a_file_become_values_of_fields(name: str, value: object, ready: dict[str, object]) -> None:
    found = schema.checked(SPECS[DRAW_COPY].schema, {name: value}, message="it", is_variable=lambda _: False)
    assert {schema.dotted(keys): each for keys, each in found.items()} == ready


def test_nothing_is_kept_for_a_message_that_is_no_record() -> None:
    assert (
        schema.common_fields(SPECS[Kind(ChannelType.MAIN, Side.SERVER, 3)].schema.members[0][1], {"a": 1})
        == {}
    )


@pytest.mark.parametrize("value", [True, "one", None])
def test_a_number_is_a_number(value: object) -> None:
    layout = SPECS[Kind(ChannelType.MAIN, Side.SERVER, 3)].schema
    with pytest.raises(RuleError, match="generation is a number"):
        schema.checked(layout, {"generation": value}, message="it", is_variable=lambda _value: False)


def test_a_link_error_may_be_any_number() -> None:
    assert link_error(99) == 99
    assert link_error("SPICE_LINK_ERR_BAD_CONNECTION_ID") == 8


EVERYTHING = """
[[fault]]
match = { message = ["MIGRATE_BEGIN*", "MIGRATE_SWITCH_HOST"] }
do = [{ set = { "dst_info.host_data" = "x" } }, { set = { host_data = "y" } }, { replace = "SPICE_MSG_MAIN_NAME" }]
[[fault]]
match = { message = "SPICE_MSGC_MIGRATE_DATA" }
do = [
    { set = { "surfaces_at_client_ptr.surfaces[0].id" = 4 } },
    { set = { "char_device.write_data_ptr" = "00" } },
    { corrupt = { field = "magic", xor = "ffffffff" } },
    { corrupt = { at = -3, bytes = "00" } },
    { corrupt = 3 },
    "copy",
    { truncate = { by = 3 } },
]
[[fault]]
match = { channel = "display", where = "fields.base.clip.u.rects.rects[0].top < 0 or error or trailing" }
do = [{ inject = "SPICE_MSG_WAIT_FOR_CHANNELS" }, "duplicate"]
[[fault]]
match = { message = "DRAW_COPY" }
do = [{ set = { "base.clip.u.rects.rects[0].top" = 4 } }, { set = { "data.src_area.top" = 4 } }]
"""


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([ChannelType.MAIN, ChannelType.DISPLAY, ChannelType.INPUTS, ChannelType.WEBDAV]),
    st.sampled_from(Side),
    st.sampled_from([1, 2, 3, 5, 8, 101, 106, 109, 110, 111, 116, 304]),
    st.binary(max_size=120),
    st.booleans(),
)
def test_no_body_that_a_peer_sends_breaks_a_rule(
    channel: ChannelType, side: Side, id_: int, body: bytes, mini: bool
) -> None:
    faults = engine(EVERYTHING)
    for hop in (0, 1):
        context = Context("s1", "c1", channel, 0, hop, mini_header=mini)
        for number in (1, 2):
            data = wire(id_, body, serial=number, sub_list=len(body) // 2, mini=mini)
            assert faults.message(context, unwire(side, data, number=number, mini=mini))
